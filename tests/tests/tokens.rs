//! Join tokens from their making to their end.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_tests::agent::Agent;
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// The site measures a token's time by its own clock, which may be a little behind.
const A_LITTLE: Duration = Duration::from_millis(200);

/// The site must refuse this token, with these words, and leave nothing behind.
fn refused(agent: &Agent, token: &str, words: &[&str]) {
    let done = agent.run_once(&["join", token, "--only", "--name", &agent.name]).expect_code(1);
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
    assert!(done.stdout.is_empty() && !done.stderr.contains(token), "{}", done.stderr);
    assert!(!agent.data_dir().join("node.json").exists());
}

fn listed(site: &Site, note: &str) -> Option<Value> {
    let list = site.cli.json(&["token", "ls"]);
    list.as_array().unwrap().iter().find(|token| token["note"] == note).cloned()
}

fn members(site: &Site) -> usize {
    site.cli.json(&["member", "ls"]).as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_time_is_over_lets_nobody_in() {
    let site = Site::start(1).await;
    let made = site.cli.json(&["token", "create", "--ttl", "1s", "--note", "short"]);
    let token = made["token"].as_str().unwrap();
    let ends_ms = listed(&site, "short").unwrap()["expires_wall_ms"].as_u64().unwrap();
    wait::until_true("its time is over", LIMIT, || async {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now > Duration::from_millis(ends_ms) + A_LITTLE
    })
    .await;
    let late = site.prepare_next();
    refused(&late, token, &["token_expired", "flotilla token create"]);
    assert_eq!(members(&site), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in() {
    let site = Site::start(1).await;
    let made = site.cli.json(&["token", "create", "--uses", "5", "--note", "lost"]);
    let id = listed(&site, "lost").unwrap()["id"].as_str().unwrap().to_owned();
    site.cli.run(&["token", "revoke", &id]).expect_code(0);
    refused(&site.prepare_next(), made["token"].as_str().unwrap(), &["flotilla token create"]);
    assert_eq!(members(&site), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_joiners_with_one_token_at_once_one_gets_in() {
    let site = Site::start(1).await;
    let token = site.cli.token(1);
    let joiners: Vec<Agent> = ["left", "right"]
        .iter()
        .map(|name| Agent::prepare(site.workplace().path(), name, &site.config()))
        .collect();
    let done: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = joiners
            .iter()
            .map(|agent| {
                let token = token.clone();
                scope.spawn(move || {
                    agent.run_once(&["join", &token, "--only", "--name", &agent.name])
                })
            })
            .collect();
        running.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut codes: Vec<Option<i32>> = done.iter().map(|it| it.code).collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(1)], "{done:?}");
    let loser = done.iter().find(|it| it.code == Some(1)).unwrap();
    assert!(loser.stderr.contains("token_used"), "{}", loser.stderr);
    assert_eq!(members(&site), 2);
    let left_behind = joiners.iter().filter(|it| it.data_dir().join("node.json").exists());
    assert_eq!(left_behind.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_is_used_at_every_agent() {
    let mut site = Site::start(3).await;
    let token = site.cli.token(1);
    site.add(&token).await;
    // The server gives each request to any of the four agents.
    for number in 0..8 {
        let name = format!("again{number}");
        let again = Agent::prepare(site.workplace().path(), &name, &site.config());
        refused(&again, &token, &["token_used"]);
    }
    assert_eq!(members(&site), 4);
}
