//! Whose log it is, how large its parts are, and every bound of this crate.

use crate::error::LogError;

/// The size of a segment unless configured: 16 MiB.
pub const SEGMENT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// The smallest segment that can be configured; small ones are for tests.
pub const SEGMENT_BYTES_MIN: u64 = 1024;
/// The largest segment that can be configured, so that an offset fits 32 bits with room to spare.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The largest payload of one entry.
pub const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most bytes that may wait for one sync.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The payload bytes of recent entries that are kept in memory unless configured: 16 MiB.
pub const CACHE_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// Whose log it is. Every record is bound to it, so that a file of another site or node can
/// never be taken for one of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The uid of the site.
    pub site_uid: [u8; 16],
    /// The id of the node.
    pub node: u64,
}

/// The sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The size of a new segment file, all of it reserved when it is made. May differ from one
    /// start to the next: a segment remembers its own.
    pub segment_bytes: u64,
    /// How many payload bytes of recent entries are kept in memory.
    pub cache_bytes: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES_DEFAULT, cache_bytes: CACHE_BYTES_DEFAULT }
    }
}

impl LogConfig {
    /// Refuses sizes that the format has no room for.
    pub(crate) fn validate(&self) -> Result<(), LogError> {
        let allowed = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if allowed.contains(&self.segment_bytes) {
            Ok(())
        } else {
            Err(LogError::SegmentSize { segment_bytes: self.segment_bytes })
        }
    }
}
