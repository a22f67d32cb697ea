//! What a device is, and how it is to be treated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Labels;
use crate::ids::LinkId;
use crate::limits::ON_RETURN_AGE_MS_DEFAULT;
use crate::schema::Schema;
use crate::value::{Finite, Object};

/// What a device is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceSpec {
    /// The link that carries it. It must exist.
    pub link: Option<LinkId>,
    /// Where it is on the link, in the connector's own notation.
    pub address: Arc<str>,
    /// Free text.
    pub name: Arc<str>,
    /// Free text.
    pub labels: Labels,
    /// What its desired state may look like.
    pub model: Option<Schema>,
    /// What its connector must know of it: topics, registers, templates. Checked by the connector.
    pub settings: Object,
    /// How its owner treats it.
    pub policy: Arc<Policy>,
}

/// How the owner of a device's link treats the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// For properties that have no rule of their own.
    pub drift: DriftPolicy,
    /// Rules by property.
    pub properties: BTreeMap<Arc<str>, DriftPolicy>,
    /// What happens to wishes that came while the device was away.
    pub on_return: OnReturn,
    /// What the device does when nobody controls it.
    pub on_control_loss: OnControlLoss,
    /// The action that brings it to a standstill, where it has one.
    pub stop_action: Option<Arc<str>>,
    /// Actions that may be carried out twice without harm.
    pub idempotent_actions: BTreeSet<Arc<str>>,
}

impl Policy {
    /// The rule for a property.
    #[must_use]
    pub fn of(&self, property: &str) -> &DriftPolicy {
        self.properties.get(property).unwrap_or(&self.drift)
    }
}

/// What happens when a property is not what it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriftPolicy {
    /// What to do about it.
    pub on_drift: OnDrift,
    /// How long after a write the property may still be different.
    pub settle_ms: u64,
    /// By how much a number may be different, never negative; zero without one.
    pub tolerance: Option<Finite>,
}

/// What to do about a property that is not what it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDrift {
    /// Show it.
    #[default]
    Report,
    /// What the device says becomes desired.
    Adopt,
    /// Write it again, a bounded number of times.
    Enforce,
}

impl OnDrift {
    /// All of them.
    pub const ALL: [OnDrift; 3] = [OnDrift::Report, OnDrift::Adopt, OnDrift::Enforce];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OnDrift::Report => "report",
            OnDrift::Adopt => "adopt",
            OnDrift::Enforce => "enforce",
        }
    }
}

/// What happens to wishes that came while the device was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReturn {
    /// They wait until somebody asks for them again.
    Hold,
    /// They are written, unless they are older than this.
    Apply {
        /// The oldest that is still written.
        age_ms_max: u64,
    },
    /// They are given up and end `expired`.
    Discard,
}

impl Default for OnReturn {
    fn default() -> Self {
        OnReturn::Apply { age_ms_max: ON_RETURN_AGE_MS_DEFAULT }
    }
}

/// What a device does when nobody controls it; armed in the device itself where its protocol can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OnControlLoss {
    /// It stays as it is.
    #[default]
    Keep,
    /// It takes these values.
    Values(Object),
}

/// Whether a device is written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Never: what would be written is shown.
    #[default]
    Observe,
    /// When somebody wants something of it; what it does by itself is left alone.
    Manual,
    /// As its policy says.
    Auto,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Observe, Mode::Manual, Mode::Auto];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Manual => "manual",
            Mode::Auto => "auto",
        }
    }
}
