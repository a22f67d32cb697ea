//! Nodes join, are promoted, removed and replaced.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::bare::Answer;
use flotilla_tests::load::Load;
use flotilla_tests::site::{Plan, READY_LIMIT, Site};
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// The members as the site has them, read linearizable.
async fn members(site: &Site) -> Vec<Value> {
    let client = site.client.hasty();
    wait::until("the members can be read", LIMIT, || async {
        match client.request("control.query.member.list", "").await {
            Answer::Reply(reply) if reply.is_ok() => reply.at("/items").as_array().cloned(),
            _ => None,
        }
    })
    .await
}

/// Removes a node, as often as it takes to get an answer from the log.
async fn remove(site: &Site, node: u64) {
    let client = site.client.hasty();
    let headers = [("Flotilla-Request-Id", format!("remove-{node}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (*a, b.as_str())).collect();
    wait::until_true("the removal is accepted", LIMIT, || async {
        let body = format!("{{\"node\":{node}}}");
        let answer = client.request_with("control.admin.member.remove", &headers, body).await;
        matches!(answer, Answer::Reply(reply) if reply.is_ok())
    })
    .await;
}

fn member_of(list: &[Value], name: &str) -> Value {
    let found = list.iter().find(|member| member["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:?}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_grow_in_pairs_and_the_rest_stand_by() {
    let mut site = Site::start(1).await;
    site.client.request("control.admin.voters.set", r#"{"voters":3}"#).await.accepted();

    let token = site.cli.token(1);
    let second = site.add(&token).await;
    wait::until_true("the second node has what the first has", READY_LIMIT, || async {
        let (first, second) = (site.status(0).await, site.status(second).await);
        matches!((first, second), (Some(a), Some(b)) if a.applied() == b.applied())
    })
    .await;
    assert_eq!(site.facts().await.unwrap()["voters"], json!(1), "two voters stop when one stops");
    assert_eq!(site.await_status(second).await.role(), "learner");

    let token = site.cli.token(1);
    site.add(&token).await;
    site.await_voters(3).await;

    let token = site.cli.token(1);
    let fourth = site.add(&token).await;
    let role = || async { site.status(fourth).await.map(|status| status.role().to_owned()) };
    wait::stays_true("the fourth is a standby", Duration::from_secs(2), || async {
        role().await.is_none_or(|role| role == "learner")
    })
    .await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_names_who_votes_as_long_as_there_is_room() {
    let mut site = Site::start(1).await;
    site.client.request("control.admin.voters.set", r#"{"voters":3}"#).await.accepted();
    let token = site.cli.token(3);
    let second = site.add(&token).await;
    // Of itself the site waits for a pair.
    assert_eq!(site.await_status(second).await.role(), "learner");
    site.cli.run(&["member", "promote", "n2"]).expect_code(0);
    site.await_voters(2).await;
    site.cli.run(&["member", "promote", "n2"]).expect_code(0);
    site.add(&token).await;
    site.await_voters(3).await;

    let fourth = site.add(&token).await;
    let refused = site.cli.run(&["member", "promote", "n4"]).expect_code(8);
    assert!(refused.stderr.contains("flotilla member voters"), "{}", refused.stderr);
    let unknown = site.cli.run(&["member", "promote", "n9"]);
    assert!(unknown.code != Some(0) && unknown.stderr.contains("n9"), "{}", unknown.stderr);
    assert_eq!(site.await_status(fourth).await.role(), "learner");
    assert_eq!(site.facts().await.unwrap()["voters"], json!(3));
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_sent_again_gets_the_first_answer_though_the_member_is_gone() {
    let site = Site::start_as(Plan { voters: 1, ..Plan::of(2) }).await;
    let node = site.await_status(1).await.node_id().to_string();
    let remove = |named: &str| {
        let done = site.cli.run(&["member", "remove", named, "--request-id", "once", "-o", "json"]);
        (done.code, done)
    };
    let (code, first) = remove("n2");
    assert_eq!(code, Some(0), "{}", first.stderr);
    wait::until_true("the member is gone", LIMIT, || async {
        members(&site).await.iter().all(|member| member["name"] != "n2")
    })
    .await;
    let (code, again) = remove(&node);
    assert_eq!(code, Some(0), "{}", again.stderr);
    assert_eq!(again.json()["revision"], first.json()["revision"]);
    // The name says nothing any more, and the id of another command is no way around that.
    assert_eq!(remove("n2").0, Some(3));
    assert_eq!(remove("1").0, Some(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_commands() {
    let site = Site::start_as(Plan { voters: 1, ..Plan::of(2) }).await;
    let learner = site.await_status(1).await;
    assert_eq!(learner.role(), "learner");
    let load = Load::start(&site.client, "standby", 8);
    load.await_more(200).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_lets_one_of_two_in() {
    let mut site = Site::start(1).await;
    let token = site.cli.token(1);
    site.add(&token).await;
    let late = site.prepare_next();
    let refused = late.run_once(&["join", &token, "--only", "--name", "n3"]);
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
    assert!(refused.stderr.contains("token"), "{}", refused.stderr);
    assert!(!late.data_dir().join("node.json").exists());
    assert_eq!(members(&site).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_cut_token_lets_nobody_in() {
    let site = Site::start(1).await;
    let token = site.cli.token(1);
    let cut = &token[..token.len() - 5];
    let mut forged = token.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for wrong in [cut, &forged, "flt2_", "", "flt9_AAAA"] {
        let agent = site.prepare_next();
        let refused = agent.run_once(&["join", wrong, "--only", "--name", "thief"]);
        assert_ne!(refused.code, Some(0), "{wrong:?} was taken: {}", refused.stdout);
        assert!(!refused.stderr.is_empty(), "{wrong:?} was refused without a word");
        assert!(!agent.data_dir().join("node.json").exists(), "{wrong:?} left a node behind");
    }
    assert_eq!(members(&site).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_out_and_its_id_is_never_used_again() {
    let mut site = Site::start(3).await;
    let leader = site.await_leader().await;
    let gone = site.a_follower().await;
    let node = site.await_status(gone).await.node_id();
    remove(&site, node).await;
    wait::until_true("it is no member", LIMIT, || async { members(&site).await.len() == 2 }).await;
    site.agents[gone].kill();
    assert_eq!(site.await_leader().await, leader, "a removed node disturbs nobody");

    // The removed node comes back and is refused.
    site.agents[gone].start();
    let term = site.await_status(leader).await.term();
    wait::stays_true("the term stays", Duration::from_secs(3), || async {
        site.status(leader).await.is_none_or(|status| status.term() == term)
    })
    .await;
    site.agents[gone].kill();
    site.agents[gone].wipe();

    // Wiped, it is a new node.
    let token = site.cli.token(1);
    site.agents[gone].join(&token);
    let fresh = site.await_status(gone).await;
    assert!(fresh.node_id() > node && fresh.node_id() > 3);
    site.await_voters(3).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_removed_under_load() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "removal", 16);
    load.await_more(200).await;
    let leader = site.await_leader().await;
    let node = site.await_status(leader).await.node_id();
    remove(&site, node).await;
    wait::until_true("it is no member", LIMIT, || async {
        members(&site).await.iter().all(|member| member["node"] != json!(node))
    })
    .await;
    load.await_more(200).await;
    site.agents[leader].kill();
    load.await_more(200).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_by_a_new_node() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "replaced", 8);
    load.await_more(100).await;
    let dead = site.a_follower().await;
    let node = site.await_status(dead).await.node_id();
    site.agents[dead].kill();
    site.agents[dead].wipe();
    remove(&site, node).await;
    let token = site.cli.token(1);
    site.add(&token).await;
    site.await_voters(3).await;
    load.await_more(100).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_member() {
    let site = Site::start(1).await;
    let token = site.cli.token(1);
    let agent = site.prepare_next();
    let refused = agent.run_once(&["join", &token, "--only", "--name", "n1"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("n1"), "{}", refused.stderr);
    let list = members(&site).await;
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(member_of(&list, "n1")["name"], json!("n1"));
}
