//! What leaves before a sync, and what waits for it.

use bytes::Bytes;

use super::hall::{Hall, HallWire, Settings, proposal, set};
use crate::frame::{Class, Path, Route};

/// What a node sends until its next sync, and whether there is one.
fn until_sync(hall: &mut Hall, node: u64) -> (Vec<(Route, Bytes)>, bool) {
    let now = hall.now();
    let mut wire = HallWire { sent: Vec::new() };
    let syncs = hall.replica(node).poll_to_sync(now, &mut wire).expect("no fault");
    (wire.sent, syncs)
}

fn deliver(hall: &mut Hall, node: u64, frames: &[(Route, Bytes)]) {
    let now = hall.now();
    for (route, frame) in frames.iter().filter(|(route, _)| route.to.get() == node) {
        assert_eq!((route.path, route.class), (Path::Nats, Class::Normal));
        hall.replica(node).handle_frame(frame, route.path, now).expect("no fault");
    }
}

fn submit(hall: &mut Hall, leader: u64, token: u64) {
    let deadline_ms = hall.now_ms + 60_000;
    let command = proposal(&format!("s{token}"), set("key", &format!("v{token}")));
    hall.replica(leader).handle_submit(&command, deadline_ms, token);
}

fn answered(hall: &mut Hall, node: u64) -> Vec<u64> {
    hall.replica(node).take_outputs().commands.into_iter().map(|(token, _)| token).collect()
}

/// A settled hall, its leader, and another node.
fn hall() -> (Hall, u64, u64) {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(5, "before");
    hall.until("all agree", Hall::agrees);
    let leader = hall.until_led();
    let follower = (1..=3).find(|node| *node != leader).expect("three nodes");
    (hall, leader, follower)
}

#[test]
fn a_follower_acknowledges_after_its_sync_and_not_before() {
    let (mut hall, leader, follower) = hall();
    submit(&mut hall, leader, 1_000);
    let (appends, _) = until_sync(&mut hall, leader);
    deliver(&mut hall, follower, &appends);
    let (early, syncs) = until_sync(&mut hall, follower);
    assert!(syncs, "the entry waits for the disk");
    assert_eq!(early.len(), 0, "nothing is promised");
    let (late, _) = until_sync(&mut hall, follower);
    assert_eq!(late.len(), 1, "the acknowledgement");
}

#[test]
fn an_entry_that_is_not_on_the_leaders_disk_is_not_answered() {
    let (mut hall, leader, _) = hall();
    submit(&mut hall, leader, 1_000);
    let (appends, syncs) = until_sync(&mut hall, leader);
    assert!(syncs);
    for node in (1..=3).filter(|node| *node != leader) {
        deliver(&mut hall, node, &appends);
        until_sync(&mut hall, node);
        let (acks, _) = until_sync(&mut hall, node);
        deliver(&mut hall, leader, &acks);
    }
    assert_eq!(answered(&mut hall, leader), Vec::<u64>::new());
    until_sync(&mut hall, leader);
    assert_eq!(answered(&mut hall, leader), vec![1_000]);
}

#[test]
fn an_answer_does_not_wait_for_the_sync_of_what_came_after() {
    let (mut hall, leader, follower) = hall();
    submit(&mut hall, leader, 1_000);
    let (appends, _) = until_sync(&mut hall, leader);
    until_sync(&mut hall, leader);
    deliver(&mut hall, follower, &appends);
    until_sync(&mut hall, follower);
    let (acks, _) = until_sync(&mut hall, follower);
    submit(&mut hall, leader, 1_001);
    deliver(&mut hall, leader, &acks);
    let (_, syncs) = until_sync(&mut hall, leader);
    assert!(syncs, "the second entry waits for the disk");
    assert_eq!(answered(&mut hall, leader), vec![1_000]);
}
