//! A crashed leader is replaced at once, and a living one is never deposed.

use std::collections::BTreeMap;

use fleet_state::Command;
use raft::StateRole;

use super::hall::{Hall, Node, Settings, id, proposal};

/// Ticks in which the followers of a crashed leader are done: two heartbeats, two ranks, votes.
const AT_ONCE_TICKS: u64 = 9;
/// Ticks of the shortest election timeout that a hall has.
const TIMEOUT_TICKS_MIN: u64 = 14;

/// One tick in which these nodes are told that those have crashed just now.
fn tick_told(hall: &mut Hall, told: &[u64], crashed: &[u64]) {
    let refused_ms = hall.now().mono_ms;
    tick_told_of(hall, told, crashed, refused_ms);
}

/// The same, of refusals at that time.
fn tick_told_of(hall: &mut Hall, told: &[u64], crashed: &[u64], refused_ms: u64) {
    let crashed: BTreeMap<_, _> = crashed.iter().map(|node| (id(*node), refused_ms)).collect();
    let now = hall.now();
    for node in told {
        hall.replica(*node).handle_crashed(&crashed, now).expect("no fault");
    }
    hall.tick();
}

fn term(hall: &mut Hall, node: u64) -> u64 {
    hall.replica(node).term_and_commit().0
}

#[test]
fn a_leader_whose_process_is_gone_is_replaced_at_once() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(20, "before");
    let gone = hall.until_led();
    let others: Vec<u64> = (1..=3).filter(|node| *node != gone).collect();
    tick_told(&mut hall, &others, &[]);
    hall.place(gone).replica = None;
    let refused_ms = hall.now().mono_ms;
    let mut ticks = 0;
    while hall.leader().is_none() {
        tick_told_of(&mut hall, &others, &[gone], refused_ms);
        ticks += 1;
        assert!(ticks <= AT_ONCE_TICKS, "nobody leads after {ticks} ticks");
    }
    const { assert!(AT_ONCE_TICKS < TIMEOUT_TICKS_MIN, "or this shows nothing") };
    // By rank: the first of those that are left.
    assert_eq!(hall.leader(), others.first().copied());
    hall.write(20, "after");
    hall.start(gone).expect("it starts again");
    hall.until("all agree", Hall::agrees);
}

#[test]
fn a_leader_that_is_heard_is_not_deposed_whatever_is_said() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(5, "before");
    let leader = hall.until_led();
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let before = term(&mut hall, leader);
    for _ in 0..200 {
        tick_told(&mut hall, &others, &[leader]);
    }
    assert_eq!((hall.leader(), term(&mut hall, leader)), (Some(leader), before));
    hall.write(5, "after");
}

#[test]
fn one_that_hears_nothing_deposes_nobody() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(5, "before");
    let leader = hall.until_led();
    let deaf = (1..=3).find(|node| *node != leader).expect("three nodes");
    let before = term(&mut hall, leader);
    // Cut off for a moment, and told that the leader is gone; then back.
    for _ in 0..5 {
        hall.cut.insert(deaf);
        for _ in 0..8 {
            tick_told(&mut hall, &[deaf], &[leader]);
        }
        hall.cut.clear();
        for _ in 0..8 {
            tick_told(&mut hall, &[deaf], &[]);
        }
    }
    hall.write(5, "after");
    assert_eq!((hall.leader(), term(&mut hall, leader)), (Some(leader), before));
    hall.until("all agree", Hall::agrees);
}

/// A port that refuses is no reason to depose a leader that was heard since, pauses or not.
#[test]
fn a_leader_that_pauses_long_after_its_port_was_closed_is_not_deposed() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(5, "before");
    let leader = hall.until_led();
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let before = term(&mut hall, leader);
    // Every follower lost its connection and was refused; frames come by the other way.
    let refused_ms = hall.now().mono_ms;
    for _ in 0..20 {
        tick_told_of(&mut hall, &others, &[leader], refused_ms);
    }
    for _ in 0..5 {
        hall.cut.insert(leader);
        // More than two heartbeats, and less than it takes to be in doubt of its majority.
        for _ in 0..7 {
            tick_told_of(&mut hall, &others, &[leader], refused_ms);
        }
        hall.cut.clear();
        for _ in 0..20 {
            tick_told_of(&mut hall, &others, &[leader], refused_ms);
        }
        assert_eq!((hall.leader(), term(&mut hall, leader)), (Some(leader), before));
    }
    hall.write(5, "after");
    hall.until("all agree", Hall::agrees);
}

#[test]
fn what_was_said_of_a_node_before_it_led_does_not_depose_it() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(5, "before");
    let gone = hall.until_led();
    let others: Vec<u64> = (1..=3).filter(|node| *node != gone).collect();
    tick_told(&mut hall, &others, &[]);
    hall.place(gone).replica = None;
    // The one that will lead has closed its port in the same moment.
    let told = [gone, others[0]];
    let refused_ms = hall.now().mono_ms;
    while hall.leader().is_none() {
        tick_told_of(&mut hall, &others, &told, refused_ms);
    }
    let led = (hall.leader(), term(&mut hall, others[0]));
    assert_eq!(led.0, Some(others[0]));
    for _ in 0..40 {
        tick_told_of(&mut hall, &others, &told, refused_ms);
        assert_eq!((hall.leader(), term(&mut hall, others[0])), led);
    }
    hall.start(gone).expect("it starts again");
    hall.until("all agree", Hall::agrees);
}

/// The leader crashes, which one of its followers alone is told of, in each tick from then on. It
/// asks for no vote in so many ticks.
fn asks_for_no_vote(hall: &mut Hall, gone: u64, told: u64, ticks_max: u64) {
    tick_told(hall, &[told], &[]);
    hall.place(gone).replica = None;
    let refused_ms = hall.now().mono_ms;
    for ticks in 1..=ticks_max {
        tick_told_of(hall, &[told], &[gone], refused_ms);
        let state = hall.replica(told).raw.raft.state;
        assert_eq!((state, hall.leader()), (StateRole::Follower, None), "after {ticks} ticks");
    }
    assert_eq!(hall.replica(told).leader(), None, "it knows of the crash");
}

#[test]
fn a_node_that_is_going_or_cannot_store_asks_for_no_vote_when_its_leader_crashes() {
    let unfit: [fn(&mut Node); 2] = [Node::begin_drain, |node| node.set_low_space(true)];
    for make_unfit in unfit {
        let mut hall = Hall::new(&[], Settings::default());
        hall.write(5, "before");
        let gone = hall.until_led();
        let told = (1..=3).find(|node| *node != gone).expect("three nodes");
        make_unfit(hall.replica(told));
        // Longer than others in its place need, and before any timeout.
        const { assert!(AT_ONCE_TICKS < TIMEOUT_TICKS_MIN - 1, "or this shows nothing") };
        asks_for_no_vote(&mut hall, gone, told, TIMEOUT_TICKS_MIN - 1);
        hall.until_led();
        hall.start(gone).expect("it starts again");
        hall.until("all agree", Hall::agrees);
    }
}

#[test]
fn a_learner_asks_for_no_vote_when_its_leader_crashes() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(5, "before");
    let leader = hall.until_led();
    let deadline_ms = hall.now().mono_ms + 60_000;
    let alone = proposal("alone", Command::SetVoters { voters: 1 });
    hall.replica(leader).handle_submit(&alone, deadline_ms, 1_000_000);
    let learners: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    hall.until("one votes", |hall| {
        (1..=3).all(|node| hall.replica(node).conf.voters == [id(leader)])
    });
    hall.until("all agree", Hall::agrees);
    // Nobody is left who may be elected.
    let told = learners[0];
    asks_for_no_vote(&mut hall, leader, told, 10 * TIMEOUT_TICKS_MIN);
    hall.start(leader).expect("it starts again");
    hall.until("all agree", Hall::agrees);
}
