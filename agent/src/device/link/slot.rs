//! What a link's task holds of one device.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_device::one_shots::OneShots;
use fleet_device::plan::{self, Away, Course, Orders};
use fleet_device::since::DriftSince;
use fleet_device::{Asked, Claims, Learnt, LogBound, orders, take_granted};
use fleet_protocol::local::LocalStage;
use fleet_state::{Device, FleetState, Object, RequestId, StageItem};
use tokio::task::AbortHandle;

use super::Run;
use super::calls::contained;
use super::foreign::Foreign;
use crate::device::connector::{
    Availability, Connector, DeviceSetup, Handed, LinkSetup, Observation, Profile, ReadError,
    ReadErrorKind, Reading, Refusal, WriteError,
};
use crate::device::local::Overlay;
use crate::device::setups::device_setup;

/// A device of the link.
pub(super) struct Slot {
    pub course: Course,
    pub orders: Orders,
    /// What its connector was told of it.
    pub setup: DeviceSetup,
    /// What keeps it from being served at all.
    pub refusal: Option<Refusal>,
    /// The call under way.
    pub call: Option<Call>,
    /// It waits in line to be looked at.
    pub in_line: bool,
    /// Nothing about its one-shots before this moment.
    pub one_shot_next_ms: u64,
    /// When its source says that it was so, of what it answered last.
    pub source_ms: Option<u64>,
    /// Why the last hand-over failed, if it did.
    pub last_error: Option<String>,
    /// What it could not say when it was asked last.
    pub last_read_error: Option<String>,
    /// What the log was told last that it didn't know.
    pub told: Option<StageItem>,
    /// What others wrote to it.
    pub foreign: Foreign,
    /// What is shown of it, as it was told last.
    pub shown: Option<Arc<Object>>,
    /// What local writes mean for it.
    pub overlay: Option<Arc<Overlay>>,
    /// Stages of local writes told last.
    pub local_told: BTreeMap<u64, (LocalStage, Arc<str>)>,
    /// Nothing is merged before this moment.
    pub merge_next_ms: u64,
    /// The local stop that was begun last, and before when that one isn't begun again.
    pub stop_next_ms: Option<(u64, u64)>,
}

/// What is known of a device, and in which capacity it is served.
pub(super) struct Known<'a> {
    pub state: &'a FleetState,
    pub device: &'a Device,
    pub overlay: Option<Arc<Overlay>>,
    pub run: Run,
    /// How late it is at most, by the log.
    pub bound: Option<LogBound>,
}

impl Known<'_> {
    /// What the log wants of it, and local writes over that. Alone, nothing else is wanted.
    fn orders(&self, profile: &Arc<Profile>, claims: &Claims) -> Orders {
        let learnt = Learnt { claims, bound: self.bound };
        let mut orders = orders(self.state, self.device, profile, learnt);
        if let Run::Alone { .. } = self.run {
            orders.wishes.clear();
        }
        let Some(overlay) = &self.overlay else { return orders };
        orders.held |= overlay.stopped;
        orders.stood_down = overlay.stood_down.clone();
        for (property, local) in &overlay.wishes {
            let wish = plan::Wish {
                value: local.value.clone(),
                revision: local.known,
                ttl: plan::Ttl::Unlimited,
                age: plan::Age::Unknown,
                before: None,
                local: Some(local.number),
            };
            orders.wishes.insert(Arc::clone(property), wish);
        }
        orders
    }
}

/// What is remembered of a device as long as the task lives, through all sessions of the epoch.
#[derive(Default)]
pub(super) struct Memory {
    pub claims: Claims,
    /// Wishes that the log was asked for, with when that was first.
    pub asked: Asked,
    /// How the device was away when the last session ended, or when its owner before told of it.
    pub away: Away,
    /// Since when it has been different.
    pub drift_since: DriftSince,
    pub one_shots: OneShots,
}

impl Memory {
    /// What is known of a device from what was told of it, by this owner or the one before.
    pub(super) fn of_shown(shown: Option<&Object>) -> Self {
        let drift = shown.and_then(|shown| shown.get("drift")?.as_map());
        let drift_since = drift.map(DriftSince::of_shown).unwrap_or_default();
        let availability = shown.and_then(|shown| shown.get("availability")?.as_text());
        let is_offline = availability == Some(Availability::Offline.as_str());
        let away = Away { since_ms: None, is_offline };
        Self { drift_since, away, ..Self::default() }
    }
}

/// A call under way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub number: u64,
    /// When it is given up, whatever happens.
    pub hard_ms: u64,
    /// How a question is ended that has to give way.
    pub read: Option<AbortHandle>,
    /// The one-shot that it hands over.
    pub one_shot: Option<RequestId>,
    /// What it is to its slot.
    pub of: CallOf,
}

/// What a call under way is to the slot of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOf {
    /// The slot's own course has begun it, and is told its end.
    Course,
    /// It was begun with a former setup of the device. Nothing else is begun before it has ended,
    /// and what it read or wrote says nothing of the device as it is registered now.
    FormerSetup,
}

impl Slot {
    pub(super) fn new(
        connector: &dyn Connector,
        link: &LinkSetup,
        known: Known<'_>,
        memory: &Memory,
        now_ms: u64,
    ) -> Self {
        let setup = device_setup(&known.device.id, &known.device.spec);
        let panicked = || Refusal::new("settings", "the connector panicked while checking them");
        let checked = contained(|| connector.check_device(link, &setup));
        let checked = checked.unwrap_or_else(|| Err(panicked()));
        let (profile, refusal) = match checked {
            Ok(profile) => (profile, None),
            Err(refusal) => (nothing(), Some(refusal)),
        };
        Self {
            course: Course::resumed(memory.away, now_ms),
            orders: known.orders(&Arc::new(profile), &memory.claims),
            setup,
            refusal,
            call: None,
            in_line: false,
            one_shot_next_ms: 0,
            source_ms: None,
            last_error: None,
            last_read_error: None,
            told: None,
            foreign: Foreign::default(),
            shown: None,
            overlay: known.overlay,
            local_told: BTreeMap::new(),
            merge_next_ms: 0,
            stop_next_ms: None,
        }
    }

    /// Takes over a call that is under way for the device though its setup is another one now.
    pub(super) fn wait_for(&mut self, former: Option<Call>) {
        self.call = former.map(|call| Call { of: CallOf::FormerSetup, ..call });
    }

    /// The device said something.
    pub(super) fn heard(&mut self, heard: &Observation, now_ms: u64) {
        if heard.foreign_write {
            self.foreign.heard(heard);
        } else if heard.source_ms.is_some() {
            self.source_ms = heard.source_ms;
        }
        self.course.heard(heard, now_ms);
    }

    /// How many devices it adds to those that are shown to differ from what they should be.
    pub(super) fn drifting(&self) -> i64 {
        i64::from(self.shown.as_ref().is_some_and(|shown| shown.get("drift").is_some()))
    }

    /// A read has ended.
    pub(super) fn note_read(&mut self, ended: &Result<Reading, ReadError>) {
        match ended {
            Ok(reading) => {
                self.source_ms = reading.source_ms;
                self.last_read_error.clone_from(&reading.problem);
            }
            // That it can't be asked is no problem of its.
            Err(error) if error.kind == ReadErrorKind::Unsupported => self.last_read_error = None,
            Err(error) => self.last_read_error = Some(error.message.clone()),
        }
    }

    /// A hand-over has ended.
    pub(super) fn note_write(&mut self, ended: &Result<Handed, WriteError>) {
        self.last_error = ended.as_ref().err().map(|error| error.message.clone());
    }

    /// Follows the records.
    pub(super) fn follow(&mut self, known: Known<'_>, memory: &mut Memory) {
        memory.claims.retain(|revision, _| known.device.wishes.holds(*revision));
        memory.asked.retain(|revision, _| known.device.wishes.holds(*revision));
        take_granted(known.state, known.device, &memory.asked, &mut memory.claims);
        memory.one_shots.follow(known.state);
        self.orders = known.orders(&self.orders.profile, &memory.claims);
        let in_force = |number: &u64| {
            let wishes = known.overlay.iter().flat_map(|overlay| overlay.wishes.values());
            wishes.into_iter().any(|wish| wish.number == *number)
        };
        self.local_told.retain(|number, _| in_force(number));
        self.overlay = known.overlay;
    }
}

/// The profile of a device that can't be served.
fn nothing() -> Profile {
    Profile {
        properties: BTreeMap::new(),
        others: None,
        actions: None,
        fence: crate::device::connector::Fence::None,
        warnings: Vec::new(),
    }
}
