//! Looks at a log that is not in use, without changing a byte of it.

use crate::config::LogIdentity;
use crate::disk::Disk;
use crate::entry::{HardState, Position};
use crate::error::OpenError;
use crate::recovery::{Access, Cut, list, open_segment, recover};
use crate::scan::End;
use crate::segment::file_name;

/// What [`check`] found in a log that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// Its segments, the oldest first.
    pub segments: Vec<SegmentReport>,
    /// The position before the first entry.
    pub start: Position,
    /// The position of the last entry.
    pub last: Position,
    /// The hard state.
    pub hard_state: HardState,
    /// How many entries there are.
    pub entries: u64,
    /// What opening the log would cut.
    pub cut: Option<Cut>,
    /// Files that opening the log would remove; nothing that counts is in them.
    pub leftovers: Vec<String>,
}

/// One segment of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub file: String,
    /// Its size.
    pub size_bytes: u64,
    /// How much of it is in use.
    pub used_bytes: u64,
    /// How many batches are in it.
    pub batches: u64,
    /// How many records.
    pub records: u64,
    /// Whether the log goes on in the next segment.
    pub sealed: bool,
}

/// Whose log is in the directory, as its newest readable segment says.
pub fn identify<D: Disk>(disk: &D) -> Result<LogIdentity, OpenError> {
    let (numbers, _) = list(disk)?;
    let mut last_error = OpenError::Empty;
    for number in numbers.into_iter().rev() {
        match open_segment(disk, number) {
            Ok(segment) => return Ok(segment.header.identity),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Reads the whole log as [`Log::open`](crate::Log::open) would. An error is what that would
/// fail with.
pub fn check<D: Disk>(disk: &D, identity: LogIdentity) -> Result<Report, OpenError> {
    let recovered = recover(disk, &identity, Access::Look)?;
    let point = recovered.replay.point;
    let segments = recovered.found.iter().map(|found| SegmentReport {
        file: file_name(found.segment.number),
        size_bytes: u64::from(found.segment.size_bytes),
        used_bytes: u64::from(found.segment.end),
        batches: found.scan.batches,
        records: found.scan.records,
        sealed: found.scan.end == End::Sealed,
    });
    Ok(Report {
        identity,
        segments: segments.collect(),
        start: point.start,
        last: point.last,
        hard_state: point.hard_state,
        entries: point.last.index.saturating_sub(point.start.index),
        cut: recovered.cut,
        leftovers: recovered.leftovers,
    })
}
