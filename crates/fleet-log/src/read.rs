//! Reads entries: the newest from memory, older ones from the disk, with their checksums checked.

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::entry::LogEntry;
use crate::error::LogError;
use crate::index::Slot;
use crate::log::Log;
use crate::record::{Kind, RECORD_HEADER_BYTES, Record, padded_bytes};
use crate::segment::file_name;

/// How much is read from a segment at once, unless one record is larger.
const READ_BYTES_MAX: usize = 1024 * 1024;

impl<D: Disk> Log<D> {
    /// The entries from `lo` up to but without `hi`: at least one if `lo < hi`, then as long as
    /// all together have at most `max_bytes` on the disk.
    pub fn entries(&self, lo: u64, hi: u64, max_bytes: u64) -> Result<Vec<LogEntry>, LogError> {
        self.check_usable()?;
        if lo < self.first_index() {
            return Err(LogError::Compacted { index: lo, first: self.first_index() });
        }
        if hi > self.last_index().saturating_add(1) {
            return Err(LogError::Unavailable {
                index: hi.saturating_sub(1),
                last: self.last_index(),
            });
        }
        let hi = self.limit(lo, hi, max_bytes);
        let count = usize::try_from(hi.saturating_sub(lo)).unwrap_or(0);
        let mut entries = Vec::with_capacity(count);
        let mut next = lo;
        while next < hi {
            if let Some(entry) = self.index.cached(next) {
                entries.push(entry);
                next += 1;
            } else {
                let read = self.read_run(next, hi, &mut entries);
                next += self.poison_if_failed(read)?;
            }
        }
        Ok(entries)
    }

    /// Lowers `hi` so that the entries fit.
    fn limit(&self, lo: u64, hi: u64, max_bytes: u64) -> u64 {
        let mut total: u64 = 0;
        for index in lo..hi {
            let payload_bytes = self.index.slot(index).map_or(0, |slot| slot.payload_bytes);
            total = total.saturating_add(u64::from(payload_bytes));
            total = total.saturating_add(RECORD_HEADER_BYTES as u64);
            if total > max_bytes && index > lo {
                return index;
            }
        }
        hi
    }

    /// Reads entries from `lo` on that lie near each other in one segment; returns how many.
    fn read_run(&self, lo: u64, hi: u64, into: &mut Vec<LogEntry>) -> Result<u64, LogError> {
        let first = *self.index.slot(lo).ok_or(LogError::Poisoned)?;
        let file = file_name(first.segment);
        let run: Vec<Slot> = (lo..hi)
            .map_while(|index| self.index.slot(index).copied())
            .take_while(|slot| {
                slot.segment == first.segment
                    && (slot.offset == first.offset
                        || record_end(slot) - as_usize(first.offset) <= READ_BYTES_MAX)
            })
            .collect();
        let end = run.last().map_or(0, record_end);
        let mut bytes = vec![0; end.saturating_sub(as_usize(first.offset))];
        let oldest = self.segments.first().map_or(0, |segment| segment.number);
        let segment = first
            .segment
            .checked_sub(oldest)
            .and_then(|at| self.segments.get(as_usize(at)))
            .ok_or(LogError::Poisoned)?;
        let read = segment
            .file
            .read_at(u64::from(first.offset), &mut bytes)
            .map_err(|source| LogError::Storage { action: "read", file: file.clone(), source })?;
        bytes.truncate(read);
        let bytes = Bytes::from(bytes);
        for (slot, index) in run.iter().zip(lo..) {
            let at = as_usize(slot.offset) - as_usize(first.offset);
            let data = self.check(slot, index, at, &bytes).ok_or_else(|| {
                let what = format!("entry {index} is not what was written there");
                LogError::Damaged { file: file.clone(), offset: u64::from(slot.offset), what }
            })?;
            into.push(LogEntry { index, term: slot.term, kind: slot.kind, data });
        }
        Ok(crate::recovery::to_u64(run.len()))
    }

    /// The payload of the record at `at`, if it is the one the slot stands for.
    fn check(&self, slot: &Slot, index: u64, at: usize, bytes: &Bytes) -> Option<Bytes> {
        let offset = as_usize(slot.offset);
        let record = Record::parse(self.seed, slot.segment, offset, bytes.get(at..)?).ok()?;
        let content = record.content;
        let expected = content.kind == Kind::Entry
            && content.index == index
            && content.term == slot.term
            && content.entry_kind == slot.kind
            && content.payload.len() == as_usize(slot.payload_bytes);
        expected.then(|| bytes.slice_ref(content.payload))
    }
}

fn record_end(slot: &Slot) -> usize {
    as_usize(slot.offset) + padded_bytes(as_usize(slot.payload_bytes))
}

/// Offsets and lengths in a segment fit an address on every machine we build for.
fn as_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
