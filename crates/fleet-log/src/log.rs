//! The log itself.

use crate::config::{LogConfig, LogIdentity};
use crate::disk::Disk;
use crate::entry::{HardState, LogEntry, Position};
use crate::error::{LogError, OpenError};
use crate::recovery::Recovery;

/// An open log.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    start: Position,
    hard_state: HardState,
}

impl<D: Disk> Log<D> {
    /// Makes a new log in an empty directory. It begins after `start`.
    pub fn create(
        disk: D,
        _identity: LogIdentity,
        config: LogConfig,
        start: Position,
        hard_state: HardState,
    ) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Refused)?;
        Ok(Self {
            disk,
            start,
            hard_state,
        })
    }

    /// Opens an existing log.
    pub fn open(
        _disk: D,
        _identity: LogIdentity,
        _config: LogConfig,
    ) -> Result<(Self, Recovery), OpenError> {
        Err(OpenError::Empty)
    }

    /// Adds entries; a conflicting suffix is replaced.
    pub fn append(&mut self, _entries: &[LogEntry]) -> Result<(), LogError> {
        Err(LogError::Poisoned)
    }

    /// Remembers the hard state with the next sync.
    pub fn set_hard_state(&mut self, _hard_state: HardState) -> Result<(), LogError> {
        Err(LogError::Poisoned)
    }

    /// Makes everything before durable.
    pub fn sync(&mut self) -> Result<(), LogError> {
        Err(LogError::Poisoned)
    }

    /// Forgets the entries up to `through`, durably.
    pub fn compact(&mut self, _through: u64) -> Result<(), LogError> {
        Err(LogError::Poisoned)
    }

    /// Empties the log, which then begins after `start`, durably and at once.
    pub fn reset(&mut self, _start: Position) -> Result<(), LogError> {
        Err(LogError::Poisoned)
    }

    /// The entries from `lo` up to but without `hi`, at least one, then as many as fit `max_bytes`.
    pub fn entries(&self, lo: u64, _hi: u64, _max_bytes: u64) -> Result<Vec<LogEntry>, LogError> {
        Err(LogError::Unavailable {
            index: lo,
            last: self.last_index(),
        })
    }

    /// The term of an entry in the log, or of the position before the first.
    pub fn term(&self, index: u64) -> Option<u64> {
        (index == self.start.index).then_some(self.start.term)
    }

    /// The position before the first entry.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The index of the first entry, or of the next one if the log is empty.
    pub fn first_index(&self) -> u64 {
        self.start.index.saturating_add(1)
    }

    /// The index of the last entry, or that of [`start`](Self::start) if the log is empty.
    pub fn last_index(&self) -> u64 {
        self.start.index
    }

    /// The hard state, with what waits for a sync.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// How many entries the log holds.
    pub fn entries_len(&self) -> u64 {
        0
    }

    /// The size of all segment files.
    pub fn bytes_on_disk(&self) -> u64 {
        0
    }

    /// The directory of this log.
    pub fn disk(&self) -> &D {
        &self.disk
    }
}
