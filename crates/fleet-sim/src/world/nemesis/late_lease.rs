//! A lease that is granted in time and heard of too late.
//!
//! An owner asks for its lease and stands still until the answer is nearly worthless, because the
//! lease runs from the question. When it goes on it hears the answer first, and nothing of the
//! others afterwards; meanwhile the leader counts, gives its links away, and somebody turns its
//! devices, so that it wants to write for as long as it believes that it may.

use fleet_device::lease::{LEASE_MS, silent_ms};
use fleet_state::{DeviceId, NodeId};

use super::super::{Event, World};
use crate::faults::Fault;

/// How long the owner stands still: the answer is still taken, and little is left of the lease.
const STILL_MS: (u64, u64) = (LEASE_MS - 900, LEASE_MS - 100);
/// When it is cut off at the earliest, so that the answer reaches its machine.
const CUT_AFTER_MS: u64 = 400;
/// Turns of its devices, and the pauses between.
const TURNS: u32 = 6;
const TURN_GAP_MS: (u64, u64) = (250, 600);

impl World {
    /// The next owner that asks for its lease stands still at once; when that was waited for in
    /// vain, any owner does.
    pub(super) fn wait_for_a_lease(&mut self) -> bool {
        if self.nemesis.last_chance
            && let Some(owner) = self.any_owner()
        {
            self.stand_still_at_once(owner);
        } else {
            self.nemesis.late_leases = 1;
            self.wish_for_good();
        }
        // It has happened when an owner stands still.
        false
    }

    /// A node has asked for its lease. A leader answers itself, and nobody takes its links; who
    /// has no way to the leader isn't answered.
    pub(super) fn lease_asked(&mut self, id: NodeId) {
        let hears = |leader: &NodeId| {
            *leader != id && self.network.is_open(*leader, id) && self.network.is_open(id, *leader)
        };
        let ready = !self.devices_of(id).is_empty() && self.operator_idle();
        if self.nemesis.late_leases > 0 && ready && self.leader().filter(hears).is_some() {
            self.nemesis.late_leases -= 1;
            self.stand_still_at_once(id);
        }
    }

    fn stand_still_at_once(&mut self, id: NodeId) {
        let boot = self.nodes.get(&id).map_or(0, |node| node.boot);
        self.queue.push(self.now_ms + 1, Event::Fall(id, boot, Fault::LateLease));
    }

    /// It stands still now.
    pub(super) fn make_the_lease_late(&mut self, id: NodeId) {
        let still_ms = self.random.between(STILL_MS.0, STILL_MS.1);
        self.pause(id, still_ms);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.hears_first = true;
        }
        let cut_ms = self.now_ms + self.random.between(CUT_AFTER_MS, still_ms);
        let until_ms = self.now_ms + still_ms + silent_ms();
        // Whatever else goes wrong meanwhile would only hide it.
        self.nemesis.quiet_until_ms = until_ms;
        self.queue.push(cut_ms, Event::CutOff(id, until_ms));
        self.queue.push(self.now_ms + still_ms, Event::HandOn(id, TURNS));
    }

    /// Somebody turns the devices that a node believes it owns.
    pub(in super::super) fn turn_devices_of(&mut self, id: NodeId, left: u32) {
        if left == 0 || self.nemesis.stopped {
            return;
        }
        for device in self.devices_of(id) {
            self.turn_device(&device);
        }
        let at_ms = self.now_ms + self.random.between(TURN_GAP_MS.0, TURN_GAP_MS.1);
        self.queue.push(at_ms, Event::HandOn(id, left - 1));
    }

    fn devices_of(&self, id: NodeId) -> Vec<DeviceId> {
        let Some(replica) = self.nodes.get(&id).and_then(|node| node.replica.as_ref()) else {
            return Vec::new();
        };
        let state = replica.state();
        let owned = state.links().filter(|link| link.owner == Some(id));
        owned.flat_map(|link| state.devices_of(&link.id)).map(|device| device.id.clone()).collect()
    }
}
