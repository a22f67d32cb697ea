use std::collections::VecDeque;

use fleet_log::{DiskFault, MemoryDisk};
use fleet_state::FleetState;
use sha2::{Digest, Sha256};

use super::*;
use crate::config::{SNAPSHOT_PATIENCE_MS, SNAPSHOT_SILENCE_MS};

const SITE: SiteUid = SiteUid::from_bytes([5; 16]);
const ME: u64 = 1;

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// A disk with a real snapshot, or with any bytes under a snapshot's name.
fn sender(
    index: u64,
    content: Option<Vec<u8>>,
) -> (Transfer<MemoryDisk>, MemoryDisk, SnapshotFile) {
    let disk = MemoryDisk::new();
    let store = SnapshotStore::new(disk.clone());
    let site: fleet_state::SiteName = "hall".parse().expect("a name");
    let meta = fleet_state::SnapshotMeta {
        site: site.clone(),
        uid: SITE,
        index,
        term: 1,
        voters: vec![node(ME)],
        learners: Vec::new(),
        wall_time_ms: 7,
    };
    let mut state = FleetState::blank(site, SITE, [9; 32]);
    state.skip(fleet_state::Revision::new(index));
    let mut file = store.write(&meta, &state).expect("written");
    if let Some(content) = content {
        file.size_bytes = content.len() as u64;
        file.checksum = Sha256::digest(&content).into();
        disk.put(&file.name, content);
    }
    (Transfer::new(store, SITE), disk, file)
}

fn receiver() -> (Transfer<MemoryDisk>, MemoryDisk) {
    let disk = MemoryDisk::new();
    (Transfer::new(SnapshotStore::new(disk.clone()), SITE), disk)
}

fn large() -> Vec<u8> {
    let len = usize::try_from(SNAPSHOT_WINDOW_BYTES * 2 + 1_000).expect("small");
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn want(asked: Option<(NodeId, Payload)>) -> (NodeId, Want) {
    match asked {
        Some((to, Payload::SnapshotWant { id, offset, len })) => {
            (to, Want { id, offset, len: u64::from(len) })
        }
        other => panic!("{other:?} is no question"),
    }
}

fn chunks(served: Served) -> VecDeque<Chunk> {
    let chunk = |payload| {
        let Payload::SnapshotChunk { id, offset, bytes, .. } = payload else {
            panic!("{payload:?} is no chunk");
        };
        Chunk { id, offset, bytes }
    };
    served.chunks.into_iter().map(chunk).collect()
}

fn is_receiving(accepted: &Accepted) -> bool {
    matches!(accepted, Accepted::Receiving)
}

#[test]
fn a_lost_chunk_costs_a_window_and_no_more() {
    let (mut leader, _, file) = sender(8, None);
    let (mut learner, _) = receiver();
    leader.offered(node(1), 8, 0);
    assert!(is_receiving(&learner.accept(node(2), file, 0)));
    let (to, first) = want(learner.take_want(0));
    assert_eq!((to, first.offset), (node(2), 0));
    let _lost = leader.serve(node(1), &first, 0);
    let (to, waits) = want(learner.take_want(SNAPSHOT_TELL_MS));
    assert_eq!((to, waits.offset, waits.len), (node(2), 0, 0), "it says that it still waits");
    assert!(learner.take_want(SNAPSHOT_TELL_MS + 1).is_none());
    let served = leader.serve(node(1), &waits, SNAPSHOT_SILENCE_MS);
    assert!(served.chunks.is_empty() && !served.failed);
    assert!(leader.take_stalled(SNAPSHOT_SILENCE_MS, SNAPSHOT_SILENCE_MS).is_empty());
    let (_, again) = want(learner.take_want(SNAPSHOT_PATIENCE_MS));
    assert_eq!(again.offset, 0);
    let served = leader.serve(node(1), &again, SNAPSHOT_PATIENCE_MS);
    let chunk = chunks(served).remove(0).expect("one");
    let received = learner.receive(node(2), &chunk, SNAPSHOT_PATIENCE_MS);
    assert!(matches!(received, Received::Complete(loaded) if loaded.meta.index == 8));
}

#[test]
fn a_transfer_goes_on_where_it_was() {
    let content = large();
    let (mut leader, _, file) = sender(8, Some(content.clone()));
    let (mut learner, _) = receiver();
    learner.accept(node(2), file.clone(), 0);
    let (_, first) = want(learner.take_want(0));
    let mut window = chunks(leader.serve(node(1), &first, 0));
    window.extend(chunks(leader.serve(node(1), &Want { offset: first.len, ..first }, 0)));
    // The third chunk is lost: the one behind it is out of place.
    let mut got = 0;
    for (at, chunk) in window.drain(..).enumerate().filter(|(at, _)| *at != 2) {
        let received = learner.receive(node(2), &chunk, 10);
        assert_eq!(matches!(received, Received::Partly), at < 2);
        got += if at < 2 { chunk.bytes.len() as u64 } else { 0 };
    }
    // The same file from another leader is asked for from there on, at once.
    learner.accept(node(3), file, 20);
    let (to, next) = want(learner.take_want(20));
    assert_eq!((to, next.offset), (node(3), got));
    let late = Chunk { id: next.id, offset: got, bytes: content[..10].to_vec().into() };
    assert!(matches!(learner.receive(node(2), &late, 30), Received::Ignored));
}

#[test]
fn questions_alone_do_not_keep_a_transfer_going() {
    let (mut leader, _, file) = sender(225, Some(large()));
    let (mut learner, disk) = receiver();
    learner.accept(node(2), file, 0);
    let (_, first) = want(learner.take_want(0));
    for chunk in chunks(leader.serve(node(1), &first, 0)) {
        learner.receive(node(2), &chunk, 0);
    }
    // The leader dies. Nothing but questions happens from here on.
    for now_ms in (100..SNAPSHOT_STALL_MS).step_by(100) {
        learner.take_want(now_ms);
        learner.give_up_if_needless(0, now_ms);
        assert!(learner.is_receiving());
    }
    learner.give_up_if_needless(0, SNAPSHOT_STALL_MS);
    assert!(!learner.is_receiving());
    assert!(disk.list().expect("listed").is_empty(), "its space is free again");
}

#[test]
fn the_next_leader_is_heard_even_with_an_older_snapshot() {
    let (mut dead, _, newer) = sender(225, Some(large()));
    let (mut leader, _, older) = sender(200, None);
    let (mut learner, _) = receiver();
    learner.accept(node(2), newer.clone(), 0);
    let (_, first) = want(learner.take_want(0));
    for chunk in chunks(dead.serve(node(1), &first, 0)) {
        learner.receive(node(2), &chunk, 0);
    }
    assert!(is_receiving(&learner.accept(node(3), older, 100)));
    let (to, asked) = want(learner.take_want(100));
    assert_eq!((to, asked.id.index, asked.offset), (node(3), 200, 0));
    let chunk = chunks(leader.serve(node(1), &asked, 100)).remove(0).expect("one");
    assert!(matches!(learner.receive(node(3), &chunk, 100), Received::Complete(_)));
}

#[test]
fn the_same_leader_does_not_disturb_itself() {
    let (_, _, file) = sender(200, Some(large()));
    let (_, _, other) = sender(150, None);
    let (_, _, newer) = sender(250, None);
    let (mut learner, _) = receiver();
    learner.accept(node(2), file, 0);
    learner.accept(node(2), other, 10);
    assert_eq!(want(learner.take_want(10)).1.id.index, 200);
    learner.accept(node(2), newer, 20);
    assert_eq!(want(learner.take_want(20)).1.id.index, 250);
}

#[test]
fn a_sender_without_the_file_does_not_count_questions() {
    let (mut leader, disk, file) = sender(8, Some(large()));
    let (mut learner, _) = receiver();
    leader.offered(node(1), 8, 0);
    learner.accept(node(2), file.clone(), 0);
    let (_, first) = want(learner.take_want(0));
    assert!(!leader.serve(node(1), &first, 1_000).failed);
    assert!(leader.take_stalled(SNAPSHOT_SILENCE_MS, SNAPSHOT_SILENCE_MS).is_empty());
    disk.remove(&file.name).expect("pruned");
    for now_ms in (1_500..1_000 + SNAPSHOT_SILENCE_MS).step_by(500) {
        for len in [first.len, 0] {
            let served = leader.serve(node(1), &Want { len, ..first }, now_ms);
            assert!(served.failed && served.chunks.is_empty());
        }
    }
    assert_eq!(leader.take_stalled(SNAPSHOT_SILENCE_MS, 1_000 + SNAPSHOT_SILENCE_MS), [node(1)]);
}

#[test]
fn only_the_end_of_what_is_being_sent_counts() {
    let (mut leader, _, _) = sender(8, None);
    leader.offered(node(1), 8, 0);
    assert!(!leader.done(node(1), 5));
    assert!(!leader.done(node(3), 8));
    assert_eq!(leader.being_sent(), BTreeSet::from([8]));
    assert!(leader.done(node(1), 8));
    assert!(!leader.done(node(1), 8));
}

#[test]
fn a_full_disk_frees_its_space_and_rests() {
    let (mut leader, _, file) = sender(8, Some(large()));
    let (mut learner, disk) = receiver();
    learner.accept(node(2), file.clone(), 0);
    disk.set_capacity_bytes(Some(200_000));
    let mut failed = false;
    while !failed {
        let (_, asked) = want(learner.take_want(1_000));
        for chunk in chunks(leader.serve(node(1), &asked, 0)) {
            failed |= matches!(
                learner.receive(node(2), &chunk, 1_000),
                Received::Failed(ReceiveError::Io(_))
            );
        }
    }
    assert!(!learner.is_receiving());
    assert!(disk.list().expect("listed").is_empty());
    let rested_ms = 1_000 + SNAPSHOT_REFUSED_REST_MS;
    let early = learner.accept(node(2), file.clone(), rested_ms - 1);
    assert!(matches!(early, Accepted::Resting));
    assert!(is_receiving(&learner.accept(node(2), file, rested_ms)));
}

#[test]
fn a_disk_that_takes_no_file_at_all_is_no_fault_either() {
    let (_, _, file) = sender(8, None);
    let (mut learner, disk) = receiver();
    disk.plan_fault(disk.calls(), DiskFault::Io);
    assert!(matches!(learner.accept(node(2), file, 0), Accepted::Failed(_)));
    assert_eq!(disk.faults_fired(), 1);
    assert!(!learner.is_receiving());
}

#[test]
fn a_rotten_file_is_told_from_a_full_disk() {
    let (mut leader, disk, file) = sender(8, None);
    disk.flip(&file.name, 60, 1);
    let (mut learner, _) = receiver();
    learner.accept(node(2), file.clone(), 0);
    let (_, asked) = want(learner.take_want(0));
    let chunk = chunks(leader.serve(node(1), &asked, 0)).remove(0).expect("one");
    let received = learner.receive(node(2), &chunk, 0);
    assert!(matches!(received, Received::Failed(ReceiveError::NotAsPromised(_))));
    // A better one is welcome at once.
    assert!(is_receiving(&learner.accept(node(2), file, 0)));
}

#[test]
fn what_the_log_has_overtaken_is_given_up() {
    let (_, _, file) = sender(8, None);
    let (mut learner, _) = receiver();
    learner.accept(node(2), file, 0);
    learner.give_up_if_needless(7, 0);
    assert!(learner.is_receiving());
    learner.give_up_if_needless(8, 0);
    assert!(!learner.is_receiving());
}
