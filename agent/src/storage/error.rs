//! What can be wrong with a data directory.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a data directory can't be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The system refused.
    #[error("{what} {}: {source}; check the path, its owner and the free space", path.display())]
    Io {
        /// What was tried, as in `cannot read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process works on it.
    #[error(
        "the data directory {} is in use by process {holder}; only one agent may run on it. Stop that one, or give this one a directory of its own (--data-dir)",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder's process id, as it wrote it down.
        holder: String,
    },
    /// A file where a directory should be, and the like.
    #[error("{} is not a directory; give the agent a directory of its own (--data-dir)", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory belongs to no site yet.
    #[error(
        "{} does not belong to a site yet; make one with `flotilla-agent init` or join one with `flotilla-agent join`",
        path.display()
    )]
    NoNode {
        /// The directory.
        path: PathBuf,
    },
    /// The node file, or a key, was changed or damaged.
    #[error(
        "{} is damaged ({what}); restore it from a copy, or wipe the directory and join anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// Others could read a secret.
    #[error(
        "{} can be read by others (mode {mode:03o}); it is this node's secret: chmod 600 it, and make a new node if it may have been copied",
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Written by a later version.
    #[error("{} was written by a newer version (format {found}); update flotilla-agent", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl StorageError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
