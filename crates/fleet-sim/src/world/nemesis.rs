//! The nemesis: breaks things, one after the other, as the seed chose.

use fleet_log::DiskFault;
use fleet_state::NodeId;

use super::{Event, World};
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::node::Life;

/// Calls to the disk within which a planned fault happens.
const DISK_CALLS_AHEAD: u64 = 24;
/// Calls to the disk while a node starts.
const START_CALLS_AHEAD: u64 = 12;
/// Pause between faults that have not happened yet, long enough for an election.
const LAST_CHANCE_GAP_MS: u64 = 2_500;
/// A day, as wall clocks jump.
const DAY_MS: u64 = 86_400_000;

/// How ways are closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Split,
    Isolate,
    OneWay,
    Bridge,
    Ring,
}

/// A change of who belongs to the site.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Join,
    Remove,
    Wipe,
    Voters,
}

#[derive(Default)]
pub(super) struct Nemesis {
    at: usize,
    stopped: bool,
    /// Only what has not happened yet, and slowly: some faults need a leader.
    last_chance: bool,
}

impl World {
    /// Faults begin, and the network shows its manners.
    pub fn start_faults(&mut self) {
        self.network.set_manners(self.swarm.network.clone());
        self.queue.push(self.now_ms + 1, Event::Nemesis);
    }

    /// From now on only what was chosen and has not happened yet.
    pub fn last_chance(&mut self) {
        self.nemesis.last_chance = true;
        self.network.set_manners(crate::swarm::NetworkManners::calm());
        self.network.heal();
    }

    /// Faults end: the network is good again. Who is down comes back by itself.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn stop_faults(&mut self) -> Result<(), Violation> {
        self.nemesis.stopped = true;
        self.network.set_manners(crate::swarm::NetworkManners::calm());
        self.network.heal();
        for node in self.nodes.values_mut() {
            node.wall_offset_ms = 0;
        }
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
        if self.nemesis.stopped {
            return Ok(());
        }
        let (faults, gap_ms) = if self.nemesis.last_chance {
            (self.unfired(), LAST_CHANCE_GAP_MS)
        } else {
            (self.swarm.faults.clone(), self.random.between(50, self.swarm.fault_gap_ms_max))
        };
        self.queue.push(self.now_ms + gap_ms, Event::Nemesis);
        let fault = faults.get(self.nemesis.at % faults.len().max(1)).copied();
        self.nemesis.at += 1;
        let Some(fault) = fault else {
            return Ok(());
        };
        if self.strike(fault)? {
            *self.fired.entry(fault).or_default() += 1;
        }
        Ok(())
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
        let leader = self.leader();
        let code = fault as u64;
        self.trace.note(self.now_ms, any, crate::trace::Event::Fault(fault.as_str(), code));
        match fault {
            Fault::Split => Ok(self.partition(Shape::Split, any)),
            Fault::Isolate => Ok(self.partition(Shape::Isolate, any)),
            Fault::OneWay => Ok(self.partition(Shape::OneWay, any)),
            Fault::Bridge => Ok(self.partition(Shape::Bridge, any)),
            Fault::Ring => Ok(self.partition(Shape::Ring, any)),
            Fault::IsolateLeader => {
                Ok(leader.is_some_and(|leader| self.partition(Shape::Isolate, leader)))
            }
            Fault::Flapping => {
                self.queue.push(self.now_ms + 1, Event::Flap(12));
                Ok(true)
            }
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
            Fault::Stop => self.stop(any).map(|()| true),
            Fault::DiskStop => self.plan(any, DiskFault::Stop),
            Fault::DiskError => self.plan(any, DiskFault::Io),
            Fault::DiskFull => self.plan(any, DiskFault::ShortWrite),
            Fault::StartStop => {
                self.crash(any, true, "power");
                self.plan_disk_fault(any, DiskFault::Stop, START_CALLS_AHEAD);
                Ok(true)
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

    fn plan(&mut self, id: NodeId, fault: DiskFault) -> Result<bool, Violation> {
        // In the end anybody who has none ahead will do.
        let others = if self.nemesis.last_chance { self.running() } else { vec![id] };
        Ok(others.into_iter().any(|id| self.plan_disk_fault(id, fault, DISK_CALLS_AHEAD)))
    }

    fn heal_later(&mut self) {
        let ms = self.random.between(50, 4_000);
        self.queue.push(self.now_ms + ms, Event::Heal);
    }

    fn partition(&mut self, shape: Shape, center: NodeId) -> bool {
        let mut nodes: Vec<NodeId> =
            self.nodes.values().filter(|n| n.life != Life::Gone).map(|n| n.id).collect();
        self.random.shuffle(&mut nodes);
        let half = nodes.len() / 2;
        let pairs = nodes.iter().enumerate().flat_map(|(at, one)| {
            nodes.iter().enumerate().skip(at + 1).map(move |(to, other)| (at, *one, to, *other))
        });
        for (at, one, to, other) in pairs {
            let apart = (at < half) != (to < half);
            let closed = match shape {
                Shape::Split | Shape::OneWay => apart,
                Shape::Isolate => one == center || other == center,
                // The node at `half` is the bridge.
                Shape::Bridge => apart && to != half,
                Shape::Ring => to - at != 1 && to - at != nodes.len() - 1,
            };
            if closed {
                self.network.cut(one, other);
            }
            if closed && shape != Shape::OneWay {
                self.network.cut(other, one);
            }
        }
        self.heal_later();
        true
    }

    pub(super) fn flap(&mut self, left: u32) {
        self.network.heal();
        if left == 0 || self.nemesis.stopped {
            return;
        }
        let running = self.running();
        if let (Some(one), Some(other)) =
            (self.random.pick(&running).copied(), self.random.pick(&running).copied())
        {
            self.network.cut_both(one, other);
        }
        let ms = self.random.between(50, 500);
        self.queue.push(self.now_ms + ms, Event::Flap(left - 1));
    }

    fn strike_pause(&mut self, id: NodeId) -> bool {
        let ms = self.random.between(30, 2_500);
        self.pause(id, ms);
        true
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

    /// Whether learners are about to become voters. With two voters nobody can be spared.
    fn voters_will_grow(&self) -> bool {
        let (voters, learners) = self.invariants.membership.newest();
        let wanted = self.invariants.states.reference().map_or(0, |(s, _)| s.voters_wanted());
        let grows = voters.len() + 2 <= usize::from(wanted) && learners.len() >= 2;
        let one_more = voters.len() % 2 == 0 && !learners.is_empty();
        one_more || grows
    }

    /// One change at a time, and never so that fewer than a majority could come back.
    fn change_membership(&mut self, change: Change, node: NodeId) -> bool {
        let (voters, learners) = self.invariants.membership.newest();
        let keys = self.nodes.values().filter(|n| n.life != Life::Gone && n.site_key.is_some());
        let keepers = keys.filter(|n| n.id != node && voters.contains(&n.id)).count();
        if matches!(change, Change::Wipe | Change::Remove) && keepers == 0 {
            // Who holds the only copy of the site key must not be lost.
            return false;
        }
        let settled = self.operator_idle()
            && self
                .invariants
                .states
                .reference()
                .is_some_and(|(state, _)| state.members().all(|m| !m.leaving || !m.is_live()))
            && voters
                .iter()
                .chain(&learners)
                .all(|id| self.nodes.get(id).is_some_and(|node| node.life != Life::Gone));
        // A configuration helps those only who know that it is in force: until the voters do,
        // they elect under the one before, which may not bear the loss of a node.
        let at = self.invariants.membership.newest_index();
        let known = voters.iter().all(|id| {
            let replica = self.nodes.get(id).and_then(|node| node.replica.as_ref());
            replica.is_some_and(|replica| replica.applied().get() >= at)
        });
        if !settled || (change == Change::Wipe && !known) {
            return false;
        }
        let live = voters.len() + learners.len();
        let few = match change {
            Change::Remove => live < 4,
            Change::Wipe => voters.len() < 3,
            Change::Join | Change::Voters => false,
        };
        if few && !self.voters_will_grow() {
            self.invite();
        }
        if few || (change == Change::Wipe && self.voters_will_grow()) {
            return false;
        }
        match change {
            Change::Join => self.invite(),
            Change::Remove => self.remove(node),
            Change::Voters => {
                let wanted = self.random.pick(&[3, 5]).copied().unwrap_or(3);
                self.set_voters(wanted);
            }
            Change::Wipe => {
                self.wipe(node);
                self.remove(node);
                self.invite();
            }
        }
        true
    }
}
