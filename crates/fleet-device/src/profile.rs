//! What can be done with a device, as its connector says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
