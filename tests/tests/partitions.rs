//! The network between gateways falls apart, in all the shapes that it can.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::bare::Answer;
use flotilla_tests::hall::{Hall, HallPlan, NATS};
use flotilla_tests::lan::Lan;
use flotilla_tests::lan::cuts::Cut;
use flotilla_tests::site::ELECTION_LIMIT;
use flotilla_tests::wait;

/// Long enough for many elections, were there a reason for one.
const CALM: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_and_a_pulled_cable_stop_what_they_should_and_nothing_else() {
    let Some(mut lan) = Lan::lay() else { return };
    let machines = [lan.add("a"), lan.add("b"), lan.add("c")];
    let listeners = machines.each_ref().map(|machine| {
        let address = (machine.address(), 4_000);
        machine.enter(|| std::net::TcpListener::bind(address).unwrap())
    });
    let reaches = |from: usize, to: usize| {
        let address = listeners[to].local_addr().unwrap();
        let soon = Duration::from_millis(400);
        machines[from].enter(|| std::net::TcpStream::connect_timeout(&address, soon).is_ok())
    };
    assert!(reaches(0, 1) && reaches(1, 0) && reaches(2, 0));
    lan.cut(&[Cut::one_way(&["a"], &["b"])]);
    // Nothing comes back either: a connection needs both ways.
    assert!(!reaches(0, 1) && !reaches(1, 0) && reaches(2, 0) && reaches(0, 2));
    let fired = lan.heal();
    assert!(fired.total() > 0, "{fired:?}");
    assert!(reaches(0, 1));

    lan.cut(&Cut::between(&["a"], &["c"]));
    let unused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lan.heal()));
    assert!(unused.is_err(), "a cut that threw nothing away counts as fired");
    lan.cut(&[]);

    let before = lan.plugged("b");
    lan.plug("b", false);
    assert!(!reaches(0, 1) && reaches(0, 2));
    lan.plug("b", true);
    wait::until_true("the cable is back", ELECTION_LIMIT, || async { reaches(0, 1) }).await;
    assert_eq!(lan.plugged("b"), before + 2);
    assert!(lan.traffic("a").sent_bytes > 0);
}

/// A write at the door of somebody without a majority.
async fn is_not_acknowledged(hall: &Hall, at: usize) {
    let headers = [("Flotilla-Timeout", "1s"), ("Flotilla-Request-Id", "lonely")];
    let door = hall.door(at);
    match door.request_with("control.commands.param.set.lonely", &headers, "1").await {
        Answer::Reply(reply) => {
            assert!(!reply.is_ok() && reply.revision().is_none(), "{}", reply.0);
        }
        Answer::NoResponders | Answer::TimedOut | Answer::Failed(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_the_others_go_on() {
    let Some(hall) = Hall::start(3).await else { return };
    let load = hall.load("split", 9);
    load.await_more(100).await;
    let old = hall.await_leader().await;
    let others = hall.others(old);
    let mut beyond = hall.names_of(&others);
    beyond.push(NATS.to_owned());
    hall.lan.cut(&Cut::between(&hall.names_of(&[old]), &beyond));
    hall.await_leader_among(&others).await;
    load.await_more(200).await;
    is_not_acknowledged(&hall, old).await;
    wait::until_true("it knows that it leads no more", ELECTION_LIMIT, || async {
        hall.status(old).await.is_some_and(|status| status.role() != "leader")
    })
    .await;
    hall.lan.heal();
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_hears_nobody_deposes_nobody() {
    let Some(hall) = Hall::start_as(HallPlan::of(3).unhurried()).await else { return };
    let load = hall.load("deaf", 6);
    load.await_more(50).await;
    let leader = hall.await_leader().await;
    let deaf = hall.others(leader)[0];
    let term = hall.await_status(leader).await.term();
    let mut beyond = hall.names_of(&hall.others(deaf));
    beyond.push(NATS.to_owned());
    // It can be heard all the time, asking for votes again and again.
    hall.lan.cut(&[Cut::one_way(&beyond, &hall.names_of(&[deaf]))]);
    wait::until_true("it misses its leader", ELECTION_LIMIT, || async {
        hall.status(deaf).await.is_some_and(|status| status.leader().is_none())
    })
    .await;
    wait::stays_true("the leader and its term stay", CALM, || async {
        let status = hall.status(leader).await;
        status.is_some_and(|status| status.role() == "leader" && status.term() == term)
    })
    .await;
    load.await_more(100).await;
    hall.lan.heal();
    hall.judge(load).await;
    assert_eq!(hall.await_status(leader).await.term(), term, "its return cost an election");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_hears_is_replaced_and_terms_do_not_grow_on() {
    let Some(hall) = Hall::start(3).await else { return };
    let load = hall.load("mute", 9);
    load.await_more(50).await;
    let mute = hall.await_leader().await;
    let term = hall.await_status(mute).await.term();
    let others = hall.others(mute);
    let mut beyond = hall.names_of(&others);
    beyond.push(NATS.to_owned());
    // It hears all the others all the time.
    hall.lan.cut(&[Cut::one_way(&hall.names_of(&[mute]), &beyond)]);
    hall.await_leader_among(&others).await;
    load.await_more(200).await;
    hall.lan.heal();
    let leader = hall.await_leader().await;
    let grown = hall.await_status(leader).await.term() - term;
    assert!((1..=4).contains(&grown), "the term grew by {grown}");
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: five gateways, three shapes"]
async fn bridges_rings_and_leaves_of_five_go_on() {
    let plan = HallPlan::of(5).without_nats();
    let Some(hall) = Hall::start_as(plan).await else { return };
    let names = hall.names();
    let load = hall.load("shapes", 10);
    for (shape, cuts) in [
        ("bridge", Cut::bridge(&names)),
        ("ring", Cut::ring(&names)),
        ("two leaves", Cut::two_leaves(&names)),
    ] {
        let before = hall.leaders().keys().max().copied().unwrap_or_default();
        hall.lan.cut(&cuts);
        // Both while old connections still wait for answers, and when all know what is cut.
        for _ in 0..2 {
            load.await_more(200).await;
            let fired = "every cut has thrown something away";
            wait::until_true(fired, ELECTION_LIMIT, || async { hall.lan.fired().is_all() }).await;
        }
        hall.lan.heal();
        let leader = hall.await_leader().await;
        let term = hall.await_status(leader).await.term();
        eprintln!("{shape}: terms {before} to {term}");
        load.await_more(50).await;
    }
    hall.judge(load).await;
}

/// Two followers say little to each other, and of that a hundredth is to be lost, both ways, between
/// all of them.
const CHANCE_LIMIT: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: five gateways, and packets that are sent again and again"]
async fn chance_takes_packets_and_no_command_is_lost() {
    let Some(hall) = Hall::start(5).await else { return };
    let mut all = hall.names();
    all.push(NATS.to_owned());
    let load = hall.load("chance", 10);
    for loss_permille in [10, 50, 300] {
        let cuts: Vec<Cut> =
            Cut::all_but(&all, &[]).into_iter().map(|cut| cut.some(loss_permille)).collect();
        hall.lan.cut(&cuts);
        load.await_more(60).await;
        let lost = "packets were lost between all";
        wait::until_true(lost, CHANCE_LIMIT, || async { hall.lan.fired().is_all() }).await;
        let fired = hall.lan.heal();
        eprintln!("{loss_permille} of a thousand: {} packets lost", fired.total());
        load.await_more(60).await;
    }
    hall.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: cables in and out"]
async fn a_cable_with_a_loose_contact_stops_nobody_else() {
    let Some(hall) = Hall::start(3).await else { return };
    let load = hall.load("loose", 6);
    load.await_more(50).await;
    for round in 0..8 {
        // The leader's every other time.
        let leader = hall.await_leader().await;
        let loose = if round % 2 == 0 { leader } else { hall.others(leader)[0] };
        let name = hall.agents[loose].name.clone();
        let before = hall.lan.plugged(&name);
        hall.lan.plug(&name, false);
        hall.await_leader_among(&hall.others(loose)).await;
        load.await_more(60).await;
        hall.lan.plug(&name, true);
        assert_eq!(hall.lan.plugged(&name), before + 2, "the cable was not pulled");
    }
    hall.await_leader().await;
    hall.await_meshed().await;
    hall.judge(load).await;
}
