//! Why a log could not be opened, or stopped working.

use std::io;

use crate::config::{BATCH_BYTES_MAX, ENTRY_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// What failed, where it was no file.
pub(crate) const DIRECTORY: &str = "the directory";

/// Why a log was not opened. Nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no log here.
    #[error(
        "the log directory holds no segment: a node that had a log must not go on without it; \
         restore the directory, or let this node join anew"
    )]
    Empty,
    /// A new log was to be made where files are.
    #[error("the log directory is not empty (it holds {name:?}): a new log needs an empty one")]
    NotEmpty {
        /// One of the files there.
        name: String,
    },
    /// A file that no log wrote.
    #[error(
        "{name:?} in the log directory is no segment of a log: move it elsewhere; \
         nothing was changed"
    )]
    ForeignFile {
        /// Its name.
        name: String,
    },
    /// The segment belongs to another site or node.
    #[error(
        "{file} belongs to node {found_node} of site {}, this is node {} of site {}: \
         the directories were mixed up; nothing was changed",
        hex(.found_site_uid), .expected.node, hex(&.expected.site_uid)
    )]
    ForeignSegment {
        /// The file.
        file: String,
        /// The site it names.
        found_site_uid: [u8; 16],
        /// The node it names.
        found_node: u64,
        /// Whose log was expected.
        expected: crate::LogIdentity,
    },
    /// A segment under the name of another: a copy, so that one number exists twice.
    #[error(
        "{file} says that it is segment {found}: it is a copy or was renamed; \
         move it elsewhere; nothing was changed"
    )]
    WrongNumber {
        /// The file.
        file: String,
        /// The number in its header.
        found: u32,
    },
    /// The segment was written by a newer program.
    #[error("{file} has format version {found}, this program reads up to {supported}: update it")]
    Version {
        /// The file.
        file: String,
        /// The version in the file.
        found: u32,
        /// The newest one this program knows.
        supported: u32,
    },
    /// A segment that is needed does not exist.
    #[error(
        "segment {number} of the log is missing: entries that this node promised to keep are in it; \
         put it back, or let this node join anew; nothing was changed"
    )]
    MissingSegment {
        /// The number of the segment.
        number: u32,
    },
    /// Bytes are not what was written, and valid ones follow: no torn write explains it.
    #[error(
        "{file} is damaged at byte {offset}: {what}; this node must not vote with it: look with \
         `flotilla-agent store check`, then let it join anew; nothing was changed"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A size in the configuration, or a start that contradicts itself.
    #[error(transparent)]
    Refused(LogError),
    /// The disk failed.
    #[error("could not {action} {file} of the log")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why a call on an open log failed.
///
/// After [`Storage`](Self::Storage) and [`Damaged`](Self::Damaged) every later call fails with
/// [`Poisoned`](Self::Poisoned). All others are mistakes of the caller, found before anything was
/// changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk failed; what was not synced may be lost. The log must be opened again.
    #[error("could not {action} {file} of the log")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// An entry read back from the disk is not what was written.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// An earlier call failed.
    #[error("the log failed before and takes no more calls: open it again")]
    Poisoned,
    /// Entries are not contiguous with the log or with each other.
    #[error("entry {found} cannot follow entry {previous} in the log")]
    Gap {
        /// The index that was there.
        previous: u64,
        /// The index that was given.
        found: u64,
    },
    /// An entry's term is lower than the one before it.
    #[error("entry {index} has term {found}, lower than term {previous} before it")]
    TermBack {
        /// The entry.
        index: u64,
        /// The term before it.
        previous: u64,
        /// Its own term.
        found: u64,
    },
    /// The entries are gone: they are part of a snapshot.
    #[error("entry {index} is not in the log any more, which begins at {first}")]
    Compacted {
        /// What was asked for.
        index: u64,
        /// The first entry there is.
        first: u64,
    },
    /// The entries are not there yet.
    #[error("entry {index} is not in the log, which ends at {last}")]
    Unavailable {
        /// What was asked for.
        index: u64,
        /// The last entry there is.
        last: u64,
    },
    /// A committed entry would be overwritten.
    #[error("entry {index} cannot be replaced: everything up to {commit} is committed")]
    Committed {
        /// The entry.
        index: u64,
        /// The commit index.
        commit: u64,
    },
    /// The hard state would take something back.
    #[error("the hard state cannot go from {from:?} to {to:?}")]
    HardStateBack {
        /// What it is.
        from: crate::HardState,
        /// What was given.
        to: crate::HardState,
    },
    /// The commit index is not that of an entry here.
    #[error("commit index {commit} is outside the log, which ends at {last}")]
    CommitOutside {
        /// The commit index.
        commit: u64,
        /// The last entry.
        last: u64,
    },
    /// The payload is larger than an entry may be.
    #[error("entry {index} has {size_bytes} bytes, at most {ENTRY_BYTES_MAX} are allowed")]
    EntryTooLarge {
        /// The entry.
        index: u64,
        /// Its size.
        size_bytes: usize,
    },
    /// Too much waits for a sync.
    #[error("more than {BATCH_BYTES_MAX} bytes wait to be synced")]
    BatchTooLarge,
    /// A segment size that the format has no room for.
    #[error(
        "a segment of {segment_bytes} bytes is not possible: choose {SEGMENT_BYTES_MIN} to \
         {SEGMENT_BYTES_MAX}"
    )]
    SegmentSize {
        /// What was asked for.
        segment_bytes: u64,
    },
    /// All segment numbers are used up.
    #[error("the log has used up its segment numbers: let this node join anew")]
    Exhausted,
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        if let LogError::Storage { action, file, source } = error {
            Self::Storage { action, file, source }
        } else {
            Self::Refused(error)
        }
    }
}

fn hex(bytes: &[u8; 16]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(32), |mut text, b| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}
