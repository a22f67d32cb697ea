//! The raft messages that nodes exchange, as closed types: each kind with the fields that `raft` reads for it, and no
//! other.
//!
//! The library's own message is one open struct: every field may be set on every type, and a type that is meant for
//! local use only is stepped like any other. Many of its panics begin there. What is not listed here can't be sent and
//! can't be received: proposals and reads travel as payloads of their own, and what is local (`Hup`, `Beat`,
//! `Unreachable`, `SnapStatus`, `CheckQuorum`, `TransferLeader`, `ReadIndex` and its answer) never leaves a node.
//!
//! | kind | fields that raft.rs reads |
//! |---|---|
//! | `Append` | index, log_term, entries, commit |
//! | `AppendResponse` | index, commit; when rejected reject_hint, log_term, request_snapshot |
//! | `Vote`, `PreVote` | index, log_term, commit, commit_term, priority; context says "by transfer" |
//! | their answers | reject, commit, commit_term |
//! | `Heartbeat` and its answer | commit, context (of a read) |
//! | `Snapshot` | metadata; the data is a reference of ours |
//! | `TimeoutNow` | none |
//!
//! A message of this form may still be a lie; [`crate::guard`] compares it with what this node knows. Tests are in
//! `tests/frame_message.rs`.

use bytes::Bytes;
use fleet_state::NodeId;

use super::entry::{EntryError, LogEntry};

/// One message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMessage {
    /// The receiver.
    pub to: NodeId,
    /// The sender.
    pub from: NodeId,
    /// The sender's term, or the one that it asks votes for.
    pub term: u64,
    /// The rest.
    pub kind: MessageKind,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// The leader sends entries, or only its commit index.
    Append(Append),
    /// The answer to an append, a snapshot, or to anything from a leader of an old term.
    AppendResponse(AppendResponse),
    /// A candidate asks for a vote in its term.
    Vote(Ballot),
    /// The answer to a vote.
    VoteResponse(BallotAnswer),
    /// A node asks whether it would get a vote in `term`, without being in it.
    PreVote(Ballot),
    /// The answer to a pre-vote.
    PreVoteResponse(BallotAnswer),
    /// The leader is alive.
    Heartbeat(Beat),
    /// The answer to a heartbeat.
    HeartbeatResponse(Beat),
    /// The leader offers a snapshot in place of entries that it no longer has.
    Snapshot(SnapshotOffer),
    /// The leader hands over: campaign now.
    TimeoutNow,
}

impl MessageKind {
    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::AppendResponse(_) => "append_response",
            Self::Vote(_) => "vote",
            Self::VoteResponse(_) => "vote_response",
            Self::PreVote(_) => "pre_vote",
            Self::PreVoteResponse(_) => "pre_vote_response",
            Self::Heartbeat(_) => "heartbeat",
            Self::HeartbeatResponse(_) => "heartbeat_response",
            Self::Snapshot(_) => "snapshot",
            Self::TimeoutNow => "timeout_now",
        }
    }
}

/// Entries that follow the one at `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Index of the entry before the first.
    pub index: u64,
    /// Its term.
    pub log_term: u64,
    /// The leader's commit index.
    pub commit: u64,
    /// The entries, with indexes from `index + 1` on.
    pub entries: Vec<LogEntry>,
}

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendResponse {
    /// Last index known to be equal; or, when rejected, the index that the append began after.
    pub index: u64,
    /// The follower's commit index.
    pub commit: u64,
    /// Set when the follower has no such entry to append after.
    pub reject: Option<Reject>,
}

/// Where the follower's log may still be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The index to go on from.
    pub hint: u64,
    /// The follower's term at that index.
    pub log_term: u64,
    /// Not 0 when the follower asks for a snapshot of at least this index.
    pub request_snapshot: u64,
}

/// What a candidate shows of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// Its last index.
    pub index: u64,
    /// The term of its last entry.
    pub log_term: u64,
    /// Its commit index.
    pub commit: u64,
    /// The term of the entry there.
    pub commit_term: u64,
    /// Breaks ties between equal logs.
    pub priority: i64,
    /// The leader told it to campaign; receivers don't wait for the leader to fall silent.
    pub transfer: bool,
}

/// A vote given or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BallotAnswer {
    /// Refused.
    pub reject: bool,
    /// The voter's commit index when it refuses, else 0.
    pub commit: u64,
    /// The term of the entry there.
    pub commit_term: u64,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// From the leader: what the receiver may take as committed. From a follower: its commit index.
    pub commit: u64,
    /// The read that the heartbeat confirms, if any.
    pub context: Bytes,
}

/// A snapshot as the leader announces it. The bytes are asked for in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Index of the last entry in it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// Voters at that index.
    pub voters: Vec<NodeId>,
    /// Learners at that index.
    pub learners: Vec<NodeId>,
    /// Which file.
    pub file: SnapshotRef,
}

/// A snapshot file by size and content; this is what `raft` carries as the snapshot's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SnapshotRef {
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub checksum: [u8; 32],
}

/// Why a message of `raft` can't be sent, or a step not made of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A type that never leaves a node.
    #[error("a raft message of type {0} is for local use and is never sent")]
    LocalType(i32),
    /// Sender or receiver is 0.
    #[error("a raft message has no sender or no receiver")]
    NoNode,
    /// The configuration of a snapshot is a joint one, or names node 0.
    #[error("the snapshot at index {0} has a configuration that this version never makes")]
    ConfState(u64),
    /// The data of a snapshot is not our reference to a file.
    #[error("the snapshot at index {0} does not carry a reference to its file")]
    SnapshotRef(u64),
    /// The context of a heartbeat is larger than ours are.
    #[error("a read context of {0} bytes is above the limit")]
    Context(usize),
    /// The entries do not follow each other.
    #[error("the entries after index {0} do not follow each other")]
    NotContiguous(u64),
    /// An entry that we never make.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl RaftMessage {
    /// About how many bytes it takes on the wire, never too few.
    #[must_use]
    pub fn size_bytes_bound(&self) -> usize {
        const SMALL: usize = 128;
        match &self.kind {
            MessageKind::Append(append) => {
                SMALL + append.entries.iter().map(LogEntry::size_bytes_bound).sum::<usize>()
            }
            MessageKind::Snapshot(offer) => {
                SMALL + 10 * (offer.voters.len() + offer.learners.len())
            }
            MessageKind::AppendResponse(_)
            | MessageKind::Vote(_)
            | MessageKind::VoteResponse(_)
            | MessageKind::PreVote(_)
            | MessageKind::PreVoteResponse(_)
            | MessageKind::Heartbeat(_)
            | MessageKind::HeartbeatResponse(_)
            | MessageKind::TimeoutNow => SMALL,
        }
    }
}
