//! What a replica asks of whoever drives it.

use bytes::Bytes;
use fleet_log::Disk;
use fleet_state::{FleetState, NodeId, RequestId, Revision, SnapshotMeta};

use super::{Changes, Decision, Ended, ReadEnded};
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::status::NodeRole;

/// One applied entry.
#[derive(Clone, Debug)]
pub struct AppliedEntry {
    /// Its index.
    pub revision: Revision,
    /// The request that it came from, if any.
    pub request_id: Option<RequestId>,
    /// What was decided, for entries that carry a command.
    pub answer: Decision,
    /// What it changed, in order.
    pub changes: Changes,
    /// Wall time of the leader that proposed it; for display only.
    pub wall_time_ms: u64,
}

/// A snapshot to be written away from the loop. It holds a state of its own.
#[derive(Debug)]
pub struct BuildSnapshot<D> {
    pub(crate) store: SnapshotStore<D>,
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: FleetState,
}

/// A snapshot that was written and is durable.
#[derive(Clone, Debug)]
pub struct BuiltSnapshot {
    pub(crate) file: SnapshotFile,
    pub(crate) voters: Vec<NodeId>,
    pub(crate) learners: Vec<NodeId>,
}

impl BuiltSnapshot {
    /// The file.
    #[must_use]
    pub fn file(&self) -> &SnapshotFile {
        &self.file
    }
}

impl<D: Disk> BuildSnapshot<D> {
    /// Writes the snapshot. Blocks on the disk; run it on a thread that may.
    ///
    /// # Errors
    /// Any error of the disk. Give the result to [`super::Replica::handle_snapshot_built`].
    pub fn run(self) -> std::io::Result<BuiltSnapshot> {
        let file = self.store.write(&self.meta, &self.state)?;
        Ok(BuiltSnapshot { file, voters: self.meta.voters, learners: self.meta.learners })
    }
}

/// Something that an operator would want in the log, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Role, leader or term is another one.
    Role {
        /// Role now.
        role: NodeRole,
        /// Term now.
        term: u64,
        /// Leader now.
        leader: Option<NodeId>,
    },
    /// The configuration changed.
    Membership {
        /// Voters now.
        voters: Vec<NodeId>,
        /// Learners now.
        learners: Vec<NodeId>,
        /// The entry that changed it.
        index: u64,
    },
    /// A snapshot is being received.
    SnapshotOffered {
        /// Its index.
        index: u64,
        /// Its size.
        size_bytes: u64,
        /// From whom.
        from: NodeId,
    },
    /// A received snapshot is installed.
    SnapshotInstalled {
        /// Its index.
        index: u64,
    },
    /// A snapshot of this node is on disk.
    SnapshotTaken {
        /// Its index.
        index: u64,
        /// Its size.
        size_bytes: u64,
    },
    /// This node is no member any more.
    Removed,
}

/// What became due in one turn. Empty most of the time.
#[derive(Debug)]
pub struct Outputs<D, T> {
    /// Commands that ended, with who waited for them.
    pub commands: Vec<Ended<T>>,
    /// Reads that ended.
    pub reads: Vec<ReadEnded<T>>,
    /// Entries applied, in log order.
    pub applied: Vec<AppliedEntry>,
    /// What other members observed, with who it was.
    pub observed: Vec<(NodeId, Bytes)>,
    /// A snapshot to be written.
    pub build: Option<BuildSnapshot<D>>,
    /// The site key, to be stored (0600): this node is a voter now.
    pub site_key: Option<[u8; 32]>,
    /// For the log.
    pub notices: Vec<Notice>,
}

impl<D, T> Default for Outputs<D, T> {
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            reads: Vec::new(),
            applied: Vec::new(),
            observed: Vec::new(),
            build: None,
            site_key: None,
            notices: Vec::new(),
        }
    }
}
