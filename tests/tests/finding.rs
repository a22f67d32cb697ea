//! Gateways find each other: by mDNS, from one address, and after they have moved.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::hall::{Hall, HallPlan};
use flotilla_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// Long enough to be found, were there a way to be.
const ALONE: Duration = Duration::from_secs(4);

const SILENT: &str = "[mesh]\nmdns = false\n";
const CALLING: &str = "[mesh]\nmdns = true\n";

/// Stops all agents and takes away what they wrote down of each other's addresses.
async fn forget_each_other(hall: &mut Hall) {
    for agent in &mut hall.agents {
        agent.stop().await;
        std::fs::remove_file(agent.data_dir().join("mesh-peers.json")).unwrap();
    }
}

fn configure(hall: &Hall, index: usize, mesh: &str) {
    hall.agents[index].set_config(&format!("[nats]\nenabled = false\n{mesh}"));
}

async fn stay_alone(hall: &Hall) {
    wait::stays_true("nobody finds anybody", ALONE, || async {
        hall.sum("flotilla_mesh_nodes") == 0.0
    })
    .await;
}

async fn serve_each_other(hall: &Hall) {
    hall.await_meshed().await;
    let load = hall.load("found", hall.agents.len());
    load.await_more(50).await;
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_on_one_network_find_each_other_by_mdns() {
    let plan = HallPlan::of(3).without_nats();
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    forget_each_other(&mut hall).await;
    hall.start_all();
    for index in hall.started() {
        hall.await_status(index).await;
    }
    // Without mDNS there is nothing left to find each other by.
    stay_alone(&hall).await;
    for index in 0..3 {
        hall.agents[index].kill();
        configure(&hall, index, CALLING);
    }
    hall.start_all();
    serve_each_other(&hall).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: five gateways"]
async fn five_gateways_of_which_each_knows_one_other_find_all() {
    let plan = HallPlan::of(5).without_nats();
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    forget_each_other(&mut hall).await;
    for index in 0..5 {
        // A chain: the first knows the second, each other one the one before it.
        let known = hall.lan.machine(&format!("n{}", if index == 0 { 2 } else { index })).address();
        let seed = format!("bootstrap = [\"/ip4/{known}/tcp/4244\"]\n");
        configure(&hall, index, &format!("{SILENT}{seed}"));
    }
    hall.start_all();
    serve_each_other(&hall).await;
    for viewer in 0..5 {
        for index in (0..5).filter(|index| *index != viewer) {
            let name = &hall.agents[index].name;
            let address = hall.lan.machine(name).address().to_string();
            let seen = hall.seen_by(viewer, name).await.unwrap();
            let at = seen["addresses"].to_string();
            assert!(at.contains(&address), "n{} sees {name} at {at}", viewer + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: an old connection takes its time to be given up"]
async fn a_gateway_with_a_new_address_is_found_again() {
    let plan = HallPlan::of(3).without_nats();
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    let load = hall.load("moved", 6);
    load.await_more(50).await;
    for _ in 0..2 {
        let moved = hall.await_leader().await;
        let name = hall.agents[moved].name.clone();
        let viewer = hall.others(moved)[0];
        hall.lan.readdress(&name);
        let address = hall.lan.machine(&name).address().to_string();
        let begun = std::time::Instant::now();
        wait::until_true("it is seen at its new address", LIMIT, || async {
            let seen = hall.seen_by(viewer, &name).await;
            let at = |seen: &serde_json::Value| seen["addresses"].to_string().contains(&address);
            seen.is_some_and(|seen| at(&seen) && seen["ways"] == "mesh")
        })
        .await;
        hall.await_meshed().await;
        eprintln!("a gateway that moved is connected again after {:?}", begun.elapsed());
        load.await_more(50).await;
    }
    hall.judge(load).await;
}
