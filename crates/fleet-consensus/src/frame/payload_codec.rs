//! The bytes of a [`Payload`].

use bytes::Bytes;
use fleet_state::{
    NodeId, RequestId,
    codec::{DecodeError, Reader, Writer},
};

use super::{
    limits::{
        CHUNK_BYTES_MAX, CHUNK_WANT_BYTES_MAX, INDEX_MAX, OBSERVED_BYTES_MAX, PROPOSAL_BYTES_MAX,
        PROPOSALS_MAX, RAFT_MESSAGES_MAX, READS_MAX, REQUEST_ID_BYTES_MAX, SNAPSHOT_BYTES_MAX,
        TERM_MAX,
    },
    message_codec::{read_message, write_message},
    payload::{Payload, RefuseReason, SnapshotEnd, SnapshotId},
};

const RAFT: u8 = 1;
const PROPOSE: u8 = 2;
const PROPOSE_REFUSED: u8 = 3;
const READ_WANT: u8 = 4;
const READ_GRANT: u8 = 5;
const READ_REFUSED: u8 = 6;
const SNAPSHOT_WANT: u8 = 7;
const SNAPSHOT_CHUNK: u8 = 8;
const SNAPSHOT_DONE: u8 = 9;
const SITE_KEY_WANT: u8 = 10;
const SITE_KEY_GRANT: u8 = 11;
const DIGEST: u8 = 12;
const HELLO: u8 = 13;
const TRANSFER_WANT: u8 = 14;
const OBSERVED: u8 = 15;
const LOG_TIME_WANT: u8 = 16;
const LOG_TIME_TOLD: u8 = 17;

impl Payload {
    const fn code(&self) -> u8 {
        match self {
            Self::Raft(_) => RAFT,
            Self::Propose(_) => PROPOSE,
            Self::ProposeRefused { .. } => PROPOSE_REFUSED,
            Self::ReadWant { .. } => READ_WANT,
            Self::ReadGrant { .. } => READ_GRANT,
            Self::ReadRefused { .. } => READ_REFUSED,
            Self::SnapshotWant { .. } => SNAPSHOT_WANT,
            Self::SnapshotChunk { .. } => SNAPSHOT_CHUNK,
            Self::SnapshotDone { .. } => SNAPSHOT_DONE,
            Self::SiteKeyWant => SITE_KEY_WANT,
            Self::SiteKeyGrant { .. } => SITE_KEY_GRANT,
            Self::Digest { .. } => DIGEST,
            Self::Hello { .. } => HELLO,
            Self::TransferWant { .. } => TRANSFER_WANT,
            Self::Observed { .. } => OBSERVED,
            Self::LogTimeWant { .. } => LOG_TIME_WANT,
            Self::LogTimeTold { .. } => LOG_TIME_TOLD,
        }
    }

    /// Appends the payload.
    pub fn write(&self, writer: &mut Writer) {
        writer.u8(self.code());
        match self {
            Self::Raft(messages) => {
                writer.count(messages.len());
                messages.iter().for_each(|message| write_message(message, writer));
            }
            Self::Propose(proposals) => {
                writer.count(proposals.len());
                proposals.iter().for_each(|proposal| writer.bytes(proposal));
            }
            Self::ProposeRefused { request_ids, reason, leader } => {
                writer.count(request_ids.len());
                request_ids.iter().for_each(|id| writer.text(&id.to_string()));
                writer.u8(reason_code(*reason));
                writer.u64(leader.map_or(0, NodeId::get));
            }
            Self::ReadWant { ids } | Self::ReadRefused { ids } => write_ids(ids, writer),
            Self::ReadGrant { ids, index } => {
                write_ids(ids, writer);
                writer.u64(*index);
            }
            Self::SnapshotWant { id, offset, len } => {
                write_snapshot_id(id, writer);
                writer.u64(*offset);
                writer.u32(*len);
            }
            Self::SnapshotChunk { id, offset, total, bytes } => {
                write_snapshot_id(id, writer);
                writer.u64(*offset);
                writer.u64(*total);
                writer.bytes(bytes);
            }
            Self::SnapshotDone { index, end } => {
                writer.u64(*index);
                writer.u8(end_code(*end));
            }
            Self::SiteKeyWant => {}
            Self::SiteKeyGrant { key } => writer.fixed(key),
            Self::Digest { index, digest } => {
                writer.u64(*index);
                writer.fixed(digest);
            }
            Self::Hello { boot, applied } => {
                writer.u64(*boot);
                writer.u64(*applied);
            }
            Self::TransferWant { to } => writer.u64(to.map_or(0, NodeId::get)),
            Self::Observed { bytes } => writer.bytes(bytes),
            Self::LogTimeWant { asked_ms, feature_level } => {
                writer.u64(*asked_ms);
                writer.u16(*feature_level);
            }
            Self::LogTimeTold { asked_ms, log_ms } => {
                writer.u64(*asked_ms);
                writer.u64(*log_ms);
            }
        }
    }

    /// Reads the payload of a frame between these two nodes; what is large shares the bytes given.
    ///
    /// # Errors
    /// The bytes are not exactly one payload that this version knows, within its limits.
    pub fn read(bytes: &Bytes, from: NodeId, to: NodeId) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let payload = match reader.u8()? {
            RAFT => {
                let count = reader.count(RAFT_MESSAGES_MAX)?;
                let mut messages = Vec::with_capacity(count);
                for _ in 0..count {
                    messages.push(read_message(&mut reader, bytes, from, to)?);
                }
                Self::Raft(messages)
            }
            PROPOSE => read_proposals(&mut reader, bytes)?,
            PROPOSE_REFUSED => read_refused(&mut reader)?,
            READ_WANT => Self::ReadWant { ids: read_ids(&mut reader)? },
            READ_GRANT => {
                Self::ReadGrant { ids: read_ids(&mut reader)?, index: read_index(&mut reader)? }
            }
            READ_REFUSED => Self::ReadRefused { ids: read_ids(&mut reader)? },
            SNAPSHOT_WANT => read_want(&mut reader)?,
            SNAPSHOT_CHUNK => read_chunk(&mut reader, bytes)?,
            SNAPSHOT_DONE => {
                Self::SnapshotDone { index: read_index(&mut reader)?, end: read_end(&mut reader)? }
            }
            SITE_KEY_WANT => Self::SiteKeyWant,
            SITE_KEY_GRANT => Self::SiteKeyGrant { key: reader.fixed()? },
            DIGEST => Self::Digest { index: read_index(&mut reader)?, digest: reader.fixed()? },
            HELLO => Self::Hello { boot: reader.u64()?, applied: read_index(&mut reader)? },
            TRANSFER_WANT => Self::TransferWant { to: NodeId::new(reader.u64()?) },
            OBSERVED => {
                Self::Observed { bytes: bytes.slice_ref(reader.bytes(OBSERVED_BYTES_MAX)?) }
            }
            LOG_TIME_WANT => {
                Self::LogTimeWant { asked_ms: reader.u64()?, feature_level: reader.u16()? }
            }
            LOG_TIME_TOLD => Self::LogTimeTold { asked_ms: reader.u64()?, log_ms: reader.u64()? },
            found => {
                return Err(DecodeError::UnknownKind {
                    what: "a payload",
                    found: u64::from(found),
                });
            }
        };
        reader.finish()?;
        Ok(payload)
    }
}

const fn reason_code(reason: RefuseReason) -> u8 {
    match reason {
        RefuseReason::Busy => 1,
        RefuseReason::NotLeader => 2,
        RefuseReason::Malformed => 3,
        RefuseReason::LowSpace => 4,
    }
}

const fn end_code(end: SnapshotEnd) -> u8 {
    match end {
        SnapshotEnd::Installed => 1,
        SnapshotEnd::Declined => 2,
        SnapshotEnd::Unusable => 3,
    }
}

fn read_end(reader: &mut Reader<'_>) -> Result<SnapshotEnd, DecodeError> {
    match reader.u8()? {
        1 => Ok(SnapshotEnd::Installed),
        2 => Ok(SnapshotEnd::Declined),
        3 => Ok(SnapshotEnd::Unusable),
        found => {
            Err(DecodeError::UnknownKind { what: "the end of a snapshot", found: u64::from(found) })
        }
    }
}

fn write_ids(ids: &[u64], writer: &mut Writer) {
    writer.count(ids.len());
    ids.iter().for_each(|id| writer.u64(*id));
}

fn write_snapshot_id(id: &SnapshotId, writer: &mut Writer) {
    writer.u64(id.index);
    writer.u64(id.term);
    writer.fixed(&id.checksum);
}

fn read_index(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let index = reader.u64()?;
    if index > INDEX_MAX { Err(DecodeError::Invalid { what: "an index" }) } else { Ok(index) }
}

fn read_ids(reader: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
    let count = reader.count(READS_MAX)?;
    (0..count).map(|_| reader.u64()).collect()
}

fn read_proposals(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Payload, DecodeError> {
    let count = reader.count(PROPOSALS_MAX)?;
    let mut proposals = Vec::with_capacity(count);
    for _ in 0..count {
        proposals.push(whole.slice_ref(reader.bytes(PROPOSAL_BYTES_MAX)?));
    }
    Ok(Payload::Propose(proposals))
}

fn read_refused(reader: &mut Reader<'_>) -> Result<Payload, DecodeError> {
    let count = reader.count(PROPOSALS_MAX)?;
    let mut request_ids = Vec::with_capacity(count);
    for _ in 0..count {
        let text = reader.text(REQUEST_ID_BYTES_MAX)?;
        let id: RequestId =
            text.parse().map_err(|_| DecodeError::Invalid { what: "a request id" })?;
        request_ids.push(id);
    }
    let reason = match reader.u8()? {
        1 => RefuseReason::Busy,
        2 => RefuseReason::NotLeader,
        3 => RefuseReason::Malformed,
        4 => RefuseReason::LowSpace,
        found => {
            return Err(DecodeError::UnknownKind { what: "a refusal", found: u64::from(found) });
        }
    };
    Ok(Payload::ProposeRefused { request_ids, reason, leader: NodeId::new(reader.u64()?) })
}

fn read_snapshot_id(reader: &mut Reader<'_>) -> Result<SnapshotId, DecodeError> {
    let index = read_index(reader)?;
    let term = reader.u64()?;
    if term > TERM_MAX {
        return Err(DecodeError::Invalid { what: "a term" });
    }
    Ok(SnapshotId { index, term, checksum: reader.fixed()? })
}

fn read_want(reader: &mut Reader<'_>) -> Result<Payload, DecodeError> {
    let id = read_snapshot_id(reader)?;
    let offset = reader.u64()?;
    let len = reader.u32()?;
    if offset > SNAPSHOT_BYTES_MAX || len > CHUNK_WANT_BYTES_MAX {
        return Err(DecodeError::Invalid { what: "the part of a snapshot" });
    }
    Ok(Payload::SnapshotWant { id, offset, len })
}

fn read_chunk(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Payload, DecodeError> {
    let id = read_snapshot_id(reader)?;
    let offset = reader.u64()?;
    let total = reader.u64()?;
    let bytes = whole.slice_ref(reader.bytes(CHUNK_BYTES_MAX)?);
    let inside = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= total);
    if total > SNAPSHOT_BYTES_MAX || !inside {
        return Err(DecodeError::Invalid { what: "the part of a snapshot" });
    }
    Ok(Payload::SnapshotChunk { id, offset, total, bytes })
}
