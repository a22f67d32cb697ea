//! How an agent ends: drained, told twice, or because a part of it has failed.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::agent::STOP_LIMIT;
use flotilla_tests::load::{Load, pour};
use flotilla_tests::site::{ELECTION_LIMIT, Site};
use flotilla_tests::wait;
use rustix::process::{Resource, Rlimit, Signal};
use serde_json::json;

/// A drain gives what is under way five seconds; a second signal must not wait for that.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Requests that may be lost with those who were killed.
const ATTEMPTS: usize = 10;
/// Until a segment of the log is full.
const POUR_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn followers_that_drain_under_load_lose_nothing() {
    let mut site = Site::start(3).await;
    let leader = site.await_leader().await;
    let load = Load::start(&site.client, "followers", 32);
    for index in (0..3).filter(|index| *index != leader) {
        load.await_more(200).await;
        let term = site.await_status(leader).await.term();
        site.agents[index].stop().await;
        load.await_more(200).await;
        assert_eq!(site.await_status(leader).await.term(), term, "nobody had to elect");
        site.agents[index].start();
        site.await_status(index).await;
        site.await_leader().await;
    }
    load.finish().await.check(&site.client).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_drains_as_sigterm_does() {
    let mut site = Site::start(1).await;
    site.client.set_param("kept", &json!(1), "kept").await.accepted();
    site.agents[0].process().signal(Signal::INT);
    let status = site.agents[0].process().wait(STOP_LIMIT).await;
    assert_eq!(status.code(), Some(0), "{}", site.agents[0].log());
    assert!(site.agents[0].log().contains("draining"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_drain_at_once() {
    let mut site = Site::start(3).await;
    let last = site.await_leader().await;
    for index in (0..3).filter(|index| *index != last) {
        site.agents[index].kill();
    }
    // Nobody can decide this, so the drain waits for it.
    let client = site.client.clone();
    let waiting = tokio::spawn(async move {
        let headers = [("Flotilla-Timeout", "30s"), ("Flotilla-Request-Id", "waiting")];
        // The server may hand it to one that it doesn't know to be gone.
        for _ in 0..ATTEMPTS {
            let asked = client.request_with("control.commands.param.set.waiting", &headers, "1");
            let _lost = tokio::time::timeout(AT_ONCE, asked).await;
        }
    });
    wait::until_true("the command waits", ELECTION_LIMIT, || async {
        site.agents[last].counter("flotilla_in_flight") > 0.0
    })
    .await;
    waiting.abort();
    site.agents[last].process().signal(Signal::TERM);
    wait::until_true("it drains", STOP_LIMIT, || async {
        site.agents[last].log().contains("draining")
    })
    .await;
    let told = Instant::now();
    site.agents[last].process().signal(Signal::TERM);
    let status = site.agents[last].process().wait(STOP_LIMIT).await;
    assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
    assert_eq!(status.code(), Some(1), "{status}: a drain that was cut off is no success");
    let log = site.agents[last].log();
    assert!(log.lines().last().unwrap().contains("second signal"), "{log}");

    // It is fit to be started again.
    site.agents[last].kill();
    site.start_all();
    site.await_leader().await;
    site.await_equal_digests().await;
}

/// Without file handles the log can't go on in a new file, and the loop must end. What
/// matters is that its end is the end of the process, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_fails_ends_its_process_with_the_reason() {
    let mut site = Site::start(3).await;
    let leader = site.await_leader().await;
    let pid = i32::try_from(site.agents[leader].process().id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let none = Rlimit { current: Some(3), maximum: Some(3) };
    rustix::process::prlimit(Some(pid), Resource::Nofile, none).unwrap();

    let load = Load::start(&site.client, "handles", 4);
    let begun = Instant::now();
    for round in 0.. {
        if site.agents[leader].process().ended().is_some() {
            break;
        }
        assert!(begun.elapsed() < POUR_LIMIT, "its log has not come to its end");
        pour(&site.client, round).await;
    }
    let status = site.agents[leader].process().wait(STOP_LIMIT).await;
    assert_eq!(status.code(), Some(1), "{status}");
    let log = site.agents[leader].log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("flotilla-agent: ") && last.contains("open files"), "{last}");

    load.await_more(50).await;
    site.agents[leader].kill();
    site.agents[leader].start();
    site.await_status(leader).await;
    load.finish().await.check(&site.client).await;
    site.await_equal_digests().await;
}
