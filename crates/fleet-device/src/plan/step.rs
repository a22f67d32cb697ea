//! What the planner answers.

use std::sync::Arc;

use fleet_state::{Object, Revision, Value};

use super::{Marks, Trouble, TroubleCode};
use crate::Quality;

/// Something to be done with a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask it for everything.
    Read,
    /// Claim the wishes of these revisions in the log.
    Claim(Vec<Revision>),
    /// Hand these values over.
    Write {
        /// The values.
        values: Object,
        /// The newest wish among them.
        revision: Revision,
        /// Not after this moment.
        until_ms: Option<u64>,
    },
    /// Make what the device says the wish.
    Adopt {
        /// The property.
        property: Arc<str>,
        /// What it says.
        value: Value,
        /// The wish that it replaces.
        seen: Revision,
    },
}

/// A difference between what is wanted and what the device says.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The property.
    pub property: Arc<str>,
    /// What is wanted.
    pub wished: Value,
    /// What the device says.
    pub said: Value,
    /// Since when.
    pub since_ms: u64,
}

/// How far a local write got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStanding {
    /// Its number.
    pub number: u64,
    /// How far all of it got; `None`: nothing has left yet.
    pub reached: Option<LocalReached>,
    /// What keeps it.
    pub trouble: Option<(TroubleCode, String)>,
}

/// Stages of a local write, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalReached {
    /// It has left.
    Sent,
    /// The device has said that it has it.
    Acknowledged,
    /// The device has said that it is so.
    Verified,
}

/// How a value that the device said is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// When it was heard.
    pub at_ms: u64,
    /// How far it can be trusted.
    pub quality: Quality,
    /// Somebody kept it.
    pub retained: bool,
}

/// Why there is no step, or this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Everything is as it should be, or nothing more can be done.
    Rest,
    /// A step is under way.
    Busy,
    /// It is read before it is written to.
    ReadFirst,
    /// It is never written to.
    Observing,
    /// Somebody stopped all writing.
    OnHold,
    /// This node may not write now.
    NoLease,
    /// The device is away.
    Away,
    /// It has time to take the last hand-over on, or there is a pause between tries.
    Settling,
    /// There is something to do.
    ToDo,
}

impl Why {
    /// The word of replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Rest => "rest",
            Why::Busy => "busy",
            Why::ReadFirst => "read_first",
            Why::Observing => "observing",
            Why::OnHold => "on_hold",
            Why::NoLease => "no_lease",
            Why::Away => "away",
            Why::Settling => "settling",
            Why::ToDo => "to_do",
        }
    }
}

/// What there is leave and room for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// This node may write.
    pub write: bool,
    /// There is room for a question.
    pub read: bool,
}

/// What to do with a device now, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to do.
    pub step: Option<Step>,
    /// Why that, or why nothing.
    pub why: Why,
    /// How far the wishes got.
    pub marks: Marks,
    /// What keeps the newest of those that something keeps.
    pub trouble: Option<Trouble>,
    /// Wishes that the marks pass over, with what keeps them.
    pub failures: Vec<Trouble>,
    /// Wishes that something kept, as the log says, and that nothing keeps any more.
    pub overcome: Vec<Revision>,
    /// How far local writes got.
    pub local: Vec<LocalStanding>,
    /// What is different, by property.
    pub drift: Vec<Drift>,
    /// What would be handed over if that were allowed.
    pub would_write: Object,
    /// When to look again, unless something happens before.
    pub again_ms: Option<u64>,
}
