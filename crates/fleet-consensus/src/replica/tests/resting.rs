//! A replica that nothing happens to is looked at seldom, and a leader's heartbeats come in time
//! all the same.

use super::hall::{Hall, Settings, TICK_MS, id, proposal, set};

#[test]
fn in_peace_only_heartbeats_make_anybody_look_and_every_one_is_sent() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.write(20, "before");
    hall.until("everybody has it", Hall::agrees);
    for _ in 0..80 {
        hall.tick();
    }
    let (looks, sent) = (hall.looks, hall.replica(leader).counters().frames_sent);
    for _ in 0..80 {
        hall.tick();
    }
    let looks = hall.looks - looks;
    // The leader forty times, to send; the others look when a heartbeat comes.
    assert!((40..=45).contains(&looks), "three nodes were looked at {looks} times in 80 ticks");
    let sent = hall.replica(leader).counters().frames_sent - sent;
    assert!((80..=90).contains(&sent), "{sent} frames for forty heartbeats to two nodes");
    assert_eq!(hall.leader(), Some(leader));
}

#[test]
fn what_waits_is_looked_after_at_every_tick() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    for _ in 0..4 {
        hall.tick();
    }
    let follower = (1..=3).find(|node| *node != leader).expect("others");
    let now_ms = hall.now().mono_ms;
    for node in [leader, follower] {
        let rests_ms = hall.replica(node).next_tick_ms();
        hall.replica(node).handle_submit(&proposal("waits", set("a", "b")), now_ms + 1_000, 7);
        let waits_ms = hall.replica(node).next_tick_ms();
        assert!(waits_ms <= now_ms + TICK_MS, "node {node}");
        assert!(waits_ms <= rests_ms, "node {node}");
    }
    // Without a leader nobody rests: it is for the ticks to find one.
    hall.cut.insert(leader);
    hall.until("another leads", |hall| hall.leader().is_some_and(|now| now != leader));
    hall.cut.clear();
    hall.until("the former one follows", |hall| {
        let now = hall.leader().expect("one leads");
        hall.replica(leader).leader() == Some(id(now))
    });
}
