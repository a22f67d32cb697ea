//! One real directory as [`fleet_log::Disk`].
//!
//! Everything goes through a handle on the directory, so that renaming or replacing it while the
//! agent runs can't lead to another one. Names are plain file names; symbolic links and anything
//! but regular files are refused.
//!
//! A directory opened [`for_log`](RealDisk::for_log) reads what is on the medium: after a failed
//! sync Linux marks the lost pages clean and goes on showing them, so each file is synced and its
//! clean pages are dropped before it is read.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fleet_log::{Disk, DiskFile};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use rustix::fs::{Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags};

/// Longest file name that is used.
const NAME_BYTES_MAX: usize = 128;
/// Written at once where a file system can't reserve space.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What a [`RealDisk`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Read only: nothing is changed, not even by a sync.
    Look,
    /// Read through the page cache, and write.
    Use,
    /// As `Use`, but files are read from the medium.
    UseMedium,
}

/// What is counted of the writing to a disk: flash wears out by it, and commands wait for it.
#[derive(Clone, Debug)]
pub struct DiskCounts {
    /// How long each sync of a file took.
    pub sync_seconds: Histogram,
    /// Bytes that were written to files; reserving space writes none.
    pub written_bytes: Counter,
}

/// A directory of files. Clones share it.
#[derive(Clone, Debug)]
pub struct RealDisk {
    shared: Arc<Directory>,
    access: Access,
    counts: Option<DiskCounts>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    handle: OwnedFd,
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    access: Access,
    counts: Option<DiskCounts>,
}

impl RealDisk {
    /// A directory whose files are read from the medium.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn for_log(path: &Path) -> io::Result<Self> {
        Self::open_dir(path, Access::UseMedium)
    }

    /// A directory of files that carry their own proof of being whole.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_dir(path, Access::Use)
    }

    /// A directory in which nothing will be changed.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn to_look_at(path: &Path) -> io::Result<Self> {
        Self::open_dir(path, Access::Look)
    }

    fn open_dir(path: &Path, access: Access) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())?;
        let shared = Arc::new(Directory { path: path.to_owned(), handle });
        Ok(Self { shared, access, counts: None })
    }

    /// The same directory, counting what is written to its files.
    #[must_use]
    pub fn counted(mut self, counts: DiskCounts) -> Self {
        self.counts = Some(counts);
        self
    }

    fn file(&self, file: File) -> RealFile {
        RealFile { file, access: self.access, counts: self.counts.clone() }
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        check_name(name)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let handle =
            rustix::fs::openat(&self.shared.handle, name, flags, mode).map_err(|error| {
                if error == rustix::io::Errno::LOOP {
                    invalid(format!("{name} is a symbolic link, which is not followed"))
                } else {
                    error.into()
                }
            })?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(invalid(format!("{name} is not a regular file")));
        }
        Ok(File::from(handle))
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.access == Access::Look {
            let path = self.shared.path.display();
            let text = format!("{path} was opened to be looked at, not to be changed");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(())
    }
}

/// A name is one plain component: a path could lead anywhere.
fn check_name(name: &str) -> io::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.starts_with('.')
        || !name.chars().all(plain)
    {
        return Err(invalid(format!(
            "{:?} is no plain file name",
            name.escape_debug().to_string()
        )));
    }
    Ok(())
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.shared.handle)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if !matches!(&*name, "." | "..") {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let flags = if self.access == Access::Look { OFlags::RDONLY } else { OFlags::RDWR };
        let file = self.open_file(name, flags)?;
        if self.access == Access::UseMedium {
            file.sync_data()?;
            // Advice only: where a file system ignores it, its cache is believed.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        Ok(self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        self.check_writable()?;
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        check_name(from)?;
        check_name(to)?;
        let handle = &self.shared.handle;
        Ok(rustix::fs::renameat(handle, from, handle, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        check_name(name)?;
        Ok(rustix::fs::unlinkat(&self.shared.handle, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.access {
            Access::Look => Ok(()),
            Access::Use | Access::UseMedium => Ok(rustix::fs::fsync(&self.shared.handle)?),
        }
    }
}

impl DiskFile for RealFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(counts) = &self.counts {
            counts.written_bytes.inc_by(bytes.len() as u64);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn set_size(&mut self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn preallocate(&mut self, size_bytes: u64) -> io::Result<()> {
        reserve(&self.file, size_bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.access {
            Access::Look => Ok(()),
            Access::Use | Access::UseMedium => {
                let begun = Instant::now();
                self.file.sync_data()?;
                if let Some(counts) = &self.counts {
                    counts.sync_seconds.observe(begun.elapsed().as_secs_f64());
                }
                Ok(())
            }
        }
    }
}

/// Reserves the space of a file up to a size, all of it zeros beyond what is there.
pub(super) fn reserve(file: &File, size_bytes: u64) -> io::Result<()> {
    let now = file.metadata()?.len();
    if now >= size_bytes {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            write_zeros(file, now, size_bytes)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut offset = from;
    while offset < to {
        let left = usize::try_from(to - offset).unwrap_or(usize::MAX);
        let zeros = ZEROS.get(..left).unwrap_or(&ZEROS);
        file.write_all_at(zeros, offset)?;
        offset += zeros.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_log::{HardState, Log, LogConfig, LogEntry, LogIdentity, Position};

    #[test]
    fn a_log_lives_on_a_real_directory() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::for_log(dir.path()).unwrap();
        let identity = LogIdentity { site_uid: [1; 16], node: 3 };
        let config = LogConfig { segment_bytes: 4096, cache_bytes: 0 };
        let (start, hard) = (Position::default(), HardState::default());
        let mut log = Log::create(disk.clone(), identity, config, start, hard).unwrap();
        let entry = |index| LogEntry { index, term: 1, kind: 0, data: vec![7; 200].into() };
        for index in 1..=50 {
            log.append(&[entry(index)]).unwrap();
            log.sync().unwrap();
        }
        log.compact(20).unwrap();
        drop(log);
        let (log, recovery) = Log::open(disk, identity, config).unwrap();
        assert_eq!(recovery.cut, None);
        assert_eq!(
            log.entries(21, 51, u64::MAX).unwrap(),
            (21..=50).map(entry).collect::<Vec<_>>()
        );
        let looked = RealDisk::to_look_at(dir.path()).unwrap();
        assert_eq!(fleet_log::check(&looked, identity).unwrap().last.index, 50);
    }

    #[test]
    fn only_plain_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::for_log(dir.path()).unwrap();
        for name in ["", ".", "..", "../x", "a/b", "a\0", "ä", ".hidden", &"x".repeat(200)] {
            assert!(disk.create(name).is_err(), "{name:?}");
            assert!(disk.open(name).is_err(), "{name:?}");
            assert!(disk.remove(name).is_err(), "{name:?}");
            assert!(disk.rename("a", name).is_err(), "{name:?}");
        }
        disk.create("a").unwrap();
        assert!(disk.create("a").is_err(), "exists");
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        assert!(disk.open("link").unwrap_err().to_string().contains("symbolic link"));
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(disk.open("dir").is_err());
        assert!(RealDisk::to_look_at(dir.path()).unwrap().open("dir").is_err());
    }

    #[test]
    fn looking_can_not_change_anything() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        disk.create("a").unwrap().write_at(0, b"hello").unwrap();
        let looking = RealDisk::to_look_at(dir.path()).unwrap();
        let mut file = looking.open("a").unwrap();
        assert!(file.write_at(0, b"x").is_err());
        assert!(looking.create("b").is_err());
        assert!(looking.remove("a").is_err());
        assert!(looking.rename("a", "b").is_err());
        let mut buffer = [0; 8];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 5);
        assert_eq!(looking.list().unwrap(), ["a"]);
    }

    #[test]
    fn reserved_space_is_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let mut file = disk.create("a").unwrap();
        file.write_at(0, b"abc").unwrap();
        file.preallocate(200_000).unwrap();
        file.preallocate(10).unwrap();
        assert_eq!(file.size_bytes().unwrap(), 200_000);
        let mut bytes = vec![1; 200_001];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 200_000);
        assert_eq!(&bytes[..3], b"abc");
        assert!(bytes[3..200_000].iter().all(|byte| *byte == 0));
        write_zeros(&file.file, 200_000, 300_000).unwrap();
        assert_eq!(file.size_bytes().unwrap(), 300_000);
    }
}
