//! Snapshots from a leader to a member that the log can no longer serve.

use fleet_log::{Disk, Position};

use super::hall::{Hall, HallWire, PATIENCE_TICKS, Settings, id};
use crate::config::{SNAPSHOT_CHUNK_BYTES, SNAPSHOT_STALL_MS, SNAPSHOT_WINDOW_BYTES};
use crate::frame::{
    Class, MessageKind, Path, Payload, RaftMessage, SnapshotEnd, SnapshotId, SnapshotOffer,
    SnapshotRef,
};
use crate::status::Standing;
use crate::transfer::Want;

/// What LZ4 can't pack, so that a snapshot takes many windows.
fn noise(len: usize) -> String {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((seed >> 33) % 90).expect("small"))
    };
    (0..len).map(|_| next()).filter(|c| *c != '"' && *c != '\\').collect()
}

/// Nodes 1 and 2 have written more than their snapshots hold, and 3 has nothing.
fn hall_with_an_empty_node(writes: u64, value: &str) -> Hall {
    let mut hall = Hall::new(&[3], Settings::default());
    hall.cut.insert(3);
    hall.write(writes, value);
    hall
}

/// A node takes a snapshot of what it has now.
pub(super) fn take(hall: &mut Hall, node: u64) -> u64 {
    let before = hall.builds;
    assert!(hall.replica(node).handle_snapshot_request());
    hall.until("a snapshot", |hall| hall.builds > before);
    hall.replica(node).view().standing.snapshot_index
}

#[test]
fn an_empty_voter_is_brought_up_by_a_snapshot_and_the_log() {
    let mut hall = hall_with_an_empty_node(20, "x");
    let leader = hall.until_led();
    take(&mut hall, leader);
    hall.write(5, "y");
    hall.cut.clear();
    hall.until("agreement", Hall::agrees);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}

#[test]
fn a_dead_leaders_newer_snapshot_does_not_hold_a_site_without_quorum() {
    let mut hall = hall_with_an_empty_node(90, &noise(30_000));
    let first = hall.until_led();
    let second = 3 - first;
    let newer = take(&mut hall, first);
    let older = hall.replica(second).view().standing.snapshot_index;
    assert!(newer > older);
    hall.cut.clear();
    hall.until("the first chunks", |hall| hall.replica(3).transfer.received_bytes() > 0);
    assert_eq!(hall.replica(3).view().standing.snapshot_index, 0, "it must take longer than that");
    hall.cut.insert(first);
    let began_ms = hall.now_ms;
    // Only the empty node makes a majority with the one that is left.
    hall.until("a new leader", |hall| hall.leader() == Some(second));
    hall.until("agreement", Hall::agrees);
    assert_eq!(hall.replica(3).view().standing.snapshot_index, older);
    assert!(hall.now_ms - began_ms < SNAPSHOT_STALL_MS, "nobody waited for the dead one");
    hall.write(1, "there is a quorum");
}

#[test]
fn a_rotten_snapshot_is_replaced_and_not_offered_again() {
    let mut hall = hall_with_an_empty_node(20, "x");
    let leader = hall.until_led();
    let rotten = take(&mut hall, leader);
    let name = hall.place(leader).newest();
    assert!(hall.place(leader).snapshot_disk.flip(&name, 100, 1));
    hall.write(1, "y");
    hall.cut.clear();
    hall.until("agreement", Hall::agrees);
    assert_eq!(hall.refused(3, "snapshot", "not_as_promised"), 1);
    assert_eq!(hall.refused(leader, "snapshot", "unusable"), 1);
    assert!(hall.replica(3).view().standing.snapshot_index > rotten);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}

#[test]
fn questions_for_a_snapshot_are_bounded_by_what_they_cost() {
    let mut hall = hall_with_an_empty_node(20, &noise(30_000));
    let leader = hall.until_led();
    let index = take(&mut hall, leader);
    let now = hall.now();
    let replica = hall.replica(leader);
    let file = replica.raw.store().snapshot.as_ref().expect("taken").file.clone();
    let snapshot = SnapshotId { index, term: file.term, checksum: file.checksum };
    replica.handle_want(id(3), &Want { id: snapshot, offset: 0, len: 1 }, now);
    assert_eq!(hall.refused(leader, "snapshot", "not_offered"), 1);
    let replica = hall.replica(leader);
    replica.transfer.offered(id(3), index, now.mono_ms);
    for offset in 0..1_000 {
        replica.handle_want(id(3), &Want { id: snapshot, offset, len: 1 }, now);
        replica.handle_want(id(3), &Want { id: snapshot, offset, len: 0 }, now);
    }
    let leaves = replica.outbox.len() as u64;
    assert_eq!(leaves, SNAPSHOT_WINDOW_BYTES / SNAPSHOT_CHUNK_BYTES);
    assert_eq!(hall.refused(leader, "snapshot", "asked_too_much"), 1_000 - leaves);
}

#[test]
fn a_snapshot_whose_file_is_gone_is_replaced() {
    let mut hall = hall_with_an_empty_node(20, "x");
    let leader = hall.until_led();
    take(&mut hall, leader);
    let name = hall.place(leader).newest();
    fleet_log::Disk::remove(&hall.place(leader).snapshot_disk, &name).expect("removed");
    hall.cut.clear();
    hall.until("agreement", Hall::agrees);
    assert!(hall.refused(leader, "snapshot", "file_gone") > 0);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}

#[test]
fn a_receiver_with_a_full_disk_stays_a_member_and_tries_again() {
    let mut hall = hall_with_an_empty_node(20, &noise(30_000));
    let leader = hall.until_led();
    take(&mut hall, leader);
    hall.place(3).snapshot_disk.set_capacity_bytes(Some(150_000));
    let builds = hall.builds;
    hall.cut.clear();
    for _ in 0..PATIENCE_TICKS {
        hall.tick();
    }
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
    let refused = hall.refused(3, "snapshot", "disk");
    assert!((1..10).contains(&refused), "it rests between attempts: {refused}");
    assert_eq!(hall.builds, builds, "nothing is wrong with the leader's snapshot");
    hall.place(3).snapshot_disk.set_capacity_bytes(None);
    hall.until("agreement", Hall::agrees);
}

#[test]
fn the_log_is_kept_for_a_live_member_that_is_behind() {
    let settings = Settings { snapshot_every_entries: 40, ..Settings::default() };
    let mut hall = Hall::new(&[], settings);
    hall.until_led();
    hall.write(5, "x");
    hall.until("agreement", Hall::agrees);
    let leader = hall.until_led();
    let slow = if leader == 3 { 2 } else { 3 };
    let had = hall.replica(slow).applied().get();
    hall.starved.insert(slow);
    hall.write(400, "y");
    assert!(hall.builds > 4);
    let first = hall.replica(leader).view().standing.first_index;
    assert!(first <= had + 1, "the log begins at {first}, a live member is at {had}");
    hall.starved.clear();
    hall.until("agreement", Hall::agrees);
    assert!(hall.replica(slow).view().standing.first_index <= had + 1, "no snapshot was needed");
}

#[test]
fn a_log_that_is_too_large_waits_for_nobody() {
    let settings = Settings { snapshot_every_entries: 40, log_bytes_max: 1, ..Settings::default() };
    let mut hall = Hall::new(&[], settings);
    hall.until_led();
    hall.write(5, "x");
    let leader = hall.until_led();
    let slow = if leader == 3 { 2 } else { 3 };
    let had = hall.replica(slow).applied().get();
    hall.starved.insert(slow);
    hall.write(400, "y");
    assert!(hall.replica(leader).view().standing.first_index > had + 1);
    hall.starved.clear();
    hall.until("agreement", Hall::agrees);
    assert!(hall.replica(slow).view().standing.first_index > had + 1, "by a snapshot");
}

#[test]
fn an_offer_of_whose_end_nothing_is_heard_ends_by_silence() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    let other = if leader == 3 { 2 } else { 3 };
    hall.write(3, "x");
    hall.until("agreement", Hall::agrees);
    let index = hall.replica(leader).view().standing.snapshot_index;
    let now_ms = hall.now_ms;
    hall.replica(leader).transfer.offered(id(other), index, now_ms);
    for _ in 0..PATIENCE_TICKS {
        hall.tick();
    }
    assert!(hall.replica(leader).transfer.being_sent().is_empty(), "silence ends it");
}

/// A snapshot message of `offered`, in the leader's frames, arrives at a node.
fn offer(hall: &mut Hall, leader: u64, to: u64, offered: Position) {
    let now = hall.now();
    let (term, voters) = {
        let standing = hall.replica(leader).view().standing;
        (standing.term, standing.voters.clone())
    };
    let file = SnapshotRef { size_bytes: 1_000, checksum: [8; 32] };
    let Position { index, term: entry_term } = offered;
    let offer = SnapshotOffer { index, term: entry_term, voters, learners: Vec::new(), file };
    let kind = MessageKind::Snapshot(offer);
    let message = RaftMessage { to: id(to), from: id(leader), term, kind };
    let mut wire = HallWire { sent: Vec::new() };
    let replica = hall.replica(leader);
    replica.transfer.offered(id(to), index, now.mono_ms);
    let payload = Payload::Raft(vec![message]);
    assert!(replica.send(id(to), Class::Normal, &payload, now, &mut wire));
    for (_, frame) in wire.sent {
        hall.replica(to).handle_frame(&frame, Path::Nats, now).expect("no fault");
    }
}

fn bounds(of: &Standing) -> [u64; 5] {
    [of.term, of.commit, of.first_index, of.last_index, of.snapshot_index]
}

/// It is no news, and raft would let one that disagrees about the last committed entry replace it
/// (raft-rs#593).
#[test]
fn an_offer_of_what_is_committed_here_is_answered_without_a_transfer() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    let other = if leader == 3 { 2 } else { 3 };
    hall.write(3, "x");
    hall.until("agreement", Hall::agrees);
    let before = hall.replica(other).view();
    let (commit, term) = (before.standing.commit, before.standing.term);
    assert!(before.standing.snapshot_index < commit && term > 1);
    let names = hall.place(other).snapshot_disk.list().expect("listed");
    let calls = hall.place(other).snapshot_disk.calls();
    let at = |index, term| Position { index, term };
    let offers = [
        at(before.standing.snapshot_index, 1),
        at(commit - 1, term),
        at(commit, term),
        at(commit, 1),
    ];
    for offered in offers {
        offer(&mut hall, leader, other, offered);
        let now = hall.now();
        let done = Payload::SnapshotDone { index: offered.index, end: SnapshotEnd::Installed };
        assert_eq!(hall.replica(other).outbox, [(id(leader), Class::Normal, done)], "{offered:?}");
        let mut wire = HallWire { sent: Vec::new() };
        hall.replica(other).poll(now, &mut wire).expect("no fault");
        assert!(hall.replica(leader).transfer.is_offered(id(other), offered.index));
        for (_, frame) in wire.sent {
            hall.replica(leader).handle_frame(&frame, Path::Nats, now).expect("no fault");
        }
        assert!(hall.replica(leader).transfer.being_sent().is_empty(), "the leader heard of it");
        assert!(!hall.replica(other).transfer.is_receiving());
        let after = hall.replica(other).view();
        assert_eq!(after.state.digests().combined(), before.state.digests().combined());
        assert_eq!(after.applied, before.applied);
        assert_eq!(bounds(&after.standing), bounds(&before.standing));
        assert_eq!(hall.place(other).snapshot_disk.list().expect("listed"), names);
        assert_eq!(hall.place(other).snapshot_disk.calls(), calls, "no file was begun");
    }
    hall.write(3, "y");
    hall.until("agreement", Hall::agrees);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}
