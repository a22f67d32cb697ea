//! What the tests of the log share: a small log and entries that show where they come from.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

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
