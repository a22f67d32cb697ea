//! One process at a time uses a data directory.
//!
//! The lock is the kernel's (`flock`), so it ends with the process that holds it, however it
//! ends. The file stays; the pid in it is for people.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

const LOCK_FILE: &str = "lock";
const PID_BYTES_MAX: usize = 16;
/// How long a holder that is being taken apart by the system is waited for.
const DYING_MAX: Duration = Duration::from_secs(2);
const DYING_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process uses it.
    #[error(
        "{} is in use by {holder}: stop that one, or choose another data directory",
        path.display()
    )]
    Held {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, as far as it said.
        holder: String,
    },
    /// The lock file can't be opened or locked.
    #[error("{} can't be locked; it needs a local file system that this user may write to", path.display())]
    Io {
        /// The data directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Locks a directory for use.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let fault = |source| LockError::Io { path: dir.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(LOCK_FILE)).map_err(fault)?;
        let deadline = Instant::now() + DYING_MAX;
        while let Err(refused) = lock(&file, dir) {
            if !held_by_the_dying(&file) || Instant::now() >= deadline {
                return Err(refused);
            }
            std::thread::sleep(DYING_LOOK_EVERY);
        }
        // The pid helps people only: a full disk must not keep an agent from starting.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }

    /// Locks a directory to look at it, without changing anything. `None` when nobody ever
    /// locked it: then nobody uses it.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn take_to_look(dir: &Path) -> Result<Option<Self>, LockError> {
        let file = match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { path: dir.to_owned(), source }),
        };
        lock(&file, dir)?;
        Ok(Some(Self { _file: file }))
    }
}

fn lock(file: &File, dir: &Path) -> Result<(), LockError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(LockError::Held { path: dir.to_owned(), holder: holder(file) })
        }
        Err(error) => Err(LockError::Io { path: dir.to_owned(), source: error.into() }),
    }
}

/// A process that was killed holds its lock until the system has taken all of it apart, which
/// takes a moment for one with much memory; who restarts it at once is not to be refused.
fn held_by_the_dying(file: &File) -> bool {
    let Some(pid) = holder_pid(file).filter(|pid| *pid != std::process::id()) else {
        return false;
    };
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // `pid (name) state …`; the name may hold anything.
        Ok(stat) => {
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
        }
        // Gone meanwhile, where there is such a place to look at all.
        Err(error) => error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self").exists(),
    }
}

fn holder(file: &File) -> String {
    match holder_pid(file) {
        Some(pid) if pid == std::process::id() => "this process itself".to_owned(),
        Some(pid) => format!("the process with pid {pid}"),
        None => "another process".to_owned(),
    }
}

/// As it wrote it down.
fn holder_pid(file: &File) -> Option<u32> {
    let mut text = [0; PID_BYTES_MAX];
    let read = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..read)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DirectoryLock::take_to_look(dir.path()).unwrap().is_none());
        let first = DirectoryLock::take(dir.path()).unwrap();
        let written = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(written.trim(), std::process::id().to_string());
        for _ in 0..2 {
            let error = DirectoryLock::take(dir.path()).unwrap_err();
            assert!(error.to_string().contains("this process itself"), "{error}");
        }
        std::fs::write(dir.path().join("lock"), "4242\n").unwrap();
        let error = DirectoryLock::take_to_look(dir.path()).unwrap_err();
        assert!(error.to_string().contains("pid 4242"), "{error}");
        drop(first);
        let looking = DirectoryLock::take_to_look(dir.path()).unwrap();
        assert!(looking.is_some());
        DirectoryLock::take(dir.path()).unwrap_err();
    }

    #[test]
    fn only_a_dying_holder_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let dying_as = |pid: u32| {
            std::fs::write(&path, format!("{pid}\n")).unwrap();
            held_by_the_dying(&File::open(&path).unwrap())
        };
        assert!(!dying_as(std::process::id()), "this process");
        assert!(!dying_as(1), "a living one");
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(!dying_as(child.id()), "a living child");
        child.kill().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !dying_as(child.id()) {
            assert!(Instant::now() < deadline, "a killed child, not yet waited for");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(dying_as(child.id()), "gone");
        std::fs::write(&path, "nobody\n").unwrap();
        assert!(!held_by_the_dying(&File::open(&path).unwrap()), "unreadable");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(DirectoryLock::take(&missing), Err(LockError::Io { .. })));
    }
}
