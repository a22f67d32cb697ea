//! Leaders are killed and replaced; those that live stay, whatever is said about them.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::hall::{Hall, HallPlan, NATS};
use flotilla_tests::lan::cuts::Cut;
use flotilla_tests::load::Load;
use flotilla_tests::site::ELECTION_LIMIT;
use flotilla_tests::wait;

/// Nobody may be unable to write for longer than this when a leader dies. The goal is below a
/// second; a loaded machine gets a margin.
const GAP_MAX: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(30);
const CALM: Duration = Duration::from_secs(3);

const CRASHED: &str = "the leader has crashed";

/// What followers say when their leader is killed.
enum Proof {
    /// At least one of them knows of the crash, each time.
    EachTime,
    /// None ever knows more than that it hears nothing.
    Never,
}

/// Kills the leader so often, each time under a load at the doors of the others.
async fn kill_leaders(hall: &mut Hall, kills: usize, proof: Proof) {
    let mut gaps = Vec::new();
    for round in 0..kills {
        let leader = hall.await_leader().await;
        let others = hall.others(leader);
        let doors: Vec<_> = others.iter().map(|index| hall.door(*index)).collect();
        let load = Load::start_through(&doors, &format!("round{round}"), 8);
        load.await_more(50).await;
        let told = proofs(hall);
        let killed = Instant::now();
        hall.agents[leader].kill();
        hall.await_leader_among(&others).await;
        gaps.push(killed.elapsed());
        // Whoever was elected, somebody knew of the crash before.
        let proved = proofs(hall) > told;
        match proof {
            Proof::EachTime => assert!(proved, "kill {round}: no follower noticed the crash"),
            Proof::Never => assert!(!proved, "kill {round}: nothing proves a crash here"),
        }
        load.await_more(50).await;
        hall.agents[leader].start();
        hall.await_status(leader).await;
        let history = hall.judge(load).await;
        let gap = history.longest_gap();
        assert!(gap < GAP_MAX, "nobody could write for {gap:?}");
    }
    gaps.sort();
    eprintln!("from kill -9 until all agree on another: {gaps:?}");
}

fn proofs(hall: &Hall) -> usize {
    hall.agents.iter().map(|agent| agent.log().matches(CRASHED).count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_ways_a_crash_is_proved_and_not_waited_for() {
    let Some(mut hall) = Hall::start(3).await else { return };
    kill_leaders(&mut hall, 2, Proof::EachTime).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: leaders are killed again and again"]
async fn over_the_mesh_alone_a_crash_is_proved_and_not_waited_for() {
    let plan = HallPlan::of(3).without_nats();
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    kill_leaders(&mut hall, 4, Proof::EachTime).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: leaders are killed again and again"]
async fn with_nats_alone_timeouts_replace_a_leader() {
    let plan = HallPlan::of(3).configured("[mesh]\nenabled = false\n");
    let Some(mut hall) = Hall::start_without_mesh(plan).await else { return };
    // Nothing but the leader's next start, and by then another one leads.
    kill_leaders(&mut hall, 4, Proof::Never).await;
    assert_eq!(proofs(&hall), 0, "without a mesh nothing proves a crash");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: gateways lose their power"]
async fn a_leader_that_vanishes_without_a_word_is_replaced_by_timeouts() {
    let Some(hall) = Hall::start(3).await else { return };
    let load = hall.load("vanished", 9);
    load.await_more(50).await;
    for _ in 0..3 {
        let before = proofs(&hall);
        let leader = hall.await_leader().await;
        let name = hall.agents[leader].name.clone();
        // What a power cut looks like from outside: no word, no reset, nobody who refuses.
        hall.lan.plug(&name, false);
        hall.await_leader_among(&hall.others(leader)).await;
        load.await_more(50).await;
        assert_eq!(proofs(&hall), before, "a silent machine proves nothing");
        hall.lan.plug(&name, true);
        hall.await_leader().await;
        hall.await_meshed().await;
    }
    hall.judge(load).await;
}

async fn keeps_leading(hall: &Hall, leader: usize, term: u64) {
    wait::stays_true("the leader and its term stay", CALM, || async {
        let status = hall.status(leader).await;
        status.is_some_and(|it| it.role() == "leader" && it.term() == term)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hiccup_of_the_mesh_starts_no_election_while_nats_carries_heartbeats() {
    let Some(hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("hiccup", 6);
    load.await_more(50).await;
    let leader = hall.await_leader().await;
    let term = hall.await_status(leader).await.term();
    for index in hall.others(leader) {
        // Every connection of a follower to its leader is reset, and new ones are refused, as if
        // nobody listened there: all that a crash would show on the mesh.
        let (follower, led) = (&hall.agents[index].name, &hall.agents[leader].name);
        hall.lan.refuse(follower, led);
        wait::until_true("the follower has lost its connection", LIMIT, || async {
            hall.agents[index].counter("flotilla_mesh_nodes") < 2.0
        })
        .await;
        keeps_leading(&hall, leader, term).await;
        hall.lan.refuse_no_more(follower);
        load.await_more(50).await;
    }
    hall.await_meshed().await;
    hall.judge(load).await;
    keeps_leading(&hall, leader, term).await;
}

/// Longer than two heartbeats, and shorter than an election timeout.
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: a leader pauses again and again"]
async fn a_leader_whose_mesh_port_is_closed_may_pause() {
    let Some(mut hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("closed", 6);
    load.await_more(50).await;
    let leader = hall.await_leader().await;
    let term = hall.await_status(leader).await.term();
    let others = hall.others(leader);
    for index in &others {
        hall.lan.refuse(&hall.agents[*index].name, &hall.agents[leader].name);
    }
    wait::until_true("nobody is connected with the leader", LIMIT, || async {
        others.iter().all(|index| hall.agents[*index].counter("flotilla_mesh_nodes") < 2.0)
    })
    .await;
    keeps_leading(&hall, leader, term).await;
    for _ in 0..5 {
        hall.agents[leader].pause();
        wait::stays_true("the leader stands still", PAUSE, || async { true }).await;
        hall.agents[leader].resume();
        load.await_more(20).await;
        keeps_leading(&hall, leader, term).await;
    }
    assert_eq!(proofs(&hall), 0, "a closed port was taken for a crash");
    for index in &others {
        hall.lan.refuse_no_more(&hall.agents[*index].name);
    }
    hall.await_meshed().await;
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_leader_outlives_what_some_followers_believe() {
    // Without NATS, so that what the mesh says is all that a follower has.
    let plan = HallPlan::of(3).without_nats().unhurried();
    let Some(hall) = Hall::start_as(plan).await else { return };
    let leader = hall.await_leader().await;
    let deceived = hall.others(leader)[0];
    let term = hall.await_status(leader).await.term();
    let load = Load::start_through(&[hall.door(leader), hall.door(hall.others(leader)[1])], "l", 6);
    load.await_more(50).await;
    let (follower, led) = (&hall.agents[deceived].name, &hall.agents[leader].name);
    hall.lan.refuse(follower, led);
    wait::until_true("the follower takes its leader for crashed", LIMIT, || async {
        hall.agents[deceived].log().contains(CRASHED)
    })
    .await;
    // It asks for pre-votes from now on, and the other one hears the leader.
    keeps_leading(&hall, leader, term).await;
    load.await_more(50).await;
    hall.lan.refuse_no_more(follower);
    wait::until_true("it follows again", ELECTION_LIMIT, || async {
        let status = hall.status(deceived).await;
        status.is_some_and(|it| it.leader().is_some() && it.term() == term)
    })
    .await;
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: connections take their time to be given up"]
async fn closed_connections_of_some_followers_depose_nobody() {
    let Some(hall) = Hall::start_as(HallPlan::of(5).unhurried()).await else { return };
    let load = hall.load("closed", 10);
    load.await_more(50).await;
    let leader = hall.await_leader().await;
    let term = hall.await_status(leader).await.term();
    let some = hall.names_of(&hall.others(leader)[..2]);
    let mut lost = hall.names_of(&[leader]);
    for nats_too in [false, true] {
        if nats_too {
            lost.push(NATS.to_owned());
        }
        hall.lan.cut(&Cut::between(&some, &lost));
        wait::until_true("they have given up their connections", LIMIT, || async {
            let left = hall.others(leader).into_iter().take(2);
            left.into_iter().all(|it| hall.agents[it].counter("flotilla_mesh_nodes") < 4.0)
        })
        .await;
        keeps_leading(&hall, leader, term).await;
        load.await_more(20).await;
        hall.lan.heal();
        hall.await_meshed().await;
    }
    keeps_leading(&hall, leader, term).await;
    hall.judge(load).await;
}
