//! Starting, crashing and pausing of nodes.

use fleet_log::DiskFault;
use fleet_state::NodeId;
use fleet_state::limits::FEATURE_LEVEL;

use super::{Event, TICK_MS, World};
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::node::{Life, Node, OLDER};
use crate::random::Random;
use crate::site::NodeSecrets;
use crate::trace;

/// Longest time that a crashed node stays down.
const DOWN_MS_MAX: u64 = 3_000;
/// Nodes that join with an older program, of a thousand, where they can.
const OLDER_PROGRAMS: u64 = 600;
/// Changes of programs that go back to the older one, of a thousand, as long as they can.
const DOWNGRADES: u64 = 300;

impl World {
    /// Starts a node's process.
    ///
    /// # Errors
    /// It doesn't start, though its disks do what they should.
    pub fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.life != Life::Gone) else {
            return Ok(());
        };
        let opened = node.open(&self.site, &self.swarm, now_ms);
        let (boot, doubt, may_fail) = (node.boot, node.doubt, node.may_fail());
        let excused = self.note_disk_faults(id) || may_fail;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                if doubt == Some(crate::node::Doubt::Flipped) {
                    // It noticed, and says so: somebody gives it up.
                    self.replace(id);
                    return Ok(());
                }
                // A machine that had stopped needs its power cut before it starts again.
                if !excused {
                    let what = format!("node {id}, start {boot}: {error}");
                    return Err(Violation::new("a node starts again", what));
                }
                self.crash(id, true, "start");
                return Ok(());
            }
        };
        let flipped = node.doubt == Some(crate::node::Doubt::Flipped);
        if flipped {
            node.doubt = None;
        }
        if let Some(name) = opened.damaged_snapshots.first().filter(|_| !flipped) {
            let what = format!("node {id} found {name} damaged");
            return Err(Violation::new("a named snapshot is whole", what));
        }
        let applied = opened.replica.applied().get();
        node.replica = Some(opened.replica);
        node.life = Life::Running;
        node.was_cut = false;
        self.trace.note(now_ms, id, trace::Event::Start { boot, applied });
        let first_ms = now_ms + self.random.between(1, TICK_MS);
        self.queue.push(first_ms, Event::Tick(id, boot));
        self.due.insert(id);
        self.check(id, true)
    }

    pub(super) fn start_if_down(&mut self, id: NodeId) -> Result<(), Violation> {
        if self.nodes.get(&id).is_some_and(|n| n.life == Life::Down) {
            return self.start(id);
        }
        Ok(())
    }

    /// Ends a node's process, with its power if `power`. It will be started again.
    pub fn crash(&mut self, id: NodeId, power: bool, why: &'static str) {
        let again_ms = self.now_ms + self.random.between(20, DOWN_MS_MAX);
        self.take_down(id, power, why);
        self.queue.push(again_ms, Event::Start(id));
    }

    /// Ends a node's process until somebody starts it.
    pub fn take_down(&mut self, id: NodeId, power: bool, why: &'static str) {
        let seed = self.random.next();
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.life != Life::Gone) else {
            return;
        };
        node.life = Life::Down;
        if power {
            node.cut_power(seed);
        } else {
            node.drop_replica();
        }
        self.due.remove(&id);
        self.trace.note(self.now_ms, id, trace::Event::Stop(why));
        self.attempts_lost(id);
    }

    /// The feature level of the site, by the log.
    #[must_use]
    pub fn site_level(&self) -> u16 {
        let state = self.invariants.states.reference().map(|(state, _)| state);
        state.map_or(FEATURE_LEVEL, fleet_state::FleetState::feature_level)
    }

    /// A node gets a newer program, which takes a restart; now and then one goes back to the older
    /// program, as long as the site is there too. `false` where there is nobody for it.
    pub(super) fn change_a_program(&mut self) -> bool {
        let (level, random) = (self.site_level(), &mut self.random);
        // With a member that leaves, the site may be raised at any moment.
        let nobody_leaves = !self.swarm.faults.iter().any(|fault| fault.removes_members());
        let goes_back = nobody_leaves && level == OLDER && random.per_mille(DOWNGRADES);
        // Nobody goes back before the log knows what it runs, and then it must be known to have before
        // the site may be raised by another one.
        let known = |node: &&Node| {
            let (state, _) = self.invariants.states.reference()?;
            Some(state.member(&node.id)?.feature_level)
        };
        let from = if goes_back { FEATURE_LEVEL } else { OLDER };
        let all = self.nodes.values().filter(|node| node.life != Life::Gone);
        let unsure = all.clone().any(|node| node.reads == OLDER && known(&node) > Some(OLDER));
        // And another one has to hold the site back meanwhile.
        let held = all.clone().any(|node| node.reads == OLDER && known(&node) == Some(OLDER));
        let settled = |node: &&Node| !goes_back || held && known(node) == Some(FEATURE_LEVEL);
        let fit = all.filter(|node| node.reads == from).filter(settled);
        let fit: Vec<NodeId> = fit.map(|node| node.id).collect();
        match random.pick(&fit).copied() {
            Some(id) if !unsure => {
                self.change_program(id, FEATURE_LEVEL + OLDER - from);
                true
            }
            Some(_) => false,
            None => {
                if from == OLDER && level == FEATURE_LEVEL {
                    // All that were old have left before anybody was upgraded.
                    self.swarm.faults.retain(|fault| *fault != Fault::Upgrade);
                }
                false
            }
        }
    }

    /// All nodes have the newest program.
    pub(super) fn upgrade_all(&mut self) {
        let older = |node: &&Node| node.reads == OLDER && node.life != Life::Gone;
        let all: Vec<NodeId> = self.nodes.values().filter(older).map(|node| node.id).collect();
        for id in all {
            self.change_program(id, FEATURE_LEVEL);
        }
    }

    fn change_program(&mut self, id: NodeId, reads: u16) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.reads = reads;
        // Who is down has it at its next start.
        if node.replica.is_some() {
            self.crash(id, false, "another program");
        }
    }

    /// Lets a node drain and ends it.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn stop(&mut self, id: NodeId) -> Result<(), Violation> {
        if !self.running().contains(&id) {
            return Ok(());
        }
        if let Some(replica) = self.nodes.get_mut(&id).and_then(|n| n.replica.as_mut()) {
            replica.begin_drain();
            // Handed over or not: the others elect if need be.
            let _ = replica.handle_transfer(None);
        }
        self.run_for(4 * TICK_MS)?;
        if let Some(replica) = self.nodes.get_mut(&id).and_then(|n| n.replica.as_mut()) {
            replica.end_all();
        }
        self.due.insert(id);
        self.turns()?;
        self.crash(id, false, "drained");
        Ok(())
    }

    /// A node's process stands still for a while.
    pub fn pause(&mut self, id: NodeId, ms: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.is_running()) else {
            return;
        };
        node.life = Life::Paused;
        self.trace.note(self.now_ms, id, trace::Event::Pause);
        self.queue.push(self.now_ms + ms, Event::Resume(id));
    }

    /// It goes on, with everything that arrived meanwhile, before or after its clock strikes.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn resume(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.life == Life::Paused) else {
            return Ok(());
        };
        node.life = Life::Running;
        let inbox = std::mem::take(&mut node.inbox);
        let hears_first = std::mem::take(&mut node.hears_first);
        self.trace.note(self.now_ms, id, trace::Event::Resume);
        let clock_first = self.random.per_mille(500) && !hears_first;
        if clock_first {
            self.tick_now(id)?;
        }
        for flight in inbox {
            // A frame may end the process.
            if self.nodes.get(&id).is_some_and(Node::is_running) {
                self.receive(flight)?;
            }
        }
        if !clock_first && self.nodes.get(&id).is_some_and(Node::is_running) {
            self.tick_now(id)?;
        }
        Ok(())
    }

    /// A node's disk is gone for good, and the node with it.
    pub fn wipe(&mut self, id: NodeId) {
        self.take_down(id, true, "wiped");
        if let Some(node) = self.nodes.get_mut(&id) {
            node.life = Life::Gone;
        }
    }

    /// Plans a fault for one of the next calls to a node's disk.
    pub fn plan_disk_fault(
        &mut self,
        id: NodeId,
        (fault, kind): (Fault, DiskFault),
        within_calls: u64,
    ) -> bool {
        let on_log = self.random.per_mille(750);
        let ahead = self.random.below(within_calls);
        let node = self.nodes.get_mut(&id);
        node.is_some_and(|node| node.plan(fault, kind, on_log, ahead))
    }

    /// A node that was accepted gets its files and starts.
    pub(super) fn bring_in(
        &mut self,
        id: NodeId,
        secrets: NodeSecrets,
        signature: [u8; 64],
    ) -> Result<(), Violation> {
        let mut node = Node::new(id, secrets, self.random.next());
        node.credential = Some(node.secrets.credential(id, signature));
        node.slept_ms = self.slept_ms;
        node.drift = draw_drift(&mut self.random, self.swarm.drift_max);
        // As long as the site has the older level, its program may be an older one. In the end
        // nobody would upgrade it.
        let may_be_older = self.site_level() < FEATURE_LEVEL && !self.nemesis_stopped();
        if may_be_older && self.random.per_mille(OLDER_PROGRAMS) {
            node.reads = OLDER;
        }
        node.join(&self.site, &self.swarm)
            .map_err(|e| Violation::new("a node can join", e.to_string()))?;
        self.nodes.insert(id, node);
        self.start(id)
    }
}

/// How much faster or slower than time a node's monotonic clock runs, of a thousand.
pub(super) fn draw_drift(random: &mut Random, drift_max: u64) -> i64 {
    let drift = random.between(0, 2 * drift_max);
    i64::try_from(drift).unwrap_or(0) - i64::try_from(drift_max).unwrap_or(0)
}
