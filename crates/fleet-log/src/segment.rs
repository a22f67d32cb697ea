//! One segment file: its name, its header, and how it comes to be.
//!
//! A segment has a fixed size, reserved when it is made, and is filled with zeros. Its header
//! takes one sector of its own and says whose log it is, which segment, how large, and what the
//! log was when the segment began (the *checkpoint*). So the oldest segment that is left is
//! enough to begin with, and each later header proves what all segments before it hold.
//!
//! A segment is made under a temporary name, synced, renamed, and the directory synced: a file
//! under the name of a segment always has a whole header.

use crate::config::LogIdentity;
use crate::disk::{Disk, DiskFile};
use crate::end_mark::EndMark;
use crate::entry::{HardState, Position};
use crate::error::{LogError, OpenError};
use crate::record::{Seed, u32_at, u64_at};
use crate::seeded;

/// The bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 512;
/// The newest format this program writes, and the only one it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"FLEETLOG";
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const EXTENSION: &str = ".seg";
const TEMPORARY_EXTENSION: &str = ".new";
const DIGITS: usize = 10;

/// What a file name in the log directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileName {
    Segment(u32),
    /// A segment that was never finished.
    Temporary(u32),
}

impl FileName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let number = |text: &str| {
            let plain = text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|&n: &u32| plain && n > 0)
        };
        if let Some(text) = name.strip_suffix(EXTENSION) {
            number(text).map(Self::Segment)
        } else {
            number(name.strip_suffix(TEMPORARY_EXTENSION)?).map(Self::Temporary)
        }
    }
}

/// The name of a segment file.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:0DIGITS$}{EXTENSION}")
}

fn temporary_name(number: u32) -> String {
    format!("{number:0DIGITS$}{TEMPORARY_EXTENSION}")
}

/// Everything about a log but its entries, at the end of some batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) start: Position,
    pub(crate) last: Position,
    pub(crate) hard_state: HardState,
    /// The number of the next batch.
    pub(crate) sequence: u64,
    /// The checksum of the newest record.
    pub(crate) chain: u32,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: LogIdentity,
    pub(crate) number: u32,
    pub(crate) size_bytes: u32,
    pub(crate) checkpoint: Checkpoint,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let point = &self.checkpoint;
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.size_bytes.to_le_bytes());
        bytes.extend_from_slice(&point.chain.to_le_bytes());
        bytes.extend_from_slice(&self.identity.site_uid);
        for field in [
            self.identity.node,
            point.sequence,
            point.start.index,
            point.start.term,
            point.last.index,
            point.last.term,
            point.hard_state.term,
            point.hard_state.vote,
            point.hard_state.commit,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.resize(CHECKSUM_AT, 0);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of `file`, whose name says that it is segment `number`. Which log it
    /// belongs to is left to [`Header::expect`].
    pub(crate) fn decode(bytes: &[u8], file: &str, number: u32) -> Result<Self, OpenError> {
        let damaged = |offset: u64, what: &str| OpenError::Damaged {
            file: file.to_owned(),
            offset,
            what: what.to_owned(),
        };
        if bytes.len() < HEADER_BYTES {
            let end = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            return Err(damaged(end, "the file ends inside its header"));
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(damaged(0, "it does not begin like a segment of a log"));
        }
        let short = || damaged(0, "the header is too short");
        let u32_at = |at| u32_at(bytes, at).ok_or_else(short);
        let u64_at = |at| u64_at(bytes, at).ok_or_else(short);
        let covered = bytes.get(..CHECKSUM_AT).ok_or_else(short)?;
        if crc32fast::hash(covered) != u32_at(CHECKSUM_AT)? {
            return Err(damaged(0, "the checksum of the header is wrong"));
        }
        // Every later format keeps magic, version and checksum where they are.
        let version = u32_at(8)?;
        if version != FORMAT_VERSION {
            return Err(OpenError::Version {
                file: file.to_owned(),
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        let found = u32_at(12)?;
        if found != number {
            return Err(OpenError::WrongNumber { file: file.to_owned(), found });
        }
        let site_uid = *bytes.get(24..).and_then(<[u8]>::first_chunk).ok_or_else(short)?;
        let position = |at| -> Result<Position, OpenError> {
            Ok(Position { index: u64_at(at)?, term: u64_at(at + 8)? })
        };
        Ok(Self {
            identity: LogIdentity { site_uid, node: u64_at(40)? },
            number,
            size_bytes: u32_at(16)?,
            checkpoint: Checkpoint {
                chain: u32_at(20)?,
                sequence: u64_at(48)?,
                start: position(56)?,
                last: position(72)?,
                hard_state: HardState {
                    term: u64_at(88)?,
                    vote: u64_at(96)?,
                    commit: u64_at(104)?,
                },
            },
        })
    }

    /// Refuses the segment of another site or node.
    pub(crate) fn expect(&self, identity: &LogIdentity) -> Result<(), OpenError> {
        if self.identity == *identity {
            return Ok(());
        }
        Err(OpenError::ForeignSegment {
            file: file_name(self.number),
            found_site_uid: self.identity.site_uid,
            found_node: self.identity.node,
            expected: *identity,
        })
    }
}

/// A segment of an open log.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) number: u32,
    pub(crate) size_bytes: u32,
    /// Where the next batch goes.
    pub(crate) end: u32,
    pub(crate) file: F,
}

impl<F: DiskFile> Segment<F> {
    /// Makes the file of a segment, durably.
    pub(crate) fn create<D: Disk<File = F>>(disk: &D, header: &Header) -> Result<Self, LogError> {
        let name = file_name(header.number);
        let temporary = temporary_name(header.number);
        let fault = |action: &'static str| {
            let file = name.clone();
            move |source| LogError::Storage { action, file, source }
        };
        let mut file = disk.create(&temporary).map_err(fault("create"))?;
        file.preallocate(u64::from(header.size_bytes)).map_err(fault("reserve the space of"))?;
        file.write_at(0, &fresh_bytes(header)).map_err(fault("write the header of"))?;
        if !seeded::on("segment-not-synced") {
            file.sync_data().map_err(fault("sync the new file of"))?;
        }
        disk.rename(&temporary, &name).map_err(fault("rename"))?;
        if !seeded::on("segment-name-not-synced") {
            disk.sync_dir().map_err(fault("sync the directory for"))?;
        }
        Ok(Self { number: header.number, size_bytes: header.size_bytes, end: HEADER_END, file })
    }
}

/// How a segment begins before anything was appended to it.
fn fresh_bytes(header: &Header) -> Vec<u8> {
    let mut bytes = header.encode();
    let mark = EndMark::behind(&header.checkpoint);
    let seed = Seed::new(&header.identity);
    bytes.extend_from_slice(&mark.encode(seed, header.number, HEADER_END));
    bytes
}

/// [`HEADER_BYTES`] as an offset.
pub(crate) const HEADER_END: u32 = 512;
const _: () = assert!(HEADER_END as usize == HEADER_BYTES);
