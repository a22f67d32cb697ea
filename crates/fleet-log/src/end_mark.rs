//! The mark behind the newest batch: here the log ends.
//!
//! ```text
//!  0  u32  checksum of bytes 4.., seeded like that of a record
//!  4  u32  checksum of the last record
//!  8  u32  all ones, which no record has as its length
//! 12  u32  zero
//! 16  u64  sequence number of the last batch
//! ```
//!
//! It is written together with its batch, and the next batch overwrites it. Without it a disk
//! that forgot the newest batches and shows zeros in their place would look like a log that is
//! merely shorter, and nothing would be said.

use crate::record::{Seed, u32_at, u64_at};
use crate::segment::Checkpoint;

/// The bytes of an end mark; fewer than those of a seal, which also overwrites it.
pub(crate) const END_MARK_BYTES: usize = 24;

const NO_LENGTH: u32 = u32::MAX;

/// A valid end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndMark {
    pub(crate) chain: u32,
    /// The number of the batch before it.
    pub(crate) sequence: u64,
}

impl EndMark {
    /// The mark that stands behind everything up to `point`.
    pub(crate) fn behind(point: &Checkpoint) -> Self {
        Self { chain: point.chain, sequence: point.sequence.saturating_sub(1) }
    }

    pub(crate) fn encode(&self, seed: Seed, segment: u32, offset: u32) -> Vec<u8> {
        let covered = [
            &self.chain.to_le_bytes()[..],
            &NO_LENGTH.to_le_bytes(),
            &[0; 4],
            &self.sequence.to_le_bytes(),
        ]
        .concat();
        let checksum = seed.checksum(segment, offset, &covered);
        [&checksum.to_le_bytes()[..], &covered].concat()
    }

    pub(crate) fn parse(seed: Seed, segment: u32, offset: usize, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..END_MARK_BYTES)?;
        if u32_at(bytes, 8)? != NO_LENGTH || u32_at(bytes, 12)? != 0 {
            return None;
        }
        let offset = u32::try_from(offset).ok()?;
        let checksum = seed.checksum(segment, offset, bytes.get(4..)?);
        (checksum == u32_at(bytes, 0)?)
            .then_some(Self { chain: u32_at(bytes, 4)?, sequence: u64_at(bytes, 16)? })
    }
}
