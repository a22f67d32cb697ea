//! Why a snapshot is not loaded, or not taken from another member.

use std::io;

use fleet_state::{SiteUid, SnapshotError};
use thiserror::Error;

/// Why a node's snapshots can't be loaded. Nothing was renamed but what is damaged.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The directory or a file can't be read.
    #[error("the snapshots can't be read: {0}")]
    Io(#[from] io::Error),
    /// The newest snapshot is whole, and beyond what this version reads.
    #[error(
        "the snapshot {name} is beyond this version ({source}); start the version that wrote it, or a newer one"
    )]
    BeyondVersion {
        /// Its name in the snapshot directory.
        name: String,
        /// What is beyond.
        source: SnapshotError,
    },
    /// The newest snapshot is another site's.
    #[error(
        "the snapshot {name} is of the site with uid {found}, this node is of {expected}; put the right data directory back"
    )]
    Foreign {
        /// Its name in the snapshot directory.
        name: String,
        /// Whose it is.
        found: SiteUid,
        /// Whose it should be.
        expected: SiteUid,
    },
}

/// Why a received snapshot is not installed.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The disk of this node does not take it.
    #[error("it can't be stored here: {0}")]
    Io(#[from] io::Error),
    /// The sender's file is not what the sender promised.
    #[error("it is not what was promised: {0}")]
    NotAsPromised(String),
    /// It is whole, and beyond what this version reads.
    #[error("it is beyond this version ({0}); install the version that the other nodes run")]
    BeyondVersion(SnapshotError),
    /// It is another site's.
    #[error("it is of the site with uid {found}, not of this one")]
    Foreign {
        /// Whose it is.
        found: SiteUid,
    },
}
