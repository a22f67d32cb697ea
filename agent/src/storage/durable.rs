//! Small files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Only the owner may read what a node keeps.
const MODE: u32 = 0o600;
/// No small file is larger.
pub(super) const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Puts a file in place of one of that name, durably. After a crash it is the old or the new one.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    // Another's leftover could have other rights, or be a link.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reads a small regular file; a larger one is refused before it is read.
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe must not wait for its other end.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(SMALL_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SMALL_BYTES_MAX {
        let text = format!("it is larger than {SMALL_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_replaced_whole_and_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.tmp"), "left by a crash").unwrap();
        replace(dir.path(), "a", b"one").unwrap();
        replace(dir.path(), "a", b"two").unwrap();
        assert_eq!(read_small(&dir.path().join("a")).unwrap(), b"two");
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn large_and_odd_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("large"), vec![0; 70_000]).unwrap();
        assert!(read_small(&dir.path().join("large")).is_err());
        assert!(read_small(dir.path()).is_err());
    }
}
