//! What stops a node. A fault is local: this node must not vote or answer any more.

use fleet_log::{LogError, OpenError};
use fleet_state::{DecodeError, SnapshotError};
use thiserror::Error;

/// A condition after which this node must stop: the process ends with the reason, and a
/// restart reads everything from disk again.
#[derive(Debug, Error)]
pub enum Fault {
    /// Reading or writing the log failed. It is not retried: after a failed sync the
    /// page cache can't be trusted.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The site key could not be stored.
    #[error("the site key could not be stored: {0}")]
    SiteKey(std::io::Error),
    /// A committed entry can't be decoded by this binary. It is never skipped.
    #[error(
        "entry {index} can't be decoded by this version ({source}); install the version that the other nodes run"
    )]
    Undecodable {
        /// Its index.
        index: u64,
        /// Why.
        source: DecodeError,
    },
    /// The site has a feature level that this program doesn't read.
    #[error(
        "the site has feature level {site}, because the programs of all its members read it; this one reads {reads}. Install the version that the other nodes run"
    )]
    TooOld {
        /// What the site has, or an entry needs.
        site: u16,
        /// What this program reads.
        reads: u16,
    },
    /// The leader's snapshot is beyond what this program reads.
    #[error(
        "the leader's snapshot of index {index} is beyond this version ({source}); install the version that the other nodes run"
    )]
    BeyondVersion {
        /// Its index.
        index: u64,
        /// What is beyond.
        source: SnapshotError,
    },
    /// The leader knows of entries that this node acknowledged and no longer has.
    #[error(
        "this node has lost part of its log ({0}); it must not vote. Remove it (`flotilla member remove`), wipe its data directory and join again"
    )]
    LostLog(crate::guard::LostLog),
    /// The data directory is an older copy of this node's.
    #[error(
        "other members have heard later starts of this node than this one (its boot counter is {boot}): the data directory was set back to an older copy and with it what this node voted for. It must not vote. Remove it (`flotilla member remove`), wipe its data directory and join again"
    )]
    RolledBack {
        /// The boot counter of this start.
        boot: u64,
    },
    /// A majority of voters agrees on another state at the same index.
    #[error(
        "the state at index {index} differs from the one that a majority of voters has; wipe the data directory and join again"
    )]
    Diverged {
        /// The index.
        index: u64,
    },
    /// The Raft library refused something that it never should.
    #[error("raft refused a step of its own: {0}")]
    Raft(String),
}

impl Fault {
    /// Whether a restart can't mend it: the node would come back with the same loss and might
    /// vote. It must not start again on this data directory.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::LostLog(_) | Self::RolledBack { .. } | Self::Diverged { .. } => true,
            Self::Log(_)
            | Self::SiteKey(_)
            | Self::Undecodable { .. }
            | Self::TooOld { .. }
            | Self::BeyondVersion { .. }
            | Self::Raft(_) => false,
        }
    }
}

/// Why a replica could not be opened from its files.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings make no sense.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log can't be written or read.
    #[error(transparent)]
    LogIo(#[from] LogError),
    /// The first snapshot can't be written, or unfinished ones not removed.
    #[error("the snapshots can't be written: {0}")]
    SnapshotIo(std::io::Error),
    /// The snapshots can't be loaded.
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot_store::LoadError),
    /// No snapshot is usable, and the log does not begin at the site's founding.
    #[error(
        "no usable snapshot was found and the log begins after index {log_start}; wipe the data directory and join again"
    )]
    NoSnapshot {
        /// Index before the first entry of the log.
        log_start: u64,
    },
    /// The log ends before the newest snapshot begins to be covered, or starts after it.
    #[error(
        "the log begins after index {log_start} but the newest usable snapshot is of index {snapshot}; entries between are lost. Wipe the data directory and join again"
    )]
    Gap {
        /// Index before the first entry of the log.
        log_start: u64,
        /// Index of the snapshot.
        snapshot: u64,
    },
    /// The hard state says that more was committed than the log holds.
    #[error(
        "index {commit} was committed but the log ends at {last}; acknowledged entries are lost on this node. Remove it, wipe its data directory and join again"
    )]
    CommitBeyondLog {
        /// Committed index in the hard state.
        commit: u64,
        /// Last index in the log.
        last: u64,
    },
    /// A replayed entry stops this node.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The node's keys make no sense.
    #[error(transparent)]
    Identity(#[from] crate::frame::IdentityError),
    /// Raft refused the files' content.
    #[error("raft refused to start: {0}")]
    Raft(String),
}
