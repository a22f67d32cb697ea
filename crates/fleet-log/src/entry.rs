//! What the log stores: entries, the hard state, and positions in between.

use bytes::Bytes;

/// One entry of the Raft log. The log does not look into `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log; entries are contiguous.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// What sort of entry it is, as its owner numbers them.
    pub kind: u8,
    /// The payload, at most [`ENTRY_BYTES_MAX`](crate::ENTRY_BYTES_MAX).
    pub data: Bytes,
}

/// What a Raft node must not forget beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: u64,
    /// Whom it voted for in that term; 0 is nobody.
    pub vote: u64,
    /// The newest index it knows to be committed.
    pub commit: u64,
}

/// A place in the log: an index and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The index; 0 is before the first entry that ever was.
    pub index: u64,
    /// The term of the entry at `index`.
    pub term: u64,
}
