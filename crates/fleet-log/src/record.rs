//! One record of the log: its bytes and its checksum.
//!
//! ```text
//!  0  u32  checksum of bytes 4.. of the padded record, see below
//!  4  u32  checksum of the record before it: records form a chain
//!  8  u32  length of header and payload; 0 is invalid, so zeros end the log
//! 12  u8   kind of record
//! 13  u8   flags; bit 0: the last record of its batch
//! 14  u8   kind of entry, as the owner of the log numbers them
//! 15  u8   zero
//! 16  u64  sequence number of its batch
//! 24  u64  index
//! 32  u64  term
//! 40  ...  payload, then zeros up to a multiple of 8
//! ```
//!
//! All numbers are little-endian. The checksum is a CRC-32 that begins with the identity of the
//! log, the number of the segment and the offset in it: a record is valid only where it was
//! written. A copy of it elsewhere, be it a misdirected write, another node's file or the payload
//! of an entry that looks like a record, is not. The checksum before is stored and not only
//! mixed in, so that a record can be recognised after damaged bytes; that is how rot is told from
//! a torn write.

use crate::config::{BATCH_BYTES_MAX, LogIdentity};
use crate::entry::HardState;
use crate::seeded;

/// The bytes before the payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 40;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// The bytes of a record without payload.
pub(crate) const SEAL_BYTES: usize = RECORD_HEADER_BYTES;

const CHECKSUM_BYTES: usize = 4;
const LAST_OF_BATCH: u8 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry was added at `index`, one after the last.
    Entry,
    /// Entries after `index` are no more; the one at `index` has `term`.
    Truncate,
    /// The hard state: `term`, commit in `index`, vote in the payload.
    HardState,
    /// Entries up to and with `index` were compacted; the one at `index` had `term`.
    Start,
    /// All entries are gone; the log goes on after (`index`, `term`).
    Reset,
    /// The log goes on in the next segment.
    Seal,
    /// Says nothing, but its being there proves that the batch before it was synced.
    Mark,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Truncate => 2,
            Self::HardState => 3,
            Self::Start => 4,
            Self::Reset => 5,
            Self::Seal => 6,
            Self::Mark => 7,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Entry,
            2 => Self::Truncate,
            3 => Self::HardState,
            4 => Self::Start,
            5 => Self::Reset,
            6 => Self::Seal,
            7 => Self::Mark,
            _ => return None,
        })
    }
}

/// What a record is made of, apart from its place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) kind: Kind,
    pub(crate) entry_kind: u8,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) payload: &'a [u8],
}

impl Content<'static> {
    /// A record that has no payload.
    pub(crate) fn bare(kind: Kind, index: u64, term: u64) -> Self {
        Self { kind, entry_kind: 0, index, term, payload: &[] }
    }
}

impl Content<'_> {
    /// The hard state in a record of kind [`Kind::HardState`].
    pub(crate) fn hard_state(&self) -> Option<HardState> {
        Some(HardState {
            term: self.term,
            vote: u64::from_le_bytes(*self.payload.first_chunk()?),
            commit: self.index,
        })
    }
}

/// The size on disk of a record with such a payload.
pub(crate) fn padded_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGN)
}

/// Adds a record to a buffer. Its place is filled in by [`seal_batch`].
pub(crate) fn push(buffer: &mut Vec<u8>, content: &Content<'_>) {
    let begin = buffer.len();
    // Payloads are bounded far below 4 GiB; a length that did not fit would be refused on reading.
    let length = u32::try_from(RECORD_HEADER_BYTES + content.payload.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[content.kind.code(), 0, content.entry_kind, 0]);
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&content.index.to_le_bytes());
    buffer.extend_from_slice(&content.term.to_le_bytes());
    buffer.extend_from_slice(content.payload);
    buffer.resize(begin + padded_bytes(content.payload.len()), 0);
}

/// Adds a record with the hard state.
pub(crate) fn push_hard_state(buffer: &mut Vec<u8>, hard: &HardState) {
    push(
        buffer,
        &Content {
            kind: Kind::HardState,
            entry_kind: 0,
            index: hard.commit,
            term: hard.term,
            payload: &hard.vote.to_le_bytes(),
        },
    );
}

/// Where a batch goes: all that its checksums depend on beside its own bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) seed: Seed,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
}

/// Fills in place and checksums of all records of a batch. Returns the checksum of the last one.
pub(crate) fn seal_batch(batch: &mut [u8], place: Place) -> u32 {
    let mut rest = batch;
    let mut offset = place.offset;
    let mut chain = place.chain;
    while let Some(size) = padded_length(rest) {
        let Some((record, after)) = rest.split_at_mut_checked(size) else {
            break;
        };
        set(record, 4, &chain.to_le_bytes());
        set(record, 13, &[u8::from(after.is_empty()) * LAST_OF_BATCH]);
        set(record, 16, &place.sequence.to_le_bytes());
        chain = place.seed.checksum(
            place.segment,
            offset,
            record.get(CHECKSUM_BYTES..).unwrap_or_default(),
        );
        set(record, 0, &chain.to_le_bytes());
        // Segments are smaller than 4 GiB.
        offset = offset.wrapping_add(u32::try_from(size).unwrap_or(0));
        rest = after;
    }
    chain
}

fn padded_length(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32_at(bytes, 8)?).ok()?;
    (length >= RECORD_HEADER_BYTES).then(|| length.next_multiple_of(ALIGN))
}

fn set(record: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = record.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// The part of every checksum that binds a record to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(identity: &LogIdentity) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"fleet-log record");
        hasher.update(&identity.site_uid);
        hasher.update(&identity.node.to_le_bytes());
        Self(hasher.finalize())
    }

    pub(crate) fn checksum(self, segment: u32, offset: u32, covered: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&segment.to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(covered);
        hasher.finalize()
    }
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) checksum: u32,
    pub(crate) previous: u32,
    pub(crate) last_of_batch: bool,
    pub(crate) sequence: u64,
    pub(crate) content: Content<'a>,
    /// With padding.
    pub(crate) size_bytes: usize,
}

/// Why there is no valid record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("zeros stand where a record or the end mark should be")]
    Zero,
    #[error("the length of the record is impossible")]
    Length,
    #[error("the record is of no known kind")]
    Kind,
    #[error("the checksum of the record is wrong")]
    Checksum,
}

impl<'a> Record<'a> {
    /// Reads the record at the beginning of `bytes`, which are those of `segment` from `offset` on.
    pub(crate) fn parse(
        seed: Seed,
        segment: u32,
        offset: usize,
        bytes: &'a [u8],
    ) -> Result<Self, Flaw> {
        let length = u32_at(bytes, 8).ok_or(Flaw::Length)?;
        if length == 0 {
            return Err(Flaw::Zero);
        }
        let length = usize::try_from(length).map_err(|_| Flaw::Length)?;
        if !(RECORD_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&length) {
            return Err(Flaw::Length);
        }
        let size_bytes = length.next_multiple_of(ALIGN);
        let record = bytes.get(..size_bytes).ok_or(Flaw::Length)?;
        let &[kind, flags, entry_kind, reserved] = chunk_at(record, 12).ok_or(Flaw::Length)?;
        let kind = Kind::from_code(kind).ok_or(Flaw::Kind)?;
        if flags > LAST_OF_BATCH || reserved != 0 {
            return Err(Flaw::Kind);
        }
        let field = |at| u64_at(record, at).ok_or(Flaw::Length);
        let content = Content {
            kind,
            entry_kind,
            index: field(24)?,
            term: field(32)?,
            payload: record.get(RECORD_HEADER_BYTES..length).ok_or(Flaw::Length)?,
        };
        let checksum = u32_at(record, 0).ok_or(Flaw::Length)?;
        let offset = u32::try_from(offset).map_err(|_| Flaw::Length)?;
        let covered = record.get(CHECKSUM_BYTES..).ok_or(Flaw::Length)?;
        if seed.checksum(segment, offset, covered) != checksum
            && !seeded::on("checksum-not-checked")
        {
            return Err(Flaw::Checksum);
        }
        Ok(Self {
            checksum,
            previous: u32_at(record, 4).ok_or(Flaw::Length)?,
            last_of_batch: flags & LAST_OF_BATCH != 0,
            sequence: field(16)?,
            content,
            size_bytes,
        })
    }

    /// The batch number of whatever begins here, without looking at its checksum. A cheap look
    /// before [`parse`](Self::parse) when many places are searched.
    pub(crate) fn claimed_sequence(bytes: &[u8]) -> Option<u64> {
        u64_at(bytes, 16)
    }
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    chunk_at(bytes, at).map(|chunk| u32::from_le_bytes(*chunk))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    chunk_at(bytes, at).map(|chunk| u64::from_le_bytes(*chunk))
}
