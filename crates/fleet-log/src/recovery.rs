//! What was found when a log was opened.

/// What [`Log::open`](crate::Log::open) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The end of the log that was cut because its last batch was not whole. Must be said aloud:
    /// nobody can tell a write that a crash tore from a synced one that rotted afterwards.
    pub cut: Option<Cut>,
    /// How many segment files the log has.
    pub segments: usize,
    /// How many entries it holds.
    pub entries: u64,
    /// Files that an interrupted roll or compaction had left, now removed. Nothing was in them.
    pub leftovers_removed: usize,
}

/// The part of the newest segment that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: String,
    /// The offset from which on it was filled with zeros.
    pub offset: u64,
    /// How many bytes, up to the last one that was not zero.
    pub size_bytes: u64,
    /// The last entry that is left.
    pub last_index: u64,
    /// What was wrong.
    pub reason: String,
}
