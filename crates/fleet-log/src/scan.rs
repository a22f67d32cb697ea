//! Reads the records of one segment and judges how they end.
//!
//! A batch is written only after the one before it was synced. So what follows the last whole
//! batch is one of three things:
//!
//! - its end mark and then zeros: the log ends here;
//! - a *torn* batch: bytes of the very next batch, in whatever part, or nothing where the end mark
//!   of the last one should be. It was not synced, or else it rotted later; which of the two
//!   nobody can tell, so it is cut and said;
//! - *rot*: anything after which a whole record of another batch stands. That record proves that
//!   everything before it had been synced, so what is missing was lost since.

use crate::end_mark::{END_MARK_BYTES, EndMark};
use crate::record::{ALIGN, Flaw, Record, Seed};
use crate::recovery::to_u64;
use crate::replay::Replay;
use crate::segment::{Checkpoint, HEADER_BYTES, Header};

/// How the records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the seal: the log goes on in the next segment.
    Sealed,
    /// With the end mark.
    Marked,
    /// With a batch that is not whole.
    Torn {
        /// From the end of the last whole batch to the last byte that is not zero.
        size_bytes: usize,
        /// Where the first record is that is not valid.
        offset: usize,
        flaw: Flaw,
    },
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The end of the last whole batch.
    pub(crate) end_offset: usize,
    pub(crate) end: End,
    pub(crate) batches: u64,
    pub(crate) records: u64,
}

/// Rot, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: usize,
    pub(crate) what: String,
}

/// Replays the records of a segment, whose whole file is `bytes`.
pub(crate) fn scan(
    seed: Seed,
    segment: u32,
    bytes: &[u8],
    replay: &mut Replay,
) -> Result<Scan, Damage> {
    let mut result = Scan { end_offset: HEADER_BYTES, end: End::Marked, batches: 0, records: 0 };
    let mut offset = HEADER_BYTES;
    let mut chain = replay.point.chain;
    let mut staged = 0;
    // Ends with the first bytes that are no record; all of them may be an end mark.
    let flaw = loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let record = match Record::parse(seed, segment, offset, rest) {
            Ok(record) => record,
            Err(flaw) => break flaw,
        };
        let damage = |what: &str| Damage { offset, what: what.to_owned() };
        if record.sequence != replay.point.sequence {
            return Err(damage("a batch is missing before this record"));
        }
        if record.previous != chain {
            return Err(damage("the record does not continue the one before it"));
        }
        chain = record.checksum;
        let place = u32::try_from(offset).map_err(|_| damage("the segment is too large"))?;
        replay.stage(&record, segment, place);
        staged += 1;
        if record.last_of_batch {
            let sealed = replay.commit(chain).map_err(damage)?;
            result.batches += 1;
            result.records += staged;
            staged = 0;
            result.end_offset = offset + record.size_bytes;
            if sealed {
                result.end = End::Sealed;
                return Ok(result);
            }
        }
        offset += record.size_bytes;
    };
    replay.discard();
    let tail = Tail { seed, segment, begin: result.end_offset, point: &replay.point };
    result.end = tail.judge(bytes, offset, flaw)?;
    Ok(result)
}

/// Whether nothing was ever written into a segment, whose whole file is `bytes`.
pub(crate) fn is_fresh(seed: Seed, header: &Header, bytes: &[u8]) -> bool {
    let tail =
        Tail { seed, segment: header.number, begin: HEADER_BYTES, point: &header.checkpoint };
    tail.judge(bytes, HEADER_BYTES, Flaw::Length) == Ok(End::Marked)
}

/// What follows the last whole batch.
struct Tail<'a> {
    seed: Seed,
    segment: u32,
    begin: usize,
    /// The state after the last whole batch.
    point: &'a Checkpoint,
}

impl Tail<'_> {
    fn judge(&self, bytes: &[u8], flaw_at: usize, flaw: Flaw) -> Result<End, Damage> {
        let tail = bytes.get(self.begin..).unwrap_or_default();
        let Some(last) = tail.iter().rposition(|byte| *byte != 0) else {
            return Ok(End::Torn { size_bytes: 0, offset: flaw_at, flaw });
        };
        let mark = EndMark::parse(self.seed, self.segment, self.begin, tail);
        if mark == Some(EndMark::behind(self.point)) && last < END_MARK_BYTES {
            return Ok(End::Marked);
        }
        if let Some(offset) = self.find_other(bytes) {
            return Err(Damage {
                offset: flaw_at,
                what: format!("{flaw}, but what another batch left follows whole at byte {offset}"),
            });
        }
        Ok(End::Torn { size_bytes: last + 1, offset: flaw_at, flaw })
    }

    /// Searches for a whole record that is not of the batch that was to come.
    fn find_other(&self, bytes: &[u8]) -> Option<usize> {
        let mut offset = self.begin;
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            offset += match self.record_at(offset, rest) {
                Some(record) if record.sequence == self.point.sequence => record.size_bytes,
                Some(_) => return Some(offset),
                None => ALIGN,
            };
        }
        None
    }

    fn record_at<'a>(&self, offset: usize, rest: &'a [u8]) -> Option<Record<'a>> {
        // No more batches than bytes fit behind the torn one: other numbers are not worth a
        // checksum over a length that may be wrong.
        let claimed = Record::claimed_sequence(rest)?;
        let newest = self.point.sequence.saturating_add(to_u64(rest.len()));
        if claimed == 0 || claimed > newest {
            return None;
        }
        Record::parse(self.seed, self.segment, offset, rest).ok()
    }
}
