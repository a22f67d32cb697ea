//! What lies on a disk.

use fleet_log::{
    Disk, HardState, Log, LogConfig, LogEntry, LogIdentity, MemoryDisk, Position, check,
};
use fleet_state::{SnapshotMeta, decode_snapshot, encode_snapshot};
use sha2::{Digest, Sha256};

use super::{kind, wire};

/// Decompressed, a snapshot of a fuzzed site is small.
const STATE_BYTES_MAX: u64 = 1024 * 1024;
const CHECKSUM_BYTES: usize = 32;
const CONFIG: LogConfig = LogConfig { segment_bytes: 4096, cache_bytes: 1024 };
const IDENTITY: LogIdentity = LogIdentity { site_uid: *b"0123456789abcdef", node: 1 };

/// Without their checksums, which would hide everything behind them.
pub(super) fn snapshots() -> Vec<Vec<u8>> {
    let Some(mut state) = wire::site() else {
        return Vec::new();
    };
    for (revision, entry) in (5..).zip(wire::entries()) {
        if let Ok(entry) = fleet_state::Entry::decode(&entry) {
            state.apply(fleet_state::Revision::new(revision), &entry);
        }
    }
    let meta = SnapshotMeta {
        site: state.site().clone(),
        uid: state.uid(),
        index: state.last_applied().get(),
        term: 3,
        voters: vec![fleet_state::NodeId::FOUNDER],
        learners: Vec::new(),
        wall_time_ms: 77,
    };
    let mut bytes = Vec::new();
    if encode_snapshot(&state, &meta, &mut bytes).is_err() {
        return Vec::new();
    }
    bytes.truncate(bytes.len().saturating_sub(CHECKSUM_BYTES));
    vec![bytes]
}

/// With a right checksum behind it, so that what is inside is read. What is taken for a state is
/// one that can be written again.
pub(super) fn snapshot(bytes: &[u8]) -> String {
    let mut file = bytes.to_vec();
    file.extend_from_slice(&Sha256::digest(bytes));
    match decode_snapshot(&mut file.as_slice(), STATE_BYTES_MAX) {
        Ok((meta, state)) => {
            let mut again = Vec::new();
            assert!(encode_snapshot(&state, &meta, &mut again).is_ok(), "it can't be written");
            let read = decode_snapshot(&mut again.as_slice(), STATE_BYTES_MAX);
            let same = read.is_ok_and(|(_, read)| read.digests() == state.digests());
            assert!(same, "it came back otherwise");
            "a snapshot".to_owned()
        }
        Err(error) => kind(&error),
    }
}

pub(super) fn segments() -> Vec<Vec<u8>> {
    let disk = MemoryDisk::new();
    let begun = Position::default();
    let Ok(mut log) = Log::create(disk.clone(), IDENTITY, CONFIG, begun, HardState::default())
    else {
        return Vec::new();
    };
    for index in 1..8 {
        let entry = LogEntry { index, term: 1 + index / 4, kind: 0, data: vec![7; 30].into() };
        if log.append(&[entry]).and_then(|()| log.sync()).is_err() {
            return Vec::new();
        }
    }
    let names = disk.list().unwrap_or_default();
    names.iter().filter_map(|name| disk.contents(name)).collect()
}

/// Opening never panics, and what was opened can be read from end to end.
pub(super) fn log(bytes: &[u8]) -> String {
    let disk = MemoryDisk::new();
    disk.put("0000000001.seg", bytes.to_vec());
    let looked = check(&disk, IDENTITY).map(|_| ()).map_err(|error| kind(&error));
    match Log::open(disk, IDENTITY, CONFIG) {
        Ok((log, recovery)) => {
            let read = log.entries(log.first_index(), log.last_index() + 1, u64::MAX);
            assert!(read.is_ok_and(|read| read.len() as u64 == log.entries_len()), "unreadable");
            format!("opened {} {}", recovery.cut.is_some(), log.entries_len())
        }
        Err(error) => format!("{} {looked:?}", kind(&error)),
    }
}
