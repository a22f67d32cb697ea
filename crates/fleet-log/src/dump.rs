//! Walks through every record of a log in the order in which they were written, whole or damaged.
//!
//! For people who want to see what is in a log that does not open: it goes on behind damage as
//! soon as a whole record is found again. What it shows must not be taken for the log's contents;
//! truncations and compactions are records like others here.

use bytes::Bytes;

use crate::config::LogIdentity;
use crate::disk::Disk;
use crate::end_mark::{END_MARK_BYTES, EndMark};
use crate::error::OpenError;
use crate::record::{ALIGN, Flaw, Kind, Record, Seed};
use crate::recovery::{list, open_segment, read_whole, to_u64};
use crate::segment::{HEADER_BYTES, file_name};

/// One thing found by [`dump`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpItem {
    /// A segment begins; `next_index` is that of the first entry appended in it if nothing was
    /// truncated.
    Segment {
        /// The file.
        file: String,
        /// Whose it is.
        identity: LogIdentity,
        /// One after the last entry before it.
        next_index: u64,
    },
    /// A record.
    Record(DumpRecord),
    /// Bytes that are no record.
    Damage {
        /// The file.
        file: String,
        /// Where they begin.
        offset: u64,
        /// How many there are up to the next record or the last byte that is not zero.
        size_bytes: u64,
        /// What is wrong with the first of them.
        what: String,
    },
    /// A file that cannot be read as a segment.
    Unreadable {
        /// The file.
        file: String,
        /// Why not.
        what: String,
    },
}

/// A record found by [`dump`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpRecord {
    /// The file it is in.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// The number of its batch.
    pub batch: u64,
    /// Whether it ends its batch.
    pub last_of_batch: bool,
    /// What it is: `entry`, `truncate`, `hard_state`, `start`, `reset`, `seal` or `mark`.
    pub kind: &'static str,
    /// The index of an entry or position; the commit index of a hard state.
    pub index: u64,
    /// The term.
    pub term: u64,
    /// The kind of an entry, as its owner numbers them.
    pub entry_kind: u8,
    /// The payload of an entry; the vote of a hard state as eight bytes, little-endian.
    pub payload: Bytes,
}

/// The iterator that [`dump`] returns. Holds one segment in memory.
#[derive(Debug)]
pub struct Dump<D> {
    disk: D,
    numbers: std::vec::IntoIter<u32>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: String,
    number: u32,
    seed: Seed,
    bytes: Bytes,
    offset: usize,
}

/// Lists everything in the segments of a directory. Fails only if the directory can't be listed
/// or holds foreign files.
pub fn dump<D: Disk>(disk: D) -> Result<Dump<D>, OpenError> {
    let (numbers, _) = list(&disk)?;
    Ok(Dump { disk, numbers: numbers.into_iter(), current: None })
}

impl<D: Disk> Iterator for Dump<D> {
    type Item = DumpItem;

    fn next(&mut self) -> Option<DumpItem> {
        if let Some(item) = self.current.as_mut().and_then(Current::next) {
            return Some(item);
        }
        let number = self.numbers.next()?;
        Some(self.begin(number).unwrap_or_else(|error| {
            self.current = None;
            DumpItem::Unreadable { file: file_name(number), what: error.to_string() }
        }))
    }
}

impl<D: Disk> Dump<D> {
    fn begin(&mut self, number: u32) -> Result<DumpItem, OpenError> {
        let file = file_name(number);
        let segment = open_segment(&self.disk, number)?;
        let bytes = Bytes::from(read_whole(&segment.file, &file)?);
        let identity = segment.header.identity;
        self.current = Some(Current {
            file: file.clone(),
            number,
            seed: Seed::new(&identity),
            bytes,
            offset: HEADER_BYTES,
        });
        Ok(DumpItem::Segment {
            file,
            identity,
            next_index: segment.header.checkpoint.last.index.saturating_add(1),
        })
    }
}

impl Current {
    fn next(&mut self) -> Option<DumpItem> {
        let offset = self.offset;
        match self.record_at(offset) {
            Ok(record) => {
                let size_bytes = record.size_bytes;
                let item = self.describe(&record, offset);
                self.offset += size_bytes;
                Some(DumpItem::Record(item))
            }
            Err(flaw) => self.skip_damage(flaw),
        }
    }

    fn record_at(&self, offset: usize) -> Result<Record<'_>, Flaw> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        Record::parse(self.seed, self.number, offset, rest)
    }

    /// Goes to the next record, or to the end if there is none.
    fn skip_damage(&mut self, flaw: Flaw) -> Option<DumpItem> {
        let begin = self.offset;
        let rest = self.bytes.get(begin..)?;
        if EndMark::parse(self.seed, self.number, begin, rest).is_some() {
            self.offset += END_MARK_BYTES;
            return self.next();
        }
        let last = rest.iter().rposition(|byte| *byte != 0)?;
        let end = begin + last + 1;
        let next = (begin..end).step_by(ALIGN).find(|offset| self.record_at(*offset).is_ok());
        self.offset = next.unwrap_or(self.bytes.len());
        Some(DumpItem::Damage {
            file: self.file.clone(),
            offset: to_u64(begin),
            size_bytes: to_u64(next.unwrap_or(end) - begin),
            what: flaw.to_string(),
        })
    }

    fn describe(&self, record: &Record<'_>, offset: usize) -> DumpRecord {
        let content = &record.content;
        DumpRecord {
            file: self.file.clone(),
            offset: to_u64(offset),
            batch: record.sequence,
            last_of_batch: record.last_of_batch,
            kind: name_of(content.kind),
            index: content.index,
            term: content.term,
            entry_kind: content.entry_kind,
            payload: self.bytes.slice_ref(content.payload),
        }
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Entry => "entry",
        Kind::Truncate => "truncate",
        Kind::HardState => "hard_state",
        Kind::Start => "start",
        Kind::Reset => "reset",
        Kind::Seal => "seal",
        Kind::Mark => "mark",
    }
}
