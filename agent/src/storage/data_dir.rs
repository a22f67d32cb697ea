//! The data directory of a node, held by this process.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::disk::RealDisk;
use super::durable::sync_dir;
use super::lock::{DirectoryLock, LockError};

const LOG_DIR: &str = "log";
const SNAPSHOT_DIR: &str = "snapshots";
const MODE: u32 = 0o700;

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it, or it can't be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is something else at that place.
    #[error("{} is not a directory; give another data directory", path.display())]
    NotADirectory {
        /// The place.
        path: PathBuf,
    },
    /// There is nothing at that place.
    #[error("{} does not exist; give the data directory of a node", path.display())]
    Missing {
        /// The place.
        path: PathBuf,
    },
    /// Others may change what is in it.
    #[error(
        "{} has mode {mode:03o}: others may write to it, and what is in it decides who this node \
         is; run `chmod 700` on it",
        path.display()
    )]
    TooWide {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to another user.
    #[error(
        "{} belongs to user {owner}, this process runs as user {user}: run it as that user, or \
         choose another data directory",
        path.display()
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The system refused.
    #[error("{} can't be used", path.display())]
    Io {
        /// The place.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A data directory that no other process uses as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Option<DirectoryLock>,
}

impl DataDir {
    /// Takes a directory for use; makes it, and the directories in it, where they are missing.
    ///
    /// # Errors
    /// When it is something else, another's, open to others, or in use.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        make(path)?;
        check(path)?;
        let lock = DirectoryLock::take(path)?;
        for name in [LOG_DIR, SNAPSHOT_DIR] {
            make(&path.join(name))?;
        }
        sync_dir(path).map_err(|source| DataDirError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Takes a directory to look at it; changes nothing there.
    ///
    /// # Errors
    /// When it is missing, something else, or in use.
    pub fn take_to_look(path: &Path) -> Result<Self, DataDirError> {
        directory(path)?;
        let lock = DirectoryLock::take_to_look(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG_DIR)
    }

    /// Where the snapshots are.
    #[must_use]
    pub fn snapshot_path(&self) -> PathBuf {
        self.path.join(SNAPSHOT_DIR)
    }

    /// The directory of the log, for use.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn log_disk(&self) -> Result<RealDisk, DataDirError> {
        let path = self.log_path();
        RealDisk::for_log(&path).map_err(|source| DataDirError::Io { path, source })
    }

    /// The directory of the snapshots, for use.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn snapshot_disk(&self) -> Result<RealDisk, DataDirError> {
        let path = self.snapshot_path();
        RealDisk::for_snapshots(&path).map_err(|source| DataDirError::Io { path, source })
    }
}

fn make(path: &Path) -> Result<(), DataDirError> {
    if path.exists() {
        return directory(path).map(|_| ());
    }
    let fault = |source| DataDirError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(MODE).create(path).map_err(fault)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent).map_err(fault),
        None => Ok(()),
    }
}

fn directory(path: &Path) -> Result<fs::Metadata, DataDirError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(metadata),
        Ok(_) => Err(DataDirError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(DataDirError::Missing { path: path.to_owned() })
        }
        Err(source) => Err(DataDirError::Io { path: path.to_owned(), source }),
    }
}

fn check(path: &Path) -> Result<(), DataDirError> {
    let metadata = directory(path)?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    // root may use what is another's: containers often run so.
    if owner != user && user != 0 {
        return Err(DataDirError::Owner { path: path.to_owned(), owner, user });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(DataDirError::TooWide { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_log::Disk as _;

    #[test]
    fn a_directory_is_made_and_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let taken = DataDir::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(DataDir::take(&path), Err(DataDirError::Lock(LockError::Held { .. }))));
        assert!(matches!(DataDir::take_to_look(&path), Err(DataDirError::Lock(_))));
        assert!(taken.log_disk().unwrap().list().unwrap().is_empty());
        assert!(taken.snapshot_disk().unwrap().list().unwrap().is_empty());
        drop(taken);
        DataDir::take_to_look(&path).unwrap();
        DataDir::take(&path).unwrap();
    }

    #[test]
    fn what_is_no_private_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(DataDir::take(&file), Err(DataDirError::NotADirectory { .. })));
        assert!(matches!(DataDir::take(&file.join("x")), Err(DataDirError::Io { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(DataDir::take_to_look(&missing), Err(DataDirError::Missing { .. })));
        assert!(!missing.exists());
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error = DataDir::take(&open).unwrap_err();
        assert!(error.to_string().contains("mode 777"), "{error}");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    }
}
