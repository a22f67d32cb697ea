//! Notices that the disk is filling up while there is still room to act.
//!
//! A log that can't grow stops its node at once, in the middle of something. So the free space is
//! watched, and a reserve file keeps some of it from everybody else. When space runs low the
//! reserve is given back: the node uses it to hand leadership over, to go on following, and to
//! take the snapshot that lets it compact; it takes no new proposals meanwhile. Once there is
//! room for the reserve again and more, it is put back and the node works as before, unaided.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::disk::reserve;

const RESERVE_FILE: &str = "reserve";
/// To leave `Low`, this part of the limit must be free beyond it, or the state would flutter.
const MARGIN_DIVISOR: u64 = 4;

/// When space is low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceConfig {
    /// How much the reserve file holds.
    pub reserve_bytes: u64,
    /// Less free space than this is low.
    pub low_bytes: u64,
}

impl Default for SpaceConfig {
    /// Room for four segments of the log beside the reserve, and as much in it.
    fn default() -> Self {
        let bytes = 4 * fleet_log::SEGMENT_BYTES_DEFAULT;
        Self { reserve_bytes: bytes, low_bytes: bytes }
    }
}

/// How the disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// There is room.
    Ok {
        /// Free for this user, beside the reserve.
        free_bytes: u64,
    },
    /// The node must hand over and refuse proposals.
    Low {
        /// Free for this user.
        free_bytes: u64,
        /// How much must be free for it to work again.
        wanted_bytes: u64,
    },
}

impl Space {
    /// Whether there is room.
    #[must_use]
    pub fn is_ok(self) -> bool {
        matches!(self, Self::Ok { .. })
    }
}

/// Watches the file system of a data directory.
#[derive(Debug)]
pub struct SpaceGuard {
    dir: PathBuf,
    config: SpaceConfig,
    /// Whether the reserve was given back.
    low: bool,
}

impl SpaceGuard {
    /// Watches the file system of `data_dir`. Begins without touching it: the first check decides.
    #[must_use]
    pub fn new(data_dir: &Path, config: SpaceConfig) -> Self {
        let low = !data_dir.join(RESERVE_FILE).exists();
        Self { dir: data_dir.to_owned(), config, low }
    }

    /// Looks how much is free, and gives the reserve back or makes it anew.
    ///
    /// # Errors
    /// When the file system doesn't tell, or the reserve can't be removed.
    pub fn check(&mut self) -> io::Result<Space> {
        let space = rustix::fs::statvfs(&self.dir)?;
        self.check_with(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn check_with(&mut self, free_bytes: u64) -> io::Result<Space> {
        let SpaceConfig { reserve_bytes, low_bytes } = self.config;
        let wanted_bytes =
            low_bytes.saturating_add(low_bytes / MARGIN_DIVISOR).saturating_add(reserve_bytes);
        if !self.low && free_bytes < low_bytes {
            self.give_back()?;
            self.low = true;
        } else if self.low && free_bytes >= wanted_bytes {
            // Somebody else may have been faster: then space is still low.
            self.low = self.put_back().is_err();
        }
        Ok(if self.low {
            Space::Low { free_bytes, wanted_bytes }
        } else {
            Space::Ok { free_bytes }
        })
    }

    fn give_back(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(RESERVE_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn put_back(&self) -> io::Result<()> {
        let path = self.dir.join(RESERVE_FILE);
        let mut options = OpenOptions::new();
        let made = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| reserve(&file, self.config.reserve_bytes));
        if made.is_err() {
            self.give_back()?;
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SpaceConfig = SpaceConfig { reserve_bytes: 8192, low_bytes: 100_000 };

    #[test]
    fn the_reserve_is_given_back_and_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = dir.path().join(RESERVE_FILE);
        let mut guard = SpaceGuard::new(dir.path(), CONFIG);
        assert!(guard.check_with(1_000_000).unwrap().is_ok());
        assert_eq!(fs::metadata(&reserve).unwrap().len(), 8192);
        assert!(guard.check_with(100_000).unwrap().is_ok());
        assert!(!guard.check_with(99_999).unwrap().is_ok());
        assert!(!reserve.exists());
        // What the reserve gave, and a little more, is not enough yet.
        let low = Space::Low { free_bytes: 133_191, wanted_bytes: 133_192 };
        assert_eq!(guard.check_with(133_191).unwrap(), low);
        assert!(guard.check_with(133_192).unwrap().is_ok());
        assert!(reserve.exists());
    }

    #[test]
    fn a_start_on_a_full_disk_is_low_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = SpaceGuard::new(dir.path(), CONFIG);
        assert!(!guard.check_with(0).unwrap().is_ok());
        let mut guard = SpaceGuard::new(dir.path(), CONFIG);
        assert!(guard.check_with(1_000_000).unwrap().is_ok());
        let mut restarted = SpaceGuard::new(dir.path(), CONFIG);
        assert!(restarted.check_with(110_000).unwrap().is_ok(), "the reserve is still there");
        assert!(!restarted.check_with(0).unwrap().is_ok());
    }

    #[test]
    fn a_real_file_system_answers() {
        let dir = tempfile::tempdir().unwrap();
        let config = SpaceConfig { reserve_bytes: 4096, low_bytes: 1 };
        assert!(SpaceGuard::new(dir.path(), config).check().unwrap().is_ok());
        let gone = dir.path().join("gone");
        assert!(SpaceGuard::new(&gone, config).check().is_err());
    }
}
