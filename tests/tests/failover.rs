//! Agents die, stand still and come back while clients write.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flotilla_tests::bare::Answer;
use flotilla_tests::door::BareDoor;
use flotilla_tests::load::Load;
use flotilla_tests::site::{ELECTION_LIMIT, Site};
use flotilla_tests::wait;
use serde_json::json;

/// Nobody may be unable to write for longer than this when a leader dies. The goal is
/// below a second; a loaded machine gets a margin.
const GAP_MAX: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_the_leader_was_killed_gets_the_first_answer() {
    let mut site = Site::start(3).await;
    let first = site.client.set_param("once", &json!(1), "the-id").await.accepted();
    site.client.set_param("once", &json!(2), "another").await.accepted();
    let leader = site.await_leader().await;
    site.agents[leader].kill();
    site.await_leader().await;

    let client = site.client.hasty();
    let again = wait::until("the retry is answered", ELECTION_LIMIT, || async {
        match client.set_param("once", &json!(1), "the-id").await {
            Answer::Reply(reply) if reply.revision().is_some() => Some(reply),
            _ => None,
        }
    })
    .await;
    assert!(again.is_ok(), "{}", again.0);
    assert_eq!(again.revision(), first.revision());
    assert_eq!(site.client.read_param("once").await.at("/item/value"), &json!(2));
    let other = wait::until("the misuse is answered", ELECTION_LIMIT, || async {
        match client.set_param("once", &json!(3), "the-id").await {
            Answer::Reply(reply) if reply.code() != Some("unknown") => Some(reply),
            _ => None,
        }
    });
    assert_eq!(other.await.code(), Some("request_id_reused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_under_64_writers_and_nothing_acknowledged_is_lost() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "killed", 64);
    for _ in 0..3 {
        load.await_more(500).await;
        let leader = site.await_leader().await;
        site.agents[leader].kill();
        site.await_leader().await;
        load.await_more(500).await;
        site.agents[leader].start();
        site.await_status(leader).await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    let gap = history.longest_gap();
    eprintln!("{} commands, longest time without an answer {gap:?}", history.count());
    assert!(gap < GAP_MAX, "nobody could write for {gap:?}");
    let repeated = history.writers.iter().flatten().filter(|it| it.attempts > 1).count();
    assert!(repeated > 0, "no command noticed three dead leaders; was one killed?");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_killed_under_load_and_come_back_with_the_same_state() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "blackout", 16);
    load.await_more(300).await;
    site.kill_all();
    site.start_all();
    load.await_more(300).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    let before = site.await_section_digests().await;

    site.kill_all();
    site.start_all();
    site.await_leader().await;
    assert_eq!(before, site.await_section_digests().await);
    let boots = site.await_equal_digests().await.boot();
    assert_eq!(boots, 3, "every agent was started three times");
    history.check(&site.client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_that_wakes_gives_no_stale_read() {
    let mut site = Site::start(3).await;
    site.client.set_param("truth", &json!("old"), "old").await.accepted();
    let paused = site.await_leader().await;
    let node = site.await_status(paused).await.node_id();
    site.agents[paused].pause();

    let others: Vec<usize> = (0..3).filter(|index| *index != paused).collect();
    wait::until_true("another leads", ELECTION_LIMIT, || async {
        let mut leads = false;
        for index in &others {
            let status = site.status(*index).await;
            leads |= status.is_some_and(|it| it.role() == "leader" && it.node_id() != node);
        }
        leads
    })
    .await;
    let client = site.client.hasty();
    wait::until_true("the new leader takes a command", ELECTION_LIMIT, || async {
        let answer = client.set_param("truth", &json!("new"), "new").await;
        matches!(answer, Answer::Reply(reply) if reply.is_ok())
    })
    .await;

    // At its own door nobody but the one that led answers.
    let door = BareDoor::of(site.agents[paused].data_dir());
    site.agents[paused].resume();
    let answered = AtomicUsize::new(0);
    wait::stays_true("reads see the new value", Duration::from_secs(3), || async {
        match door.param("truth").await {
            Answer::Reply(reply) if reply.is_ok() => {
                answered.fetch_add(1, Ordering::Relaxed);
                reply.at("/item/value") == &json!("new")
            }
            // It may not know of the next leader yet; a stale value would be an answer.
            _ => true,
        }
    })
    .await;
    let answered = answered.into_inner();
    assert!(answered > 10, "only {answered} reads were answered in three seconds");
    site.await_leader().await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_loses_no_command_beyond_its_clients_retry() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "paused", 24);
    load.await_more(200).await;
    for index in 0..3 {
        site.agents[index].pause();
        load.await_more(100).await;
        site.agents[index].resume();
        site.await_leader().await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_leader_hands_over_and_loses_nothing_under_load() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "drained", 32);
    for _ in 0..3 {
        load.await_more(300).await;
        let leader = site.await_leader().await;
        site.agents[leader].stop().await;
        site.await_leader().await;
        site.agents[leader].start();
        site.await_status(leader).await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    let gap = history.longest_gap();
    assert!(gap < GAP_MAX, "nobody could write for {gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_acknowledges_nothing_and_goes_on_when_it_is_a_majority_again() {
    let mut site = Site::start(3).await;
    let leader = site.await_leader().await;
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    for index in &others {
        site.agents[*index].kill();
    }
    let headers = [("Flotilla-Timeout", "1s"), ("Flotilla-Request-Id", "lonely")];
    let lonely = site.client.request_with("control.commands.param.set.alone", &headers, "1").await;
    match lonely {
        Answer::Reply(reply) => {
            assert!(!reply.is_ok() && reply.revision().is_none(), "{}", reply.0);
        }
        Answer::NoResponders | Answer::TimedOut | Answer::Failed(_) => {}
    }
    site.start_all();
    site.await_leader().await;
    let client = site.client.hasty();
    wait::until_true("the retry is accepted", ELECTION_LIMIT, || async {
        let answer = client.set_param("alone", &json!(1), "lonely").await;
        matches!(answer, Answer::Reply(reply) if reply.is_ok())
    })
    .await;
}
