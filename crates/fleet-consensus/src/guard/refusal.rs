//! Why a message was not stepped.

use thiserror::Error;

/// What the guard has against a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Objection {
    /// Drop the message and count it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node has lost entries that it acknowledged; it must not vote or answer any more.
    #[error(transparent)]
    Quarantine(#[from] LostLog),
}

/// The leader commits, on the strength of this node's own acknowledgement, what this node does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the leader takes index {commit} as acknowledged by this node, but its log ends at {last_index}"
)]
pub struct LostLog {
    /// What the leader says is committed here.
    pub commit: u64,
    /// What is here.
    pub last_index: u64,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// The message names another sender than its frame.
    #[error("the message names another sender than its frame")]
    ForgedSender,
    /// The message is for another node.
    #[error("the message is for another node")]
    NotForMe,
    /// No message has this term.
    #[error("the term of the message is not possible")]
    Term,
    /// The term is too far above this node's.
    #[error("the term of the message is too far above this node's")]
    TermJump,
    /// Another node leads in this term.
    #[error("another node leads in the term of the message")]
    OtherLeader,
    /// Only the leader sends this.
    #[error("the sender does not lead in this term")]
    NotTheLeader,
    /// A learner can't lead.
    #[error("this node is no voter")]
    NotAVoter,
    /// A handover follows the last one too closely.
    #[error("handovers follow each other too closely")]
    TooOften,
    /// The sender is not in the configuration that this node asked.
    #[error("the sender is not in the configuration that the answer is for")]
    NotInConfiguration,
    /// Entries that don't follow each other.
    #[error("the entries do not follow each other")]
    Entries,
    /// Indexes and terms that no log has.
    #[error("no log has these indexes and terms")]
    ImpossibleLog,
    /// An index beyond this node's log.
    #[error("the answer is about entries that were never sent")]
    BeyondLog,
    /// A rejection of what is known to be equal.
    #[error("the rejection is older than an acknowledgement")]
    StaleReject,
    /// An answer to a question of another term.
    #[error("the answer is to a question that this node did not ask")]
    StaleAnswer,
    /// Larger than allowed.
    #[error("the message is above a limit")]
    TooLarge,
    /// A configuration that can't be.
    #[error("the configuration in the snapshot contradicts itself")]
    Configuration,
    /// The snapshot is from before this node was a member.
    #[error("the snapshot does not know this node")]
    SelfNotInSnapshot,
}

impl Refusal {
    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForgedSender => "forged_sender",
            Self::NotForMe => "not_for_me",
            Self::Term => "term",
            Self::TermJump => "term_jump",
            Self::OtherLeader => "other_leader",
            Self::NotTheLeader => "not_the_leader",
            Self::NotAVoter => "not_a_voter",
            Self::TooOften => "too_often",
            Self::NotInConfiguration => "not_in_configuration",
            Self::Entries => "entries",
            Self::ImpossibleLog => "impossible_log",
            Self::BeyondLog => "beyond_log",
            Self::StaleReject => "stale_reject",
            Self::StaleAnswer => "stale_answer",
            Self::TooLarge => "too_large",
            Self::Configuration => "configuration",
            Self::SelfNotInSnapshot => "self_not_in_snapshot",
        }
    }
}
