//! Founding and joining where the NATS server that everybody is told of is not there.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::hall::{Hall, HallPlan};
use flotilla_tests::site::READY_LIMIT;
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
/// What a gateway is configured with that leaves the servers to its token. The servers of tests
/// ask nobody who he is.
const UNSAID: &str = "[nats]\nallow_insecure = true\n[mesh]\nmdns = false\n";

/// A token with the addresses of all gateways that are in the mesh by now.
async fn token(hall: &Hall, gateways: usize) -> Value {
    wait::until("a token names all gateways", LIMIT, || async {
        let made = hall.cli(0).run(&["token", "create", "-o", "json"]);
        let made = (made.code == Some(0)).then(|| made.json())?;
        let named = made["mesh"].as_array()?.iter().filter_map(Value::as_str);
        let peers = named.filter_map(|at| at.rsplit_once("/p2p/").map(|(_, peer)| peer.to_owned()));
        let peers: BTreeSet<String> = peers.collect();
        (peers.len() == gateways).then_some(made)
    })
    .await
}

/// Joins, starts, and waits until the site counts it among its nodes; gives what joining said.
async fn join(hall: &mut Hall, mut agent: Agent, token: &Value) -> String {
    let name = agent.name.clone();
    let arguments = ["join", token["token"].as_str().unwrap(), "--only", "--name", &name];
    let said = agent.run_once(&arguments).expect_code(0).stderr;
    agent.start();
    hall.agents.push(agent);
    let index = hall.agents.len() - 1;
    wait::until_true("it has caught up", READY_LIMIT, || async {
        let (Some(first), Some(own)) = (hall.status(0).await, hall.status(index).await) else {
            return false;
        };
        own.leader() == first.leader() && own.applied() == first.applied()
    })
    .await;
    said
}

fn members(hall: &Hall, at: usize) -> usize {
    hall.cli(at).json(&["member", "ls"]).as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_joins_by_the_mesh_while_the_nats_server_of_its_token_is_dead() {
    let Some(mut hall) = Hall::start(3).await else { return };
    let token = token(&hall, 3).await;
    let server = hall.nats().url();
    assert_eq!(token["nats"], json!([server]), "the token names the server");
    hall.nats().kill();
    let load = hall.load("joining", 6);
    load.await_more(50).await;
    let fourth = hall.prepare_next();
    fourth.set_config(UNSAID);
    let said = join(&mut hall, fourth, &token).await;
    assert!(said.contains("is node 4 of site hall"), "{said}");
    for at in 0..4 {
        assert_eq!(members(&hall, at), 4, "at the door of gateway {}", at + 1);
    }
    hall.await_meshed().await;
    load.await_more(50).await;
    // It has learnt where the server is from a token, and finds it when it is back.
    let on_nats = |hall: &Hall| hall.agents[3].log().matches("connected to NATS").count();
    assert_eq!(on_nats(&hall), 0, "there was no server");
    hall.nats().restart();
    wait::until_true("it is connected to NATS too", READY_LIMIT, || async {
        let status = hall.status(3).await;
        status.is_some_and(|it| it.0["nats_server"].is_string())
    })
    .await;
    load.await_more(50).await;
    hall.judge(load).await;
}

/// Two servers: one address at which nobody listens, and one that nobody has.
fn never_there(hall: &mut Hall) -> String {
    let closed = hall.lan.add("closed").address();
    let [a, b, c, _] = closed.octets();
    let nobody = Ipv4Addr::new(a, b, c, 250);
    format!("[nats]\nurls = [\"nats://{closed}:4222\", \"nats://{nobody}:4222\"]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_founded_and_joined_whose_nats_servers_were_never_there() {
    let Some(mut hall) = Hall::prepare(HallPlan::of(3).without_nats()) else { return };
    let servers = never_there(&mut hall);
    let config = format!("{servers}allow_insecure = true\n[mesh]\nmdns = false\n");
    let mut first = hall.prepare_next();
    first.set_config(&config);
    let founded = first.run_once(&["init", "--site", "hall", "--name", "n1", "--voters", "3"]);
    let founded = founded.expect_code(0);
    assert!(founded.stderr.contains("no NATS server answers at"), "{}", founded.stderr);
    first.start();
    hall.agents.push(first);
    hall.await_status(0).await;
    hall.await_leader().await;
    for gateways in 1..3 {
        let token = token(&hall, gateways).await;
        let next = hall.prepare_next();
        next.set_config(&config);
        join(&mut hall, next, &token).await;
    }
    hall.await_voters(3).await;
    hall.await_meshed().await;
    let load = hall.load("never", 6);
    load.await_more(100).await;
    let leader = hall.await_leader().await;
    hall.agents[leader].kill();
    load.await_more(100).await;
    hall.agents[leader].start();
    hall.await_meshed().await;
    load.await_more(100).await;
    for agent in &hall.agents {
        let log = agent.log();
        assert!(!log.contains("connected to NATS"), "{} found a server", agent.name);
    }
    hall.judge(load).await;
}
