//! The local writes of this gateway on disk.
//!
//! A log of `fleet_log`'s in a directory of its own, so a torn end is cut, and no flipped byte is
//! ever taken for a command. Each record is one write as it stands; the newest of a number counts.
//! What changes together is one batch and takes effect whole. When many records are there that
//! newer ones have replaced, all that is kept is written once more and the rest is dropped.
//!
//! A journal that can't be read is put aside, never removed: what stands in it is not known then,
//! and that is said.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fleet_log::{HardState, Log, LogConfig, LogEntry, LogError, LogIdentity, OpenError, Position};
use fleet_protocol::local::LocalWriteBody;
use fleet_state::{NodeId, SiteUid};
use thiserror::Error;

use super::write::LocalWrite;
use crate::storage::RealDisk;

/// The journal's directory, in the data directory.
pub(super) const JOURNAL_DIR: &str = "local";
/// Segments are small: there are few local writes, and they are short.
const SEGMENT_BYTES: u64 = 256 * 1024;
/// Records after which what is replaced is dropped.
const RECORDS_MAX: u64 = 4_096;
/// The one term of this log; nobody elects anything here.
const TERM: u64 = 1;
/// The kind of record. Another one would be of a newer agent.
const KIND_WRITE: u8 = 1;
/// Tells the identity of this log from the one of the node's Raft log.
const IDENTITY_BIT: u64 = 1 << 63;
/// Names that are tried for a journal that is put aside.
const ASIDE_MAX: u32 = 1_000;

/// Why the journal can't be used.
#[derive(Debug, Error)]
pub(super) enum JournalError {
    /// The directory.
    #[error("{} can't be used: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log in it could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log in it could not be written or read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record that this agent can't read.
    #[error("record {index} is not one that this agent can read")]
    Record {
        /// Which.
        index: u64,
    },
    /// A write that can't be said as JSON; which can't be.
    #[error("a local write can't be written down: {0}")]
    Encode(#[from] serde_json::Error),
}

impl JournalError {
    /// Whether what is there can't be understood, now or later. A disk that failed may give it back.
    fn is_of_contents(&self) -> bool {
        match self {
            Self::Open(error) => !matches!(error, OpenError::Storage { .. }),
            Self::Log(error) => matches!(error, LogError::Damaged { .. }),
            Self::Record { .. } => true,
            Self::Io { .. } | Self::Encode(_) => false,
        }
    }
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    log: Log<RealDisk>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) writes: Vec<LocalWrite>,
    /// What an operator should know.
    pub(super) trouble: Option<String>,
}

impl Journal {
    /// Opens the journal in a data directory, or makes one. One whose contents can't be read is put
    /// aside; one that the disk doesn't give now stays where it is.
    pub(super) fn open(
        data_dir: &Path,
        uid: SiteUid,
        node: NodeId,
    ) -> Result<Opened, JournalError> {
        let path = data_dir.join(JOURNAL_DIR);
        let identity = LogIdentity { site_uid: *uid.as_bytes(), node: node.get() | IDENTITY_BIT };
        match Self::open_in(&path, identity) {
            Ok((journal, writes)) => Ok(Opened { journal, writes, trouble: None }),
            Err(error) if error.is_of_contents() => {
                let aside = put_aside(&path)?;
                let trouble = format!(
                    "the journal of local writes could not be read ({error}) and was put aside as {}; what was written locally before is not known",
                    aside.display()
                );
                let (journal, writes) = Self::open_in(&path, identity)?;
                Ok(Opened { journal, writes, trouble: Some(trouble) })
            }
            Err(error) => Err(error),
        }
    }

    fn open_in(
        path: &Path,
        identity: LogIdentity,
    ) -> Result<(Self, Vec<LocalWrite>), JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let is_new = make_dir(path).map_err(io)?;
        let disk = RealDisk::for_log(path).map_err(io)?;
        let config = LogConfig { segment_bytes: SEGMENT_BYTES, cache_bytes: 0 };
        // A crash may have come between the directory and its first segment.
        if is_new || is_empty(path).map_err(io)? {
            let (start, hard) = (Position::default(), HardState::default());
            let log = Log::create(disk, identity, config, start, hard)?;
            return Ok((Self { log }, Vec::new()));
        }
        let (log, recovery) = Log::open(disk, identity, config)?;
        if let Some(cut) = &recovery.cut {
            tracing::warn!(
                file = cut.file,
                offset = cut.offset,
                "the end of the journal of local writes was torn and was cut off"
            );
        }
        let journal = Self { log };
        let writes = journal.read_all()?;
        Ok((journal, writes))
    }

    fn read_all(&self) -> Result<Vec<LocalWrite>, JournalError> {
        let (first, last) = (self.log.first_index(), self.log.last_index());
        let mut newest = BTreeMap::new();
        let mut next = first;
        while next <= last {
            let entries = self.log.entries(next, last + 1, SEGMENT_BYTES)?;
            let Some(end) = entries.last().map(|entry| entry.index) else { break };
            for entry in entries {
                let write = decode(&entry).ok_or(JournalError::Record { index: entry.index })?;
                newest.insert(write.number, write);
            }
            next = end + 1;
        }
        Ok(newest.into_values().collect())
    }

    /// Writes down how these writes stand; durable, all or none, when it returns.
    pub(super) fn append<'a>(
        &mut self,
        writes: impl Iterator<Item = &'a LocalWrite>,
    ) -> Result<(), JournalError> {
        let mut entries = Vec::new();
        for write in writes {
            let index = self.log.last_index() + 1 + entries.len() as u64;
            let data = serde_json::to_vec(&write.body())?.into();
            entries.push(LogEntry { index, term: TERM, kind: KIND_WRITE, data });
        }
        self.log.append(&entries)?;
        Ok(self.log.sync()?)
    }

    /// Drops records that newer ones have replaced, when there are many. `kept` is all that counts.
    pub(super) fn tidy<'a>(
        &mut self,
        kept: impl Iterator<Item = &'a LocalWrite>,
    ) -> Result<(), JournalError> {
        if self.log.entries_len() < RECORDS_MAX {
            return Ok(());
        }
        let replaced = self.log.last_index();
        self.append(kept)?;
        Ok(self.log.compact(replaced)?)
    }
}

fn decode(entry: &LogEntry) -> Option<LocalWrite> {
    let body: LocalWriteBody = serde_json::from_slice(&entry.data).ok()?;
    LocalWrite::of_body(body).filter(|_| entry.kind == KIND_WRITE)
}

/// Makes the directory and its name durable; says whether it is new.
fn make_dir(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => {
            let parent = path.parent().unwrap_or(path);
            fs::File::open(parent)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

fn put_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let free = (1..ASIDE_MAX)
        .map(|number| path.with_extension(format!("unreadable-{number}")))
        .find(|aside| !aside.exists());
    let aside = free.ok_or_else(|| io(io::ErrorKind::AlreadyExists.into()))?;
    fs::rename(path, &aside).map_err(io)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_protocol::local::LocalStage;
    use fleet_state::{Revision, Value};

    use super::super::write::{LocalOp, Part};
    use super::*;

    #[test]
    fn what_a_disk_does_not_give_now_is_not_put_aside() {
        let failed = || io::Error::other("a sync failed");
        let (action, file) = ("sync", "the directory".to_owned());
        let open = OpenError::Storage { action, file: file.clone(), source: failed() };
        assert!(!JournalError::Open(open).is_of_contents());
        let log = LogError::Storage { action, file, source: failed() };
        assert!(!JournalError::Log(log).is_of_contents());
        assert!(!JournalError::Io { path: "local".into(), source: failed() }.is_of_contents());
        assert!(JournalError::Open(OpenError::Empty).is_of_contents());
        assert!(JournalError::Record { index: 3 }.is_of_contents());
    }

    fn uid() -> SiteUid {
        SiteUid::from_bytes([7; 16])
    }

    fn write(number: u64, level: i64) -> LocalWrite {
        LocalWrite {
            number,
            device: "hall2.lamp-1".parse().unwrap(),
            op: LocalOp::Update,
            actor: Some(Arc::from("jo")),
            request_id: format!("r-{number}").parse().unwrap(),
            wall_ms: 5,
            stage: LocalStage::Local,
            detail: Arc::from(""),
            parts: vec![Part {
                property: Some(Arc::from("level")),
                value: Some(Value::from(level)),
                known: Revision::new(3),
                end: None,
            }],
        }
    }

    fn reopened(dir: &Path) -> Opened {
        Journal::open(dir, uid(), NodeId::FOUNDER).unwrap()
    }

    #[test]
    fn what_was_written_down_is_there_again_and_the_newest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = reopened(dir.path());
        assert!(opened.writes.is_empty());
        opened.journal.append([&write(1, 1), &write(2, 2)].into_iter()).unwrap();
        let later = LocalWrite { stage: LocalStage::Verified, ..write(1, 1) };
        opened.journal.append([&later].into_iter()).unwrap();
        drop(opened);
        let opened = reopened(dir.path());
        assert_eq!(opened.writes, [later, write(2, 2)]);
        assert_eq!(opened.trouble, None);
    }

    #[test]
    fn it_stays_small_and_forgets_nothing_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = reopened(dir.path());
        let kept = write(1, 1);
        opened.journal.append([&kept].into_iter()).unwrap();
        for round in 0..i64::try_from(RECORDS_MAX).unwrap() {
            let newest = write(2, round);
            // One sync for many: what is tested is what is dropped.
            let batch: Vec<LocalWrite> = (0..8).map(|_| newest.clone()).collect();
            if round % 8 == 0 {
                opened.journal.append(batch.iter()).unwrap();
                opened.journal.tidy([&kept, &newest].into_iter()).unwrap();
            }
        }
        assert!(opened.journal.log.entries_len() < RECORDS_MAX);
        drop(opened);
        let opened = reopened(dir.path());
        assert_eq!(opened.writes.first(), Some(&kept));
        assert_eq!(opened.writes.len(), 2);
        let bytes: u64 = fs::read_dir(dir.path().join(JOURNAL_DIR))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes < 16 * SEGMENT_BYTES, "{bytes}");
    }

    /// Where the records of the only segment end: from there on it is zeros.
    fn filled_bytes(bytes: &[u8]) -> usize {
        bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
    }

    fn segment(dir: &Path) -> PathBuf {
        fs::read_dir(dir.join(JOURNAL_DIR)).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn a_torn_end_loses_the_last_batch_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = reopened(dir.path());
        opened.journal.append([&write(1, 1)].into_iter()).unwrap();
        let whole = filled_bytes(&fs::read(segment(dir.path())).unwrap());
        opened.journal.append([&write(2, 2)].into_iter()).unwrap();
        drop(opened);
        let file = segment(dir.path());
        let bytes = fs::read(&file).unwrap();
        let filled = filled_bytes(&bytes);
        for cut in (whole + 8)..filled {
            let mut torn = bytes.clone();
            torn[cut..].fill(0);
            fs::write(&file, &torn).unwrap();
            let opened = reopened(dir.path());
            assert_eq!(opened.trouble, None, "cut at {cut}");
            assert_eq!(opened.writes.first(), Some(&write(1, 1)), "cut at {cut}");
            assert!(opened.writes.len() <= 2, "cut at {cut}");
            drop(opened);
        }
    }

    #[test]
    fn damage_before_the_end_is_noticed_and_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = reopened(dir.path());
        for number in 1..4 {
            opened.journal.append([&write(number, 1)].into_iter()).unwrap();
        }
        drop(opened);
        let file = segment(dir.path());
        let mut bytes = fs::read(&file).unwrap();
        let at = filled_bytes(&bytes) / 2;
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let opened = reopened(dir.path());
        assert!(opened.writes.is_empty());
        let trouble = opened.trouble.unwrap();
        assert!(trouble.contains("local.unreadable-1"), "{trouble}");
        assert!(dir.path().join("local.unreadable-1").is_dir());
    }
}
