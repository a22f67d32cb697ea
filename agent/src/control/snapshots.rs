//! Reading snapshots on disk for those who save them elsewhere.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Last entry in it.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

/// Lists the complete snapshots of this node, newest first; given by the storage.
#[derive(Clone)]
pub struct SnapshotList(Arc<dyn Fn() -> io::Result<Vec<SnapshotFile>> + Send + Sync>);

impl SnapshotList {
    /// A list that asks `list` each time; it may read the directory.
    pub fn new(list: impl Fn() -> io::Result<Vec<SnapshotFile>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(list))
    }

    /// Asks, off the async threads.
    pub(super) async fn all(&self) -> io::Result<Vec<SnapshotFile>> {
        let list = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || list()).await?
    }

    /// The snapshot at that index, if it is (still) there.
    pub(super) async fn at(&self, index: u64) -> io::Result<Option<SnapshotFile>> {
        Ok(self.all().await?.into_iter().find(|snapshot| snapshot.index == index))
    }
}

impl fmt::Debug for SnapshotList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotList")
    }
}

/// Reads up to `length` bytes at `offset`; fewer at the end of the file, none beyond it.
pub(super) async fn read_chunk(path: PathBuf, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || read_chunk_now(&path, offset, length)).await?
}

fn read_chunk_now(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut chunk = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(filled as u64);
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_end_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        std::fs::write(&path, b"0123456789").unwrap();
        for (offset, length, want) in [
            (0, 4, &b"0123"[..]),
            (8, 4, b"89"),
            (10, 4, b""),
            (1 << 40, 4, b""),
            (0, 100, b"0123456789"),
        ] {
            assert_eq!(read_chunk(path.clone(), offset, length).await.unwrap(), want);
        }
        assert!(read_chunk(folder.path().join("gone"), 0, 1).await.is_err());
        // Beyond what a file can be: an error of the system or nothing, never a panic.
        let _ = read_chunk(path, u64::MAX, 4).await;
    }
}
