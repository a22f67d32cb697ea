//! What links and devices are registered with, and what a connector makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use fleet_state::{DeviceId, LinkId, Object};
use thiserror::Error;

/// What a link is registered with, as far as it concerns its connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSetup {
    /// Its id.
    pub id: LinkId,
    /// Where it is, in the connector's own form.
    pub address: Arc<str>,
    /// The connector's own settings.
    pub settings: Object,
}

/// What a device is registered with, as far as it concerns its connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSetup {
    /// Its id.
    pub id: DeviceId,
    /// Where it is on its link, in the connector's own form.
    pub address: Arc<str>,
    /// What it is, where a connector has presets.
    pub model: Option<Arc<str>>,
    /// The connector's own settings: topics, templates, a register map.
    pub settings: Object,
}

/// What is wrong with a registration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Refusal {
    /// The field, as the user wrote it: `settings.registers[2].type`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), hint: None }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// What can be done with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its properties.
    pub properties: BTreeMap<Arc<str>, Access>,
    /// What properties that are not listed may be used for; `None`: there are no others.
    pub others: Option<Access>,
    /// Its actions; `None`: any word is passed on.
    pub actions: Option<BTreeSet<Arc<str>>>,
    /// What protects it against a second writer.
    pub fence: Fence,
    /// What its operator should know.
    pub warnings: Vec<String>,
}

impl Profile {
    /// What the property may be used for.
    #[must_use]
    pub fn access(&self, property: &str) -> Option<Access> {
        self.properties.get(property).copied().or(self.others)
    }
}

/// What a property may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can be written, and what it is can be known: it may be desired.
    Desired,
    /// It can be written, and nobody hears what became of it: it may be desired, and is never
    /// verified.
    WriteOnly,
    /// It can be known only.
    Readable,
    /// It triggers something, or is relative (toggle, step): for `invoke`, never desired.
    Action,
}

impl Access {
    /// Whether it may stand in a desired state.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Access::Desired | Access::WriteOnly)
    }
}

/// What keeps a second writer away from a device. The strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fence {
    /// The device itself refuses an older epoch or sequence.
    Device,
    /// The broker closes the session of an earlier owner when the new one connects.
    Broker,
    /// The owner stops writing when its lease runs out; what it has sent may still arrive.
    Lease,
    /// Nothing: others write to it as well.
    None,
}

impl Fence {
    /// The word of replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fence::Device => "device",
            Fence::Broker => "broker",
            Fence::Lease => "lease",
            Fence::None => "none",
        }
    }
}
