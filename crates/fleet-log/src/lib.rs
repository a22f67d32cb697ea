//! The append-only log of one Raft node: its entries and its hard state, on a directory of files.
//!
//! **What it promises.** What [`Log::sync`] returned for is there after any crash. A batch (all
//! that was appended between two syncs) takes effect whole or not at all. No byte that changed on
//! the disk is ever taken for data: damage is an error that names file and offset, with one
//! exception. The very last batch, if it is not whole, is cut, because a write that a crash tore
//! looks the same; [`Recovery::cut`] says so, and whoever opens the log must pass it on.
//!
//! **How.** Segment files of a fixed, reserved size are filled one after the other, each batch by
//! one write and one sync. Records form a chain of checksums bound to site, node, segment and
//! offset. Nothing is written twice: a conflicting suffix is superseded by a truncation record, a
//! compaction is a record too, and then whole segments are removed. Each batch proves that the one
//! before it was synced, which is how rot is told from a torn write. Older entries stay on the
//! disk and are read back, checked, when they are asked for.
//!
//! **What it never does.** It looks into no entry, keeps no clock, starts no thread, tries nothing
//! twice. After a failed write or sync it is [`LogError::Poisoned`] until it is opened again. It
//! removes no file that it did not understand.
//!
//! The disk is a pair of traits, [`Disk`] and [`DiskFile`]. [`MemoryDisk`] is one that loses what
//! was not synced; the tests in `tests/` use it for every byte flip, every truncation, every crash
//! point and random histories.

mod check;
mod compact;
mod config;
mod disk;
mod dump;
mod end_mark;
mod entry;
mod error;
mod index;
mod log;
mod memory_disk;
mod open;
mod read;
mod record;
mod recovery;
mod replay;
mod scan;
#[doc(hidden)]
pub mod seeded;
mod segment;
mod write;

pub use check::{Report, SegmentReport, check, identify};
pub use config::{
    BATCH_BYTES_MAX, CACHE_BYTES_DEFAULT, ENTRY_BYTES_MAX, LogConfig, LogIdentity,
    SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
pub use disk::{Disk, DiskFile};
pub use dump::{Dump, DumpItem, DumpRecord, dump};
pub use entry::{HardState, LogEntry, Position};
pub use error::{LogError, OpenError};
pub use log::Log;
pub use memory_disk::{DiskFault, MemoryDisk, MemoryFile};
pub use recovery::{Cut, Recovery};
