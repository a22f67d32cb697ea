//! The log itself: what is appended waits in one buffer until [`Log::sync`] writes it as one
//! batch and syncs it once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::compact::remove;
use crate::config::{BATCH_BYTES_MAX, ENTRY_BYTES_MAX, LogConfig, LogIdentity};
use crate::disk::Disk;
use crate::entry::{HardState, LogEntry, Position};
use crate::error::{LogError, OpenError};
use crate::index::{Index, Slot, UNSYNCED};
use crate::record::{Content, Kind, Seed, push, push_hard_state};
use crate::recovery::list;
use crate::seeded;
use crate::segment::{Checkpoint, HEADER_BYTES, Header, Segment, file_name};
use crate::write::segment_bytes;

/// An open log.
///
/// It has one owner, and everything it does happens inside its calls. After a fault of the disk
/// it stays broken ([`LogError::Poisoned`]): what a failed write or sync left behind is only known
/// by opening the log again.
#[derive(Debug)]
pub struct Log<D: Disk> {
    pub(crate) disk: D,
    pub(crate) identity: LogIdentity,
    pub(crate) seed: Seed,
    pub(crate) config: LogConfig,
    /// From the oldest to the newest, with consecutive numbers; never empty.
    pub(crate) segments: Vec<Segment<D::File>>,
    pub(crate) index: Index,
    pub(crate) hard_state: HardState,
    /// What is on the disk.
    pub(crate) durable: Checkpoint,
    /// Records that wait for a sync, without their place and checksums.
    pub(crate) batch: Vec<u8>,
    /// Whether the newest batch is a mark.
    pub(crate) marked: bool,
    pub(crate) poisoned: AtomicBool,
}

impl<D: Disk> Log<D> {
    /// Makes a new log in an empty directory. It begins after `start`, and nothing before
    /// `start` is uncommitted: the commit index becomes `start.index` if it is lower.
    pub fn create(
        disk: D,
        identity: LogIdentity,
        config: LogConfig,
        start: Position,
        hard_state: HardState,
    ) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Refused)?;
        let (numbers, unfinished) = list(&disk)?;
        if let Some(number) = numbers.first() {
            return Err(OpenError::NotEmpty { name: file_name(*number) });
        }
        for name in unfinished {
            remove(&disk, &name)?;
        }
        let hard_state = HardState { commit: hard_state.commit.max(start.index), ..hard_state };
        if hard_state.commit > start.index {
            return Err(OpenError::Refused(LogError::CommitOutside {
                commit: hard_state.commit,
                last: start.index,
            }));
        }
        let durable = Checkpoint { start, last: start, hard_state, sequence: 1, chain: 0 };
        let header = Header {
            identity,
            number: 1,
            size_bytes: segment_bytes(&config, 0),
            checkpoint: durable,
        };
        let segment = Segment::create(&disk, &header)?;
        Ok(Self {
            disk,
            identity,
            seed: Seed::new(&identity),
            config,
            segments: vec![segment],
            index: Index::new(start, VecDeque::new(), config.cache_bytes),
            hard_state,
            durable,
            batch: Vec::new(),
            marked: false,
            poisoned: AtomicBool::new(false),
        })
    }

    /// Adds entries, contiguous and not before [`first_index`](Self::first_index). If the log has
    /// other entries from the first one's index on, these are dropped. Durable after
    /// [`sync`](Self::sync); readable at once.
    pub fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        self.check_usable()?;
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let keep = self.check_append(first.index, entries)?;
        if keep.index < self.last_index() {
            if !seeded::on("truncate-keeps-tail") {
                push(&mut self.batch, &Content::bare(Kind::Truncate, keep.index, keep.term));
            }
            if seeded::on("stale-chain-after-truncate") {
                self.durable.chain = 0;
            }
            self.index.truncate(keep.index);
        }
        for entry in entries {
            let slot = Slot {
                term: entry.term,
                segment: UNSYNCED,
                // Both are bounded by BATCH_BYTES_MAX.
                offset: u32::try_from(self.batch.len()).unwrap_or(u32::MAX),
                payload_bytes: u32::try_from(entry.data.len()).unwrap_or(u32::MAX),
                kind: entry.kind,
            };
            push(
                &mut self.batch,
                &Content {
                    kind: Kind::Entry,
                    entry_kind: entry.kind,
                    index: entry.index,
                    term: entry.term,
                    payload: &entry.data,
                },
            );
            self.index.push(slot, entry.data.clone());
        }
        Ok(())
    }

    /// Checks entries before anything is changed; returns the position they go behind.
    fn check_append(&self, first: u64, entries: &[LogEntry]) -> Result<Position, LogError> {
        let last = self.last_index();
        if first < self.first_index() {
            return Err(LogError::Compacted { index: first, first: self.first_index() });
        }
        if first <= last.min(self.hard_state.commit) {
            return Err(LogError::Committed { index: first, commit: self.hard_state.commit });
        }
        let before = first - 1;
        let term = self.index.term(before).ok_or(LogError::Gap { previous: last, found: first })?;
        let keep = Position { index: before, term };
        let mut previous = keep;
        let mut batch_bytes = self.batch.len();
        for entry in entries {
            if Some(entry.index) != previous.index.checked_add(1) {
                return Err(LogError::Gap { previous: previous.index, found: entry.index });
            }
            if entry.term < previous.term {
                return Err(LogError::TermBack {
                    index: entry.index,
                    previous: previous.term,
                    found: entry.term,
                });
            }
            if entry.data.len() > ENTRY_BYTES_MAX {
                return Err(LogError::EntryTooLarge {
                    index: entry.index,
                    size_bytes: entry.data.len(),
                });
            }
            batch_bytes += crate::record::padded_bytes(entry.data.len());
            previous = Position { index: entry.index, term: entry.term };
        }
        if batch_bytes > BATCH_BYTES_MAX - HEADER_BYTES {
            return Err(LogError::BatchTooLarge);
        }
        Ok(keep)
    }

    /// Remembers the hard state; durable after [`sync`](Self::sync). It never goes back: neither
    /// term nor commit, nor a vote within its term. Only the last one before a sync is written.
    pub fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), LogError> {
        self.check_usable()?;
        let (from, to) = (self.hard_state, hard_state);
        let vote_changed = to.term == from.term && from.vote != 0 && to.vote != from.vote;
        if to.term < from.term || to.commit < from.commit || vote_changed {
            return Err(LogError::HardStateBack { from, to });
        }
        self.hard_state = to;
        Ok(())
    }

    /// Makes everything before this call durable, all of it or (at a crash) nothing: one write
    /// and one sync. Does nothing when nothing waits.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        if self.batch.is_empty() && self.hard_state == self.durable.hard_state {
            return Ok(());
        }
        self.check_commit()?;
        if self.batch.is_empty() && seeded::on("vote-not-written") {
            return Ok(());
        }
        if seeded::on("hard-state-before-entries") {
            let entries = std::mem::take(&mut self.batch);
            push_hard_state(&mut self.batch, &self.hard_state);
            self.write_batch()?;
            self.batch = entries;
        } else if self.hard_state != self.durable.hard_state {
            push_hard_state(&mut self.batch, &self.hard_state);
        }
        let written = self.write_batch();
        self.poison_if_failed(written)
    }

    /// The term of the entry at `index`, or of [`start`](Self::start); `None` outside the log.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.index.term(index)
    }

    /// The position before the first entry.
    pub fn start(&self) -> Position {
        self.index.start()
    }

    /// The index of the first entry, or of the next one if the log is empty.
    pub fn first_index(&self) -> u64 {
        self.start().index.saturating_add(1)
    }

    /// The position of the last entry, or [`start`](Self::start) if the log is empty.
    pub fn last(&self) -> Position {
        self.index.last()
    }

    /// The index of the last entry, or that of [`start`](Self::start) if the log is empty.
    pub fn last_index(&self) -> u64 {
        self.last().index
    }

    /// The hard state, with what waits for a sync.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// How many entries the log holds.
    pub fn entries_len(&self) -> u64 {
        self.index.len()
    }

    /// The size of all segment files; all of it is reserved on the disk.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.size_bytes)).sum()
    }

    /// Whose log it is.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// The directory of this log.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The commit index must be that of an entry here once it is on the disk.
    pub(crate) fn check_commit(&self) -> Result<(), LogError> {
        if self.hard_state.commit <= self.last_index() {
            return Ok(());
        }
        Err(LogError::CommitOutside { commit: self.hard_state.commit, last: self.last_index() })
    }

    /// Nothing is done on a log that failed.
    pub(crate) fn check_usable(&self) -> Result<(), LogError> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(LogError::Poisoned);
        }
        Ok(())
    }

    /// A fault of the disk ends this log.
    pub(crate) fn poison_if_failed<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        if result.is_err() {
            self.poisoned.store(true, Ordering::Relaxed);
        }
        result
    }
}
