//! What nodes say to each other inside a sealed frame.
//!
//! Raft messages are one kind of payload. The others are ours: proposals on their way to the leader and what became of
//! those that were refused, reads that ask the leader how far to wait, snapshots in chunks, the site key for a new
//! voter, digests, and greetings. Answers to proposals are not among them: every node answers its own waiters from the
//! log that it applies.
//!
//! The bytes are bounded by [`super::limits`] and read into these closed types. A kind that this version doesn't know
//! is an error for the reader to count, not to guess at. Tests are in `tests/frame_payload.rs`.

use bytes::Bytes;
use fleet_state::{NodeId, RequestId};

use super::{limits::REQUEST_ID_BYTES_MAX, message::RaftMessage};

/// One thing that a node tells another.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// Messages between replicas, in order.
    Raft(Vec<RaftMessage>),
    /// Encoded proposals for the leader to propose, in order.
    Propose(Vec<Bytes>),
    /// Proposals that the receiver did not propose. They may be sent again under the same request ids.
    ProposeRefused {
        /// Which.
        request_ids: Vec<RequestId>,
        /// Why.
        reason: RefuseReason,
        /// Whom to ask instead, if known.
        leader: Option<NodeId>,
    },
    /// Reads that want to know how far to wait. Ids are the asker's own and must differ between its starts.
    ReadWant {
        /// Which.
        ids: Vec<u64>,
    },
    /// The reads are linearizable once the asker has applied `index`.
    ReadGrant {
        /// Which.
        ids: Vec<u64>,
        /// The index to wait for.
        index: u64,
    },
    /// The receiver can't grant these reads.
    ReadRefused {
        /// Which.
        ids: Vec<u64>,
    },
    /// A part of a snapshot file is wanted.
    SnapshotWant {
        /// Which file.
        id: SnapshotId,
        /// From where.
        offset: u64,
        /// How much, in one or more chunks.
        len: u32,
    },
    /// A part of a snapshot file.
    SnapshotChunk {
        /// Which file.
        id: SnapshotId,
        /// Where it begins.
        offset: u64,
        /// Size of the whole file.
        total: u64,
        /// The part.
        bytes: Bytes,
    },
    /// The receiver of a snapshot has installed it, or given up.
    SnapshotDone {
        /// Index of the snapshot.
        index: u64,
        /// How it ended.
        end: SnapshotEnd,
    },
    /// A new voter asks for the site key.
    SiteKeyWant,
    /// The secret site key. Debug output leaves it out.
    SiteKeyGrant {
        /// The Ed25519 seed.
        key: [u8; 32],
    },
    /// The sender's combined digest of the state at an index.
    Digest {
        /// Index.
        index: u64,
        /// Digest.
        digest: [u8; 32],
    },
    /// The receiver, if it leads, should hand leadership over.
    TransferWant {
        /// To whom; `None` leaves the choice to the leader.
        to: Option<NodeId>,
    },
    /// What the sender observed of its devices; what it means is between the agents.
    Observed {
        /// In their own form.
        bytes: Bytes,
    },
    /// The asker wants to know the leader's log time.
    LogTimeWant {
        /// The asker's own clock, given back.
        asked_ms: u64,
        /// The highest feature level that the asker's program reads, which the leader wants to know as often.
        feature_level: u16,
    },
    /// The log time of the sender, who leads.
    LogTimeTold {
        /// When it was asked for, by the asker's clock.
        asked_ms: u64,
        /// Log time when the question arrived.
        log_ms: u64,
    },
    /// The sender is there. The only payload that is taken from a node which doesn't know our present start.
    Hello {
        /// Its boot counter; the header's, repeated for logs.
        boot: u64,
        /// Its applied index.
        applied: u64,
    },
}

/// Which snapshot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotId {
    /// Index of the last entry in it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// SHA-256 of the file.
    pub checksum: [u8; 32],
}

/// How a snapshot ended at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotEnd {
    /// It is installed, or was not needed any more.
    Installed,
    /// The receiver can't take it; the file may be sound.
    Declined,
    /// The file is not what the sender promised: it must not be offered again.
    Unusable,
}

/// Why relayed proposals were not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// Too much is under way; later.
    Busy,
    /// The receiver doesn't lead.
    NotLeader,
    /// The bytes are not a proposal; trying again is of no use.
    Malformed,
    /// The disk of the leader is nearly full, and no other node took over.
    LowSpace,
}

impl RefuseReason {
    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NotLeader => "not_leader",
            Self::Malformed => "malformed",
            Self::LowSpace => "low_space",
        }
    }

    /// The reason for the one whose command it was, the same whether the leader is near or far.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Busy => "the leader has too much uncommitted; retry shortly",
            Self::NotLeader => {
                "the node that was taken for the leader does not lead; retry shortly"
            }
            Self::Malformed => {
                "the leader cannot read the command; update the older of the two agents"
            }
            Self::LowSpace => "the disk of the leader is nearly full; free space on it",
        }
    }
}

impl Payload {
    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Raft(_) => "raft",
            Self::Propose(_) => "propose",
            Self::ProposeRefused { .. } => "propose_refused",
            Self::ReadWant { .. } => "read_want",
            Self::ReadGrant { .. } => "read_grant",
            Self::ReadRefused { .. } => "read_refused",
            Self::SnapshotWant { .. } => "snapshot_want",
            Self::SnapshotChunk { .. } => "snapshot_chunk",
            Self::SnapshotDone { .. } => "snapshot_done",
            Self::SiteKeyWant => "site_key_want",
            Self::SiteKeyGrant { .. } => "site_key_grant",
            Self::Digest { .. } => "digest",
            Self::Hello { .. } => "hello",
            Self::TransferWant { .. } => "transfer_want",
            Self::Observed { .. } => "observed",
            Self::LogTimeWant { .. } => "log_time_want",
            Self::LogTimeTold { .. } => "log_time_told",
        }
    }

    /// About how many bytes it takes, never too few: room for the writer.
    #[must_use]
    pub fn size_bytes_bound(&self) -> usize {
        const SMALL: usize = 256;
        match self {
            Self::Raft(messages) => {
                SMALL + messages.iter().map(RaftMessage::size_bytes_bound).sum::<usize>()
            }
            Self::Propose(proposals) => {
                SMALL + proposals.iter().map(|bytes| bytes.len() + 5).sum::<usize>()
            }
            Self::ProposeRefused { request_ids, .. } => {
                SMALL + request_ids.len() * (REQUEST_ID_BYTES_MAX + 1)
            }
            Self::ReadWant { ids } | Self::ReadGrant { ids, .. } | Self::ReadRefused { ids } => {
                SMALL + ids.len() * 10
            }
            Self::SnapshotChunk { bytes, .. } | Self::Observed { bytes } => SMALL + bytes.len(),
            Self::SnapshotWant { .. }
            | Self::SnapshotDone { .. }
            | Self::SiteKeyWant
            | Self::SiteKeyGrant { .. }
            | Self::Digest { .. }
            | Self::TransferWant { .. }
            | Self::LogTimeWant { .. }
            | Self::LogTimeTold { .. }
            | Self::Hello { .. } => SMALL,
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The site key is a secret, proposals and chunks are long: their name is enough.
        if let Self::Raft(messages) = self {
            return f.debug_tuple("Raft").field(messages).finish();
        }
        f.write_str(self.as_str())
    }
}
