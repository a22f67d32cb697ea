//! What a replica says about itself: plain values, taken at one point in time.
//!
//! A [`View`] is what readers get. It holds an O(1) clone of the fleet state, so a
//! query, a snapshot or a page of a listing never touches the loop that owns the
//! replica. A view is as old as `applied`; who needs more asks for a read barrier
//! first (see `reads.rs`).

use fleet_state::{FleetState, NodeId, Revision};

use crate::leases::Leases;

/// The Raft role of a node, as in the Raft paper, plus the learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// Leads the site in its term.
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes in a new term.
    Candidate,
    /// Asks whether it would get votes, without raising the term.
    PreCandidate,
    /// Replicates the log and has no vote (a learner or a standby).
    Learner,
}

impl NodeRole {
    /// The word used in status output and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::PreCandidate => "pre_candidate",
            Self::Learner => "learner",
        }
    }
}

impl std::fmt::Display for NodeRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the leader knows another member's log to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// The member.
    pub node: NodeId,
    /// Highest index known to be in that member's log.
    pub matched: u64,
    /// Whether it answered within the last election timeout.
    pub active: bool,
    /// Whether it is being sent a snapshot.
    pub in_snapshot: bool,
}

/// Where a replica stands: the Raft part of a [`View`].
#[derive(Clone, Debug)]
pub struct Standing {
    /// This node.
    pub node: NodeId,
    /// Its role.
    pub role: NodeRole,
    /// The leader that it knows of in its term.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Highest index known to be committed.
    pub commit: u64,
    /// First index still in the log.
    pub first_index: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Voters of the applied configuration, ascending.
    pub voters: Vec<NodeId>,
    /// Learners of the applied configuration, ascending.
    pub learners: Vec<NodeId>,
    /// The other members' progress; empty unless this node leads.
    pub progress: Vec<MemberProgress>,
    /// Index of the newest snapshot on disk.
    pub snapshot_index: u64,
    /// Bytes that the log takes on disk.
    pub log_bytes: u64,
    /// The disk is nearly full, so this node takes no proposals and does not want to lead.
    pub low_space: bool,
    /// When members asked for read barriers last; says nothing unless this node leads.
    pub leases: Leases,
}

impl Standing {
    /// Whether both say the same of who leads whom; how far anybody has come may differ.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let of = |s: &Self| (s.node, s.role, s.leader, s.term);
        of(self) == of(other) && self.voters == other.voters && self.learners == other.learners
    }
}

/// The fleet state as of `applied`, and where the replica stands.
#[derive(Clone, Debug)]
pub struct View {
    /// State with every entry up to `applied` in it.
    pub state: FleetState,
    /// Index of the last applied entry.
    pub applied: Revision,
    /// The Raft part.
    pub standing: std::sync::Arc<Standing>,
    /// When `applied` was reached, in milliseconds of the node's monotonic clock.
    pub applied_at_ms: u64,
    /// Since when no leader is known, same clock; `None` while one is known.
    pub leaderless_since_ms: Option<u64>,
}
