//! Presence and ways as people see them: `status`, `member ls`, `flotilla mesh`, and the events of
//! ways that change.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::site::Site;
use flotilla_tests::wait;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(40);

/// What agent `index` sees of the node called `name`.
async fn seen_by(site: &Site, index: usize, name: &str) -> Option<Value> {
    let viewer = &site.agents[index].name;
    let reply = site.client.hasty().request(&format!("control.node.{viewer}.mesh"), "").await;
    let reply = match reply {
        flotilla_tests::bare::Answer::Reply(reply) if reply.is_ok() => reply,
        _ => return None,
    };
    let peers = reply.at("/item/peers").as_array()?.clone();
    peers.into_iter().find(|peer| peer["name"] == name)
}

async fn await_seen(site: &Site, what: &str, by: usize, name: &str, is: impl Fn(&Value) -> bool) {
    wait::until_true(what, LIMIT, || async {
        seen_by(site, by, name).await.is_some_and(|seen| is(&seen))
    })
    .await;
}

async fn await_both(site: &Site) {
    for by in 0..site.agents.len() {
        for name in site.agents.iter().map(|agent| agent.name.as_str()) {
            if name != site.agents[by].name {
                await_seen(site, "everybody is alive on both ways", by, name, |seen| {
                    seen["life"] == "alive"
                        && seen["ways"] == "both"
                        && seen["rtt_us"].is_u64()
                        && seen["lag"].is_u64()
                        && seen["told"]["boot"].is_u64()
                        && seen["told"]["load_permille"].is_u64()
                        && seen["addresses"][0].as_str().is_some_and(|at| at.contains("/p2p/"))
                })
                .await;
            }
        }
    }
}

/// The row of a table that begins with these two cells.
fn row(table: &str, node: u64, name: &str) -> Vec<String> {
    let rows =
        table.lines().map(|line| line.split("  ").map(str::trim).filter(|it| !it.is_empty()));
    let mut rows = rows.map(|cells| cells.map(str::to_owned).collect::<Vec<String>>());
    let found =
        rows.find(|cells| cells.len() > 2 && cells[0] == node.to_string() && cells[1] == name);
    found.unwrap_or_else(|| panic!("no row of {name} in:\n{table}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_seen_with_ways_and_a_dead_one_as_dead() {
    let mut site = Site::start(3).await;
    await_both(&site).await;
    let leader = site.await_leader().await;
    let gone = (0..3).find(|index| *index != leader).unwrap();
    let name = site.agents[gone].name.clone();
    let node = site.await_status(gone).await.node_id();

    let status = site.cli.run(&["status"]).expect_code(0).stdout;
    let cells = row(&status, node, &name);
    assert!(cells[3].starts_with("alive ") && cells[4] == "both", "{status}");
    assert!(cells[5].ends_with(" ms"), "{status}");
    let members = site.cli.run(&["member", "ls"]).expect_code(0).stdout;
    let cells = row(&members, node, &name);
    assert!(cells[3].starts_with("alive ") && cells[4] == "both", "{members}");
    let listed = site.cli.json(&["member", "ls"]);
    let member = listed.as_array().unwrap().iter().find(|it| it["node"] == json!(node)).unwrap();
    assert_eq!(member["presence"]["life"], "alive", "{member}");

    site.agents[gone].kill();
    // A connection that is closed makes suspect at once; dead is who stays away.
    await_seen(&site, "it is suspect", leader, &name, |seen| seen["life"] == "suspect").await;
    await_seen(&site, "it is dead", leader, &name, |seen| {
        seen["life"] == "dead" && seen["ways"] == "none" && seen["since_ms"].is_u64()
    })
    .await;
    let status = site.cli.run(&["status"]).expect_code(0);
    let cells = row(&status.stdout, node, &name);
    assert!(cells[3].starts_with("dead ") && cells[4] == "none", "{}", status.stdout);
    assert!(status.stderr.contains("1 of the 3 members do not answer"), "{}", status.stderr);

    site.agents[gone].start();
    await_seen(&site, "it is back, started once more", leader, &name, |seen| {
        seen["life"] == "alive" && seen["told"]["boot"] == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_is_shown_and_measured() {
    let site = Site::start(3).await;
    await_both(&site).await;
    let peers = site.cli.run(&["mesh", "peers", "--from", "n1"]).expect_code(0);
    assert!(peers.stderr.contains("as n1 (node 1) sees it"), "{}", peers.stderr);
    let cells = row(&peers.stdout, 2, "n2");
    assert!(cells[3] == "both" && cells[9].starts_with("/ip4/127.0.0.1/tcp/"), "{}", peers.stdout);

    let dot = site.cli.run(&["mesh", "graph", "-o", "dot"]).expect_code(0).stdout;
    assert!(dot.starts_with("digraph \"home\" {"), "{dot}");
    for edge in ["1 -> 2 [dir=none", "1 -> 3 [dir=none", "2 -> 3 [dir=none"] {
        assert!(dot.contains(edge), "{edge} is missing in {dot}");
    }
    let graph = site.cli.json(&["mesh", "graph"]);
    assert_eq!(graph["edges"].as_array().unwrap().len(), 6, "{graph}");
    site.cli.run(&["status", "-o", "dot"]).expect_code(2);

    let pings = site.cli.run(&["mesh", "ping", "n2", "--from", "n1", "-c", "3"]).expect_code(0);
    assert_eq!(pings.stdout.lines().filter(|line| line.starts_with("n1 -> n2: ")).count(), 3);
    assert!(pings.stderr.contains("3 round trips"), "{}", pings.stderr);
    let refused = |payload: &str| {
        let payload = payload.to_owned();
        let client = site.client.clone();
        async move { client.request("control.node.n1.ping", payload).await }
    };
    refused("{\"node\":1}").await.refused("unsupported");
    refused("{\"node\":99}").await.refused("not_found");
    refused("{\"node\":0}").await.refused("malformed");
    refused("").await.refused("malformed");
    site.cli.run(&["mesh", "ping", "n9"]).expect_code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_ways_is_an_event_and_a_line_in_the_log_once() {
    let mut site = Site::start(3).await;
    await_both(&site).await;
    let leader = site.await_leader().await;
    let id = site.await_status(leader).await.node_id();
    let subject = site.client.subject("control.events.way.>");
    let mut events = site.client.raw().subscribe(subject).await.unwrap();
    let lines = |site: &Site| {
        let log = site.agents[leader].log();
        log.lines().filter(|line| line.contains("way changed")).count()
    };
    let before = lines(&site);
    site.nats.kill();
    wait::until_true("the leader's frames go over the mesh", LIMIT, || async {
        lines(&site) == before + 2
    })
    .await;
    site.nats.restart();
    // Two back to NATS, and before them those to the mesh, told late: they came when the server
    // did, before this listener was back perhaps.
    let mut told: Vec<(u64, String)> = Vec::new();
    while told.iter().filter(|(_, way)| way == "nats").count() < 2 {
        let event = tokio::time::timeout(LIMIT, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("only {told:?}")).unwrap();
        let event: Value = serde_json::from_slice(&event.payload).unwrap();
        if event["node"] == json!(id) {
            assert!(event["reason"].is_string() && event["wall_time_ms"].is_u64(), "{event}");
            told.push((event["to"].as_u64().unwrap(), event["way"].as_str().unwrap().to_owned()));
        }
    }
    told.sort();
    let mut once = told.clone();
    once.dedup();
    assert_eq!(told, once, "each change once");
    assert_eq!(lines(&site), before + 4, "one line each");
}
