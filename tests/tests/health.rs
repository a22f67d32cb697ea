//! What a supervisor and Prometheus see of an agent.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::load::Load;
use flotilla_tests::site::{ELECTION_LIMIT, Site};
use flotilla_tests::wait;

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_ready_while_it_can_serve_and_alive_all_the_time() {
    let mut site = Site::start(3).await;
    for agent in &site.agents {
        assert!(agent.get("/livez").starts_with("HTTP/1.1 200"), "{}", agent.get("/livez"));
        assert!(agent.get("/readyz").starts_with("HTTP/1.1 200"), "{}", agent.get("/readyz"));
        assert!(agent.get("/nosuch").starts_with("HTTP/1.1 404"));
    }
    let last = site.await_leader().await;
    for index in (0..3).filter(|index| *index != last) {
        site.agents[index].kill();
    }
    wait::until_true("it is not ready without a majority", ELECTION_LIMIT, || async {
        site.agents[last].get("/readyz").starts_with("HTTP/1.1 503")
    })
    .await;
    assert!(site.agents[last].get("/readyz").contains("leader"), "it says why");
    assert!(site.agents[last].get("/livez").starts_with("HTTP/1.1 200"), "a restart helps nobody");
    site.start_all();
    wait::until_true("it is ready again", ELECTION_LIMIT, || async {
        site.agents[last].get("/readyz").starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_worth_an_alarm_moves() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "metrics", 16);
    load.await_more(300).await;
    let leader = site.await_leader().await;
    wait::until_true("requests under way are counted", LIMIT, || async {
        site.agents.iter().any(|agent| agent.counter("flotilla_in_flight") > 0.0)
    })
    .await;
    load.finish().await;
    let sum = |name: &str| site.agents.iter().map(|agent| agent.counter(name)).sum::<f64>();
    for name in [
        "flotilla_commands_total",
        "flotilla_proposals_total",
        "flotilla_relayed_total",
        "flotilla_log_sync_seconds_count",
        "flotilla_log_written_bytes_total",
        "flotilla_frames_sent_total",
        "flotilla_frames_received_total",
        "flotilla_events_total",
        "flotilla_queries_total",
    ] {
        assert!(sum(name) > 0.0, "{name} stands still");
    }
    for agent in &site.agents {
        assert_eq!(agent.counter("flotilla_nats_connected"), 2.0, "both connections are told");
        assert_eq!(agent.counter("flotilla_has_leader"), 1.0);
    }
    assert_eq!(site.agents[leader].counter("flotilla_is_leader"), 1.0);

    // Bad input is counted where it came in.
    let before = sum("flotilla_refused_total");
    for subject in [
        "control.commands.param.set.UPPER",
        "control.query.nosuch.get.a",
        "control.changes.since.x",
        "control.admin.nosuch.verb",
    ] {
        site.client.request(subject, "1").await.refused("malformed");
    }
    assert_eq!(sum("flotilla_refused_total") - before, 4.0, "each refusal is counted once");

    site.nats.kill();
    wait::until_true("the loss is told", LIMIT, || async {
        site.agents.iter().all(|agent| agent.counter("flotilla_nats_connected") == 0.0)
    })
    .await;
}
