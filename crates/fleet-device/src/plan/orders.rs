//! What the site wants of one device, in the words of the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::{Revision, Stage, Value};

use super::{Marks, TroubleCode};
use crate::{Access, Profile};

/// Whether a device is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Never; what would be written is shown.
    Observe,
    /// What somebody sets is handed over; drift is shown and left alone.
    Manual,
    /// As manual, and drift is treated as its property's policy says.
    Auto,
}

/// What a difference that nobody asked for leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDrift {
    /// It is shown.
    #[default]
    Report,
    /// What the device says becomes what is wanted.
    Adopt,
    /// What is wanted is handed over again, a bounded number of times.
    Enforce,
}

/// What becomes of wishes that waited for a device while it was away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReturn {
    /// They wait for somebody to wish them again.
    Hold,
    /// They are handed over if they are not older than this.
    Apply {
        /// The greatest age.
        age_ms_max: u64,
    },
    /// They are given up.
    #[default]
    Discard,
}

/// How one property is treated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PropertyPolicy {
    /// What drift leads to.
    pub on_drift: OnDrift,
    /// How long a device may take until what it says counts.
    pub settle_ms: u64,
    /// How far a number may be off.
    pub tolerance: f64,
}

/// How long a device has to show a new value, unless its policy says otherwise.
pub const SETTLE_MS_DEFAULT: u64 = 2_000;

impl Default for PropertyPolicy {
    fn default() -> Self {
        Self { on_drift: OnDrift::Report, settle_ms: SETTLE_MS_DEFAULT, tolerance: 0.0 }
    }
}

/// How long a wish lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// For ever.
    Unlimited,
    /// It has an end, and may not be handed over before it was claimed in the log.
    Unclaimed,
    /// It was claimed by this owner, and may be handed over before this moment.
    Claimed {
        /// Reading of the node's monotonic clock.
        until_ms: u64,
    },
    /// It was claimed by somebody else, who may have handed it over; its time is not known here.
    ClaimedElsewhere,
}

/// How old a wish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// This owner has not asked the log yet.
    Unasked,
    /// Nobody can know.
    Unknown,
    /// No more than that, at that moment.
    AtMost {
        /// The age.
        age_ms: u64,
        /// Reading of the node's monotonic clock.
        at_ms: u64,
    },
}

/// What one property should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The value.
    pub value: Value,
    /// When it was wished.
    pub revision: Revision,
    /// How long it lives.
    pub ttl: Ttl,
    /// How old it is.
    pub age: Age,
    /// The wish that comes back when this one is not claimed in time.
    pub before: Option<Revision>,
    /// The number of the local write that it is, when it is one: then `revision` is the wish that
    /// it stands before, and nothing of it is told to the log.
    pub local: Option<u64>,
}

/// What keeps a wish, as the log says: an earlier owner told it, or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Why.
    pub code: TroubleCode,
    /// How far the wish got in spite of it.
    pub stage: Stage,
    /// The reason, for people.
    pub message: Arc<str>,
}

/// What the site wants of one device.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Whether it is written to.
    pub mode: Mode,
    /// Somebody stopped all writing.
    pub held: bool,
    /// What it should be.
    pub wishes: BTreeMap<Arc<str>, Wish>,
    /// When the whole of the wishes last changed; at least the newest of them.
    pub desired_revision: Revision,
    /// How far the wishes got, as the log says.
    pub marks: Marks,
    /// How properties are treated that differ from the default.
    pub policies: BTreeMap<Arc<str>, PropertyPolicy>,
    /// How the others are treated.
    pub policy: PropertyPolicy,
    /// What becomes of wishes that waited for the device.
    pub on_return: OnReturn,
    /// Wishes that the marks say nothing of. What was decided about one that waited for the device
    /// while it was away holds for every later owner too.
    pub given_up: BTreeMap<Revision, GivenUp>,
    /// Wishes that a local write stands before: they wait until somebody wishes anew.
    pub stood_down: BTreeMap<Arc<str>, Revision>,
    /// What can be done with the device.
    pub profile: Arc<Profile>,
}

impl Orders {
    /// How this property is treated.
    #[must_use]
    pub fn policy_of(&self, property: &str) -> PropertyPolicy {
        self.policies.get(property).copied().unwrap_or(self.policy)
    }

    /// What a question is about: what is wished and can be known; `None`: nothing in particular.
    #[must_use]
    pub fn asked_for(&self) -> Option<BTreeSet<Arc<str>>> {
        let is_known =
            |property: &&Arc<str>| self.profile.access(property) == Some(Access::Desired);
        let wished: BTreeSet<_> = self.wishes.keys().filter(is_known).cloned().collect();
        (!wished.is_empty()).then_some(wished)
    }

    /// Whether a local write is in force.
    #[must_use]
    pub fn has_local(&self) -> bool {
        self.wishes.values().any(|wish| wish.local.is_some())
    }

    /// Whether anything may be handed over at all.
    #[must_use]
    pub fn allows_writing(&self) -> bool {
        !self.held && self.mode != Mode::Observe
    }
}
