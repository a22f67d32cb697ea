//! Faults that come at a chosen moment of a node's life, and the night in which nothing happens.

use fleet_state::NodeId;

use super::super::{Event, World};
use crate::faults::Fault;
use crate::node::Life;

/// Leaders that fall in a row, at most.
const REIGNS_MAX: u64 = 6;
/// How long such a leader lasts, at most.
const REIGN_MS_MAX: u64 = 80;
/// How soon it comes back, at most.
const RETURN_MS_MAX: u64 = 400;
/// How soon after a snapshot got its name power is lost, at most.
const CUT_MS_MAX: u64 = 3;
/// Nights in minutes: answers and wishes have become old when a new day begins.
const NIGHT_MINUTES: (u64, u64) = (11, 45);
const MINUTE_MS: u64 = 60_000;

impl World {
    /// All nodes lose power and get it back much later. Wall clocks went on.
    pub(super) fn sleep_all(&mut self) -> bool {
        let (least, most) = NIGHT_MINUTES;
        let slept_ms = self.random.between(least, most) * MINUTE_MS;
        let awake: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| matches!(node.life, Life::Running | Life::Paused))
            .map(|node| node.id)
            .collect();
        for id in awake {
            self.crash(id, true, "night");
        }
        self.slept_ms += slept_ms;
        for node in self.nodes.values_mut() {
            node.slept_ms = self.slept_ms;
        }
        true
    }

    /// The next few leaders fall soon after their election.
    pub(super) fn shorten_reigns(&mut self) -> bool {
        self.nemesis.short_reigns = self.random.between(2, REIGNS_MAX);
        // The first one is the present one.
        if let Some(leader) = self.leader() {
            self.reign_begins(leader);
        }
        // It has happened when one falls.
        false
    }

    /// The next snapshot of any node costs it its power.
    pub(super) fn cut_at_snapshots(&mut self, any: NodeId) -> bool {
        self.nemesis.cuts_at_snapshot = self.random.between(1, 3);
        if self.nemesis.last_chance || self.random.per_mille(500) {
            self.admin(Fault::Snapshot, any, None);
        }
        // It has happened when a node falls.
        false
    }

    /// A node was elected.
    pub(in super::super) fn reign_begins(&mut self, id: NodeId) {
        if self.nemesis.short_reigns == 0 {
            return;
        }
        self.nemesis.short_reigns -= 1;
        let boot = self.nodes.get(&id).map_or(0, |node| node.boot);
        let at_ms = self.now_ms + self.random.between(0, REIGN_MS_MAX);
        self.queue.push(at_ms, Event::Fall(id, boot, Fault::ShortReigns));
    }

    /// A node has written a snapshot.
    pub(in super::super) fn snapshot_named(&mut self, id: NodeId) {
        if self.nemesis.cuts_at_snapshot == 0 {
            return;
        }
        self.nemesis.cuts_at_snapshot -= 1;
        let boot = self.nodes.get(&id).map_or(0, |node| node.boot);
        let at_ms = self.now_ms + self.random.between(0, CUT_MS_MAX);
        self.queue.push(at_ms, Event::Fall(id, boot, Fault::CutAtSnapshot));
    }

    /// A node falls at its chosen moment, unless it has fallen before.
    pub(in super::super) fn fall(&mut self, id: NodeId, boot: u64, why: Fault) {
        let there = |node: &&mut crate::node::Node| node.boot == boot && node.life == Life::Running;
        if self.nemesis.stopped || self.nodes.get_mut(&id).filter(there).is_none() {
            return;
        }
        *self.fired.entry(why).or_default() += 1;
        if why == Fault::PauseOwner {
            self.hold_owner_up(id);
            return;
        }
        if why == Fault::LateLease {
            self.make_the_lease_late(id);
            return;
        }
        let again_ms = self.now_ms + self.random.between(20, RETURN_MS_MAX);
        self.take_down(id, why == Fault::CutAtSnapshot, why.as_str());
        self.queue.push(again_ms, Event::Start(id));
    }
}
