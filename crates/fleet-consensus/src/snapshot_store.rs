//! Snapshot files of a node: written whole or not at all, two kept.
//!
//! A snapshot is written to `building.tmp` (or, when it comes from the leader, to
//! `incoming.tmp`) in small synced slices, so that a large one never fills the disk's
//! queue at once; it is then renamed to `snap-<index>-<term>.flt` and the directory is
//! synced. What carries that name is therefore complete. A damaged file is renamed to
//! `….damaged` and said; it is never deleted. A whole file that this version can't read, or
//! that is another site's, is left alone, and the node does not start.
//!
//! Nothing is written that could not be read back: the limits of reading are those of writing,
//! so that no older snapshot and no log is given up for one that is of no use.
//!
//! The store never interprets the state; the format is `fleet_state::snapshot`'s.

mod error;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;

use fleet_log::{Disk, DiskFile};
use fleet_state::{
    DecodeError, FleetState, SiteUid, SnapshotError, SnapshotMeta, decode_snapshot, encode_snapshot,
};
use sha2::{Digest, Sha256};

use self::slices::{SlicedWriter, read_full, too_large};
use crate::config::{SNAPSHOT_BYTES_MAX, SNAPSHOT_STATE_BYTES_MAX, SNAPSHOTS_SENT_KEPT_MAX};
use crate::seeded;

pub use self::error::{LoadError, ReceiveError};

const BUILDING: &str = "building.tmp";
const INCOMING: &str = "incoming.tmp";
const SUFFIX: &str = ".flt";
/// Complete snapshots that are kept.
const KEPT: usize = 2;
/// Bytes of the checksum that ends a snapshot, of any version.
const CHECKSUM_BYTES: usize = 32;

/// A complete snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Index of the last entry in it.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Its name in the snapshot directory.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub checksum: [u8; 32],
}

/// A snapshot that was read back.
#[derive(Debug)]
pub struct LoadedSnapshot {
    /// Its header.
    pub meta: SnapshotMeta,
    /// The state.
    pub state: FleetState,
    /// The file.
    pub file: SnapshotFile,
}

/// The snapshot directory of a node.
#[derive(Clone, Debug)]
pub struct SnapshotStore<D> {
    disk: D,
    file_bytes_max: u64,
}

impl<D: Disk> SnapshotStore<D> {
    /// A store over the snapshot directory.
    pub fn new(disk: D) -> Self {
        Self { disk, file_bytes_max: SNAPSHOT_BYTES_MAX }
    }

    /// Names of complete snapshots, newest first.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn names(&self) -> io::Result<Vec<(u64, u64, String)>> {
        let mut found: Vec<_> = self
            .disk
            .list()?
            .into_iter()
            .filter_map(|name| parse_name(&name).map(|(index, term)| (index, term, name)))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// The newest snapshot that is whole. Damaged ones are renamed and given back by name.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_newest(
        &self,
        site: SiteUid,
    ) -> Result<(Option<LoadedSnapshot>, Vec<String>), LoadError> {
        let mut damaged = Vec::new();
        for (index, term, name) in self.names()? {
            let bytes = self.read_all(&name)?;
            match decode_snapshot(&mut bytes.as_slice(), SNAPSHOT_STATE_BYTES_MAX) {
                Ok((meta, _)) if meta.uid != site => {
                    return Err(LoadError::Foreign { name, found: meta.uid, expected: site });
                }
                Ok((meta, state)) if meta.index == index && meta.term == term => {
                    let file = SnapshotFile {
                        index,
                        term,
                        name,
                        size_bytes: bytes.len() as u64,
                        checksum: Sha256::digest(&bytes).into(),
                    };
                    return Ok((Some(LoadedSnapshot { meta, state, file }), damaged));
                }
                Err(source) if is_beyond_version(&bytes, &source) => {
                    return Err(LoadError::BeyondVersion { name, source });
                }
                Ok(_) | Err(_) => {
                    self.disk.rename(&name, &format!("{name}.damaged"))?;
                    self.disk.sync_dir()?;
                    damaged.push(name);
                }
            }
        }
        Ok((None, damaged))
    }

    /// Writes a snapshot; when this returns, it is durable under its final name.
    ///
    /// # Errors
    /// Any error of the disk, and `FileTooLarge` when it could not be read back. What was
    /// written of it is removed.
    pub fn write(&self, meta: &SnapshotMeta, state: &FleetState) -> io::Result<SnapshotFile> {
        let written = self.write_building(meta, state);
        if written.is_err() {
            self.remove_quietly(BUILDING);
        }
        written
    }

    fn write_building(&self, meta: &SnapshotMeta, state: &FleetState) -> io::Result<SnapshotFile> {
        let mut writer = SlicedWriter::create(&self.disk, BUILDING, self.file_bytes_max)?;
        encode_snapshot(state, meta, &mut writer)?;
        let (size_bytes, checksum) = writer.finish()?;
        self.publish(BUILDING, meta.index, meta.term, size_bytes, checksum)
    }

    /// Removes all complete snapshots but the newest two and those `being_sent`, by index, of
    /// which a few are spared.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn prune(&self, being_sent: &BTreeSet<u64>) -> io::Result<()> {
        let older = self.names()?.into_iter().skip(KEPT);
        let mut spared = 0;
        for (index, _, name) in older {
            if being_sent.contains(&index) && spared < SNAPSHOTS_SENT_KEPT_MAX {
                spared += 1;
                continue;
            }
            self.disk.remove(&name)?;
        }
        self.disk.sync_dir()
    }

    /// Index of the older of the two newest snapshots, or of the only one. A log that reaches
    /// back to it survives a damaged newest one.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn older_index(&self) -> io::Result<Option<u64>> {
        Ok(self.names()?.into_iter().take(KEPT).next_back().map(|(index, _, _)| index))
    }

    /// Removes unfinished files. Only at start: a snapshot may be being built later.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn remove_unfinished(&self) -> io::Result<()> {
        for name in self.disk.list()? {
            if name == BUILDING || name == INCOMING {
                self.disk.remove(&name)?;
            }
        }
        self.disk.sync_dir()
    }

    /// Reads up to `len` bytes of a complete snapshot at `offset`; gives the file's size too.
    ///
    /// # Errors
    /// When the file is gone or can't be read.
    pub fn read_chunk(
        &self,
        index: u64,
        term: u64,
        offset: u64,
        len: usize,
    ) -> io::Result<(Vec<u8>, u64)> {
        let file = self.disk.open(&file_name(index, term))?;
        let mut bytes = vec![0; len];
        let read = read_full(&file, offset, &mut bytes)?;
        bytes.truncate(read);
        Ok((bytes, file.size_bytes()?))
    }

    /// Begins to receive a snapshot; what an earlier attempt left is overwritten.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn begin_incoming(&self) -> io::Result<IncomingFile<D>> {
        let writer = SlicedWriter::create(&self.disk, INCOMING, self.file_bytes_max)?;
        Ok(IncomingFile { writer })
    }

    /// Gives up what was being received and frees its space.
    pub fn drop_incoming(&self) {
        self.remove_quietly(INCOMING);
    }

    /// Completes a received snapshot of `site`: verifies its checksum, decodes it, and gives it
    /// its name.
    ///
    /// # Errors
    /// See [`ReceiveError`]; the file is then left for [`SnapshotStore::drop_incoming`].
    pub fn finish_incoming(
        &self,
        incoming: IncomingFile<D>,
        expected: &SnapshotFile,
        site: SiteUid,
    ) -> Result<LoadedSnapshot, ReceiveError> {
        let (size_bytes, checksum) = incoming.writer.finish()?;
        if size_bytes != expected.size_bytes || checksum != expected.checksum {
            return Err(not_as_promised("its checksum is another"));
        }
        let bytes = self.read_all(INCOMING)?;
        let (meta, state) = decode_snapshot(&mut bytes.as_slice(), SNAPSHOT_STATE_BYTES_MAX)
            .map_err(|error| {
                if is_beyond_version(&bytes, &error) {
                    ReceiveError::BeyondVersion(error)
                } else {
                    not_as_promised(error)
                }
            })?;
        if meta.uid != site {
            return Err(ReceiveError::Foreign { found: meta.uid });
        }
        if (meta.index, meta.term) != (expected.index, expected.term) {
            return Err(not_as_promised("it is of another index"));
        }
        let file = self.publish(INCOMING, meta.index, meta.term, size_bytes, checksum)?;
        Ok(LoadedSnapshot { meta, state, file })
    }

    /// For what is of no use any more. Where this fails the next start removes it.
    fn remove_quietly(&self, name: &str) {
        let there = self.disk.list().is_ok_and(|names| names.iter().any(|n| n == name));
        if there && let Err(error) = self.disk.remove(name) {
            tracing::warn!(name, %error, "an unfinished snapshot could not be removed");
        }
    }

    fn publish(
        &self,
        from: &str,
        index: u64,
        term: u64,
        size_bytes: u64,
        checksum: [u8; 32],
    ) -> io::Result<SnapshotFile> {
        let name = file_name(index, term);
        self.disk.rename(from, &name)?;
        if !seeded::on("snapshot-name-not-synced") {
            self.disk.sync_dir()?;
        }
        Ok(SnapshotFile { index, term, name, size_bytes, checksum })
    }

    fn read_all(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.disk.open(name)?;
        let size = file.size_bytes()?;
        if size > self.file_bytes_max {
            return Err(too_large(self.file_bytes_max));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let read = read_full(&file, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// A snapshot that is being received.
#[derive(Debug)]
pub struct IncomingFile<D: Disk> {
    writer: SlicedWriter<D>,
}

impl<D: Disk> IncomingFile<D> {
    /// Appends a chunk.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.writer, bytes)
    }
}

fn not_as_promised(what: impl ToString) -> ReceiveError {
    ReceiveError::NotAsPromised(what.to_string())
}

/// Whether what does not decode is whole nevertheless. A flipped bit in the version must not
/// look like a newer one: the checksum decides, which ends a snapshot of any version.
fn is_beyond_version(bytes: &[u8], error: &SnapshotError) -> bool {
    let beyond = match error {
        SnapshotError::UnknownVersion { .. } | SnapshotError::TooLarge { .. } => true,
        SnapshotError::Decode { source, .. } => {
            matches!(source, DecodeError::UnknownVersion { .. } | DecodeError::UnknownKind { .. })
        }
        SnapshotError::Io(_)
        | SnapshotError::NotASnapshot
        | SnapshotError::Truncated
        | SnapshotError::Checksum
        | SnapshotError::Compression
        | SnapshotError::Inconsistent { .. } => false,
    };
    beyond
        && bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .is_some_and(|(content, checksum)| Sha256::digest(content).as_slice() == checksum)
}

fn file_name(index: u64, term: u64) -> String {
    format!("snap-{index:016x}-{term:016x}{SUFFIX}")
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_prefix("snap-")?.strip_suffix(SUFFIX)?.split_once('-')?;
    if index.len() != 16 || term.len() != 16 {
        return None;
    }
    let index = u64::from_str_radix(index, 16).ok()?;
    let term = u64::from_str_radix(term, 16).ok()?;
    Some((index, term))
}

#[cfg(test)]
impl<D: Disk> SnapshotStore<D> {
    /// A store that takes small files only.
    pub(crate) fn with_limit(disk: D, file_bytes_max: u64) -> Self {
        Self { disk, file_bytes_max }
    }
}
