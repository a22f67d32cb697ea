//! Looks at a message of an authenticated node before `raft` steps it.
//!
//! The library trusts its peers: a heartbeat that commits more than the log holds, entries that don't follow each other,
//! a contradictory configuration, a term close to the largest number — each ends in a panic, some of them again after
//! every restart. And it trusts whoever speaks: any id may announce itself as leader, hand over leadership, or
//! acknowledge what was never sent. The seal of a frame answers who speaks. The guard compares what is said with what
//! this node knows, and lets pass only what `raft` can survive.
//!
//! In: a [`RaftMessage`], the sender that the frame proved, a [`GuardView`] of this replica taken now, the time. Out:
//! pass, or an [`Objection`]: [`Refusal`] (drop and count) or [`LostLog`] (this node can't have what it acknowledged and
//! must not vote). It keeps one thing, when it last let a `TimeoutNow` pass.
//!
//! It must never refuse what an honest node sends, however late, whatever changes of the configuration are under way.
//! So the configuration of this node, which may lag, decides only about answers, which this node's own questions
//! caused. **Requests are taken from every authenticated, not removed node**: a leader or candidate may have become a
//! voter by entries that this node is yet to apply, and refusing it could leave a site without a majority. What an
//! authenticated node can do by lying is bounded: it can't raise the term far, can't speak against the known leader
//! within its term, can't make this node panic. It can end this node for good, by saying what only a node that lost
//! its log or was set back would hear: believing that too often costs a node, believing it too late costs what was
//! acknowledged. A member that may lie has to be removed.
//!
//! Messages of a lower term go through unchecked but for their sender: `raft` ignores them, or answers so that an old
//! leader steps down.
//!
//! Tests are in `tests/guard_*.rs`, one for each kind of hostile message, with a real replica behind the guard.

mod from_leader;
mod refusal;
mod responses;

use fleet_state::NodeId;

use crate::{
    frame::{
        Ballot, MessageKind, RaftMessage,
        limits::{INDEX_MAX, TERM_MAX},
    },
    status::NodeRole,
};

pub use from_leader::check_offer;
pub use refusal::{LostLog, Objection, Refusal};

/// How far above this node's term a message may be. Terms grow by one for each election that was really held; with
/// pre-votes a node that is cut off holds none.
pub const TERM_JUMP_MAX: u64 = 1_000_000;
/// Handovers that this node follows are at least this far apart.
pub const TIMEOUT_NOW_GAP_MS: u64 = 100;

/// What this replica knows at the moment of the check.
#[derive(Clone, Copy, Debug)]
pub struct GuardView<'a> {
    /// This node.
    pub me: NodeId,
    /// Its term.
    pub term: u64,
    /// The leader that it knows of in its term.
    pub leader: Option<NodeId>,
    /// Its role.
    pub role: NodeRole,
    /// Last index in its log, whether synced yet or not, or of a snapshot that it is about to install.
    pub last_index: u64,
    /// Voters of its configuration; empty as long as it has none.
    pub voters: &'a [NodeId],
    /// Learners of its configuration.
    pub learners: &'a [NodeId],
    /// On a leader: the index up to which the sender's log is known to be equal.
    pub matched: Option<u64>,
}

impl GuardView<'_> {
    fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// A node that has just joined has no configuration, and no term worth comparing with.
    fn has_configuration(&self) -> bool {
        !self.voters.is_empty()
    }
}

/// The check before a step.
#[derive(Debug, Default)]
pub struct Guard {
    timeout_now_ms: Option<u64>,
}

impl Guard {
    /// A guard that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `raft` may step the message that came in a frame of `sender`.
    ///
    /// # Errors
    /// It may not.
    pub fn check(
        &mut self,
        message: &RaftMessage,
        sender: NodeId,
        view: &GuardView<'_>,
        now_ms: u64,
    ) -> Result<(), Objection> {
        check_envelope(message, sender, view)?;
        if message.term < view.term {
            return Ok(());
        }
        match &message.kind {
            MessageKind::Append(append) => from_leader::check_append(message, append, view),
            MessageKind::Heartbeat(beat) => from_leader::check_heartbeat(message, beat, view),
            MessageKind::Snapshot(offer) => from_leader::check_snapshot(message, offer, view),
            MessageKind::TimeoutNow => self.check_timeout_now(message, view, now_ms),
            // A node that was never in a term can't say no to a pre-vote: the answer would carry no term, and `raft`
            // panics. Nobody counts on the vote of such a node.
            MessageKind::PreVote(_) if view.term == 0 => Err(Refusal::NotAVoter.into()),
            MessageKind::Vote(ballot) | MessageKind::PreVote(ballot) => {
                check_ballot(message.term, ballot)
            }
            MessageKind::AppendResponse(response) => {
                responses::check_append_response(message, response, view)
            }
            MessageKind::HeartbeatResponse(beat) => {
                responses::check_heartbeat_response(message, beat, view)
            }
            MessageKind::VoteResponse(answer) => {
                responses::check_vote_response(message, answer, view)
            }
            MessageKind::PreVoteResponse(answer) => {
                responses::check_pre_vote_response(message, answer, view)
            }
        }
    }

    /// Only the known leader hands over, and only to a voter. It repeats the message while it waits; the first counts.
    fn check_timeout_now(
        &mut self,
        message: &RaftMessage,
        view: &GuardView<'_>,
        now_ms: u64,
    ) -> Result<(), Objection> {
        if message.term != view.term || view.leader != Some(message.from) {
            return Err(Refusal::NotTheLeader.into());
        }
        if !view.is_voter(view.me) {
            return Err(Refusal::NotAVoter.into());
        }
        let rested = self
            .timeout_now_ms
            .is_none_or(|last| now_ms.saturating_sub(last) >= TIMEOUT_NOW_GAP_MS);
        if !rested {
            return Err(Refusal::TooOften.into());
        }
        self.timeout_now_ms = Some(now_ms);
        Ok(())
    }
}

fn check_envelope(
    message: &RaftMessage,
    sender: NodeId,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    if message.from != sender || message.from == view.me {
        return Err(Refusal::ForgedSender.into());
    }
    if message.to != view.me {
        return Err(Refusal::NotForMe.into());
    }
    // `raft` takes a message of term 0 for one of its own and skips every check of terms.
    if message.term == 0 || message.term > TERM_MAX {
        return Err(Refusal::Term.into());
    }
    let jump = message.term.saturating_sub(view.term);
    if view.has_configuration() && jump > TERM_JUMP_MAX {
        return Err(Refusal::TermJump.into());
    }
    Ok(())
}

/// A candidate shows a log that can exist. Whether it deserves the vote is for `raft` to say.
fn check_ballot(term: u64, ballot: &Ballot) -> Result<(), Objection> {
    let possible = ballot.index <= INDEX_MAX
        && (ballot.index == 0) == (ballot.log_term == 0)
        && ballot.log_term <= term
        && ballot.commit <= ballot.index
        && ballot.commit_term <= ballot.log_term;
    if possible { Ok(()) } else { Err(Refusal::ImpossibleLog.into()) }
}
