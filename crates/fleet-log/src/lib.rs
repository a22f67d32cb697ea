//! The append-only log of one Raft node.

mod config;
mod disk;
mod entry;
mod error;
mod log;
mod recovery;

pub use config::{
    BATCH_BYTES_MAX, CACHE_BYTES_DEFAULT, ENTRY_BYTES_MAX, LogConfig, LogIdentity,
    SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
pub use disk::{Disk, DiskFile};
pub use entry::{HardState, LogEntry, Position};
pub use error::{LogError, OpenError};
pub use log::Log;
pub use recovery::{Cut, Recovery};
