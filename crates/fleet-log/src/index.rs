//! Where each entry is: a slot per entry, and the payloads of the newest ones.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::entry::{LogEntry, Position};

/// The segment number of entries that wait for a sync; no file has it.
pub(crate) const UNSYNCED: u32 = 0;

/// Where one entry is, and what is needed to answer questions without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) term: u64,
    /// The segment, or [`UNSYNCED`].
    pub(crate) segment: u32,
    /// The offset of its record in the segment, or in the batch that waits.
    pub(crate) offset: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) kind: u8,
}

/// All entries of a log after its start.
#[derive(Debug)]
pub(crate) struct Index {
    start: Position,
    slots: VecDeque<Slot>,
    /// The payloads of the newest entries: as many as `slots` has at its end.
    cache: VecDeque<Bytes>,
    cached_bytes: usize,
    cache_bytes_max: usize,
}

impl Index {
    pub(crate) fn new(start: Position, slots: VecDeque<Slot>, cache_bytes_max: usize) -> Self {
        Self { start, slots, cache: VecDeque::new(), cached_bytes: 0, cache_bytes_max }
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.slots.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn last(&self) -> Position {
        self.slots.back().map_or(self.start, |slot| Position {
            index: self.start.index.saturating_add(self.len()),
            term: slot.term,
        })
    }

    /// The place of an index in `slots`.
    fn at(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.start.index)?.checked_sub(1)?).ok()
    }

    pub(crate) fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(self.at(index)?)
    }

    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.slot(index).map(|slot| slot.term)
    }

    /// The entry, if its payload is in memory.
    pub(crate) fn cached(&self, index: u64) -> Option<LogEntry> {
        let at = self.at(index)?;
        let slot = self.slots.get(at)?;
        let in_cache = at.checked_sub(self.slots.len() - self.cache.len())?;
        Some(LogEntry {
            index,
            term: slot.term,
            kind: slot.kind,
            data: self.cache.get(in_cache)?.clone(),
        })
    }

    /// The segment of the first entry.
    pub(crate) fn first_segment(&self) -> Option<u32> {
        self.slots.front().map(|slot| slot.segment)
    }

    pub(crate) fn push(&mut self, slot: Slot, payload: Bytes) {
        self.cached_bytes += payload.len();
        self.slots.push_back(slot);
        self.cache.push_back(payload);
    }

    /// Forgets the entries after `index`.
    pub(crate) fn truncate(&mut self, index: u64) {
        let keep = self.at(index).map_or(0, |at| at.saturating_add(1));
        while self.slots.len() > keep {
            self.slots.pop_back();
            if let Some(payload) = self.cache.pop_back() {
                self.cached_bytes -= payload.len();
            }
        }
    }

    /// Forgets the entries up to and with `start`, which must be in the log.
    pub(crate) fn compact(&mut self, start: Position) {
        let gone = self.at(start.index).map_or(0, |at| at.saturating_add(1));
        self.slots.drain(..gone.min(self.slots.len()));
        self.start = start;
        while self.cache.len() > self.slots.len() {
            self.evict_oldest();
        }
        give_back(&mut self.slots);
    }

    /// Forgets all entries.
    pub(crate) fn reset(&mut self, start: Position) {
        *self = Self::new(start, VecDeque::new(), self.cache_bytes_max);
    }

    /// The waiting entries were written to `segment`, their batch at `offset`. Now the cache may
    /// shrink to its bound: what waits can only be read from there.
    pub(crate) fn settle(&mut self, segment: u32, offset: u32) {
        for slot in self.slots.iter_mut().rev() {
            if slot.segment != UNSYNCED {
                break;
            }
            slot.segment = segment;
            slot.offset = slot.offset.saturating_add(offset);
        }
        while self.cached_bytes > self.cache_bytes_max {
            self.evict_oldest();
        }
        give_back(&mut self.cache);
    }

    fn evict_oldest(&mut self) {
        if let Some(payload) = self.cache.pop_front() {
            self.cached_bytes -= payload.len();
        }
    }
}

/// Returns the memory of a queue that has become much smaller.
fn give_back<T>(queue: &mut VecDeque<T>) {
    const KEPT_MIN: usize = 1024;
    if queue.capacity() > KEPT_MIN && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}
