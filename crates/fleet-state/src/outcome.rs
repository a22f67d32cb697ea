//! What became of a command.
//!
//! The outcome is decided by `apply`, from the state and the entry alone, so every node comes to the same one. A
//! user's mistake is an outcome and no error: it has a revision, it is remembered, and a retry hears it again.

use std::fmt;

use crate::ids::{NodeId, Revision};
use crate::limits::MESSAGE_BYTES_MAX;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The state changed, or a join was repeated.
    Accepted(Accepted),
    /// The command asked for what was so already. No entity's revision moved.
    Unchanged,
    /// The command was refused and changed nothing.
    Rejected(Rejection),
}

/// What an accepted command gives back beside its revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The node id given by a join.
    pub node: Option<NodeId>,
    /// What became of each item of an owner's claim, in their order.
    pub claims: Vec<Claimed>,
}

/// What became of one item of an owner's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claimed {
    /// It may be handed to the device now. For an invocation this is said once.
    Granted,
    /// It was granted before, or has ended: it must not be handed over.
    Taken,
    /// Its time was up first.
    Expired,
    /// Somebody took it back first.
    Cancelled,
    /// A newer wish took its place.
    Superseded,
    /// The device is on hold or only observed, or its link is paused.
    Blocked,
    /// There is no such device on this link, or no such invocation.
    Gone,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason, for programs.
    pub code: RejectCode,
    /// The reason, for people: what happened, why, what to do next. At most [`MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
}

impl Rejection {
    /// A rejection whose message is cut to its limit.
    #[must_use]
    pub fn new(code: RejectCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let mut end = MESSAGE_BYTES_MAX.saturating_sub('…'.len_utf8());
            while !message.is_char_boundary(end) {
                end = end.saturating_sub(1);
            }
            message.truncate(end);
            message.push('…');
        }
        Self { code, message }
    }
}

macro_rules! reject_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// The closed list of reasons for a rejection. Numbers are replicated and never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RejectCode {
            $($(#[$doc])* $name,)*
        }

        impl RejectCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [RejectCode] = &[$(RejectCode::$name),*];

            /// The code as it stands in replies.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(RejectCode::$name => $text,)* }
            }

            pub(crate) fn number(self) -> u8 {
                match self { $(RejectCode::$name => $number,)* }
            }

            pub(crate) fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(RejectCode::$name),)* _ => None }
            }
        }
    };
}

reject_codes! {
    /// A field is outside its limits or a combination is not allowed.
    Malformed = 1, "malformed";
    /// The entity does not exist.
    NotFound = 2, "not_found";
    /// The link that a device names does not exist.
    LinkNotFound = 3, "link_not_found";
    /// The entity's revision is not the one that the precondition names.
    RevisionMismatch = 4, "revision_mismatch";
    /// The request id was used for another command.
    RequestIdReused = 5, "request_id_reused";
    /// The request id is older than what is remembered; whether it took effect cannot be told.
    RequestExpired = 6, "request_expired";
    /// The name, id or key is taken.
    AlreadyExists = 7, "already_exists";
    /// The desired state does not match the device's model.
    Schema = 8, "schema";
    /// A value is larger or deeper than allowed.
    TooLarge = 9, "too_large";
    /// The entity is used by another one.
    InUse = 10, "in_use";
    /// The site holds as many of these as it may.
    LimitReached = 11, "limit_reached";
    /// No such join token.
    TokenUnknown = 12, "token_unknown";
    /// The join token's time is over.
    TokenExpired = 13, "token_expired";
    /// The join token has no use left.
    TokenUsed = 14, "token_used";
    /// The join request was not made with the token's secret.
    ProofInvalid = 15, "proof_invalid";
    /// The site's last voter cannot be removed.
    LastVoter = 16, "last_voter";
    /// Not allowed.
    Denied = 17, "denied";
    /// The link has had another owner since, or never had this one.
    StaleEpoch = 18, "stale_epoch";
    /// What was to be taken back has been handed over, or has ended.
    TooLate = 19, "too_late";
    /// The device is on hold or only observed, or its link is paused.
    Blocked = 20, "blocked";
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to a command: the outcome and the revision of the entry that decided it.
///
/// For a retry this is the first entry's revision. For [`Outcome::Unchanged`] it is the revision of the entry that
/// found nothing to change, while the entity keeps its own older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The deciding entry.
    pub revision: Revision,
    /// What was decided.
    pub outcome: Outcome,
}
