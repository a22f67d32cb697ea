//! A real file system of a few megabytes, for one data directory.
//!
//! Mounting takes the rights of root. Where this user may not, [`SmallDisk::mount`] says so
//! ([`crate::not_run`]), and the test that wanted it is not run; a machine that has to run all
//! of them sets `FLOTILLA_MUST_MOUNT`, and then it fails instead.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::not_run;

/// Written at a time when the disk is filled.
const BLOCK_BYTES: usize = 256 * 1024;

/// A mounted file system in memory; taken away on drop.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many megabytes at `path`, which is made.
    ///
    /// # Panics
    /// If it can't be mounted and `FLOTILLA_MUST_MOUNT` is set.
    pub fn mount(path: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("the workplace is writable");
        let options = format!("size={megabytes}m,mode=0700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path);
        let why = match command.output() {
            Ok(done) if done.status.success() => return Some(Self { path: path.to_path_buf() }),
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(std::env::var_os("FLOTILLA_MUST_MOUNT").is_none(), "nothing can be mounted: {why}");
        not_run::say(&format!("it needs a file system of its own, and {why}"));
        None
    }

    /// Takes every free byte, as a careless log of another program would.
    pub fn fill(&self) -> Filler {
        let path = self.path.join("somebody-elses-file");
        let mut file = File::options().create(true).append(true).open(&path).expect("a new file");
        let block = vec![0x55; BLOCK_BYTES];
        let mut size = block.len();
        // Smaller and smaller pieces, so that nothing is left.
        while size > 0 {
            match file.write_all(block.get(..size).unwrap_or_default()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        Filler { path }
    }

    /// Makes it read-only. Nobody may have a file of it open for writing.
    ///
    /// # Panics
    /// If somebody has.
    pub fn make_read_only(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,ro"]).arg(&self.path);
        let done = command.output().expect("it was run before");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

/// What fills a disk.
#[derive(Debug)]
pub struct Filler {
    path: PathBuf,
}

impl Filler {
    /// Gives the space back.
    ///
    /// # Panics
    /// If the file is gone already.
    pub fn remove(self) {
        std::fs::remove_file(&self.path).expect("the file can be removed");
    }
}
