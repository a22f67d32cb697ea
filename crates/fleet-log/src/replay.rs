//! Replays records into the state of a log, batch by batch.
//!
//! A batch takes effect when its last record was seen, never in part. Records that contradict
//! what is there are refused: their checksums are right, so they were written by mistake or with
//! intent, and nothing can be built on them.

use std::collections::VecDeque;

use crate::entry::Position;
use crate::index::Slot;
use crate::record::{Kind, Record};
use crate::segment::Checkpoint;

/// The state of a log up to some batch.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) point: Checkpoint,
    /// The slots of the newest entries, up to the last.
    pub(crate) slots: VecDeque<Slot>,
    /// Entries up to this one are in segments that are no more. They must all be compacted by
    /// the time the replay is through.
    pub(crate) vanished: u64,
    /// Whether the newest batch is a mark.
    pub(crate) marked: bool,
    staged: Vec<Staged>,
}

/// A record of a batch that is not whole yet.
#[derive(Clone, Copy, Debug)]
struct Staged {
    kind: Kind,
    index: u64,
    slot: Slot,
    vote: u64,
}

impl Replay {
    /// Begins at the checkpoint of the oldest segment.
    pub(crate) fn new(point: Checkpoint) -> Self {
        Self {
            point,
            slots: VecDeque::new(),
            vanished: if point.last.index > point.start.index { point.last.index } else { 0 },
            marked: false,
            staged: Vec::new(),
        }
    }

    /// Takes a record of the batch that is being read.
    pub(crate) fn stage(&mut self, record: &Record<'_>, segment: u32, offset: u32) {
        let content = &record.content;
        self.staged.push(Staged {
            kind: content.kind,
            index: content.index,
            slot: Slot {
                term: content.term,
                segment,
                offset,
                payload_bytes: u32::try_from(content.payload.len()).unwrap_or(u32::MAX),
                kind: content.entry_kind,
            },
            vote: content.hard_state().map_or(0, |hard| hard.vote),
        });
    }

    /// Forgets a batch that turned out not to be whole.
    pub(crate) fn discard(&mut self) {
        self.staged.clear();
    }

    /// The batch is whole: applies it. `chain` is the checksum of its last record. Says whether
    /// it sealed the segment.
    pub(crate) fn commit(&mut self, chain: u32) -> Result<bool, &'static str> {
        let mut sealed = false;
        let staged = std::mem::take(&mut self.staged);
        for record in &staged {
            if sealed {
                return Err("a record follows the seal of the segment");
            }
            self.apply(record)?;
            sealed = record.kind == Kind::Seal;
        }
        if self.point.hard_state.commit > self.point.last.index {
            return Err("the commit index is beyond the last entry");
        }
        if self.point.hard_state.commit < self.point.start.index {
            return Err("the commit index is before the first entry");
        }
        self.marked = staged.iter().all(|record| record.kind == Kind::Mark);
        self.point.chain = chain;
        self.point.sequence = self.point.sequence.saturating_add(1);
        self.staged = staged;
        self.staged.clear();
        Ok(sealed)
    }

    fn apply(&mut self, record: &Staged) -> Result<(), &'static str> {
        let at = Position { index: record.index, term: record.slot.term };
        match record.kind {
            Kind::Entry => self.append(at, record.slot),
            Kind::Truncate => self.truncate(at),
            Kind::HardState => {
                self.point.hard_state.term = at.term;
                self.point.hard_state.commit = at.index;
                self.point.hard_state.vote = record.vote;
                Ok(())
            }
            Kind::Start => self.compact(at),
            Kind::Reset => {
                self.slots.clear();
                self.vanished = 0;
                self.point.start = at;
                self.point.last = at;
                Ok(())
            }
            Kind::Seal | Kind::Mark => Ok(()),
        }
    }

    fn append(&mut self, at: Position, slot: Slot) -> Result<(), &'static str> {
        if Some(at.index) != self.point.last.index.checked_add(1) {
            return Err("an entry does not follow the one before it");
        }
        if at.term < self.point.last.term {
            return Err("an entry has a lower term than the one before it");
        }
        self.slots.push_back(slot);
        self.point.last = at;
        Ok(())
    }

    fn truncate(&mut self, keep: Position) -> Result<(), &'static str> {
        let (start, last) = (self.point.start.index, self.point.last.index);
        if !(start..=last).contains(&keep.index) {
            return Err("a truncation is outside the log");
        }
        let drop = usize::try_from(last - keep.index).unwrap_or(usize::MAX);
        self.slots.truncate(self.slots.len().saturating_sub(drop));
        self.vanished = self.vanished.min(keep.index);
        self.point.last = keep;
        if self.slots.back().is_some_and(|slot| slot.term != keep.term) {
            return Err("a truncation names another term than the entry it keeps");
        }
        Ok(())
    }

    fn compact(&mut self, start: Position) -> Result<(), &'static str> {
        if !(self.point.start.index..=self.point.last.index).contains(&start.index) {
            return Err("a compaction is outside the log");
        }
        let kept = usize::try_from(self.point.last.index - start.index).unwrap_or(usize::MAX);
        let gone = self.slots.len().saturating_sub(kept);
        self.slots.drain(..gone);
        self.point.start = start;
        Ok(())
    }

    /// Whether every entry after the start was found.
    pub(crate) fn is_complete(&self) -> bool {
        self.vanished <= self.point.start.index
    }
}
