//! The NATS server goes, stands still, or reaches some gateways only; the mesh goes; both do.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::hall::{Hall, HallPlan, NATS};
use flotilla_tests::lan::cuts::Cut;
use flotilla_tests::load::{History, Load};
use flotilla_tests::site::ELECTION_LIMIT;
use flotilla_tests::wait;

/// Nobody at a door may be without an answer for longer than this when the NATS server goes.
/// The goal is half a second; a loaded machine gets a margin.
const GAP_MAX: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);
/// Ways are changed after three heartbeats of evidence, and back after a second.
const CALM: Duration = Duration::from_secs(3);

const TO_MESH: &str = "flotilla_way_switches_total{way=\"mesh\"}";
const TO_NATS: &str = "flotilla_way_switches_total{way=\"nats\"}";

/// How often a way was changed by all agents so far.
fn switches(hall: &Hall, to: &str) -> f64 {
    let pages = hall.started().into_iter().map(|index| hall.agents[index].get("/metrics"));
    let values = pages.filter_map(|page| {
        let line = page.lines().find_map(|line| line.strip_prefix(to).map(str::to_owned));
        line.and_then(|value| value.trim().parse::<f64>().ok())
    });
    values.sum()
}

async fn await_switch(hall: &Hall, to: &str, before: f64) {
    wait::until_true(&format!("{to} grows"), LIMIT, || async { switches(hall, to) > before }).await;
}

/// Who leads, and in which term.
async fn standing(hall: &Hall) -> (usize, u64) {
    let leader = hall.await_leader().await;
    (leader, hall.await_status(leader).await.term())
}

async fn goes_on_as(hall: &Hall, load: &Load, before: (usize, u64)) {
    load.await_more(100).await;
    wait::stays_true("the leader and its term stay", CALM, || async {
        // One that takes its time to answer is no other leader; that commands go on is seen below.
        let status = hall.status(before.0).await;
        status.is_none_or(|it| it.role() == "leader" && it.term() == before.1)
    })
    .await;
    load.await_more(100).await;
}

/// How many commands had to be sent again.
fn repeated(history: &History) -> usize {
    history.writers.iter().flatten().filter(|it| it.attempts > 1).count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: a server is cut off from some and comes back"]
async fn a_server_that_reaches_some_gateways_only_changes_ways_to_these_only() {
    let Some(hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("some", 6);
    load.await_more(50).await;
    let before = standing(&hall).await;
    let (follower, other) = (hall.others(before.0)[0], hall.others(before.0)[1]);
    let of_other = || hall.agents[other].log().matches("way changed").count();
    for gateway in [follower, before.0] {
        let (switched, untouched) = (switches(&hall, TO_MESH), of_other());
        hall.lan.cut(&Cut::between(&hall.names_of(&[gateway]), &[NATS.to_owned()]));
        await_switch(&hall, TO_MESH, switched).await;
        goes_on_as(&hall, &load, before).await;
        if gateway == follower {
            // Those that the server still reaches go on by it.
            let seen = hall.seen_by(before.0, &hall.agents[other].name).await.unwrap();
            assert_eq!(seen["ways"], "both", "{seen}");
            assert_eq!(of_other(), untouched, "a way that worked was changed");
        }
        let back = switches(&hall, TO_NATS);
        hall.lan.heal();
        await_switch(&hall, TO_NATS, back).await;
    }
    assert_eq!(standing(&hall).await, before, "no election in all this");
    hall.judge(load).await;
}

/// A gateway's machine that is busy with something else stands still for a moment.
const HICCUP: Duration = Duration::from_millis(300);
const HICCUPS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn on_a_healthy_site_under_load_no_way_is_ever_changed() {
    let Some(mut hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("healthy", 16);
    load.await_more(100).await;
    let before = standing(&hall).await;
    // What the start did is over: whatever was heard first on the mesh is back.
    for index in hall.others(before.0) {
        wait::until_true("frames go by NATS", LIMIT, || async {
            let seen = hall.seen_by(before.0, &hall.agents[index].name).await;
            seen.is_some_and(|seen| seen["way"] == "nats" && seen["ways"] == "both")
        })
        .await;
    }
    let all = |hall: &Hall| switches(hall, TO_MESH) + switches(hall, TO_NATS);
    let switched = all(&hall);
    wait::stays_true("no way is changed", CALM, || async { all(&hall) == switched }).await;
    for round in 0..HICCUPS {
        for index in hall.started() {
            let name = format!("hiccup {round} of {index}");
            hall.agents[index].pause();
            wait::stays_true(&name, HICCUP, || async { true }).await;
            hall.agents[index].resume();
            load.await_more(10).await;
        }
    }
    goes_on_as(&hall, &load, before).await;
    assert_eq!(all(&hall), switched, "a way was changed, and nothing was wrong with any");
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_doors_hardly_notice_that_the_server_is_killed_and_back() {
    let Some(mut hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("killed", 12);
    load.await_more(100).await;
    let before = standing(&hall).await;
    for _ in 0..2 {
        let switched = switches(&hall, TO_MESH);
        hall.nats().kill();
        await_switch(&hall, TO_MESH, switched).await;
        goes_on_as(&hall, &load, before).await;
        let back = switches(&hall, TO_NATS);
        hall.nats().restart();
        await_switch(&hall, TO_NATS, back).await;
        goes_on_as(&hall, &load, before).await;
    }
    let history = hall.judge(load).await;
    let gap = history.longest_gap();
    let repeated = repeated(&history);
    eprintln!("longest time without an answer {gap:?}, {repeated} commands sent again");
    assert!(gap < GAP_MAX, "nobody could write for {gap:?}");
    assert_eq!(repeated, 0, "a command ended unknown, though its leader never changed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: the server stands still again and again"]
async fn writers_at_the_doors_hardly_notice_that_the_server_stands_still() {
    let Some(mut hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("still", 12);
    load.await_more(100).await;
    let before = standing(&hall).await;
    for _ in 0..3 {
        let switched = switches(&hall, TO_MESH);
        hall.nats().pause();
        await_switch(&hall, TO_MESH, switched).await;
        goes_on_as(&hall, &load, before).await;
        let back = switches(&hall, TO_NATS);
        hall.nats().resume();
        await_switch(&hall, TO_NATS, back).await;
        goes_on_as(&hall, &load, before).await;
    }
    let history = hall.judge(load).await;
    let gap = history.longest_gap();
    assert!(gap < GAP_MAX, "nobody could write for {gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: a server takes its time to go"]
async fn a_lame_duck_is_left_before_it_goes() {
    let config = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"5s\"\n";
    let plan = HallPlan { nats: Some(config.to_owned()), ..HallPlan::of(3).unhurried() };
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    let load = hall.load("lame", 12);
    load.await_more(100).await;
    let before = standing(&hall).await;
    let switched = switches(&hall, TO_MESH);
    hall.nats().begin_lame_duck();
    await_switch(&hall, TO_MESH, switched).await;
    let told = hall.nats().log();
    assert!(told.to_lowercase().contains("lame duck"), "{told}");
    let said = "reason=\"the NATS server is about to go\"";
    assert!(hall.agents.iter().any(|agent| agent.log().contains(said)), "nobody says {said:?}");
    goes_on_as(&hall, &load, before).await;
    let back = switches(&hall, TO_NATS);
    hall.nats().restart();
    await_switch(&hall, TO_NATS, back).await;
    goes_on_as(&hall, &load, before).await;
    let history = hall.judge(load).await;
    let gap = history.longest_gap();
    assert!(gap < GAP_MAX, "nobody could write for {gap:?}");
    assert_eq!(repeated(&history), 0, "a command ended unknown, though nothing broke");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: connections take their time to be given up"]
async fn the_mesh_goes_and_nats_carries_everything() {
    let Some(hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("meshless", 6);
    load.await_more(50).await;
    let before = standing(&hall).await;
    for _ in 0..2 {
        hall.lan.cut(&Cut::all_but(&hall.names(), &[]));
        wait::until_true("nobody is connected over the mesh", LIMIT, || async {
            hall.sum("flotilla_mesh_nodes") == 0.0
        })
        .await;
        goes_on_as(&hall, &load, before).await;
        hall.lan.heal();
        hall.await_meshed().await;
        goes_on_as(&hall, &load, before).await;
    }
    assert_eq!(standing(&hall).await, before, "the mesh cost an election");
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: everything is down for a while"]
async fn both_ways_go_and_come_back_and_the_site_with_them() {
    let Some(hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("both", 6);
    load.await_more(50).await;
    let mut all = hall.names();
    all.push(NATS.to_owned());
    hall.lan.cut(&Cut::all_but(&all, &[]));
    wait::until_true("nobody leads", ELECTION_LIMIT, || async {
        let mut leaderless = 0;
        for index in hall.started() {
            let status = hall.status(index).await;
            leaderless += usize::from(status.is_some_and(|it| it.leader().is_none()));
        }
        leaderless == 3
    })
    .await;
    let at_most = load.acknowledged();
    wait::stays_true("nothing is acknowledged", CALM, || async { load.acknowledged() == at_most })
        .await;
    hall.lan.heal();
    load.await_more(100).await;
    hall.judge(load).await;
}
