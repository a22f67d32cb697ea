//! Packs what is to be sent to one node into payloads of a size that a receiver takes.
//!
//! `raft` may put all that a follower lacks into one append. Such an append is cut into several that follow each
//! other: each begins after the last entry of the one before, under the same commit index, which a follower never
//! takes further than the entries it was given.

use bytes::Bytes;

use super::{
    entry::LogEntry,
    limits::{APPEND_ENTRIES_MAX, PACK_BYTES_TARGET, PROPOSALS_MAX, RAFT_MESSAGES_MAX},
    message::{Append, MessageKind, RaftMessage},
    payload::Payload,
};

/// Messages for one node, in their order, as payloads to be sent in that order.
#[must_use]
pub fn pack_messages(messages: Vec<RaftMessage>) -> Vec<Payload> {
    let mut payloads = Vec::new();
    let mut batch: Vec<RaftMessage> = Vec::new();
    let mut batch_bytes = 0usize;
    for message in messages.into_iter().flat_map(cut) {
        let size = message.size_bytes_bound();
        let full = batch.len() >= RAFT_MESSAGES_MAX || batch_bytes + size > PACK_BYTES_TARGET;
        if full && !batch.is_empty() {
            payloads.push(Payload::Raft(std::mem::take(&mut batch)));
            batch_bytes = 0;
        }
        batch_bytes += size;
        batch.push(message);
    }
    if !batch.is_empty() {
        payloads.push(Payload::Raft(batch));
    }
    payloads
}

/// Encoded proposals for the leader, in their order, as payloads to be sent in that order.
#[must_use]
pub fn pack_proposals(proposals: Vec<Bytes>) -> Vec<Payload> {
    let mut payloads = Vec::new();
    let mut batch: Vec<Bytes> = Vec::new();
    let mut batch_bytes = 0usize;
    for proposal in proposals {
        let full = batch.len() >= PROPOSALS_MAX || batch_bytes + proposal.len() > PACK_BYTES_TARGET;
        if full && !batch.is_empty() {
            payloads.push(Payload::Propose(std::mem::take(&mut batch)));
            batch_bytes = 0;
        }
        batch_bytes += proposal.len();
        batch.push(proposal);
    }
    if !batch.is_empty() {
        payloads.push(Payload::Propose(batch));
    }
    payloads
}

fn cut(message: RaftMessage) -> Vec<RaftMessage> {
    let RaftMessage { to, from, term, kind } = message;
    match kind {
        MessageKind::Append(append) => cut_append(append)
            .into_iter()
            .map(|part| RaftMessage { to, from, term, kind: MessageKind::Append(part) })
            .collect(),
        kind @ (MessageKind::AppendResponse(_)
        | MessageKind::Vote(_)
        | MessageKind::VoteResponse(_)
        | MessageKind::PreVote(_)
        | MessageKind::PreVoteResponse(_)
        | MessageKind::Heartbeat(_)
        | MessageKind::HeartbeatResponse(_)
        | MessageKind::Snapshot(_)
        | MessageKind::TimeoutNow) => vec![RaftMessage { to, from, term, kind }],
    }
}

fn cut_append(append: Append) -> Vec<Append> {
    let size: usize = append.entries.iter().map(LogEntry::size_bytes_bound).sum();
    if size <= PACK_BYTES_TARGET && append.entries.len() <= APPEND_ENTRIES_MAX {
        return vec![append];
    }
    let Append { mut index, mut log_term, commit, entries } = append;
    let mut parts = Vec::new();
    let mut part: Vec<LogEntry> = Vec::new();
    let mut part_bytes = 0usize;
    for entry in entries {
        let size = entry.size_bytes_bound();
        let full = part.len() >= APPEND_ENTRIES_MAX || part_bytes + size > PACK_BYTES_TARGET;
        if let (true, Some(last)) = (full, part.last()) {
            let next = (last.index, last.term);
            parts.push(Append { index, log_term, commit, entries: std::mem::take(&mut part) });
            (index, log_term) = next;
            part_bytes = 0;
        }
        part_bytes += size;
        part.push(entry);
    }
    parts.push(Append { index, log_term, commit, entries: part });
    parts
}
