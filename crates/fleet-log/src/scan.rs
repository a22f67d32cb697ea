//! Reads the records of one segment and judges how they end.
//!
//! A batch is written only after the one before it was synced. So what follows the last whole
//! batch is one of three things:
//!
//! - zeros: the log ends here;
//! - a *torn* batch: bytes of the very next batch, in whatever part. It was not synced, or else
//!   it rotted later; which of the two nobody can tell, so it is cut and said;
//! - *rot*: anything after which a whole record of a later batch stands. That record proves that
//!   everything before it had been synced, so what is missing was lost since.

use crate::record::{ALIGN, Flaw, Record, Seed};
use crate::replay::Replay;
use crate::segment::HEADER_BYTES;

/// How the records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the seal: the log goes on in the next segment.
    Sealed,
    /// With zeros.
    Zeros,
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
    let mut result = Scan { end_offset: HEADER_BYTES, end: End::Zeros, batches: 0, records: 0 };
    let mut offset = HEADER_BYTES;
    let mut chain = replay.point.chain;
    let mut staged = 0;
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
    let tail = bytes.get(result.end_offset..).unwrap_or_default();
    if let Some(last) = tail.iter().rposition(|byte| *byte != 0) {
        let torn =
            Torn { seed, segment, begin: result.end_offset, sequence: replay.point.sequence };
        torn.judge(bytes, offset, flaw)?;
        result.end = End::Torn { size_bytes: last + 1, offset, flaw };
    }
    Ok(result)
}

/// A batch that is not whole.
struct Torn {
    seed: Seed,
    segment: u32,
    begin: usize,
    sequence: u64,
}

impl Torn {
    /// Fails when a record of another batch stands behind the batch.
    fn judge(&self, bytes: &[u8], flaw_at: usize, flaw: Flaw) -> Result<(), Damage> {
        let mut offset = self.begin;
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            offset += match self.record_at(offset, rest) {
                Some(record) if record.sequence == self.sequence => record.size_bytes,
                Some(_) => {
                    return Err(Damage {
                        offset: flaw_at,
                        what: format!(
                            "{flaw}, but a whole record of another batch follows at byte {offset}"
                        ),
                    });
                }
                None => ALIGN,
            };
        }
        Ok(())
    }

    fn record_at<'a>(&self, offset: usize, rest: &'a [u8]) -> Option<Record<'a>> {
        // No more batches than records fit behind the torn one, and stale ones are older than
        // it: other numbers are not worth a checksum over a length that may be wrong.
        let claimed = Record::claimed_sequence(rest)?;
        let newest = self.sequence.saturating_add(u64::try_from(rest.len()).ok()?);
        if claimed == 0 || claimed > newest {
            return None;
        }
        Record::parse(self.seed, self.segment, offset, rest).ok()
    }
}
