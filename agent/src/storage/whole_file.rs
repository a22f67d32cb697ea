//! Small files that are read and written as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::error::StorageError;

/// Larger ones are none of ours.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The content; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("cannot read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(StorageError::io("cannot read", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(StorageError::Damaged { path: path.to_owned(), what });
    }
    Ok(Some(bytes))
}

/// As [`read`], for secrets: refused when anybody but the owner may read it.
pub(super) fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("cannot read", path)(error)),
    };
    if mode & 0o077 != 0 {
        return Err(StorageError::TooOpen { path: path.to_owned(), mode });
    }
    read(path)
}

/// Replaces the file; when this returns it is durable, and a crash leaves the old or the new.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StorageError> {
    let temporary = path.with_extension("tmp");
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        // A leftover keeps its own mode when it is opened again.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_parent(path)
    })();
    written.map_err(StorageError::io("cannot write", path))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
