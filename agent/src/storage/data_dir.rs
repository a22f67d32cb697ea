//! The data directory of a node, held by this process.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use super::disk::RealDisk;
use super::durable::sync_dir;
use super::identity::Identity;
use super::lock::{DirectoryLock, LockError};
use super::node_file::{NODE_FILE, NodeFile, NodeFileError};
use super::secret_file::{SITE_KEY_FILE, SecretError, load_site_key};

const LOG_DIR: &str = "log";
const SNAPSHOT_DIR: &str = "snapshots";
const MODE: u32 = 0o700;
/// How many unfinished attempts are kept.
const UNFINISHED_MAX: u32 = 100;

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
    /// Anybody may change what is in it.
    #[error(
        "{} has mode {mode:03o}: anybody may write to it, and what is in it decides who this node \
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
    /// Which node it is can't be told.
    #[error(transparent)]
    NodeFile(#[from] NodeFileError),
    /// A secret can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A node ran here, but the file that says which one is gone.
    #[error(
        "{} holds the log of a node that was a member, but no {NODE_FILE}: with an empty log it \
         would forget how it voted; put the file back, or join from another directory as a new node",
        path.display()
    )]
    LostNodeFile {
        /// The directory.
        path: PathBuf,
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
    /// Opens a directory for use; makes it, and the directories in it, where they are missing.
    ///
    /// # Errors
    /// When it is something else, another's, open to others, or in use.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        make(path)?;
        check(path)?;
        let lock = DirectoryLock::take(path)?;
        for name in [LOG_DIR, SNAPSHOT_DIR] {
            make(&path.join(name))?;
        }
        sync_dir(path).map_err(|source| DataDirError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Opens the directory of a node that belongs to a site.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when it belongs to none.
    pub fn open_existing(path: &Path) -> Result<(Self, NodeFile), DataDirError> {
        // Not to be made by a mistyped path.
        directory(path)?;
        let dir = Self::open(path)?;
        let node = NodeFile::load(path)?;
        Ok((dir, node))
    }

    /// Opens a directory to look at it; changes nothing there.
    ///
    /// # Errors
    /// When it is missing, something else, or in use.
    pub fn open_to_look(path: &Path) -> Result<Self, DataDirError> {
        directory(path)?;
        let lock = DirectoryLock::take_to_look(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Which node it is; `None` while it belongs to no site.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn node(&self) -> Result<Option<NodeFile>, DataDirError> {
        match NodeFile::load(&self.path) {
            Ok(node) => Ok(Some(node)),
            Err(NodeFileError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes it the directory of a node, or counts a start of it.
    ///
    /// # Errors
    /// When the file can't be written; the old one is then still there.
    pub fn write_node(&self, node: &NodeFile) -> Result<(), DataDirError> {
        Ok(node.store(&self.path)?)
    }

    /// The keys of this node.
    ///
    /// # Errors
    /// When there are none, or they can't be used.
    pub fn identity(&self) -> Result<Identity, DataDirError> {
        Ok(Identity::load(&self.path)?)
    }

    /// The keys of this node; without any, those made from `fresh_secret`.
    ///
    /// # Errors
    /// When there are some that can't be used, or that a node with a log has used: a site would
    /// know them, and give the same node id to what has forgotten everything.
    pub fn identity_or_create(&self, fresh_secret: &[u8; 32]) -> Result<Identity, DataDirError> {
        if self.node()?.is_none() && self.log_was_used() {
            return Err(DataDirError::LostNodeFile { path: self.path.clone() });
        }
        Ok(Identity::load_or_create(&self.path, fresh_secret)?)
    }

    /// The site's secret key, if this node holds it.
    ///
    /// # Errors
    /// When it is there and can't be used.
    pub fn site_key(&self) -> Result<Option<SigningKey>, DataDirError> {
        Ok(load_site_key(&self.path)?.map(|key| SigningKey::from_bytes(&key)))
    }

    /// Moves what an interrupted `init`, `join` or `restore` has left into a directory of its
    /// own, so that the next attempt begins with empty ones. Removes nothing.
    ///
    /// # Errors
    /// When a node ran here, or something can't be moved.
    pub fn put_unfinished_aside(&self) -> Result<(), DataDirError> {
        if self.node()?.is_some() || self.log_was_used() {
            return Err(DataDirError::LostNodeFile { path: self.path.clone() });
        }
        let fault = |source| DataDirError::Io { path: self.path.clone(), source };
        let is_empty = |path: &Path| Ok(fs::read_dir(path)?.next().is_none());
        let begun = [LOG_DIR, SNAPSHOT_DIR]
            .iter()
            .map(|name| is_empty(&self.path.join(name)))
            .collect::<io::Result<Vec<bool>>>()
            .map_err(fault)?;
        let site_key = self.path.join(SITE_KEY_FILE);
        if begun.iter().all(|empty| *empty) && !site_key.exists() {
            return Ok(());
        }
        let aside = self.unused_name().ok_or_else(|| {
            fault(io::Error::other("too many unfinished attempts are kept in it; remove some"))
        })?;
        make(&aside)?;
        for name in [LOG_DIR, SNAPSHOT_DIR, SITE_KEY_FILE] {
            match fs::rename(self.path.join(name), aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
                _ => {}
            }
        }
        sync_dir(&aside).map_err(fault)?;
        for name in [LOG_DIR, SNAPSHOT_DIR] {
            make(&self.path.join(name))?;
        }
        sync_dir(&self.path).map_err(fault)
    }

    fn unused_name(&self) -> Option<PathBuf> {
        (1..=UNFINISHED_MAX)
            .map(|number| self.path.join(format!("unfinished-{number}")))
            .find(|path| !path.exists())
    }

    /// Whether a node has written more than its first files into the log. Where that can't be
    /// told, it is taken for true.
    fn log_was_used(&self) -> bool {
        let Ok(disk) = RealDisk::to_look_at(&self.log_path()) else {
            return true;
        };
        let looked = fleet_log::identify(&disk).and_then(|id| fleet_log::check(&disk, id));
        match looked {
            Ok(report) => report.segments.iter().any(|segment| segment.records > 0),
            Err(fleet_log::OpenError::Empty) => false,
            Err(_) => true,
        }
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
        RealDisk::open(&path).map_err(|source| DataDirError::Io { path, source })
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
    // Containers often run as root over another's directory, or in one that root made for them.
    if owner != user && user != 0 && owner != 0 {
        return Err(DataDirError::Owner { path: path.to_owned(), owner, user });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o002 != 0 {
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
        let taken = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(DataDir::open(&path), Err(DataDirError::Lock(LockError::Held { .. }))));
        assert!(matches!(DataDir::open_to_look(&path), Err(DataDirError::Lock(_))));
        assert!(taken.log_disk().unwrap().list().unwrap().is_empty());
        assert!(taken.snapshot_disk().unwrap().list().unwrap().is_empty());
        drop(taken);
        drop(DataDir::open_to_look(&path).unwrap());
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn what_is_no_private_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(DataDir::open(&file), Err(DataDirError::NotADirectory { .. })));
        assert!(matches!(DataDir::open(&file.join("x")), Err(DataDirError::Io { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(DataDir::open_to_look(&missing), Err(DataDirError::Missing { .. })));
        assert!(!missing.exists());
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error = DataDir::open(&open).unwrap_err();
        assert!(error.to_string().contains("mode 777"), "{error}");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    }

    fn node() -> NodeFile {
        NodeFile {
            site: "home".parse().unwrap(),
            uid: "00112233445566778899aabbccddeeff".parse().unwrap(),
            site_public_key: [7; 32],
            node: fleet_state::NodeId::new(3).unwrap(),
            name: "gw-3".parse().unwrap(),
            credential: [9; 64],
            boot: 0,
        }
    }

    fn new_log(dir: &DataDir) -> fleet_log::Log<RealDisk> {
        let identity = fleet_log::LogIdentity { site_uid: [1; 16], node: 3 };
        let config = fleet_log::LogConfig { segment_bytes: 4096, cache_bytes: 0 };
        let disk = dir.log_disk().unwrap();
        fleet_log::Log::create(disk, identity, config, Default::default(), Default::default())
            .unwrap()
    }

    #[test]
    fn a_node_file_makes_it_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        assert!(matches!(DataDir::open_existing(&path), Err(DataDirError::Missing { .. })));
        let data = DataDir::open(&path).unwrap();
        assert_eq!(data.node().unwrap(), None);
        data.write_node(&node()).unwrap();
        drop(data);
        let (data, found) = DataDir::open_existing(&path).unwrap();
        assert_eq!(found, node());
        assert!(data.put_unfinished_aside().is_err(), "a node is never put aside");
    }

    #[test]
    fn what_an_interrupted_attempt_left_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.put_unfinished_aside().unwrap();
        assert!(!dir.path().join("unfinished-1").exists(), "there was nothing");
        let keys = data.identity_or_create(&[1; 32]).unwrap().keys();
        for number in 1..=2 {
            drop(new_log(&data));
            crate::storage::store_site_key(dir.path(), &[number; 32]).unwrap();
            data.put_unfinished_aside().unwrap();
            let aside = dir.path().join(format!("unfinished-{number}"));
            assert!(aside.join("log/0000000001.seg").exists());
            assert!(aside.join("site.key").exists());
            assert_eq!(data.site_key().unwrap(), None);
        }
        assert_eq!(data.identity_or_create(&[2; 32]).unwrap().keys(), keys);
    }

    #[test]
    fn a_node_that_lost_its_file_does_not_begin_anew_under_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.identity_or_create(&[1; 32]).unwrap();
        let mut log = new_log(&data);
        log.set_hard_state(fleet_log::HardState { term: 2, vote: 3, commit: 0 }).unwrap();
        log.sync().unwrap();
        drop(log);
        let lost = |result| matches!(result, Err(DataDirError::LostNodeFile { .. }));
        assert!(lost(data.identity_or_create(&[2; 32]).map(|_| ())));
        assert!(lost(data.put_unfinished_aside()));
        data.write_node(&node()).unwrap();
        data.identity_or_create(&[2; 32]).unwrap();
    }
}
