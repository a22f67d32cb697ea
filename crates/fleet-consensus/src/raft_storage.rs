//! What `raft` reads: the log, the configuration and a pointer to the newest snapshot.
//!
//! The adapter never writes on raft's behalf; the ready phases do. It keeps the applied
//! configuration because raft asks for it at start, and a snapshot's checksum because the
//! snapshot's message carries a reference in place of data.

use std::cell::Cell;

use fleet_log::{Disk, HardState, Log};
use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::frame::{LogEntry, SnapshotRef};
use crate::seeded;
use crate::snapshot_store::SnapshotFile;

/// The newest snapshot on disk and the configuration at its index.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotPointer {
    pub(crate) file: SnapshotFile,
    pub(crate) conf: ConfState,
}

pub(crate) struct RaftStorage<D: Disk> {
    pub(crate) log: Log<D>,
    /// Configuration at the last applied entry.
    pub(crate) conf: ConfState,
    pub(crate) snapshot: Option<SnapshotPointer>,
    /// Raft asked for a snapshot that is not there yet.
    pub(crate) snapshot_wanted: Cell<bool>,
}

impl<D: Disk> RaftStorage<D> {
    pub(crate) fn new(log: Log<D>, snapshot: Option<SnapshotPointer>) -> Self {
        Self {
            log,
            conf: snapshot.as_ref().map(|pointer| pointer.conf.clone()).unwrap_or_default(),
            snapshot,
            snapshot_wanted: Cell::new(false),
        }
    }
}

pub(crate) fn hard_state_to_raft(hard: HardState) -> raft::eraftpb::HardState {
    let mut out = raft::eraftpb::HardState::default();
    out.set_term(hard.term);
    out.set_vote(hard.vote);
    out.set_commit(hard.commit);
    out
}

pub(crate) fn hard_state_from_raft(hard: &raft::eraftpb::HardState) -> HardState {
    HardState { term: hard.get_term(), vote: hard.get_vote(), commit: hard.get_commit() }
}

fn storage_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Store(StorageError::Other(Box::new(error)))
}

impl<D: Disk> Storage for RaftStorage<D> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard = self.log.hard_state();
        if seeded::on("vote-forgotten-at-restart") {
            hard.vote = 0;
        }
        Ok(RaftState::new(hard_state_to_raft(hard), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.log.last_index() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max = max_size.into().unwrap_or(u64::MAX);
        let entries = self.log.entries(low, high, max).map_err(storage_error)?;
        entries
            .into_iter()
            .map(|entry| {
                LogEntry::from_disk(entry.index, entry.term, entry.kind, entry.data)
                    .map(LogEntry::into_raft)
                    .map_err(storage_error)
            })
            .collect()
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let start = self.log.start();
        if index == start.index {
            return Ok(start.term);
        }
        if index < start.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.log.term(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last_index())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let fits = |pointer: &&SnapshotPointer| {
            let conf = &pointer.conf;
            pointer.file.index >= request_index
                // The log must reach back to it, or the receiver could not go on from there.
                && pointer.file.index >= self.log.start().index
                // A receiver that is not in the snapshot's configuration would drop it.
                && (conf.get_voters().contains(&to)
                    || conf.get_learners().contains(&to)
                    || seeded::on("snapshot-for-a-stranger"))
        };
        let usable = self.snapshot.as_ref().filter(fits);
        let Some(pointer) = usable else {
            self.snapshot_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let reference =
            SnapshotRef { size_bytes: pointer.file.size_bytes, checksum: pointer.file.checksum };
        let mut snapshot = Snapshot::default();
        snapshot.set_data(reference.encode().into());
        let metadata = snapshot.mut_metadata();
        metadata.set_index(pointer.file.index);
        metadata.set_term(pointer.file.term);
        metadata.set_conf_state(pointer.conf.clone());
        Ok(snapshot)
    }
}
