//! What the tests of the log share: a small log and entries that show where they come from.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test file uses a part of it"
)]

pub mod model;

use std::ops::RangeInclusive;

use fleet_log::{HardState, Log, LogConfig, LogEntry, LogIdentity, MemoryDisk, Position, Recovery};

/// Segments so small that a few entries fill one.
pub const CONFIG: LogConfig = LogConfig { segment_bytes: 2048, cache_bytes: 1024 };

pub const IDENTITY: LogIdentity = LogIdentity { site_uid: *b"0123456789abcdef", node: 1 };

pub fn new_log(disk: &MemoryDisk) -> Log<MemoryDisk> {
    let start = Position::default();
    Log::create(disk.clone(), IDENTITY, CONFIG, start, HardState::default()).unwrap()
}

pub fn reopen(disk: &MemoryDisk) -> (Log<MemoryDisk>, Recovery) {
    Log::open(disk.clone(), IDENTITY, CONFIG).unwrap()
}

pub fn hard(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

/// An entry whose payload tells its index and term; its length varies.
pub fn entry(index: u64, term: u64) -> LogEntry {
    let mut data = format!("entry {index} of term {term}: ").into_bytes();
    let filler = usize::try_from(index * 7 % 23).unwrap();
    data.resize(data.len() + filler, b'.');
    LogEntry { index, term, kind: u8::try_from(index % 3).unwrap(), data: data.into() }
}

pub fn entries(range: RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

/// Everything a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub start: Position,
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
}

pub fn contents(log: &Log<MemoryDisk>) -> Contents {
    Contents {
        start: log.start(),
        hard_state: log.hard_state(),
        entries: log.entries(log.first_index(), log.last_index() + 1, u64::MAX).unwrap(),
    }
}

/// A small log of several segments with every kind of record in it, and what it held before and
/// after its last batch.
pub struct Small {
    pub disk: MemoryDisk,
    pub before_last: Contents,
    pub whole: Contents,
}

pub fn small_log() -> Small {
    let disk = MemoryDisk::new();
    let config = LogConfig { segment_bytes: 1024, ..CONFIG };
    let start = Position { index: 100, term: 4 };
    let mut log = Log::create(disk.clone(), IDENTITY, config, start, hard(4, 2, 100)).unwrap();
    for index in 101..=112 {
        log.append(&[entry(index, 5)]).unwrap();
        log.set_hard_state(hard(5, 1, index - 1)).unwrap();
        log.sync().unwrap();
    }
    log.compact(106).unwrap();
    log.append(&entries(112..=115, 6)).unwrap();
    log.set_hard_state(hard(6, 3, 111)).unwrap();
    log.sync().unwrap();
    log.mark().unwrap();
    log.append(&entries(115..=115, 7)).unwrap();
    log.sync().unwrap();
    log.append(&entries(116..=118, 7)).unwrap();
    log.set_hard_state(hard(8, 0, 115)).unwrap();
    log.sync().unwrap();
    let before_last = contents(&log);
    log.append(&entries(118..=120, 9)).unwrap();
    log.set_hard_state(hard(9, 2, 117)).unwrap();
    log.sync().unwrap();
    Small { disk, before_last, whole: contents(&log) }
}
