//! What a log does when nothing goes wrong, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod support;

use fleet_log::{
    Disk, ENTRY_BYTES_MAX, HardState, Log, LogConfig, LogError, LogIdentity, MemoryDisk, OpenError,
    Position, check, dump, identify,
};
use support::{CONFIG, IDENTITY, entries, entry, hard, new_log, reopen};

#[test]
fn entries_and_hard_state_come_back() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    for at in 1..=38 {
        log.append(&[entry(at, 1)]).unwrap();
        log.sync().unwrap();
    }
    log.append(&entries(39..=40, 1)).unwrap();
    log.set_hard_state(hard(1, 7, 20)).unwrap();
    log.sync().unwrap();
    assert_eq!(log.entries(1, 41, u64::MAX).unwrap(), entries(1..=40, 1));
    drop(log);

    let (log, recovery) = reopen(&disk);
    assert_eq!(recovery.cut, None);
    assert_eq!(recovery.entries, 40);
    assert!(recovery.segments > 1, "the workload should span segments");
    assert_eq!(log.hard_state(), hard(1, 7, 20));
    assert_eq!(log.entries(1, 41, u64::MAX).unwrap(), entries(1..=40, 1));
    assert_eq!(log.term(40), Some(1));
    assert_eq!(log.term(0), Some(0));
    assert_eq!(log.term(41), None);
}

#[test]
fn what_waits_for_a_sync_can_be_read() {
    let mut log = new_log(&MemoryDisk::new());
    log.append(&entries(1..=3, 1)).unwrap();
    assert_eq!(log.last_index(), 3);
    assert_eq!(log.entries(2, 4, u64::MAX).unwrap(), entries(2..=3, 1));
}

#[test]
fn a_conflicting_suffix_is_replaced() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=10, 1)).unwrap();
    log.sync().unwrap();
    log.append(&entries(6..=7, 2)).unwrap();
    // Also what waits may be superseded before it was ever written.
    log.append(&entries(7..=8, 3)).unwrap();
    log.sync().unwrap();
    let expected = [entries(1..=5, 1), entries(6..=6, 2), entries(7..=8, 3)].concat();
    assert_eq!(log.entries(1, 9, u64::MAX).unwrap(), expected);
    let (log, _) = reopen(&disk);
    assert_eq!(log.entries(1, 9, u64::MAX).unwrap(), expected);
    assert_eq!(log.last(), Position { index: 8, term: 3 });
}

#[test]
fn reads_are_limited_but_never_empty() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=10, 1)).unwrap();
    log.sync().unwrap();
    drop(log);
    let (log, _) = reopen(&disk);
    assert_eq!(log.entries(3, 11, 0).unwrap(), entries(3..=3, 1));
    let some = log.entries(3, 11, 200).unwrap();
    assert!(some.len() > 1 && some.len() < 8, "{}", some.len());
    assert!(log.entries(11, 11, 0).unwrap().is_empty());
    assert!(matches!(log.entries(3, 12, 0), Err(LogError::Unavailable { index: 11, last: 10 })));
}

#[test]
fn old_entries_are_read_from_the_disk() {
    let disk = MemoryDisk::new();
    let config = LogConfig { cache_bytes: 100, ..CONFIG };
    let mut log =
        Log::create(disk, IDENTITY, config, Position::default(), HardState::default()).unwrap();
    for at in 1..=60 {
        log.append(&[entry(at, 1)]).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(log.entries(1, 61, u64::MAX).unwrap(), entries(1..=60, 1));
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    let mut big = entry(1, 1);
    big.data = vec![7; 50_000].into();
    log.append(std::slice::from_ref(&big)).unwrap();
    log.append(&entries(2..=30, 1)).unwrap();
    log.sync().unwrap();
    log.append(&entries(31..=60, 1)).unwrap();
    log.sync().unwrap();
    let (log, _) = reopen(&disk);
    assert_eq!(log.entries(1, 2, 0).unwrap(), [big]);
    assert_eq!(log.entries(2, 61, u64::MAX).unwrap(), entries(2..=60, 1));
}

#[test]
fn compaction_moves_the_start_and_drops_segments() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    for at in 1..=60 {
        log.append(&[entry(at, 1)]).unwrap();
        log.set_hard_state(hard(1, 1, at)).unwrap();
        log.sync().unwrap();
    }
    let before = log.bytes_on_disk();
    log.compact(45).unwrap();
    assert!(log.bytes_on_disk() < before);
    assert_eq!(log.start(), Position { index: 45, term: 1 });
    assert!(matches!(log.entries(45, 46, 0), Err(LogError::Compacted { index: 45, first: 46 })));
    log.compact(10).unwrap();
    assert_eq!(log.first_index(), 46);
    let (mut log, _) = reopen(&disk);
    assert_eq!(log.start(), Position { index: 45, term: 1 });
    assert_eq!(log.entries(46, 61, u64::MAX).unwrap(), entries(46..=60, 1));
    log.compact(60).unwrap();
    assert_eq!(log.entries_len(), 0);
    assert_eq!(disk.list().unwrap().len(), 1);
    let (mut log, _) = reopen(&disk);
    assert_eq!(log.last(), Position { index: 60, term: 1 });
    log.append(&entries(61..=62, 4)).unwrap();
    log.sync().unwrap();
}

#[test]
fn a_snapshot_resets_the_log() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=50, 2)).unwrap();
    log.set_hard_state(hard(2, 3, 10)).unwrap();
    log.sync().unwrap();
    log.append(&entries(51..=52, 2)).unwrap();
    log.set_hard_state(hard(9, 0, 10)).unwrap();
    log.reset(Position { index: 40, term: 8 }).unwrap();
    assert_eq!(log.hard_state(), hard(9, 0, 40));
    assert_eq!(disk.list().unwrap().len(), 1);
    let (log, _) = reopen(&disk);
    assert_eq!(log.start(), Position { index: 40, term: 8 });
    assert_eq!(log.last_index(), 40);
    assert_eq!(log.hard_state(), hard(9, 0, 40));
}

#[test]
fn mistakes_change_nothing() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=5, 3)).unwrap();
    log.set_hard_state(hard(3, 1, 2)).unwrap();
    log.sync().unwrap();
    assert!(matches!(log.append(&entries(7..=7, 3)), Err(LogError::Gap { previous: 5, found: 7 })));
    assert!(matches!(
        log.append(&[entry(6, 3), entry(8, 3)]),
        Err(LogError::Gap { previous: 6, found: 8 })
    ));
    assert!(matches!(
        log.append(&entries(6..=6, 2)),
        Err(LogError::TermBack { index: 6, previous: 3, found: 2 })
    ));
    assert!(matches!(
        log.append(&entries(2..=2, 4)),
        Err(LogError::Committed { index: 2, commit: 2 })
    ));
    assert!(matches!(
        log.append(&entries(0..=0, 4)),
        Err(LogError::Compacted { index: 0, first: 1 })
    ));
    let mut huge = entry(6, 3);
    huge.data = vec![0; ENTRY_BYTES_MAX + 1].into();
    assert!(matches!(log.append(&[huge]), Err(LogError::EntryTooLarge { index: 6, .. })));
    for back in [hard(2, 1, 2), hard(3, 2, 2), hard(3, 1, 1)] {
        assert!(matches!(log.set_hard_state(back), Err(LogError::HardStateBack { .. })));
    }
    assert!(matches!(log.compact(6), Err(LogError::Unavailable { index: 6, last: 5 })));
    assert!(matches!(
        log.reset(Position { index: 1, term: 3 }),
        Err(LogError::Committed { index: 1, commit: 2 })
    ));
    let calls = disk.calls();
    log.sync().unwrap();
    assert_eq!(disk.calls(), calls, "nothing waited, so nothing is written");
    log.set_hard_state(hard(3, 1, 6)).unwrap();
    assert!(matches!(log.sync(), Err(LogError::CommitOutside { commit: 6, last: 5 })));
    log.append(&entries(6..=6, 3)).unwrap();
    log.sync().unwrap();
    assert_eq!(reopen(&disk).0.hard_state(), hard(3, 1, 6));
}

#[test]
fn a_batch_is_one_write_and_one_sync() {
    let disk = MemoryDisk::new();
    let config = LogConfig { segment_bytes: 1 << 20, ..CONFIG };
    let start = Position::default();
    let mut log = Log::create(disk.clone(), IDENTITY, config, start, HardState::default()).unwrap();
    let before = disk.calls();
    log.append(&entries(1..=64, 1)).unwrap();
    log.append(&entries(60..=80, 2)).unwrap();
    log.set_hard_state(hard(2, 1, 0)).unwrap();
    log.set_hard_state(hard(2, 1, 4)).unwrap();
    log.sync().unwrap();
    assert_eq!(disk.calls() - before, 2);
}

#[test]
fn foreign_directories_are_refused_and_left_alone() {
    let disk = MemoryDisk::new();
    let open = |disk: &MemoryDisk, identity| Log::open(disk.clone(), identity, CONFIG);
    assert!(matches!(open(&disk, IDENTITY), Err(OpenError::Empty)));
    let mut log = new_log(&disk);
    for at in 1..=120 {
        log.append(&[entry(at, 1)]).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    assert!(matches!(
        Log::create(disk.clone(), IDENTITY, CONFIG, Position::default(), HardState::default()),
        Err(OpenError::NotEmpty { .. })
    ));
    let names = disk.list().unwrap();
    let other_site = LogIdentity { site_uid: [9; 16], ..IDENTITY };
    let other_node = LogIdentity { node: 2, ..IDENTITY };
    for other in [other_site, other_node] {
        assert!(matches!(open(&disk, other), Err(OpenError::ForeignSegment { .. })));
    }
    for name in ["notes.txt", "1.seg", "0000000000.seg", "00000000001.seg", "+000000001.seg"] {
        let fork = disk.fork();
        fork.put(name, b"hello".to_vec());
        assert!(matches!(open(&fork, IDENTITY), Err(OpenError::ForeignFile { .. })));
        assert_eq!(fork.contents(name).unwrap(), b"hello");
    }
    let fork = disk.fork();
    fork.put("0000000099.seg", disk.contents(&names[0]).unwrap());
    assert!(matches!(open(&fork, IDENTITY), Err(OpenError::WrongNumber { found: 1, .. })));
    for name in &names {
        let fork = disk.fork();
        fork.remove(name).unwrap();
        assert!(
            matches!(open(&fork, IDENTITY), Err(OpenError::MissingSegment { .. })),
            "without {name}"
        );
    }
    assert_eq!(disk.list().unwrap(), names);
    assert_eq!(open(&disk, IDENTITY).unwrap().0.last_index(), 120);
}

#[test]
fn looking_changes_nothing() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=60, 1)).unwrap();
    log.sync().unwrap();
    log.append(&entries(55..=57, 2)).unwrap();
    log.set_hard_state(hard(2, 1, 30)).unwrap();
    log.sync().unwrap();
    log.compact(30).unwrap();
    drop(log);
    let calls = disk.calls();
    assert_eq!(identify(&disk).unwrap(), IDENTITY);
    let report = check(&disk, IDENTITY).unwrap();
    assert_eq!((report.start.index, report.last.index), (30, 57));
    assert_eq!(report.hard_state, hard(2, 1, 30));
    let items = dump(disk.clone()).unwrap().count();
    assert!(items > 60, "{items}");
    assert_eq!(disk.calls(), calls);
}
