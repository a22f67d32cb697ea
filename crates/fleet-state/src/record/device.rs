//! A device, what is desired of it, and how far that got.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::{DeviceSpec, Mode};
use crate::ids::{DeviceId, Revision};
use crate::stage::Stage;
use crate::value::{Object, Value};

/// A device and what it should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its key.
    pub id: DeviceId,
    /// What it is.
    pub spec: DeviceSpec,
    /// Whether it is written to.
    pub mode: Mode,
    /// Nothing at all is written to it while this stands.
    pub hold: Option<Hold>,
    /// What it should be like.
    pub wishes: Wishes,
    /// When it was registered first.
    pub registered: Revision,
    /// When its desired state last changed; [`Revision::NONE`] while nobody ever set it.
    pub desired_revision: Revision,
    /// When anything of it last changed. How far its wishes got stands in [`Watermarks`] and leaves this alone, so a
    /// user's condition does not fail because an owner did its work.
    pub revision: Revision,
    /// Wall time of the last change, for display.
    pub changed_wall_ms: u64,
}

impl Device {
    /// What it should be like, as one object.
    #[must_use]
    pub fn desired(&self) -> Object {
        self.wishes.object()
    }

    /// Why nothing may be written to it, when nothing may.
    #[must_use]
    pub fn blocked(&self) -> Option<&'static str> {
        match (&self.hold, self.mode) {
            (Some(_), _) => Some("is on hold"),
            (None, Mode::Observe) => Some("is in mode observe"),
            (None, Mode::Manual | Mode::Auto) => None,
        }
    }
}

/// Why and by whom a device is not written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Free text.
    pub reason: Arc<str>,
    /// Who is said to have asked for it.
    pub actor: Option<Arc<str>>,
    /// Since when.
    pub revision: Revision,
}

/// What is desired of one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What it should be.
    pub value: Value,
    /// Which command said so.
    pub revision: Revision,
    /// When that was, in log time.
    pub wished_log_ms: u64,
    /// Until when it may be handed over, when that is limited.
    pub ttl: Option<Ttl>,
}

/// The time limit of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ttl {
    /// Its owner must have claimed it before this log time.
    pub deadline_log_ms: u64,
    /// What is desired again when nobody did: the newest wish before it that was handed over or has no limit.
    pub previous: Option<Former>,
}

/// A wish that another one stands before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// What was desired.
    pub value: Value,
    /// Which command said so.
    pub revision: Revision,
    /// When that was, in log time.
    pub wished_log_ms: u64,
}

/// What is desired of a device, by property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes(pub(super) BTreeMap<Arc<str>, Wish>);

impl Wishes {
    /// The wish for a property.
    #[must_use]
    pub fn get(&self, property: &str) -> Option<&Wish> {
        self.0.get(property)
    }

    /// All wishes, in the order of their properties.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Wish)> {
        self.0.iter()
    }

    /// How many properties have a wish.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is desired.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All values, as one object.
    #[must_use]
    pub fn object(&self) -> Object {
        self.0.iter().map(|(property, wish)| (property.clone(), wish.value.clone())).collect()
    }

    /// The newest command among them.
    #[must_use]
    pub fn newest(&self) -> Revision {
        self.0.values().map(|wish| wish.revision).max().unwrap_or(Revision::NONE)
    }

    /// Whether the command of this revision still stands behind a wish.
    #[must_use]
    pub fn holds(&self, revision: Revision) -> bool {
        self.0.values().any(|wish| wish.revision == revision)
    }

    /// Whether the command of this revision stands behind a wish, or behind the one that comes back
    /// if a wish ends that is not among those `claimed`. Of each property that is one at most.
    pub(crate) fn leads_back_to(&self, revision: Revision, claimed: &[Revision]) -> bool {
        self.0.values().any(|wish| {
            let former = wish.ttl.as_ref().and_then(|ttl| ttl.previous.as_ref());
            let former = former.filter(|_| claimed.binary_search(&wish.revision).is_err());
            wish.revision == revision || former.is_some_and(|former| former.revision == revision)
        })
    }

    /// Whether the command of this revision stands behind a wish, or would again when the time of a wish is up.
    #[must_use]
    pub fn remembers(&self, revision: Revision) -> bool {
        let former = |wish: &Wish| {
            let before = wish.ttl.as_ref().and_then(|ttl| ttl.previous.as_ref());
            before.is_some_and(|former| former.revision == revision)
        };
        self.0.values().any(|wish| wish.revision == revision || former(wish))
    }

    pub(crate) fn insert(&mut self, property: Arc<str>, wish: Wish) {
        self.0.insert(property, wish);
    }

    pub(crate) fn remove(&mut self, property: &str) {
        self.0.remove(property);
    }
}

/// How far the wishes of a device got, as its owner tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermarks {
    /// Whose they are.
    pub device: DeviceId,
    /// Every wish up to here was handed over, or is done with.
    pub sent: Revision,
    /// Every wish up to here was acknowledged by the device.
    pub acknowledged: Revision,
    /// Every wish up to here was seen in the device.
    pub verified: Revision,
    /// Commands that these marks say nothing of, ascending, with what keeps each of them: marks pass over them.
    pub failures: Vec<StageFailure>,
    /// Commands with a time limit that an owner claimed in time, ascending: their wishes stay.
    pub claimed: Vec<Revision>,
    /// The last commands with a time limit that ended without being handed over, oldest first.
    pub ends: Vec<WishEnd>,
    /// When any of this last changed.
    pub revision: Revision,
}

impl Watermarks {
    pub(crate) fn new(device: DeviceId) -> Self {
        Self {
            device,
            sent: Revision::NONE,
            acknowledged: Revision::NONE,
            verified: Revision::NONE,
            failures: Vec::new(),
            claimed: Vec::new(),
            ends: Vec::new(),
            revision: Revision::NONE,
        }
    }

    /// Whether the command of this revision was claimed in time.
    #[must_use]
    pub fn has_claimed(&self, revision: Revision) -> bool {
        self.claimed.binary_search(&revision).is_ok()
    }

    /// What keeps the command of this revision.
    #[must_use]
    pub fn failure_of(&self, revision: Revision) -> Option<&StageFailure> {
        let at = self.failures.binary_search_by_key(&revision, |failure| failure.revision).ok()?;
        self.failures.get(at)
    }

    /// Takes in what keeps commands, and what does not any more.
    pub(crate) fn take_failures(&mut self, told: &[StageFailure], overcome: &[Revision]) {
        self.failures.retain(|failure| !overcome.contains(&failure.revision));
        for failure in told {
            let at = self.failures.binary_search_by_key(&failure.revision, |known| known.revision);
            match at.map(|at| self.failures.get_mut(at)) {
                Ok(Some(known)) => *known = failure.clone(),
                Ok(None) => {}
                Err(at) => self.failures.insert(at, failure.clone()),
            }
        }
    }
}

/// What keeps a command from being verified, or from staying so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageFailure {
    /// The command.
    pub revision: Revision,
    /// How far it got: failed; unknown, where nobody can say whether it was handed over in time; verified, where what
    /// keeps it came after that; sent or acknowledged, where no more can be known.
    pub stage: Stage,
    /// The reason, for programs: one token.
    pub code: Arc<str>,
    /// The reason, for people.
    pub message: Arc<str>,
}

/// A command with a time limit that ended without being handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WishEnd {
    /// The command.
    pub revision: Revision,
    /// Expired or cancelled.
    pub stage: Stage,
}
