//! Snapshot files.

use std::io::{self, Read, Write};

use thiserror::Error;

use crate::codec::DecodeError;
use crate::ids::{NodeId, SiteName, SiteUid};
use crate::state::FleetState;

/// What a snapshot's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The site.
    pub site: SiteName,
    /// Its uid.
    pub uid: SiteUid,
    /// The newest entry that is in the state.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// Who votes at that entry, ascending.
    pub voters: Vec<NodeId>,
    /// Who learns at that entry, ascending.
    pub learners: Vec<NodeId>,
    /// Wall time of that entry, for display.
    pub wall_time_ms: u64,
}

/// Why a file is no snapshot that can be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("the snapshot cannot be read")]
    Io(#[from] io::Error),
    /// It does not start as a snapshot does.
    #[error("this is no snapshot of flotilla")]
    NotASnapshot,
    /// Written by a newer release.
    #[error(
        "the snapshot has format version {found}; this version of flotilla reads up to {known}"
    )]
    UnknownVersion {
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The file ends too early.
    #[error("the snapshot is cut short")]
    Truncated,
    /// The checksum at the end is not that of the content.
    #[error("the snapshot is damaged: its checksum does not fit its content")]
    Checksum,
    /// The content is larger than allowed.
    #[error("the snapshot holds more than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The compressed content cannot be unpacked.
    #[error("the snapshot's content cannot be unpacked")]
    Compression,
    /// A part cannot be decoded.
    #[error("the snapshot's {part} cannot be decoded")]
    Decode {
        /// Which part.
        part: &'static str,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The parts contradict each other.
    #[error("the snapshot contradicts itself: {what}")]
    Inconsistent {
        /// Where.
        what: &'static str,
    },
}

/// Writes a state as a snapshot file.
///
/// # Errors
/// Writing failed.
pub fn encode_snapshot(
    state: &FleetState,
    meta: &SnapshotMeta,
    out: &mut dyn Write,
) -> io::Result<()> {
    let _ = (state, meta, out);
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Reads a snapshot file whose content is at most `limit_bytes` when unpacked.
///
/// # Errors
/// Anything but a whole, undamaged snapshot of a version that is known.
pub fn decode_snapshot(
    input: &mut dyn Read,
    limit_bytes: u64,
) -> Result<(SnapshotMeta, FleetState), SnapshotError> {
    let _ = (input, limit_bytes);
    Err(SnapshotError::NotASnapshot)
}

/// Reads a snapshot's header and checks the checksum of the whole file, without unpacking the state.
///
/// # Errors
/// The header or the checksum is wrong.
pub fn read_snapshot_meta(input: &mut dyn Read) -> Result<SnapshotMeta, SnapshotError> {
    let _ = input;
    Err(SnapshotError::NotASnapshot)
}
