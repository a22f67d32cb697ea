//! The bytes of a [`RaftMessage`] inside a frame.
//!
//! Sender and receiver are not written: they are those of the frame, which the seal vouches for.

use bytes::Bytes;
use fleet_state::{
    NodeId,
    codec::{DecodeError, Reader, Writer},
};

use super::{
    entry::{LogEntry, read_node},
    limits::{
        APPEND_ENTRIES_MAX, INDEX_MAX, LEARNERS_MAX, READ_CONTEXT_BYTES_MAX, SNAPSHOT_BYTES_MAX,
        TERM_MAX, VOTERS_MAX,
    },
    message::{
        Append, AppendResponse, Ballot, BallotAnswer, Beat, MessageKind, RaftMessage, Reject,
        SnapshotOffer, SnapshotRef,
    },
};

const APPEND: u8 = 1;
const APPEND_RESPONSE: u8 = 2;
const VOTE: u8 = 3;
const VOTE_RESPONSE: u8 = 4;
const PRE_VOTE: u8 = 5;
const PRE_VOTE_RESPONSE: u8 = 6;
const HEARTBEAT: u8 = 7;
const HEARTBEAT_RESPONSE: u8 = 8;
const SNAPSHOT: u8 = 9;
const TIMEOUT_NOW: u8 = 10;

/// Appends one message.
pub(super) fn write_message(message: &RaftMessage, writer: &mut Writer) {
    writer.u8(match &message.kind {
        MessageKind::Append(_) => APPEND,
        MessageKind::AppendResponse(_) => APPEND_RESPONSE,
        MessageKind::Vote(_) => VOTE,
        MessageKind::VoteResponse(_) => VOTE_RESPONSE,
        MessageKind::PreVote(_) => PRE_VOTE,
        MessageKind::PreVoteResponse(_) => PRE_VOTE_RESPONSE,
        MessageKind::Heartbeat(_) => HEARTBEAT,
        MessageKind::HeartbeatResponse(_) => HEARTBEAT_RESPONSE,
        MessageKind::Snapshot(_) => SNAPSHOT,
        MessageKind::TimeoutNow => TIMEOUT_NOW,
    });
    writer.u64(message.term);
    match &message.kind {
        MessageKind::Append(append) => {
            writer.u64(append.index);
            writer.u64(append.log_term);
            writer.u64(append.commit);
            writer.count(append.entries.len());
            for entry in &append.entries {
                entry.write(writer);
            }
        }
        MessageKind::AppendResponse(response) => write_append_response(response, writer),
        MessageKind::Vote(ballot) | MessageKind::PreVote(ballot) => {
            writer.u64(ballot.index);
            writer.u64(ballot.log_term);
            writer.u64(ballot.commit);
            writer.u64(ballot.commit_term);
            writer.i64(ballot.priority);
            writer.bool(ballot.transfer);
        }
        MessageKind::VoteResponse(answer) | MessageKind::PreVoteResponse(answer) => {
            writer.bool(answer.reject);
            writer.u64(answer.commit);
            writer.u64(answer.commit_term);
        }
        MessageKind::Heartbeat(beat) | MessageKind::HeartbeatResponse(beat) => {
            writer.u64(beat.commit);
            writer.bytes(&beat.context);
        }
        MessageKind::Snapshot(offer) => write_offer(offer, writer),
        MessageKind::TimeoutNow => {}
    }
}

fn write_append_response(response: &AppendResponse, writer: &mut Writer) {
    writer.u64(response.index);
    writer.u64(response.commit);
    writer.bool(response.reject.is_some());
    if let Some(reject) = &response.reject {
        writer.u64(reject.hint);
        writer.u64(reject.log_term);
        writer.u64(reject.request_snapshot);
    }
}

fn write_offer(offer: &SnapshotOffer, writer: &mut Writer) {
    writer.u64(offer.index);
    writer.u64(offer.term);
    for nodes in [&offer.voters, &offer.learners] {
        writer.count(nodes.len());
        for node in nodes {
            writer.u64(node.get());
        }
    }
    offer.file.write(writer);
}

/// Takes one message off the reader; `whole` is what the reader reads, so that entries share its bytes.
pub(super) fn read_message(
    reader: &mut Reader<'_>,
    whole: &Bytes,
    from: NodeId,
    to: NodeId,
) -> Result<RaftMessage, DecodeError> {
    let code = reader.u8()?;
    let term = read_term(reader)?;
    let kind = match code {
        APPEND => MessageKind::Append(read_append(reader, whole)?),
        APPEND_RESPONSE => MessageKind::AppendResponse(read_append_response(reader)?),
        VOTE => MessageKind::Vote(read_ballot(reader)?),
        VOTE_RESPONSE => MessageKind::VoteResponse(read_ballot_answer(reader)?),
        PRE_VOTE => MessageKind::PreVote(read_ballot(reader)?),
        PRE_VOTE_RESPONSE => MessageKind::PreVoteResponse(read_ballot_answer(reader)?),
        HEARTBEAT => MessageKind::Heartbeat(read_beat(reader, whole)?),
        HEARTBEAT_RESPONSE => MessageKind::HeartbeatResponse(read_beat(reader, whole)?),
        SNAPSHOT => MessageKind::Snapshot(read_offer(reader)?),
        TIMEOUT_NOW => MessageKind::TimeoutNow,
        found => {
            return Err(DecodeError::UnknownKind {
                what: "a raft message",
                found: u64::from(found),
            });
        }
    };
    Ok(RaftMessage { to, from, term, kind })
}

fn read_term(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    bounded(reader.u64()?, TERM_MAX, "a term")
}

fn read_index(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    bounded(reader.u64()?, INDEX_MAX, "an index")
}

fn bounded(value: u64, max: u64, what: &'static str) -> Result<u64, DecodeError> {
    if value > max { Err(DecodeError::Invalid { what }) } else { Ok(value) }
}

fn read_append(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Append, DecodeError> {
    let index = read_index(reader)?;
    let log_term = read_term(reader)?;
    let commit = read_index(reader)?;
    let count = reader.count(APPEND_ENTRIES_MAX)?;
    let mut entries = Vec::with_capacity(count);
    // INDEX_MAX leaves room for the additions.
    for at in (index + 1..).take(count) {
        entries.push(LogEntry::read(reader, whole, at)?);
    }
    Ok(Append { index, log_term, commit, entries })
}

fn read_append_response(reader: &mut Reader<'_>) -> Result<AppendResponse, DecodeError> {
    let index = read_index(reader)?;
    let commit = read_index(reader)?;
    let reject = if reader.bool()? {
        let hint = read_index(reader)?;
        let log_term = read_term(reader)?;
        Some(Reject { hint, log_term, request_snapshot: read_index(reader)? })
    } else {
        None
    };
    Ok(AppendResponse { index, commit, reject })
}

fn read_ballot(reader: &mut Reader<'_>) -> Result<Ballot, DecodeError> {
    Ok(Ballot {
        index: read_index(reader)?,
        log_term: read_term(reader)?,
        commit: read_index(reader)?,
        commit_term: read_term(reader)?,
        priority: reader.i64()?,
        transfer: reader.bool()?,
    })
}

fn read_ballot_answer(reader: &mut Reader<'_>) -> Result<BallotAnswer, DecodeError> {
    Ok(BallotAnswer {
        reject: reader.bool()?,
        commit: read_index(reader)?,
        commit_term: read_term(reader)?,
    })
}

fn read_beat(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Beat, DecodeError> {
    let commit = read_index(reader)?;
    let context = whole.slice_ref(reader.bytes(READ_CONTEXT_BYTES_MAX)?);
    Ok(Beat { commit, context })
}

fn read_offer(reader: &mut Reader<'_>) -> Result<SnapshotOffer, DecodeError> {
    let index = read_index(reader)?;
    let term = read_term(reader)?;
    let voters = read_nodes(reader, VOTERS_MAX)?;
    let learners = read_nodes(reader, LEARNERS_MAX)?;
    let file = SnapshotRef::read(reader)?;
    if file.size_bytes > SNAPSHOT_BYTES_MAX {
        return Err(DecodeError::Invalid { what: "the size of a snapshot" });
    }
    Ok(SnapshotOffer { index, term, voters, learners, file })
}

fn read_nodes(reader: &mut Reader<'_>, limit: usize) -> Result<Vec<NodeId>, DecodeError> {
    let count = reader.count(limit)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(read_node(reader)?);
    }
    Ok(nodes)
}
