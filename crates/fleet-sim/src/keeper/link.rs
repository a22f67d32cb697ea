//! Work on one link, in one epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_device::lease::Lease;
use fleet_device::one_shots::OneShots;
use fleet_device::{Asked, Claims, Learnt, LogBound, Observation, Profile};
use fleet_state::{AgentCommand, DeviceId, FleetState, Link, LinkId, NodeId, Outcome, StageItem};

use super::device::Slot;
use super::{Answer, Call, Calls, LOG_WITHIN_MS, Purpose};
use crate::field::profile;

/// Pause after stages that the log didn't take.
const STAGES_PAUSE_MS: u64 = 250;

/// What is remembered of a device as long as the epoch lasts, through all sessions.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub claims: Claims,
    /// Wishes that the log was asked for, with when that was first.
    pub asked: Asked,
    pub one_shots: OneShots,
}

/// Work on one link.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) id: LinkId,
    pub(super) epoch: u64,
    let_go: bool,
    pub(super) node: NodeId,
    pub(super) until_ms: Option<u64>,
    pub(super) profile: Arc<Profile>,
    pub(super) memory: BTreeMap<DeviceId, Memory>,
    /// How late it is at most, from the last claim that the log decided.
    pub(super) log_bound: Option<LogBound>,
    pub(super) slots: BTreeMap<DeviceId, Slot>,
    pub(super) to_tell: BTreeMap<DeviceId, StageItem>,
    telling: bool,
    tell_next_ms: u64,
}

impl Work {
    pub(super) fn new(id: LinkId, epoch: u64) -> Self {
        Self {
            id,
            epoch,
            let_go: false,
            node: NodeId::FOUNDER,
            until_ms: None,
            profile: Arc::new(profile()),
            memory: BTreeMap::new(),
            log_bound: None,
            slots: BTreeMap::new(),
            to_tell: BTreeMap::new(),
            telling: false,
            tell_next_ms: 0,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn let_go(&mut self) {
        self.let_go = true;
    }

    /// The link, while it is this work's.
    fn link<'a>(&self, state: &'a FleetState) -> Option<&'a Arc<Link>> {
        let ours = |link: &&Arc<Link>| link.owner == Some(self.node) && link.epoch == self.epoch;
        state.link(&self.id).filter(ours).filter(|_| !self.let_go)
    }

    /// Looks at all devices; `false` when there is nothing more to do in this epoch.
    pub(super) fn look(
        &mut self,
        node: NodeId,
        lease: Lease,
        state: &FleetState,
        now_ms: u64,
        calls: &mut Calls,
    ) -> bool {
        self.node = node;
        let link = self.link(state).cloned();
        // Calls under way may end, and what they led to is told, before the link is let go.
        let Some(link) = link else {
            return self.slots.values().any(Slot::is_handing_over);
        };
        self.until_ms = lease.until_ms(&link, now_ms);
        if link.paused || self.until_ms.is_none() {
            self.slots.retain(|_, slot| slot.is_handing_over());
            return true;
        }
        self.follow(state, now_ms);
        let devices: Vec<DeviceId> = self.slots.keys().cloned().collect();
        for device in devices {
            self.look_at(&device, state, now_ms, calls);
        }
        self.tell_stages(now_ms, calls);
        true
    }

    /// A slot for each device of the link.
    fn follow(&mut self, state: &FleetState, now_ms: u64) {
        let here = |id: &DeviceId| {
            state.device(id).is_some_and(|device| device.spec.link.as_ref() == Some(&self.id))
        };
        self.slots.retain(|id, _| here(id));
        self.memory.retain(|id, _| here(id));
        let devices: Vec<_> = state.devices_of(&self.id).cloned().collect();
        for device in devices {
            let memory = self.memory.entry(device.id.clone()).or_default();
            memory.claims.retain(|revision, _| device.wishes.holds(*revision));
            memory.asked.retain(|revision, _| device.wishes.holds(*revision));
            fleet_device::take_granted(state, &device, &memory.asked, &mut memory.claims);
            memory.one_shots.follow(state);
            let learnt = Learnt { claims: &memory.claims, bound: self.log_bound };
            let orders = fleet_device::orders(state, &device, &self.profile, learnt);
            match self.slots.get_mut(&device.id) {
                Some(slot) => slot.orders = orders,
                None => {
                    self.slots.insert(device.id.clone(), Slot::new(orders, now_ms));
                }
            }
        }
    }

    fn tell_stages(&mut self, now_ms: u64, calls: &mut Calls) {
        if self.telling || self.to_tell.is_empty() || now_ms < self.tell_next_ms {
            return;
        }
        let items: Vec<StageItem> = std::mem::take(&mut self.to_tell).into_values().collect();
        let (link, epoch) = (self.id.clone(), self.epoch);
        let command = AgentCommand::Stages { link, epoch, items };
        self.telling = true;
        calls.submit(Purpose::Stages(self.id.clone()), command, now_ms, LOG_WITHIN_MS);
    }

    pub(super) fn device_ended(
        &mut self,
        call: Call,
        purpose: Purpose,
        answer: Answer,
        now_ms: u64,
    ) {
        let (Purpose::Read(_, id) | Purpose::Write(_, id, _) | Purpose::Invoke(_, id, _)) =
            &purpose
        else {
            return;
        };
        // What was handed over stays handed over, whoever hears of its end.
        if let (Purpose::Invoke(_, id, request), Answer::Handed(ended)) = (&purpose, &answer)
            && let Some(memory) = self.memory.get_mut(id)
        {
            memory.one_shots.handed_over(request.clone(), ended.clone());
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.device_ended(call, &purpose, answer, now_ms);
        }
    }

    pub(super) fn heard(&mut self, heard: &Observation, now_ms: u64) {
        if let Some(slot) = self.slots.get_mut(&heard.device) {
            slot.heard(heard, now_ms);
        }
    }

    pub(super) fn log_ended(
        &mut self,
        call: Call,
        purpose: Purpose,
        outcome: Option<&Outcome>,
        (state, lease): (&FleetState, Lease),
        now_ms: u64,
        calls: &mut Calls,
    ) {
        if matches!(purpose, Purpose::Stages(_)) {
            self.telling = false;
            if outcome.is_none() {
                // Marks only rise; they are noted again when the devices are looked at.
                self.tell_next_ms = now_ms + STAGES_PAUSE_MS;
                self.slots.values_mut().for_each(Slot::forget_told);
            }
            return;
        }
        let link = self.link(state).cloned();
        self.until_ms = link.and_then(|link| lease.until_ms(&link, now_ms));
        self.device_log_ended(call, purpose, outcome, state, now_ms, calls);
    }
}
