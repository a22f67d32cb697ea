//! The whole state as a file.
//!
//! ```text
//! magic "FLOTSNAP"   8 bytes
//! format version     u16, little-endian
//! header length      u32, little-endian
//! header             SnapshotMeta, by the codec of this crate
//! body               an LZ4 frame: independent blocks of 64 KiB
//! checksum           SHA-256 of everything before it
//! ```
//!
//! The body is a sequence of records, each behind its length as u32: the counters, then for each section a count and
//! its records in the order of their keys, and last the combined digest, which must come out again. Equal states
//! under equal headers give equal bytes, with one release of flotilla; what must stay readable by later releases is
//! kept as files in `tests/golden`.
//!
//! Writing streams; a snapshot is never held in memory as a whole. Reading trusts nothing: lengths and counts are
//! bounded, unpacking stops at a limit that the caller gives, every record is decoded by the bounded codec, and a
//! state comes out only when the checksum fits as well.
//!
//! Its tests are in `tests/suite/snapshot.rs`.

mod read;
mod stream;
mod write;

use std::io;

use thiserror::Error;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{NodeId, SiteName, SiteUid};
use crate::limits::{MEMBERS_MAX, RECORD_BYTES_MAX};

pub use read::{decode_snapshot, read_snapshot_meta};
pub use write::encode_snapshot;

const MAGIC: &[u8; 8] = b"FLOTSNAP";
const VERSION: u16 = 1;
const CHECKSUM_BYTES: usize = 32;

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
    /// The file ends before its content starts.
    #[error("the snapshot is cut short")]
    Truncated,
    /// The checksum at the end is not that of the content.
    #[error("the snapshot is damaged or cut short: its checksum does not fit its content")]
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

impl SnapshotMeta {
    fn encode(&self, writer: &mut Writer) {
        writer.text(self.site.as_str());
        writer.fixed(self.uid.as_bytes());
        writer.u64(self.index);
        writer.u64(self.term);
        encode_nodes(&self.voters, writer);
        encode_nodes(&self.learners, writer);
        writer.u64(self.wall_time_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let meta = Self {
            site: reader.id()?,
            uid: SiteUid::from_bytes(reader.fixed()?),
            index: reader.u64()?,
            term: reader.u64()?,
            voters: decode_nodes(&mut reader)?,
            learners: decode_nodes(&mut reader)?,
            wall_time_ms: reader.u64()?,
        };
        reader.finish()?;
        Ok(meta)
    }
}

fn encode_nodes(nodes: &[NodeId], writer: &mut Writer) {
    writer.count(nodes.len());
    nodes.iter().for_each(|node| writer.u64(node.get()));
}

fn decode_nodes(reader: &mut Reader<'_>) -> Result<Vec<NodeId>, DecodeError> {
    let count = reader.count(MEMBERS_MAX)?;
    let nodes = (0..count).map(|_| reader.node()).collect::<Result<Vec<_>, _>>()?;
    if nodes.is_sorted_by(|one, next| one < next) {
        Ok(nodes)
    } else {
        Err(DecodeError::Invalid { what: "the order of node ids" })
    }
}

// A record's length is a u32.
const _: () = assert!(RECORD_BYTES_MAX <= u32::MAX as usize);
