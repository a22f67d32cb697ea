//! A restored site beside the one it came from, under the same name: nobody is confused.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::bare::Answer;
use flotilla_tests::site::{READY_LIMIT, Site};
use flotilla_tests::wait;
use futures_util::StreamExt as _;
use serde_json::json;

/// Agents ask for others of their name every five seconds, and believe in silence after some rounds.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);
/// How a frame of another site is refused, in the metrics.
const WRONG_SITE: &str = "reason=\"wrong_site\"";

#[tokio::test(flavor = "multi_thread")]
async fn members_and_tokens_of_the_former_site_are_refused_by_the_restored_one() {
    let mut site = Site::start(3).await;
    site.client.set_param("kept", &json!(1), "kept").await.accepted();
    let open = site.cli.json(&["token", "create", "--uses", "3"]);
    let file = site.workplace().join("home.snapshot");
    let path = file.to_str().unwrap();
    site.cli.run(&["snapshot", "save", path]).expect_code(0);
    site.kill_all();

    let mut first = Agent::prepare(site.workplace().path(), "r1", &site.config());
    first.run_once(&["restore", path, "--site", "home", "--name", "r1"]).expect_code(0);
    first.start();
    wait::until_true("the restored site serves", READY_LIMIT, || async {
        site.facts().await.is_some_and(|facts| facts["members"] == json!(1))
    })
    .await;
    let new_uid = site.facts().await.unwrap()["uid"].clone();

    // A token of the former site names that site's key, and opens nothing here.
    let joiner = site.prepare_next();
    let token = open["token"].as_str().unwrap();
    let done = joiner.run_once(&["join", token, "--only", "--name", "late", "--timeout-s", "5"]);
    done.clone().expect_code(1);
    assert!(done.stderr.contains("token"), "{}", done.stderr);
    assert!(!joiner.data_dir().join("node.json").exists());

    // The members of the former site come back. Both sides notice, and take nothing in.
    site.start_all();
    wait::until_true("the restored site has noticed", NOTICE_LIMIT, || async {
        first.log().contains("another site answers under the same name")
    })
    .await;
    wait::until_true("the former site has noticed", NOTICE_LIMIT, || async {
        let mut logs = site.agents.iter().map(|agent| agent.log());
        logs.all(|log| log.contains("another site answers under the same name"))
    })
    .await;
    wait::until_true("no command is taken in", NOTICE_LIMIT, || async {
        site.client.hasty().set_param("lost", &json!(1), "lost").await == Answer::NoResponders
    })
    .await;
    let page = site.cli.run(&["status"]);
    assert!(page.code != Some(0) || page.stdout.contains("same name"), "{page:?}");
    // What members of the former site say to each other, said to the restored one.
    let mut frames = site.client.raw().subscribe(site.client.subject("raft.>")).await.unwrap();
    let node = site.await_status_of("r1").await.node_id();
    let to_it = site.client.subject(&format!("raft.{node}"));
    for _ in 0..20 {
        let next = tokio::time::timeout(READY_LIMIT, frames.next()).await;
        let frame = next.unwrap().unwrap();
        site.client.raw().publish(to_it.clone(), frame.payload).await.unwrap();
    }
    site.client.raw().flush().await.unwrap();
    wait::until_true("they are refused and counted", READY_LIMIT, || async {
        first.refused(WRONG_SITE) >= 20.0
    })
    .await;

    site.kill_all();
    wait::until_true("the restored site serves again", NOTICE_LIMIT, || async {
        site.client.hasty().set_param("after", &json!(1), "after").await.is_ok()
    })
    .await;
    let facts = wait::until("the site answers", READY_LIMIT, || site.facts()).await;
    assert_eq!((&facts["uid"], &facts["members"]), (&new_uid, &json!(1)));
}
