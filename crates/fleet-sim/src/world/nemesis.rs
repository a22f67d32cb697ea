//! The nemesis: breaks things, one after the other, as the seed chose.

mod disk;
mod late_lease;
mod liar;
mod membership;
mod moments;
mod owners;
mod partition;

use fleet_log::DiskFault;
use fleet_state::NodeId;

use super::{Event, World};
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::node::{Life, OldCopy};
use membership::Change;
use partition::Shape;

/// Calls to the disk within which a planned fault happens.
const DISK_CALLS_AHEAD: u64 = 24;
/// Calls to the disk while a node starts.
const START_CALLS_AHEAD: u64 = 12;
/// Pause between faults that have not happened yet, long enough for an election.
const LAST_CHANCE_GAP_MS: u64 = 2_500;
/// Turns that each of them has then.
const LAST_CHANCE_TURNS: u64 = 12;
/// Longest time that a sync of a slow disk takes.
const SYNC_MS_MAX: u64 = 400;
/// What a disk has room for that is as good as full, at most.
const ROOM_BYTES_MAX: u64 = 64 * 1024;
/// A day, as wall clocks jump.
const DAY_MS: u64 = 86_400_000;

#[derive(Default)]
pub(super) struct Nemesis {
    at: usize,
    strikes: u64,
    stopped: bool,
    /// Only what has not happened yet, and slowly: some faults need a leader.
    last_chance: bool,
    /// Leaders that will be gone soon after their election.
    pub(super) short_reigns: u64,
    /// The next snapshots, after which power is lost.
    pub(super) cuts_at_snapshot: u64,
    /// Owners that fall or stand still at their next hand-over.
    pub(super) owners_struck: Vec<Fault>,
    /// Owners that stand still as soon as they ask for their lease.
    late_leases: u64,
    /// Nothing else is broken until then.
    quiet_until_ms: u64,
    /// Who stands still soon because it asked for its lease.
    pub(super) asked_for_lease: Option<NodeId>,
    /// Of a node's disks, to be put back one day.
    copy: Option<(NodeId, OldCopy)>,
}

impl World {
    /// Faults begin, and the network shows its manners.
    pub fn start_faults(&mut self) {
        let (first, second) = (self.swarm.network.clone(), self.swarm.second_way.clone());
        self.network.set_manners_by_way(first, second);
        self.queue.push(self.now_ms + 1, Event::Nemesis);
    }

    /// From now on only what was chosen and has not happened yet. Gives back until when each of
    /// these has had a few turns, however many there are.
    pub fn last_chance(&mut self) -> u64 {
        self.nemesis.last_chance = true;
        self.network.set_manners(crate::swarm::NetworkManners::calm());
        self.network.heal();
        let left = self.unfired().len() as u64;
        self.now_ms + (LAST_CHANCE_TURNS * left + 1) * LAST_CHANCE_GAP_MS
    }

    /// Faults end: the network is good again. Who is down comes back by itself.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn stop_faults(&mut self) -> Result<(), Violation> {
        self.nemesis.stopped = true;
        (self.nemesis.short_reigns, self.nemesis.cuts_at_snapshot) = (0, 0);
        self.nemesis.owners_struck.clear();
        self.nemesis.late_leases = 0;
        self.field.heal();
        self.network.set_manners(crate::swarm::NetworkManners::calm());
        self.network.heal();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.disk_well(id);
        }
        for node in self.nodes.values_mut() {
            node.wall_offset_ms = 0;
        }
        // An old copy that was put back a moment ago is still to be recognised; a restart of those
        // who can would hide it for ever.
        self.run_for(self.nemesis.quiet_until_ms.saturating_sub(self.now_ms))?;
        self.upgrade_all();
        Ok(())
    }

    /// Whether faults have ended.
    pub(super) fn nemesis_stopped(&self) -> bool {
        self.nemesis.stopped
    }

    /// Faults that were chosen and never happened.
    #[must_use]
    pub fn unfired(&self) -> Vec<Fault> {
        let chosen = self.swarm.faults.iter().copied();
        chosen.filter(|fault| !self.fired.contains_key(fault)).collect()
    }

    pub(super) fn nemesis_acts(&mut self) -> Result<(), Violation> {
        if self.nemesis.stopped || self.nemesis.strikes >= self.swarm.strikes_max {
            return Ok(());
        }
        if self.now_ms < self.nemesis.quiet_until_ms && !self.nemesis.last_chance {
            self.queue.push(self.nemesis.quiet_until_ms, Event::Nemesis);
            return Ok(());
        }
        let gap_ms = if self.nemesis.last_chance {
            LAST_CHANCE_GAP_MS
        } else {
            self.random.between(50, self.swarm.fault_gap_ms_max)
        };
        self.queue.push(self.now_ms + gap_ms, Event::Nemesis);
        let Some(fault) = self.next_fault() else {
            return Ok(());
        };
        self.nemesis.strikes += 1;
        if self.strike(fault)? {
            *self.fired.entry(fault).or_default() += 1;
        }
        Ok(())
    }

    /// Whose turn it is. In the last chance only those have turns that have not happened, in the
    /// order of all, so that none is passed over when another one drops out.
    fn next_fault(&mut self) -> Option<Fault> {
        let left = if self.nemesis.last_chance { self.unfired() } else { Vec::new() };
        let count = self.swarm.faults.len();
        (0..count).find_map(|_| {
            let fault = self.swarm.faults.get(self.nemesis.at % count).copied();
            self.nemesis.at += 1;
            fault.filter(|fault| !self.nemesis.last_chance || left.contains(fault))
        })
    }

    /// Carries out a fault; `false` where it can't be now.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn strike(&mut self, fault: Fault) -> Result<bool, Violation> {
        let running = self.running();
        let Some(any) = self.random.pick(&running).copied() else {
            return Ok(false);
        };
        let left = self.nodes.values().filter(|node| node.life != Life::Gone).count();
        if self.nemesis.last_chance && left < fault.nodes_min() {
            // Too many have left. One after the other comes in their place.
            if self.operator_idle() {
                self.invite();
            }
            return Ok(false);
        }
        let leader = self.leader();
        let code = fault as u64;
        self.trace.note(self.now_ms, any, crate::trace::Event::Fault(fault.as_str(), code));
        match fault {
            Fault::Split => Ok(self.partition(Shape::Split, any)),
            Fault::Isolate => Ok(self.partition(Shape::Isolate, any)),
            Fault::OneWay => Ok(self.partition(Shape::OneWay, any)),
            Fault::Bridge => Ok(self.partition(Shape::Bridge, any)),
            Fault::Ring => Ok(self.partition(Shape::Ring, any)),
            Fault::TwoLeaves => Ok(self.partition(Shape::TwoLeaves, any)),
            Fault::ServerDown => Ok(self.take_server_down()),
            Fault::IsolateLeader => {
                Ok(leader.is_some_and(|leader| self.partition(Shape::Isolate, leader)))
            }
            Fault::Flapping => Ok(self.start_flapping()),
            Fault::Offline => {
                self.network.set_offline(any);
                self.heal_later();
                Ok(true)
            }
            Fault::Kill => self.strike_node(any, |world, id| world.crash(id, false, "kill")),
            Fault::PowerCut => self.strike_node(any, |world, id| world.crash(id, true, "power")),
            Fault::KillLeader => match leader {
                Some(leader) => self.strike_node(leader, |w, id| w.crash(id, false, "kill")),
                None => Ok(false),
            },
            Fault::PowerCutAll => {
                running.iter().for_each(|id| self.crash(*id, true, "power"));
                Ok(true)
            }
            Fault::LongNight => Ok(self.sleep_all()),
            Fault::CutAtSnapshot => Ok(self.cut_at_snapshots(any)),
            Fault::ShortReigns => Ok(self.shorten_reigns()),
            Fault::KillOwner | Fault::PauseOwner => Ok(self.lie_in_wait(fault)),
            Fault::LateLease => Ok(self.wait_for_a_lease()),
            Fault::IsolateOwner => Ok(self.isolate_owner()),
            Fault::Devices => Ok(self.upset_devices()),
            Fault::Hand => Ok(self.turn_by_hand()),
            Fault::Stop => self.stop(any).map(|()| true),
            Fault::DiskStop => Ok(self.plan(any, (fault, DiskFault::Stop))),
            Fault::DiskError => Ok(self.plan(any, (fault, DiskFault::Io))),
            Fault::DiskFull => Ok(self.plan(any, (fault, DiskFault::ShortWrite))),
            Fault::StartStop => {
                self.crash(any, true, "power");
                let ahead = if self.nemesis.last_chance { 1 } else { START_CALLS_AHEAD };
                self.plan_disk_fault(any, (fault, DiskFault::Stop), ahead);
                // It has happened when power was lost again.
                Ok(false)
            }
            Fault::Pause => Ok(self.strike_pause(any)),
            Fault::PauseLeader => Ok(leader.is_some_and(|leader| self.strike_pause(leader))),
            Fault::WallJump => Ok(self.jump_wall_clock(any)),
            Fault::Transfer | Fault::Snapshot => Ok(self.admin(fault, any, leader)),
            Fault::Join => Ok(self.change_membership(Change::Join, any)),
            Fault::Remove => Ok(self.change_membership(Change::Remove, any)),
            Fault::RemoveLeader => {
                Ok(leader.is_some_and(|leader| self.change_membership(Change::Remove, leader)))
            }
            Fault::Wipe => Ok(self.change_membership(Change::Wipe, any)),
            Fault::BitFlip => self.flip_a_byte(any),
            Fault::RollBack => self.roll_back(any),
            Fault::SlowDisk => Ok(self.slow_disk(any)),
            Fault::Upgrade => Ok(self.change_a_program()),
            Fault::LowSpace => Ok(self.fill_disk(any)),
            Fault::Liar => self.tell_a_lie(any),
            Fault::Voters => Ok(self.change_membership(Change::Voters, any)),
        }
    }

    fn strike_node(
        &mut self,
        id: NodeId,
        act: impl FnOnce(&mut Self, NodeId),
    ) -> Result<bool, Violation> {
        act(self, id);
        Ok(true)
    }

    /// `false`: it has happened when the disk has failed.
    fn plan(&mut self, id: NodeId, fault: (Fault, DiskFault)) -> bool {
        // In the end anybody who has none ahead will do.
        let others = if self.nemesis.last_chance { self.running() } else { vec![id] };
        let planned = others.iter().any(|id| self.plan_disk_fault(*id, fault, DISK_CALLS_AHEAD));
        if !planned && self.nemesis.last_chance {
            // Where only reads are asked for, those that were planned before wait for a call.
            for id in others {
                self.admin(Fault::Snapshot, id, None);
            }
        }
        false
    }

    fn strike_pause(&mut self, id: NodeId) -> bool {
        let ms = self.random.between(30, 2_500);
        self.pause(id, ms);
        true
    }

    /// Every sync of a node takes long, for a while.
    fn slow_disk(&mut self, id: NodeId) -> bool {
        let slow_ms = self.random.between(5, SYNC_MS_MAX);
        let over_ms = self.now_ms + self.random.between(500, 4_000);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.slow_sync_ms = slow_ms;
        }
        self.queue.push(over_ms, Event::DiskWell(id));
        true
    }

    /// A node's disk is nearly full, for a while. Half of the time it notices before there is no room.
    fn fill_disk(&mut self, id: NodeId) -> bool {
        let over_ms = self.now_ms + self.random.between(200, 5_000);
        let room_bytes = self.random.per_mille(500).then(|| self.random.below(ROOM_BYTES_MAX));
        if let Some(node) = self.nodes.get_mut(&id) {
            match (room_bytes, &mut node.replica) {
                (None, Some(replica)) => replica.set_low_space(true),
                (room_bytes, _) => node.leave_room(room_bytes),
            }
        }
        self.queue.push(over_ms, Event::DiskWell(id));
        true
    }

    /// A disk is fast and has room.
    pub(super) fn disk_well(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.slow_sync_ms = 0;
            node.leave_room(None);
            if let Some(replica) = &mut node.replica {
                replica.set_low_space(false);
            }
        }
    }

    fn jump_wall_clock(&mut self, id: NodeId) -> bool {
        let jump_ms = self.random.between(1_000, DAY_MS);
        let jump_ms = i64::try_from(jump_ms).unwrap_or(0);
        let back = self.random.per_mille(500);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.wall_offset_ms = if back { -jump_ms } else { jump_ms };
        }
        true
    }

    fn admin(&mut self, fault: Fault, any: NodeId, leader: Option<NodeId>) -> bool {
        let id = if fault == Fault::Transfer { leader } else { Some(any) };
        let replica = id.and_then(|id| self.nodes.get_mut(&id)).and_then(|n| n.replica.as_mut());
        let (Some(id), Some(replica)) = (id, replica) else {
            return false;
        };
        self.due.insert(id);
        if fault == Fault::Transfer {
            return replica.handle_transfer(None).is_ok();
        }
        if replica.applied().get() == 0 {
            return false;
        }
        // Refused while one is being written, which comes to the same.
        replica.handle_snapshot_request();
        true
    }
}
