//! Reading snapshots on disk for those who save them elsewhere.
//!
//! Whoever saves one reads it piece by piece, and that may take longer than the node keeps it: it
//! keeps two, and a busy site takes new ones all the time. So a file that is being read stays open
//! until nobody has asked for a piece of it for a while, and can be read to its end although its
//! name is gone. How many are open is bounded: each holds its space on the disk.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Snapshots that stay open for their readers.
const OPEN_MAX: usize = 4;
/// How long one stays open after the last piece of it; longer than a client tries again.
const OPEN_FOR: Duration = Duration::from_secs(60);

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
type List = dyn Fn() -> io::Result<Vec<SnapshotFile>> + Send + Sync;

/// The snapshots of this node, and those of them that are being read.
#[derive(Clone)]
pub struct SnapshotList {
    list: Arc<List>,
    open: Arc<Mutex<Vec<Reading>>>,
}

/// A snapshot that is being read.
struct Reading {
    snapshot: OpenSnapshot,
    used: Instant,
}

/// A snapshot that can be read, whatever becomes of its name.
#[derive(Clone, Debug)]
pub(super) struct OpenSnapshot {
    index: u64,
    /// Its size.
    pub size_bytes: u64,
    file: Arc<File>,
}

impl SnapshotList {
    /// A list that asks `list` each time; it may read the directory.
    pub fn new(list: impl Fn() -> io::Result<Vec<SnapshotFile>> + Send + Sync + 'static) -> Self {
        Self { list: Arc::new(list), open: Arc::default() }
    }

    /// Asks, off the async threads.
    pub(super) async fn all(&self) -> io::Result<Vec<SnapshotFile>> {
        let list = Arc::clone(&self.list);
        tokio::task::spawn_blocking(move || list()).await?
    }

    /// The snapshot at that index, if it is still there, or was when its reader began.
    pub(super) async fn open(&self, index: u64) -> io::Result<Option<OpenSnapshot>> {
        if let Some(open) = self.reading(index) {
            return Ok(Some(open));
        }
        let list = Arc::clone(&self.list);
        let opened = tokio::task::spawn_blocking(move || {
            let Some(found) = list()?.into_iter().find(|found| found.index == index) else {
                return Ok(None);
            };
            match File::open(&found.path) {
                Ok(file) => {
                    let size_bytes = file.metadata()?.len();
                    Ok(Some(OpenSnapshot { index, size_bytes, file: Arc::new(file) }))
                }
                // It was removed between the listing and the opening.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
        let opened: io::Result<Option<OpenSnapshot>> = opened.await?;
        let opened = opened?;
        if let Some(opened) = &opened {
            self.keep(opened.clone());
        }
        Ok(opened)
    }

    /// One that is being read, which it goes on to be.
    fn reading(&self, index: u64) -> Option<OpenSnapshot> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = open.iter_mut().find(|reading| reading.snapshot.index == index)?;
        reading.used = Instant::now();
        Some(reading.snapshot.clone())
    }

    /// Keeps a snapshot open for the next piece, in place of the one that was not read for longest.
    fn keep(&self, snapshot: OpenSnapshot) {
        let index = snapshot.index;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.iter().any(|reading| reading.snapshot.index == index) {
            return;
        }
        if open.len() >= OPEN_MAX
            && let Some(oldest) = open.iter().map(|reading| reading.used).min()
        {
            open.retain(|reading| reading.used > oldest);
        }
        open.push(Reading { snapshot, used: Instant::now() });
        drop(open);
        tokio::spawn(close_unread(Arc::clone(&self.open), index));
    }
}

/// Closes a snapshot once nobody has read it for a while.
async fn close_unread(open: Arc<Mutex<Vec<Reading>>>, index: u64) {
    loop {
        let due = {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(at) = open.iter().position(|reading| reading.snapshot.index == index) else {
                return;
            };
            let due = open.get(at).map_or_else(Instant::now, |reading| reading.used + OPEN_FOR);
            if due <= Instant::now() {
                open.swap_remove(at);
                return;
            }
            due
        };
        tokio::time::sleep_until(due).await;
    }
}

impl fmt::Debug for SnapshotList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotList")
    }
}

impl OpenSnapshot {
    /// Reads up to `length` bytes at `offset`; fewer at the end of the file, none beyond it.
    pub(super) async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || read_now(&file, offset, length)).await?
    }
}

fn read_now(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
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

    fn list(folder: &std::path::Path) -> SnapshotList {
        let folder = folder.to_owned();
        SnapshotList::new(move || {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                let index = name.and_then(|name| name.parse().ok()).unwrap_or_default();
                let size_bytes = path.metadata()?.len();
                found.push(SnapshotFile { index, term: 1, path, size_bytes });
            }
            Ok(found)
        })
    }

    /// Turns of the runtime within which a task that is due has run.
    const TURNS_MAX: u32 = 1_000;

    fn open_count(list: &SnapshotList) -> usize {
        list.open.lock().unwrap().len()
    }

    #[tokio::test]
    async fn pieces_end_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("7"), b"0123456789").unwrap();
        let list = list(folder.path());
        let snapshot = list.open(7).await.unwrap().unwrap();
        assert_eq!(snapshot.size_bytes, 10);
        for (offset, length, want) in [
            (0, 4, &b"0123"[..]),
            (8, 4, b"89"),
            (10, 4, b""),
            (1 << 40, 4, b""),
            (0, 100, b"0123456789"),
        ] {
            assert_eq!(snapshot.read(offset, length).await.unwrap(), want);
        }
        assert!(list.open(8).await.unwrap().is_none());
        // Beyond what a file can be: an error of the system or nothing, never a panic.
        let _ = snapshot.read(u64::MAX, 4).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_read_outlives_its_name_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7");
        std::fs::write(&path, b"0123456789").unwrap();
        let list = list(folder.path());
        assert!(list.open(7).await.unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
        for _ in 0..3 {
            tokio::time::advance(OPEN_FOR / 2).await;
            let snapshot = list.open(7).await.unwrap().expect("its reader goes on");
            assert_eq!(snapshot.read(8, 4).await.unwrap(), b"89");
        }
        tokio::time::advance(OPEN_FOR * 2).await;
        // The clock stands still, so the wait is bounded by turns.
        let mut turns = 0;
        while open_count(&list) > 0 {
            assert!(turns < TURNS_MAX, "nobody reads it any more");
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert!(list.open(7).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_open_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let list = list(folder.path());
        for index in 1..=9 {
            let path = folder.path().join(index.to_string());
            std::fs::write(&path, b"x").unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(list.open(index).await.unwrap().is_some());
            assert!(open_count(&list) <= OPEN_MAX);
            std::fs::remove_file(&path).unwrap();
        }
        assert!(list.open(9).await.unwrap().is_some(), "the newest stays");
        assert!(list.open(1).await.unwrap().is_none(), "the oldest made room");
    }
}
