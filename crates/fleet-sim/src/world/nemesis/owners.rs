//! Faults about links and devices.

use fleet_device::Observation;
use fleet_state::{DeviceId, NodeId, Value};

use super::super::{Event, World};
use super::partition::Shape;
use crate::faults::Fault;
use crate::field::Manner;

/// How soon after a grant or a hand-over an owner is struck, at most.
const MOMENT_MS_MAX: u64 = 30;
/// Pauses of an owner: half of them are shorter than its lease, most others are longer.
const SHORT_PAUSE_MS: (u64, u64) = (50, 1_950);
const PAUSE_MS: (u64, u64) = (500, 6_000);
/// A pause in which the answer to a question for a lease becomes old, but is still taken.
const LEASE_PAUSE_MS: (u64, u64) = (800, 1_900);
/// How long an owner that stood still hears nothing of the others afterwards.
const DEAF_MS: (u64, u64) = (500, 3_500);
/// How often somebody turns a device then, and the pauses between.
const TURNS: u32 = 6;
const TURN_GAP_MS: (u64, u64) = (100, 500);
/// How long devices are upset, at most.
const UPSET_MS_MAX: u64 = 6_000;
/// Owners in wait to be struck, at most.
const STRUCK_MAX: usize = 4;

impl World {
    /// The next owner that is granted something, or hands it over, is struck.
    pub(super) fn lie_in_wait(&mut self, fault: Fault) -> bool {
        if self.nemesis.last_chance {
            // The moment that was waited for did not come, so any will do.
            if let Some(owner) = self.any_owner() {
                self.nemesis.owners_struck.push(fault);
                self.strike_owner(owner);
            }
        } else if self.nemesis.owners_struck.len() < STRUCK_MAX {
            self.nemesis.owners_struck.push(fault);
        }
        // It has happened when an owner is struck.
        false
    }

    /// An owner asks the log for a one-shot, or for its lease: it may stand still until the answer
    /// is old.
    pub(in super::super) fn owner_asked(&mut self, id: NodeId, for_lease: bool) {
        if for_lease {
            self.lease_asked(id);
        }
        if self.nemesis.owners_struck.is_empty() {
            return;
        }
        if self.random.per_mille(if for_lease { 150 } else { 400 }) {
            let pauses = |fault: &Fault| *fault == Fault::PauseOwner;
            if let Some(at) = self.nemesis.owners_struck.iter().position(pauses) {
                self.nemesis.owners_struck.remove(at);
                self.nemesis.asked_for_lease = for_lease.then_some(id);
                self.strike_owner_by(id, Fault::PauseOwner);
            }
        }
    }

    /// The log granted something to an owner, which has not left yet.
    pub(in super::super) fn claim_granted(&mut self, id: NodeId) {
        if self.random.per_mille(500) {
            self.strike_owner(id);
        }
    }

    /// A one-shot has left an owner, who has not heard of its end.
    pub(in super::super) fn dispatched(&mut self, id: NodeId) {
        self.strike_owner(id);
    }

    fn strike_owner(&mut self, id: NodeId) {
        if let Some(fault) = self.nemesis.owners_struck.pop() {
            self.strike_owner_by(id, fault);
        }
    }

    fn strike_owner_by(&mut self, id: NodeId, fault: Fault) {
        let boot = self.nodes.get(&id).map_or(0, |node| node.boot);
        let at_ms = self.now_ms + self.random.between(1, MOMENT_MS_MAX);
        self.queue.push(at_ms, Event::Fall(id, boot, fault));
    }

    /// An owner stands still. What it asked for is answered meanwhile; afterwards it may hear
    /// nothing more of the others, while its devices still hear it.
    pub(super) fn hold_owner_up(&mut self, id: NodeId) {
        let for_lease = self.nemesis.asked_for_lease.take() == Some(id);
        let (least, most) = match self.random.per_mille(500) {
            _ if for_lease => LEASE_PAUSE_MS,
            true => SHORT_PAUSE_MS,
            false => PAUSE_MS,
        };
        let ms = self.random.between(least, most);
        self.pause(id, ms);
        if for_lease || self.random.per_mille(500) {
            let from_ms = self.now_ms + self.random.between(ms / 2, ms);
            let until_ms = self.now_ms + ms + self.random.between(DEAF_MS.0, DEAF_MS.1);
            self.queue.push(from_ms, Event::CutOff(id, until_ms));
            self.queue.push(self.now_ms + ms, Event::Hand(TURNS));
        }
    }

    /// A node hears nothing of the others any more.
    pub(in super::super) fn cut_off(&mut self, id: NodeId, until_ms: u64) {
        if self.nemesis.stopped {
            return;
        }
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.network.cut_both(id, other);
        }
        self.queue.push(until_ms, Event::Heal);
    }

    pub(super) fn any_owner(&mut self) -> Option<NodeId> {
        let (state, _) = self.invariants.states.reference()?;
        let owners: Vec<NodeId> = state.links().filter_map(|link| link.owner).collect();
        self.random.pick(&owners).copied()
    }

    pub(super) fn isolate_owner(&mut self) -> bool {
        self.queue.push(self.now_ms + 1, Event::Hand(TURNS));
        self.any_owner().is_some_and(|owner| self.partition(Shape::Isolate, owner))
    }

    /// Each device is away, mute or deaf for a while, or is not.
    pub(super) fn upset_devices(&mut self) -> bool {
        let ids: Vec<_> = self.field.devices().map(|(id, _)| id.clone()).collect();
        for id in &ids {
            let manners = [Manner::Away, Manner::Mute, Manner::Deaf, Manner::Well];
            let manner = self.random.pick(&manners).copied().unwrap_or_default();
            self.field.device(id).manner = manner;
        }
        let over_ms = self.now_ms + self.random.between(100, UPSET_MS_MAX);
        self.queue.push(over_ms, Event::DevicesWell);
        !ids.is_empty()
    }

    pub(super) fn turn_by_hand(&mut self) -> bool {
        let ids: Vec<_> = self.field.devices().map(|(id, _)| id.clone()).collect();
        let Some(id) = self.random.pick(&ids).cloned() else {
            return false;
        };
        self.turn_device(&id);
        true
    }

    pub(super) fn turn_device(&mut self, id: &DeviceId) {
        let number = self.random.below(100);
        let device = self.field.device(id);
        device.turn_by_hand("level", Value::from(1_000_000 + number));
        if device.manner == Manner::Well {
            let heard = Observation::fresh(id.clone(), device.values().clone());
            self.tell_all(&heard);
        }
    }

    pub(in super::super) fn go_on_turning(&mut self, left: u32) {
        if left == 0 || self.nemesis.stopped {
            return;
        }
        self.turn_by_hand();
        let (least, most) = TURN_GAP_MS;
        let at_ms = self.now_ms + self.random.between(least, most);
        self.queue.push(at_ms, Event::Hand(left - 1));
    }
}
