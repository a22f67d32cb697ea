//! Finds out what a directory of segments holds, without changing anything.
//!
//! The segments with consecutive numbers up to the newest are the log. What is older and apart
//! from them was left by a compaction that was interrupted, which is accepted only if the log is
//! complete without it. Every segment but the newest ends with a seal, and the checkpoint in each
//! header must be what the segments before it lead to, so a segment that is missing, swapped or
//! older than its neighbours cannot pass.

use crate::config::LogIdentity;
use crate::disk::{Disk, DiskFile};
use crate::error::{DIRECTORY, OpenError};
use crate::record::Seed;
use crate::replay::Replay;
use crate::scan::{End, Scan, is_fresh, scan};
use crate::segment::{FileName, HEADER_BYTES, Header, Segment, file_name};

/// What [`Log::open`](crate::Log::open) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The end of the log that was cut because its last batch was not whole. Must be said aloud:
    /// nobody can tell a write that a crash tore from a synced one that rotted afterwards.
    pub cut: Option<Cut>,
    /// How many segment files the log has.
    pub segments: usize,
    /// How many entries it holds.
    pub entries: u64,
    /// How many files an interrupted roll or compaction had left, which were removed. Nothing that
    /// counts was in them.
    pub leftovers_removed: usize,
}

/// The part of the newest segment that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: String,
    /// The offset from which on it is taken for empty.
    pub offset: u64,
    /// How many bytes, up to the last one that was not zero; 0 if only the end mark is missing.
    pub size_bytes: u64,
    /// The last entry that is left.
    pub last_index: u64,
    /// What was wrong.
    pub reason: String,
}

/// A segment of the log and what was found in it.
#[derive(Debug)]
pub(crate) struct Found<F> {
    pub(crate) segment: Segment<F>,
    pub(crate) scan: Scan,
}

/// A log as it is on the disk.
#[derive(Debug)]
pub(crate) struct Recovered<F> {
    pub(crate) replay: Replay,
    pub(crate) found: Vec<Found<F>>,
    pub(crate) cut: Option<Cut>,
    /// Files to be removed once the cut is durable.
    pub(crate) leftovers: Vec<String>,
    /// One of them is the next segment, made but never gone on into.
    pub(crate) unborn: bool,
}

/// Whether recovery may sync files, so that nothing it has seen can vanish afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The log is about to be used.
    Use,
    /// It is only looked at.
    Look,
}

/// A segment of which the header was read.
pub(crate) struct Opened<F> {
    pub(crate) header: Header,
    pub(crate) file: F,
}

/// Sorts the names of a directory into segment numbers and files that were never finished.
pub(crate) fn list<D: Disk>(disk: &D) -> Result<(Vec<u32>, Vec<String>), OpenError> {
    let names = disk.list().map_err(|source| OpenError::Storage {
        action: "list",
        file: DIRECTORY.to_owned(),
        source,
    })?;
    let (mut numbers, mut unfinished) = (Vec::new(), Vec::new());
    for name in names {
        match FileName::parse(&name) {
            Some(FileName::Segment(number)) => numbers.push(number),
            Some(FileName::Temporary(_)) => unfinished.push(name),
            None => return Err(OpenError::ForeignFile { name }),
        }
    }
    numbers.sort_unstable();
    unfinished.sort_unstable();
    Ok((numbers, unfinished))
}

/// Reads all of a file.
pub(crate) fn read_whole<F: DiskFile>(file: &F, name: &str) -> Result<Vec<u8>, OpenError> {
    let fault = |source| OpenError::Storage { action: "read", file: name.to_owned(), source };
    let size_bytes = file.size_bytes().map_err(fault)?;
    let size = usize::try_from(size_bytes).map_err(|_| OpenError::Damaged {
        file: name.to_owned(),
        offset: size_bytes,
        what: "the file is larger than memory".to_owned(),
    })?;
    let mut bytes = vec![0; size];
    let read = file.read_at(0, &mut bytes).map_err(fault)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Finds out what is in the directory.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    identity: &LogIdentity,
    access: Access,
) -> Result<Recovered<D::File>, OpenError> {
    let (numbers, mut leftovers) = list(disk)?;
    if numbers.is_empty() {
        return Err(OpenError::Empty);
    }
    let mut opened = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let segment = open_segment(disk, *number)?;
        segment.header.expect(identity)?;
        check_size(&segment)?;
        opened.push(segment);
    }
    if access == Access::Use {
        sync_newest(disk, &mut opened)?;
    }
    let run = run_length(&numbers);
    let log = opened.split_off(opened.len() - run);
    leftovers.extend(opened.iter().map(|old| file_name(old.header.number)));
    let first = log.first().map_or(0, |segment| segment.header.number);

    let mut recovered = replay_run(Seed::new(identity), log, leftovers)?;
    if !recovered.replay.is_complete() {
        return Err(OpenError::MissingSegment { number: first.saturating_sub(1) });
    }
    recovered.cut = judge_end(&recovered)?;
    Ok(recovered)
}

/// How many of the newest segments have consecutive numbers.
fn run_length(numbers: &[u32]) -> usize {
    let breaks = numbers.windows(2).rposition(|pair| match pair {
        [older, newer] => older.checked_add(1) != Some(*newer),
        _ => false,
    });
    breaks.map_or(numbers.len(), |at| numbers.len() - at - 1)
}

/// Opens a segment and reads its header.
pub(crate) fn open_segment<D: Disk>(disk: &D, number: u32) -> Result<Opened<D::File>, OpenError> {
    let name = file_name(number);
    let fault = |action: &'static str| {
        let file = name.clone();
        move |source| OpenError::Storage { action, file, source }
    };
    let file = disk.open(&name).map_err(fault("open"))?;
    let mut bytes = vec![0; HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(fault("read"))?;
    bytes.truncate(read);
    let header = Header::decode(&bytes, &name, number)?;
    Ok(Opened { header, file })
}

/// Segments never change their size.
fn check_size<F: DiskFile>(segment: &Opened<F>) -> Result<(), OpenError> {
    let name = file_name(segment.header.number);
    let expected = u64::from(segment.header.size_bytes);
    let found = segment.file.size_bytes().map_err(|source| OpenError::Storage {
        action: "ask the size of",
        file: name.clone(),
        source,
    })?;
    if found == expected {
        return Ok(());
    }
    Err(OpenError::Damaged {
        file: name,
        offset: found.min(expected),
        what: format!("the file has {found} bytes, but its header says {expected}"),
    })
}

/// What a killed process had written but not synced is in the files now. Raft will answer for it
/// without writing it again, so it must be durable before anybody relies on it. Older segments
/// were synced before the newest but one was made.
fn sync_newest<D: Disk>(disk: &D, opened: &mut [Opened<D::File>]) -> Result<(), OpenError> {
    for segment in opened.iter_mut().rev().take(2) {
        let number = segment.header.number;
        segment.file.sync_data().map_err(|source| OpenError::Storage {
            action: "sync",
            file: file_name(number),
            source,
        })?;
    }
    disk.sync_dir().map_err(|source| OpenError::Storage {
        action: "sync",
        file: DIRECTORY.to_owned(),
        source,
    })
}

/// Replays consecutive segments.
fn replay_run<F: DiskFile>(
    seed: Seed,
    run: Vec<Opened<F>>,
    mut leftovers: Vec<String>,
) -> Result<Recovered<F>, OpenError> {
    let newest = run.last().map_or(0, |segment| segment.header.number);
    let mut found: Vec<Found<F>> = Vec::with_capacity(run.len());
    let mut replay: Option<Replay> = None;
    let mut unborn = false;
    for Opened { header, file } in run {
        let name = file_name(header.number);
        let bytes = read_whole(&file, &name)?;
        let mut state = match (replay.take(), found.last()) {
            (Some(before), Some(previous)) if previous.scan.end == End::Sealed => {
                if header.checkpoint != before.point {
                    return Err(OpenError::Damaged {
                        file: name,
                        offset: 0,
                        what: "the header does not continue the segment before it".to_owned(),
                    });
                }
                before
            }
            (Some(before), Some(previous)) => {
                let fresh = header.number == newest && is_fresh(seed, &header, &bytes);
                if !fresh || !is_unborn(&header, &before) {
                    return Err(unsealed(&previous.segment, &previous.scan));
                }
                leftovers.push(name);
                unborn = true;
                replay = Some(before);
                break;
            }
            _ => Replay::new(header.checkpoint),
        };
        let scan = scan(seed, header.number, &bytes, &mut state).map_err(|rot| {
            OpenError::Damaged { file: name.clone(), offset: to_u64(rot.offset), what: rot.what }
        })?;
        found.push(Found {
            segment: Segment {
                number: header.number,
                size_bytes: header.size_bytes,
                end: u32::try_from(scan.end_offset).unwrap_or(u32::MAX),
                file,
            },
            scan,
        });
        replay = Some(state);
    }
    Ok(Recovered { replay: replay.ok_or(OpenError::Empty)?, found, cut: None, leftovers, unborn })
}

/// Whether `header` belongs to a segment that was made, but into which the log never went on:
/// the crash came before the seal of the one before it was durable. Its header tells how many
/// batches that one must have, so rot cannot pass for such a crash.
fn is_unborn(header: &Header, before: &Replay) -> bool {
    let (next, now) = (&header.checkpoint, &before.point);
    next.sequence == now.sequence.saturating_add(1)
        && next.start == now.start
        && next.last == now.last
        && next.hard_state == now.hard_state
}

fn unsealed<F>(segment: &Segment<F>, scan: &Scan) -> OpenError {
    let (offset, what) = match scan.end {
        End::Torn { offset, flaw, .. } => (offset, flaw.to_string()),
        End::Marked | End::Sealed => (scan.end_offset, "its end is missing".to_owned()),
    };
    OpenError::Damaged {
        file: file_name(segment.number),
        offset: to_u64(offset),
        what: format!("{what}, but the log goes on in the next segment"),
    }
}

/// Whether the newest segment ends as it may.
fn judge_end<F>(recovered: &Recovered<F>) -> Result<Option<Cut>, OpenError> {
    let Some(Found { segment, scan }) = recovered.found.last() else {
        return Ok(None);
    };
    match scan.end {
        End::Marked => Ok(None),
        // Only the seal can be torn here, and a seal holds nothing.
        End::Torn { .. } if recovered.unborn => Ok(None),
        End::Sealed => Err(OpenError::MissingSegment { number: segment.number.saturating_add(1) }),
        End::Torn { size_bytes, offset, flaw } => Ok(Some(Cut {
            file: file_name(segment.number),
            offset: to_u64(scan.end_offset),
            size_bytes: to_u64(size_bytes),
            last_index: recovered.replay.point.last.index,
            reason: format!("the last batch is not whole: {flaw} at byte {offset}"),
        })),
    }
}

pub(crate) fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
