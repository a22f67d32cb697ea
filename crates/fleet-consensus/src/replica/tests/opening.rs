//! From files to a replica: what fits, what a crash explains, and what nothing does.

use fleet_log::{
    Disk, DiskFault, HardState, Log, LogConfig, LogEntry, LogIdentity, MemoryDisk, OpenError,
};

use super::super::open::{create_log, fit_log};
use super::super::*;
use super::hall::{Hall, Place, SITE, Settings, meta, settled};
use crate::log_time::Now;
use crate::snapshot_store::LoadError;
use crate::{Fault, StartError};

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };

fn log(start: Position, entries: &[(u64, u64)], hard: HardState) -> Log<MemoryDisk> {
    let identity = LogIdentity { site_uid: *SITE.as_bytes(), node: 1 };
    let first = HardState { commit: start.index, ..HardState::default() };
    let disk = MemoryDisk::new();
    let mut log = Log::create(disk, identity, LogConfig::default(), start, first).expect("created");
    let entries: Vec<LogEntry> = entries
        .iter()
        .map(|(index, term)| LogEntry { index: *index, term: *term, kind: 0, data: vec![1].into() })
        .collect();
    log.append(&entries).expect("appended");
    log.set_hard_state(hard).expect("set");
    log
}

fn at(index: u64, term: u64) -> Position {
    Position { index, term }
}

fn hard(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 0, commit }
}

const THREE: &[(u64, u64)] = &[(11, 2), (12, 2), (13, 3)];

#[test]
fn a_commit_beyond_the_log_is_no_start() {
    for snapshot in [None, Some(at(10, 2)), Some(at(12, 2))] {
        let start = if snapshot.is_some() { at(10, 2) } else { Position::default() };
        let entries: &[(u64, u64)] = if snapshot.is_some() { THREE } else { &[(1, 1)] };
        let mut log = log(start, entries, hard(3, 99));
        let fitted = fit_log(&mut log, snapshot);
        assert!(
            matches!(fitted, Err(StartError::CommitBeyondLog { commit: 99, .. })),
            "{snapshot:?}: {fitted:?}"
        );
    }
}

#[test]
fn a_gap_between_snapshot_and_log_is_no_start() {
    let mut log = log(at(10, 2), THREE, hard(3, 12));
    let fitted = fit_log(&mut log, Some(at(9, 2)));
    assert!(matches!(fitted, Err(StartError::Gap { log_start: 10, snapshot: 9 })));
    let fitted = fit_log(&mut log, None);
    assert!(matches!(fitted, Err(StartError::NoSnapshot { log_start: 10 })));
    assert_eq!((log.start(), log.last_index()), (at(10, 2), 13), "nothing was repaired");
}

#[test]
fn a_log_without_a_snapshot_begins_at_nothing() {
    let mut log = log(Position::default(), &[(1, 1), (2, 1)], hard(1, 1));
    fit_log(&mut log, None).expect("a joiner");
    assert_eq!(log.last_index(), 2);
}

#[test]
fn a_snapshot_within_the_log_keeps_it() {
    let mut log = log(at(10, 2), THREE, hard(3, 12));
    fit_log(&mut log, Some(at(12, 2))).expect("fits");
    assert_eq!((log.start(), log.last_index()), (at(10, 2), 13));
    assert_eq!(log.hard_state(), hard(3, 12));
}

#[test]
fn a_snapshot_says_what_is_committed() {
    let mut log = log(at(10, 2), THREE, hard(3, 10));
    fit_log(&mut log, Some(at(12, 2))).expect("fits");
    assert_eq!(log.hard_state(), hard(3, 12));
    assert_eq!(log.last_index(), 13);
}

#[test]
fn a_snapshot_newer_than_the_log_replaces_it() {
    let mut log = log(at(10, 2), THREE, hard(3, 12));
    fit_log(&mut log, Some(at(50, 4))).expect("fits");
    assert_eq!((log.start(), log.last_index()), (at(50, 4), 50));
    assert_eq!(log.hard_state(), hard(4, 50));
    fit_log(&mut log, Some(at(50, 4))).expect("fits again");
    assert_eq!(log.hard_state(), hard(4, 50));
}

#[test]
fn entries_that_lost_to_a_snapshot_go() {
    let mut log = log(at(10, 2), THREE, hard(3, 11));
    fit_log(&mut log, Some(at(12, 4))).expect("fits");
    assert_eq!((log.start(), log.last_index()), (at(12, 4), 12));
    assert_eq!(log.hard_state(), hard(4, 12));
}

#[test]
fn a_snapshot_that_contradicts_what_is_committed_is_no_start() {
    let mut log = log(at(10, 2), THREE, hard(3, 13));
    assert!(matches!(fit_log(&mut log, Some(at(12, 4))), Err(StartError::LogIo(_))));
    assert_eq!(log.last_index(), 13);
}

/// A node of a settled site, with an older and a newer snapshot and a log from the older on.
fn place_with_two_snapshots() -> (Place, String, fleet_state::digest::Digest) {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.write(10, "x");
    assert!(hall.replica(leader).handle_snapshot_request());
    hall.until("a snapshot", |hall| hall.builds > 0);
    hall.write(10, "y");
    hall.until("agreement", Hall::agrees);
    hall.replica(leader).flush().expect("flushed");
    let digest = hall.replica(leader).state().digests().combined();
    let mut place = hall.places.remove(&leader).expect("there");
    place.replica = None;
    let newest = place.newest();
    (place, newest, digest)
}

#[test]
fn a_restart_finds_what_was_committed() {
    let (mut place, _, digest) = place_with_two_snapshots();
    let damaged = place.open(&Settings::default(), NOW).expect("opened");
    assert!(damaged.is_empty());
    let replica = place.replica.expect("open");
    assert_eq!(replica.state().digests().combined(), digest);
}

#[test]
fn a_damaged_newest_snapshot_costs_a_replay_and_not_the_node() {
    let (mut place, newest, digest) = place_with_two_snapshots();
    assert!(place.snapshot_disk.flip(&newest, 100, 1));
    let damaged = place.open(&Settings::default(), NOW).expect("opened");
    assert_eq!(damaged, [newest]);
    let replica = place.replica.expect("open");
    assert_eq!(replica.state().digests().combined(), digest);
}

#[test]
fn a_foreign_snapshot_is_no_start_and_stays() {
    let (mut place, newest, _) = place_with_two_snapshots();
    let (state, index) = settled(1);
    let other = fleet_state::SiteUid::from_bytes([6; 16]);
    let foreign = FleetState::blank(state.site().clone(), other, [1; 32]);
    let mut foreign_state = foreign;
    foreign_state.skip(Revision::new(index + 1_000));
    place
        .store()
        .write(&meta(&foreign_state, index + 1_000, 1, 1), &foreign_state)
        .expect("written");
    let before = place.store().names().expect("listed");
    let opened = place.open(&Settings::default(), NOW);
    assert!(matches!(opened, Err(StartError::Snapshot(LoadError::Foreign { .. }))));
    assert_eq!(place.store().names().expect("listed"), before);
    assert!(before.iter().any(|(.., name)| *name == newest));
}

/// The files of a node at the moment between the two steps of an install: the snapshot has its
/// name, the log is as it was.
#[test]
fn a_crash_after_the_snapshot_got_its_name_ends_in_the_snapshot() {
    let mut place = Place::new(3);
    let settings = Settings::default();
    join(&place.parts(&settings)).expect("joined");
    let (state, index) = settled(3);
    place.store().write(&meta(&state, index, 1, 3), &state).expect("written");
    for _ in 0..2 {
        place.open(&settings, NOW).expect("opened");
        let view = place.replica.take().expect("open").view();
        assert_eq!((view.applied.get(), view.standing.first_index), (index, index + 1));
        assert_eq!(view.state.digests().combined(), state.digests().combined());
    }
}

/// The other order can't come about, for the name is durable before the log is emptied. If it
/// does, the disk has lied, and the node must not vote.
#[test]
fn a_log_emptied_for_a_snapshot_that_is_gone_is_no_start() {
    let mut place = Place::new(3);
    let settings = Settings::default();
    let (state, index) = settled(3);
    let hard = HardState { term: 1, vote: 0, commit: index + 50 };
    create_log(&place.parts(&settings), at(index + 50, 1), hard).expect("created");
    let opened = place.open(&settings, NOW);
    assert!(matches!(opened, Err(StartError::NoSnapshot { .. })));
    place.store().write(&meta(&state, index, 1, 3), &state).expect("written");
    let opened = place.open(&settings, NOW);
    assert!(matches!(opened, Err(StartError::Gap { .. })));
}

/// The node file is there and the log is not (qdrant#1235, nats-server#7038): with an empty one in
/// its place the node would vote a second time in a term, and for shorter logs than it had.
#[test]
fn a_node_without_its_log_is_no_start() {
    for keeps_snapshots in [true, false] {
        let (mut place, ..) = place_with_two_snapshots();
        place.log_disk = MemoryDisk::new();
        if !keeps_snapshots {
            place.snapshot_disk = MemoryDisk::new();
        }
        let before = place.store().names().expect("listed");
        assert_eq!(before.is_empty(), !keeps_snapshots);
        for _ in 0..2 {
            let opened = place.open(&Settings::default(), NOW);
            assert!(
                matches!(opened, Err(StartError::Log(OpenError::Empty))),
                "snapshots: {keeps_snapshots}: {opened:?}"
            );
            assert!(place.log_disk.list().expect("listed").is_empty(), "no log was made");
            assert_eq!(place.store().names().expect("listed"), before);
        }
    }
}

/// The disks are an older copy, the counter of starts is not (etcd#10166, #16220). What the leader
/// knows to be acknowledged is not here: raft would panic, at every start anew.
#[test]
fn a_follower_that_lost_what_it_acknowledged_stops_for_good() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    let follower = if leader == 3 { 2 } else { 3 };
    hall.write(5, "x");
    hall.until("agreement", Hall::agrees);
    let had = hall.replica(follower).view().standing.last_index;
    let place = hall.place(follower);
    let (log_disk, snapshot_disk) = (place.log_disk.fork(), place.snapshot_disk.fork());
    hall.write(10, "y");
    hall.until("agreement", Hall::agrees);
    let place = hall.place(follower);
    place.replica = None;
    (place.log_disk, place.snapshot_disk) = (log_disk, snapshot_disk);
    for start in 1..=2 {
        hall.start(follower).expect("nothing is wrong with the files");
        hall.until("it stops", |hall| hall.faults.len() == start);
        let (node, fault) = hall.faults.last().expect("just seen");
        assert_eq!(*node, follower);
        let Fault::LostLog(lost) = fault else { panic!("start {start}: {fault}") };
        assert!(lost.last_index == had && lost.commit >= had + 10, "{lost}");
        assert!(fault.is_final());
    }
    hall.write(5, "z");
    hall.until("agreement of the others", Hall::agrees);
    assert_eq!(hall.leader(), Some(leader), "nobody was disturbed");
}

fn cut_and_start(hall: &mut Hall, seed: u64) -> Result<Vec<String>, StartError> {
    let place = hall.place(3);
    place.replica = None;
    place.log_disk.power_cut(seed);
    place.snapshot_disk.power_cut(seed + 100);
    hall.start(3)
}

/// The machine of a receiver stops at every call to its disks, one run each, and loses what was
/// not synced. It must come back, and be brought up.
#[test]
fn a_power_cut_anywhere_in_an_install_is_survived() {
    for on_log in [false, true] {
        let mut fired = 0;
        for call in 0..40 {
            let mut hall = Hall::new(&[3], Settings::default());
            hall.cut.insert(3);
            hall.write(3, "x");
            hall.cut.clear();
            let disk =
                if on_log { &hall.places[&3].log_disk } else { &hall.places[&3].snapshot_disk };
            disk.plan_fault(disk.calls() + call, DiskFault::Stop);
            for _ in 0..60 {
                hall.tick();
                let place = hall.place(3);
                if place.is_stopped() {
                    break;
                }
            }
            let mut damaged = cut_and_start(&mut hall, call);
            if damaged.is_err() && hall.place(3).disks_have_failed() {
                // The fault waited for the start.
                damaged = cut_and_start(&mut hall, call);
            }
            let damaged = damaged.unwrap_or_else(|error| panic!("call {call}: {error}"));
            assert!(damaged.is_empty(), "call {call}: {damaged:?}");
            fired += u64::from(hall.place(3).disks_have_failed());
            hall.until("agreement", Hall::agrees_after_cuts);
        }
        assert!(fired >= 5, "on the log {on_log}: {fired}");
    }
}
