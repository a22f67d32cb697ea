//! Inputs to replicas, their turns, and what they gave out.

use fleet_consensus::Fault as ReplicaFault;
use fleet_consensus::frame::{ConfChange, EntryPayload, LogEntry};
use fleet_consensus::replica::{AppliedEntry, BuildSnapshot, Notice, Outputs};
use fleet_log::MemoryDisk;
use fleet_state::{Entity, NodeId};

use super::{Event, TICK_MS, World};
use crate::invariants::{Violation, check_new_leader, check_progress, check_wishes};
use crate::network::{Flight, SimWire};
use crate::node::{Attempt, Life};
use crate::trace;

/// Turns that a node may need one after the other until it has nothing more to do.
const TURNS_MAX: usize = 64;

impl World {
    pub(super) fn tick(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.boot == boot) else {
            return Ok(());
        };
        if node.replica.is_none() {
            return Ok(());
        }
        // Clocks of different nodes don't strike together.
        let drift_ms = u64::from(self.random.per_mille(100));
        self.queue.push(now_ms + TICK_MS + drift_ms, Event::Tick(id, boot));
        if node.life == Life::Paused {
            return Ok(());
        }
        self.tick_now(id)
    }

    pub(super) fn tick_now(&mut self, id: NodeId) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let crashed = self.refusing(id);
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        node.pin_election_timeout();
        let now = node.clock(now_ms);
        let crashed = crashed.into_iter().map(|gone| (gone, now.mono_ms)).collect();
        let Some(replica) = &mut node.replica else {
            return Ok(());
        };
        let ticked = replica.handle_tick(now).and_then(|_| replica.handle_crashed(&crashed, now));
        self.due.insert(id);
        self.judge(id, ticked)?;
        self.keep(id)
    }

    /// Nodes whose process is gone while their machine lives: they refuse connections at once.
    fn refusing(&self, id: NodeId) -> Vec<NodeId> {
        let gone = self.nodes.values().filter(|node| node.life == Life::Down && !node.was_cut);
        let seen = gone
            .filter(|node| self.network.is_open(id, node.id) && self.network.is_open(node.id, id));
        seen.map(|node| node.id).collect()
    }

    pub(super) fn deliver(&mut self, flight: Flight) -> Result<(), Violation> {
        if !self.network.arrives(&flight) {
            return Ok(());
        }
        let id = flight.to;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        match node.life {
            Life::Running => self.receive(flight),
            Life::Paused => {
                node.keep_for_later(flight);
                Ok(())
            }
            Life::Down | Life::Gone => Ok(()),
        }
    }

    pub(super) fn receive(&mut self, flight: Flight) -> Result<(), Violation> {
        let (id, now_ms) = (flight.to, self.now_ms);
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        let now = node.clock(now_ms);
        let Some(replica) = &mut node.replica else {
            return Ok(());
        };
        let tag = flight.bytes.last_chunk::<8>().map_or(0, |tag| u64::from_le_bytes(*tag));
        let event = trace::Event::Frame { from: flight.from.get(), bytes: flight.bytes.len(), tag };
        self.trace.note(now_ms, id, event);
        let handled = replica.handle_frame(&flight.bytes, flight.path, now);
        self.due.insert(id);
        self.judge(id, handled)
    }

    /// Every node that got an input has its turn.
    pub(super) fn turns(&mut self) -> Result<(), Violation> {
        while let Some(id) = self.due.pop_first() {
            if self.nodes.get(&id).is_some_and(crate::node::Node::is_running) {
                self.turn(id)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, id: NodeId) -> Result<(), Violation> {
        for _ in 0..TURNS_MAX {
            let now_ms = self.now_ms;
            let Some(node) = self.nodes.get_mut(&id) else {
                return Ok(());
            };
            let now = node.clock(now_ms);
            let Some(replica) = &mut node.replica else {
                return Ok(());
            };
            let mut wire = SimWire::new(id, self.swarm.frame_bytes_max, &mut self.network);
            let slow_ms = node.slow_sync_ms;
            let calls = node.log_disk.calls();
            // As the agent does: what became known is told before the disk is waited for.
            let polled = replica.poll_to_sync(now, &mut wire);
            let durable = matches!(polled, Ok(false));
            let sent = wire.into_sent();
            let outputs = replica.take_outputs();
            let more = replica.has_more();
            let synced = node.log_disk.calls() > calls;
            let late_ms = if synced { slow_ms } else { 0 };
            for flight in sent {
                for (due_ms, flight) in self.network.send(flight, now_ms) {
                    self.queue.push(due_ms + late_ms, Event::Frame(flight));
                }
            }
            if polled.is_err() {
                // What a process had to say when it ended is never heard.
                return self.judge(id, polled.map(|_| ()));
            }
            if self.nodes.get(&id).is_some_and(crate::node::Node::is_stopped) {
                // One machine has both disks: it stops as a whole, whatever the replica made of it.
                self.note_disk_faults(id);
                self.crash(id, true, "disk");
                return Ok(());
            }
            self.note_disk_faults(id);
            self.check(id, durable)?;
            self.take_in(id, outputs)?;
            if late_ms > 0 {
                // The process waits for its disk; what it had to say leaves when that is done.
                self.pause(id, late_ms);
                return Ok(());
            }
            if !more {
                return Ok(());
            }
        }
        Err(Violation::new("a turn ends", format!("node {id} always has more to do")))
    }

    /// What can be seen of a node after its turn. What is not `durable` yet may be forgotten.
    pub(super) fn check(&mut self, id: NodeId, durable: bool) -> Result<(), Violation> {
        // What an old copy believes is nobody's concern, as long as it deceives nobody.
        let Some(node) = self.nodes.get(&id).filter(|node| node.doubt.is_none()) else {
            return Ok(());
        };
        let Some(replica) = &node.replica else {
            return Ok(());
        };
        let (term, commit) = replica.term_and_commit();
        let applied = replica.applied().get();
        let log = replica.log();
        let passed_ms = self.passed_ms();
        let checks = &mut self.invariants;
        let fresh = checks.committed.observe(id, node.boot, log, (term, commit))?;
        for entry in &fresh {
            if let Some(change) = conf_change(entry) {
                checks.membership.commit(entry.index, change)?;
            }
            let done = checks.states.commit(entry)?;
            checks.answers.applied(&done)?;
            note_changes(&mut checks.order, &done)?;
            let log_ms = checks.states.reference().map_or(0, |(state, _)| state.log_time_ms());
            checks.hand_overs.committed(&done.changes, log_ms, passed_ms);
            if let Some((state, _)) = checks.states.reference() {
                check_wishes(state, &done.changes, &self.field)?;
            }
            let clocks_right = !self.fired.contains_key(&crate::Fault::WallJump);
            checks.log_time.observe(entry.term, log_ms, passed_ms, clocks_right)?;
        }
        if durable {
            checks.commit.observe(id, node.boot, (term, commit, applied))?;
            checks.kept.observe(id, log, &checks.committed)?;
            let (voters, learners) = replica.configuration();
            checks.membership.in_force(id, voters, learners)?;
        }
        checks.states.observe(id, node.boot, applied, replica.state())?;
        if replica.is_leader() && checks.election.leads(id, term)? {
            checks.log_time.elected(term, passed_ms);
            check_new_leader(id, term, log, &checks.committed)?;
        }
        if let Some(leader) = replica.leader() {
            checks.election.follows(id, term, leader)?;
        }
        if replica.is_leader() && !replica.has_vote() {
            let what = format!("node {id} leads in term {term} and has no vote");
            return Err(Violation::new("a leader has a vote", what));
        }
        check_progress(id, replica.sent_next())?;
        let snapshots = (self.swarm.snapshot_every_entries, self.swarm.snapshot_build_ms_max);
        checks.bounds.log(id, log.entries_len(), snapshots)?;
        let asked = self.clients.open_attempts(id);
        checks.bounds.waiting(id, replica.waiting(), asked)
    }

    fn take_in(
        &mut self,
        id: NodeId,
        outputs: Outputs<MemoryDisk, Attempt>,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        // An old copy that nobody recognises may even lead. The reference does not look at its log, and
        // learns what it committed from the others.
        let in_doubt = self.nodes.get(&id).is_some_and(|node| node.doubt.is_some());
        for entry in &outputs.applied {
            if !in_doubt || self.invariants.states.knows(entry.revision) {
                self.invariants.states.applied(id, entry)?;
            }
        }
        if let Some(last) = outputs.applied.last() {
            let applied = last.revision.get();
            let event = trace::Event::Commit { commit: applied, applied };
            self.trace.note(now_ms, id, event);
        }
        for notice in outputs.notices {
            self.noticed(id, notice)?;
        }
        if let Some(seed) = outputs.site_key
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.site_key = Some(ed25519_dalek::SigningKey::from_bytes(&seed));
        }
        if let Some(build) = outputs.build {
            let boot = self.nodes.get(&id).map_or(0, |n| n.boot);
            let takes_ms = self.random.between(1, self.swarm.snapshot_build_ms_max);
            self.queue.push(now_ms + takes_ms, Event::Build(id, boot, Box::new(build)));
        }
        for (attempt, end) in outputs.commands {
            self.command_ended(id, attempt, end)?;
        }
        for (attempt, end) in outputs.reads {
            self.read_ended(id, attempt, end)?;
        }
        Ok(())
    }

    fn noticed(&mut self, id: NodeId, notice: Notice) -> Result<(), Violation> {
        let event = match notice {
            Notice::Role { role, term, leader } => {
                if role == fleet_consensus::NodeRole::Leader {
                    self.reign_begins(id);
                }
                trace::Event::Role { role, term, leader: leader.map(NodeId::get) }
            }
            Notice::Membership { voters, learners, index } => {
                self.invariants.membership.observe(id, index, &voters, &learners)?;
                trace::Event::Membership {
                    voters: voters.into_iter().map(NodeId::get).collect(),
                    learners: learners.into_iter().map(NodeId::get).collect(),
                    index,
                }
            }
            Notice::SnapshotOffered { index, .. } => trace::Event::SnapshotOffered(index),
            Notice::SnapshotInstalled { index } => {
                self.snapshots_installed += 1;
                self.snapshot_named(id);
                trace::Event::SnapshotInstalled(index)
            }
            Notice::SnapshotTaken { index, .. } => {
                self.snapshots_taken += 1;
                self.snapshot_named(id);
                trace::Event::SnapshotTaken(index)
            }
            Notice::Removed => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.removed = true;
                }
                trace::Event::Fault("removed", 0)
            }
        };
        self.trace.note(self.now_ms, id, event);
        Ok(())
    }

    /// A snapshot was written, or not.
    pub(super) fn build_snapshot(
        &mut self,
        id: NodeId,
        boot: u64,
        build: BuildSnapshot<MemoryDisk>,
    ) -> Result<(), Violation> {
        let alive = |n: &&mut crate::node::Node| n.boot == boot && n.replica.is_some();
        let Some(node) = self.nodes.get_mut(&id).filter(alive) else {
            return Ok(());
        };
        let built = build.run();
        let may_fail = node.may_fail();
        let excused = self.note_disk_faults(id) || may_fail;
        if let Err(error) = &built
            && !excused
        {
            let what = format!("node {id}: {error}");
            return Err(Violation::new("snapshots can be written", what));
        }
        let Some(replica) = self.nodes.get_mut(&id).and_then(|node| node.replica.as_mut()) else {
            return Ok(());
        };
        let handled = replica.handle_snapshot_built(built.ok());
        self.due.insert(id);
        self.judge(id, handled)
    }

    /// A replica's fault ends its process. Without a disk that was told to fail it is a bug.
    fn judge(&mut self, id: NodeId, result: Result<(), ReplicaFault>) -> Result<(), Violation> {
        let Err(fault) = result else {
            return Ok(());
        };
        let doubt = self.nodes.get(&id).and_then(|node| node.doubt);
        if doubt.is_some() && fault.is_final() {
            self.wipe(id);
            return Ok(());
        }
        let of_disk = matches!(fault, ReplicaFault::Log(_));
        let may_fail = self.nodes.get(&id).is_some_and(crate::node::Node::may_fail);
        let excused = self.note_disk_faults(id) || may_fail;
        if !of_disk || !excused {
            let what = format!("node {id} stopped: {fault}");
            return Err(Violation::new("no node stops by itself", what));
        }
        let power = self.random.per_mille(500);
        self.crash(id, power, "disk");
        Ok(())
    }

    /// Whether a planned fault of this node's disks happened since the last look.
    pub(super) fn note_disk_faults(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id);
        let happened = node.map(crate::node::Node::take_disk_faults).unwrap_or_default();
        self.disk_faults += happened.len() as u64;
        for fault in &happened {
            *self.fired.entry(*fault).or_default() += 1;
        }
        !happened.is_empty()
    }
}

fn conf_change(entry: &fleet_log::LogEntry) -> Option<ConfChange> {
    let (kind, data) = (entry.kind, entry.data.clone());
    match LogEntry::from_disk(entry.index, entry.term, kind, data).ok()?.payload {
        EntryPayload::ConfChange(change) => Some(change),
        EntryPayload::Empty | EntryPayload::Normal(_) => None,
    }
}

fn note_changes(
    order: &mut crate::invariants::Linearizable<fleet_state::ParamKey>,
    done: &AppliedEntry,
) -> Result<(), Violation> {
    for change in &done.changes {
        if let Entity::Param(key) = &change.entity {
            let previous = change.previous.map(fleet_state::Revision::get);
            order.changed(key, done.revision.get(), previous, change.record.is_some())?;
        }
    }
    Ok(())
}
