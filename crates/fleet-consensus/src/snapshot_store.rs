//! Snapshot files of a node: written whole or not at all, two kept.
//!
//! A snapshot is written to `building.tmp` (or, when it comes from the leader, to
//! `incoming.tmp`) in small synced slices, so that a large one never fills the disk's
//! queue at once; it is then renamed to `snap-<index>-<term>.flt` and the directory is
//! synced. What carries that name is therefore complete. A file that does not decode is
//! renamed to `….damaged` and said; it is never deleted.
//!
//! The store never interprets the state; the format is `fleet_state::snapshot`'s.

use std::io;

use fleet_log::{Disk, DiskFile};
use fleet_state::{FleetState, SnapshotMeta, decode_snapshot, encode_snapshot};
use sha2::{Digest, Sha256};

const BUILDING: &str = "building.tmp";
const INCOMING: &str = "incoming.tmp";
const SUFFIX: &str = ".flt";
/// Bytes between two syncs of a file that is being written.
const SLICE_BYTES: usize = 1024 * 1024;
/// Bytes written at a time.
const WRITE_BYTES: usize = 128 * 1024;
/// Largest snapshot file that is read.
pub const SNAPSHOT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Largest state that is unpacked from one.
pub const SNAPSHOT_STATE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

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
}

impl<D: Disk> SnapshotStore<D> {
    /// A store over the snapshot directory.
    pub fn new(disk: D) -> Self {
        Self { disk }
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

    /// The newest snapshot that decodes. Damaged ones are renamed and given back by name.
    ///
    /// # Errors
    /// When the directory or a file can't be read at all.
    pub fn load_newest(&self) -> io::Result<(Option<LoadedSnapshot>, Vec<String>)> {
        let mut damaged = Vec::new();
        for (index, term, name) in self.names()? {
            let bytes = self.read_all(&name)?;
            match decode_snapshot(&mut bytes.as_slice(), SNAPSHOT_STATE_BYTES_MAX) {
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
    /// Any error of the disk; the unfinished file is left for the next start to remove.
    pub fn write(&self, meta: &SnapshotMeta, state: &FleetState) -> io::Result<SnapshotFile> {
        let mut writer = SlicedWriter::create(&self.disk, BUILDING)?;
        encode_snapshot(state, meta, &mut writer)?;
        let (size_bytes, checksum) = writer.finish()?;
        self.publish(BUILDING, meta.index, meta.term, size_bytes, checksum)
    }

    /// Removes all complete snapshots but the newest two, and what a crash left unfinished.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn prune(&self) -> io::Result<()> {
        for (_, _, name) in self.names()?.into_iter().skip(2) {
            self.disk.remove(&name)?;
        }
        self.disk.sync_dir()
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
        Ok(IncomingFile { writer: SlicedWriter::create(&self.disk, INCOMING)? })
    }

    /// Completes a received snapshot: verifies its checksum, decodes it, and gives it its name.
    ///
    /// # Errors
    /// `InvalidData` when it isn't what was promised; any error of the disk.
    pub fn finish_incoming(
        &self,
        incoming: IncomingFile<D>,
        expected: &SnapshotFile,
    ) -> io::Result<LoadedSnapshot> {
        let (size_bytes, checksum) = incoming.writer.finish()?;
        if size_bytes != expected.size_bytes || checksum != expected.checksum {
            return Err(invalid("the received snapshot has another checksum than promised"));
        }
        let bytes = self.read_all(INCOMING)?;
        let (meta, state) =
            decode_snapshot(&mut bytes.as_slice(), SNAPSHOT_STATE_BYTES_MAX).map_err(invalid)?;
        if (meta.index, meta.term) != (expected.index, expected.term) {
            return Err(invalid("the received snapshot is of another index than promised"));
        }
        let file = self.publish(INCOMING, meta.index, meta.term, size_bytes, checksum)?;
        Ok(LoadedSnapshot { meta, state, file })
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
        self.disk.sync_dir()?;
        Ok(SnapshotFile { index, term, name, size_bytes, checksum })
    }

    fn read_all(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.disk.open(name)?;
        let size = file.size_bytes()?;
        if size > SNAPSHOT_BYTES_MAX {
            return Err(invalid("the snapshot file is larger than 1 GiB"));
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

/// Writes a file in slices, syncing as it goes and hashing what it writes.
struct SlicedWriter<D: Disk> {
    file: D::File,
    buffer: Vec<u8>,
    written: u64,
    unsynced: usize,
    hash: Sha256,
}

impl<D: Disk> std::fmt::Debug for SlicedWriter<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlicedWriter").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<D: Disk> SlicedWriter<D> {
    fn create(disk: &D, name: &str) -> io::Result<Self> {
        if disk.list()?.iter().any(|existing| existing == name) {
            disk.remove(name)?;
        }
        Ok(Self {
            file: disk.create(name)?,
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            unsynced: 0,
            hash: Sha256::new(),
        })
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.hash.update(&self.buffer);
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced >= SLICE_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        self.spill()?;
        self.file.sync_data()?;
        Ok((self.written, self.hash.finalize().into()))
    }
}

impl<D: Disk> io::Write for SlicedWriter<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = WRITE_BYTES.saturating_sub(self.buffer.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= WRITE_BYTES {
            self.spill()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spill()
    }
}

fn read_full(file: &impl DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = file.read_at(offset + filled as u64, rest)?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    Ok(filled)
}

fn invalid(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
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
