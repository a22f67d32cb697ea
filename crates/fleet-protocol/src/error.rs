//! The closed list of error codes, and what each of them means to the one who meets it.
//!
//! A code says three things for ever: what happened, whether the same request may succeed when it
//! is sent again, and which exit code the command line ends with. `docs/protocol.md` holds the same
//! table and a test keeps both equal. A code is never removed or given another meaning within a
//! version of the contract; new ones may be added, so a client treats an unknown code by the
//! `retryable` that comes with it.

use fleet_state::RejectCode;

use crate::Noun;

/// One row of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFacts {
    /// The code as it is written in replies.
    pub name: &'static str,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// What to do next, unless the reply knows better.
    pub hint: &'static str,
    /// Whether the same request, sent again with the same request id, may succeed.
    pub retryable: bool,
    /// The number in the `Nats-Service-Error-Code` header, in the manner of HTTP.
    pub service_code: u16,
    /// What the `flotilla` command exits with.
    pub exit_code: u8,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $retryable:literal, $service:literal, $exit:literal, $meaning:literal, $hint:literal;)+) => {
        /// A code of the closed list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode { $(#[doc = $meaning] $variant,)+ }

        impl ErrorCode {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What the contract says about this code.
            #[must_use]
            pub const fn facts(self) -> ErrorFacts {
                match self {
                    $(Self::$variant => ErrorFacts {
                        name: $name, meaning: $meaning, hint: $hint,
                        retryable: $retryable, service_code: $service, exit_code: $exit,
                    },)+
                }
            }
        }
    };
}

error_codes! {
    Malformed = "malformed", false, 400, 2, "The request does not have the shape the contract asks for.", "Correct the request; docs/protocol.md shows its shape.";
    TooLarge = "too_large", false, 413, 8, "A part of the request is larger than its limit.", "Make it smaller or split it.";
    Denied = "denied", false, 403, 6, "This is not allowed.", "Ask someone who may, or for the permission.";
    NotFound = "not_found", false, 404, 3, "What the request names does not exist.", "Check the spelling; a device or link must be registered before it is changed.";
    LinkNotFound = "link_not_found", false, 404, 3, "The link that the device names does not exist.", "Register the link first, or check its id: flotilla link ls.";
    AlreadyExists = "already_exists", false, 409, 8, "Something of this name exists already.", "Choose another name, or change the one that exists.";
    RevisionMismatch = "revision_mismatch", false, 412, 4, "It changed since the revision the request was made for.", "Read it again, decide again, and send a new request.";
    RequestIdReused = "request_id_reused", false, 422, 8, "This request id was used before for another command.", "Use a new request id for a new command.";
    RequestExpired = "request_expired", false, 410, 8, "The request id is too old to tell whether it was carried out before.", "Read the present state, then send a new command with a new request id.";
    Schema = "schema", false, 422, 8, "The values do not fit the model the device was registered with.", "Correct the values, or register the device with another model.";
    InUse = "in_use", false, 409, 8, "Something else still depends on it.", "Remove what depends on it first.";
    LimitReached = "limit_reached", false, 507, 8, "The site holds as many of these as it may.", "Remove some that are no longer needed.";
    LastVoter = "last_voter", false, 409, 8, "The site cannot do without this member's vote.", "Add and promote another member first.";
    TooLate = "too_late", false, 409, 8, "What was to be taken back has been handed over or has ended.", "See how it ended: flotilla command get.";
    Blocked = "blocked", false, 409, 8, "The device is on hold or only observed, or its link is paused.", "See why: flotilla device get.";
    HasLeader = "has_leader", false, 409, 8, "A local write was asked for, and the site has a leader.", "Leave --local out: the command goes the normal way.";
    NoHeir = "no_heir", false, 409, 8, "No other voter that is up could take the leadership over.", "See which voters are up: flotilla status; promote a standby with flotilla member promote.";
    StaleEpoch = "stale_epoch", false, 409, 8, "The link has another owner by now.", "Nothing needs to be done.";
    TokenUnknown = "token_unknown", false, 403, 6, "No join token of this id exists.", "Ask for a new token: flotilla token create.";
    TokenExpired = "token_expired", false, 403, 6, "The join token's time is over.", "Ask for a new token: flotilla token create.";
    TokenUsed = "token_used", false, 403, 6, "The join token was used as often as it may be.", "Ask for a new token: flotilla token create.";
    ProofInvalid = "proof_invalid", false, 403, 6, "The join request was not made with the token it names.", "Join with the whole token, exactly as it was printed.";
    Compacted = "compacted", false, 410, 1, "Changes since that revision are no longer kept.", "Read everything with queries, then follow from the revision they answer with.";
    RevisionAhead = "revision_ahead", false, 416, 8, "The site has not come to that revision.", "Read everything with queries, then follow from the revision they answer with; a site that was restored counts on from its snapshot.";
    Unsupported = "unsupported", false, 501, 1, "This agent does not offer that.", "Check the agent's version: flotilla status.";
    Busy = "busy", true, 429, 5, "The agent has as much to do as it can hold, or members run programs that do not know the command yet.", "Send it again a little later, with the same request id.";
    NoLeader = "no_leader", true, 503, 5, "The site has no leader at the moment, so nothing can be agreed.", "Send it again with the same request id; if it stays, see which agents are up: flotilla status.";
    Unreachable = "unreachable", true, 503, 5, "The node that is asked can't be reached.", "See which nodes are up and which ways lead to them: flotilla status.";
    Stopping = "stopping", true, 503, 5, "The agent is stopping.", "Send it again with the same request id; another agent will take it.";
    Unknown = "unknown", true, 504, 9, "The deadline passed before the outcome was known; it may or may not have been carried out.", "Send it again with the same request id; it takes effect at most once.";
    Internal = "internal", true, 500, 1, "The agent failed at something that is not the request's fault.", "See the agent's log.";
}

impl ErrorCode {
    /// The code as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// Whether the same request may succeed when it is sent again.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.facts().retryable
    }

    /// The code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl From<RejectCode> for ErrorCode {
    fn from(code: RejectCode) -> Self {
        match code {
            RejectCode::Malformed => Self::Malformed,
            RejectCode::NotFound => Self::NotFound,
            RejectCode::LinkNotFound => Self::LinkNotFound,
            RejectCode::RevisionMismatch => Self::RevisionMismatch,
            RejectCode::RequestIdReused => Self::RequestIdReused,
            RejectCode::RequestExpired => Self::RequestExpired,
            RejectCode::AlreadyExists => Self::AlreadyExists,
            RejectCode::Schema => Self::Schema,
            RejectCode::TooLarge => Self::TooLarge,
            RejectCode::InUse => Self::InUse,
            RejectCode::LimitReached => Self::LimitReached,
            RejectCode::TokenUnknown => Self::TokenUnknown,
            RejectCode::TokenExpired => Self::TokenExpired,
            RejectCode::TokenUsed => Self::TokenUsed,
            RejectCode::ProofInvalid => Self::ProofInvalid,
            RejectCode::LastVoter => Self::LastVoter,
            RejectCode::Denied => Self::Denied,
            RejectCode::StaleEpoch => Self::StaleEpoch,
            RejectCode::TooLate => Self::TooLate,
            RejectCode::Blocked => Self::Blocked,
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where to look for a thing of this kind that was not found.
const fn not_found_hint(noun: Noun) -> &'static str {
    match noun {
        Noun::Link => {
            "See which links there are: flotilla link ls. A link is made known with: flotilla link register."
        }
        Noun::Device => {
            "See which devices there are: flotilla device ls. A device must be registered before it is set: flotilla device register."
        }
        Noun::Param => {
            "See which parameters there are: flotilla param ls. A parameter exists once it is set."
        }
        Noun::Member => {
            "See which members there are: flotilla member ls. One that was removed is none any more."
        }
        Noun::Token => {
            "See which tokens there are: flotilla token ls. One that is used up or out of date is forgotten after a while."
        }
        Noun::Watermarks | Noun::Invocation | Noun::Command => {
            "See what is remembered: flotilla command ls. What ended a while ago is forgotten."
        }
        Noun::Site => "See which agents are up: flotilla status.",
    }
}

/// What went wrong with a request, as it is told to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code.
    pub code: ErrorCode,
    /// What happened and why, about this request.
    pub message: String,
    /// What to do next, when there is more to say than the code's own hint.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with the code's own hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// A request that does not have the right shape.
    #[must_use]
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Malformed, message)
    }

    /// The same failure with a hint of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure; when something was not found, with the hint for this kind of thing.
    #[must_use]
    pub fn about(mut self, noun: Noun) -> Self {
        if self.code == ErrorCode::NotFound && self.hint.is_none() {
            self.hint = Some(not_found_hint(noun).to_owned());
        }
        self
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.code.facts().hint)
    }
}
