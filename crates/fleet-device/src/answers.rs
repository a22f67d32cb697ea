//! How calls of a device end, in the words that the planner knows.

use fleet_state::Object;
use thiserror::Error;

use crate::Quality;

/// A device's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it said.
    pub values: Object,
    /// How far that can be trusted.
    pub quality: Quality,
    /// When the source says that it was so, in milliseconds since 1970.
    pub source_ms: Option<u64>,
    /// What it could not say, and why, for people.
    pub problem: Option<String>,
    /// Whether there was time for all that it was asked. What is missing otherwise was not left out by it.
    pub complete: bool,
}

/// Why a device gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// This device can't be asked; it only reports.
    Unsupported,
    /// It is away.
    Offline,
    /// It didn't answer in time.
    Timeout,
    /// Its time was over before it could be asked; that says nothing of it.
    NotAsked,
    /// It answered that it won't.
    Refused,
    /// The connection is gone.
    LinkLost,
}

/// How far something was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handed {
    /// It has left, or somebody on the way has it.
    Sent,
    /// The device itself has said that it has it.
    Acknowledged,
}

/// Why something was not handed over, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct WriteError {
    /// Whether the device may have acted all the same. `true` when in doubt.
    pub may_have_acted: bool,
    /// What kind of reason.
    pub kind: WriteErrorKind,
    /// The reason, for people.
    pub message: String,
}

impl WriteError {
    /// Whether nothing has happened, and the same again would end the same.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !self.may_have_acted && !self.kind.is_retryable()
    }
}

/// Kinds of [`WriteError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteErrorKind {
    /// The device is away.
    Offline,
    /// The device says that it won't; the same again will end the same.
    Refused,
    /// The device says that it can't now.
    Busy,
    /// No answer in time.
    Timeout,
    /// The connection is gone.
    LinkLost,
    /// This can't be said in the device's protocol; the same again will end the same.
    Invalid,
}

impl WriteErrorKind {
    /// Whether trying the same again may end otherwise.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        !matches!(self, WriteErrorKind::Refused | WriteErrorKind::Invalid)
    }

    /// The word of replies and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WriteErrorKind::Offline => "offline",
            WriteErrorKind::Refused => "refused",
            WriteErrorKind::Busy => "busy",
            WriteErrorKind::Timeout => "timeout",
            WriteErrorKind::LinkLost => "link_lost",
            WriteErrorKind::Invalid => "invalid",
        }
    }
}
