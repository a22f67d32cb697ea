//! Faults about links and devices.

use fleet_state::{NodeId, Value};

use super::super::{Event, World};
use super::partition::Shape;
use crate::faults::Fault;
use crate::field::Manner;

/// How soon after a grant or a hand-over an owner is struck, at most.
const MOMENT_MS_MAX: u64 = 30;
/// Pauses of an owner: some are shorter than its lease, most are longer.
const PAUSE_MS: (u64, u64) = (500, 6_000);
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
        let Some(fault) = self.nemesis.owners_struck.pop() else {
            return;
        };
        let boot = self.nodes.get(&id).map_or(0, |node| node.boot);
        let at_ms = self.now_ms + self.random.between(0, MOMENT_MS_MAX);
        self.queue.push(at_ms, Event::Fall(id, boot, fault));
    }

    /// How long an owner stands still.
    pub(super) fn owner_pause_ms(&mut self) -> u64 {
        let (least, most) = PAUSE_MS;
        self.random.between(least, most)
    }

    fn any_owner(&mut self) -> Option<NodeId> {
        let (state, _) = self.invariants.states.reference()?;
        let owners: Vec<NodeId> = state.links().filter_map(|link| link.owner).collect();
        self.random.pick(&owners).copied()
    }

    pub(super) fn isolate_owner(&mut self) -> bool {
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
        let (Some(id), number) = (self.random.pick(&ids).cloned(), self.random.below(100)) else {
            return false;
        };
        self.field.device(&id).turn_by_hand("level", Value::from(1_000 + number));
        true
    }
}
