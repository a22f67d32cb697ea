//! Files written in small synced slices, so that a large one never fills the disk's queue.

use std::io;

use fleet_log::{Disk, DiskFile};
use sha2::{Digest, Sha256};

use crate::seeded;

/// Bytes between two syncs of a file that is being written.
const SLICE_BYTES: usize = 1024 * 1024;
/// Bytes written at a time.
const WRITE_BYTES: usize = 128 * 1024;

/// Writes a file in slices, syncing as it goes and hashing what it writes.
pub(super) struct SlicedWriter<D: Disk> {
    file: D::File,
    buffer: Vec<u8>,
    written: u64,
    bytes_max: u64,
    unsynced: usize,
    hash: Sha256,
}

impl<D: Disk> std::fmt::Debug for SlicedWriter<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlicedWriter").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<D: Disk> SlicedWriter<D> {
    pub(super) fn create(disk: &D, name: &str, bytes_max: u64) -> io::Result<Self> {
        if disk.list()?.iter().any(|existing| existing == name) {
            disk.remove(name)?;
        }
        Ok(Self {
            file: disk.create(name)?,
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            bytes_max,
            unsynced: 0,
            hash: Sha256::new(),
        })
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.written + self.buffer.len() as u64 > self.bytes_max {
            return Err(too_large(self.bytes_max));
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

    pub(super) fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        self.spill()?;
        if !seeded::on("snapshot-not-synced") {
            self.file.sync_data()?;
        }
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

pub(super) fn read_full(file: &impl DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
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

pub(super) fn too_large(limit_bytes: u64) -> io::Error {
    let what = format!("a snapshot file is larger than the limit of {limit_bytes} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, what)
}
