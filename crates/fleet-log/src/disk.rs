//! The outside world of the log: one directory of files.
//!
//! The log needs little of a file system, and this is all of it. The agent implements the two
//! traits over `std::fs`; tests and the simulator use [`MemoryDisk`](crate::MemoryDisk), which
//! forgets at a power cut what was not synced. What an implementation must promise:
//!
//! - bytes are durable once [`DiskFile::sync_data`] returned `Ok`, not before;
//! - a created, renamed or removed name is durable once [`Disk::sync_dir`] returned `Ok`;
//! - a rename replaces its target atomically;
//! - [`Disk::open`] gives a file whose reads come from the medium where the platform can do that:
//!   after a failed sync a page cache may show bytes that were never written.
//!
//! Every `Err` is taken for a fault: the log stops working for good and nothing is tried again.

use std::io;

/// A directory that holds the files of one log and nothing else.
///
/// Clones speak for the same directory.
pub trait Disk: Clone + Send + 'static {
    /// An open file of this directory.
    type File: DiskFile;

    /// The names of everything in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates an empty file; fails when the name exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file, replacing `to` atomically if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable as they are now.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file.
pub trait DiskFile: Send + 'static {
    /// The length of the file in bytes.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Reads at `offset` until the buffer is full or the file ends; returns how much was read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at `offset`, growing the file if needed.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file or grows it with zeros.
    fn set_size(&mut self, size_bytes: u64) -> io::Result<()>;

    /// Grows the file with zeros and reserves the space for them, so that later writes inside
    /// cannot run out of it.
    fn preallocate(&mut self, size_bytes: u64) -> io::Result<()>;

    /// Makes the written bytes and the length of the file durable.
    fn sync_data(&mut self) -> io::Result<()>;
}
