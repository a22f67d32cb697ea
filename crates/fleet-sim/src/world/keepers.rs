//! Keepers and devices: acts are carried out, ends come back, the leader gives links to nodes.

use std::collections::BTreeMap;

use fleet_consensus::{CommandEnd, ReadEnd};
use fleet_device::Observation;
use fleet_device::lease::silent_ms;
use fleet_device::ownership::due;
use fleet_state::{AgentCommand, ClaimItem, Command, LinkId, NodeId, Outcome, Proposal};

use super::clients::{Maker, Open};
use super::{Event, World};
use crate::invariants::{Floor, HandOvers, Violation};
use crate::keeper::{Act, Answer, Ask, Call, What};
use crate::node::Life;
use crate::trace;

/// How often the leader looks who owns what.
const ASSIGN_EVERY_MS: u64 = 100;
/// How long one assignment may take until it is looked at again.
const ASSIGN_WITHIN_MS: u64 = 2_000;
/// Longest way to a device, or back.
const WAY_MS_MAX: u64 = 20;
/// What arrives while a process stands still is heard afterwards.
const PAUSED_MS: u64 = 20;

/// A call on its way to a device, or its end on the way back.
pub(super) struct Errand {
    node: NodeId,
    boot: u64,
    call: Call,
    ask: Ask,
}

impl World {
    /// A node's southbound side looks around, after its clock struck.
    pub(super) fn keep(&mut self, id: NodeId) -> Result<(), Violation> {
        if self.swarm.links == 0 {
            return Ok(());
        }
        self.assign(id);
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_running()) else {
            return Ok(());
        };
        let mono_ms = node.clock(now_ms).mono_ms;
        let (Some(replica), boot) = (&node.replica, node.boot) else {
            return Ok(());
        };
        if replica.applied().get() == 0 {
            return Ok(());
        }
        let acts = node.keeper.look(replica.state(), mono_ms);
        for act in acts {
            self.carry_out_act(id, boot, act)?;
        }
        Ok(())
    }

    fn carry_out_act(&mut self, id: NodeId, boot: u64, act: Act) -> Result<(), Violation> {
        match act {
            Act::Submit(call, command, within_ms) => {
                let one_shot = |item: &ClaimItem| matches!(item, ClaimItem::Invocation(_));
                if let AgentCommand::Claim { items, .. } = &command
                    && items.iter().any(one_shot)
                {
                    self.owner_asked(id, false);
                }
                let maker = Maker::Keeper { boot, call };
                self.submit_own(id, command, maker, within_ms);
                Ok(())
            }
            Act::Barrier(call, within_ms) => {
                let maker = Maker::Keeper { boot, call };
                let floor = Floor::default();
                let open = Open { maker, node: id, request: None, floor, key: None };
                let passed_ms = self.passed_ms();
                self.invariants.hand_overs.lease_asked((id, boot), call, passed_ms);
                self.owner_asked(id, true);
                self.ask_read(id, open, within_ms);
                Ok(())
            }
            Act::Device(call, ask) => {
                let passed_ms = self.passed_ms();
                self.invariants.hand_overs.leaves((id, boot), &ask, passed_ms)?;
                let event = match &ask.what {
                    What::Read => trace::Event::Fault("reads a device", call),
                    What::Write(_) => trace::Event::Fault("writes to a device", call),
                    What::Invoke(_) => trace::Event::Fault("hands a one-shot over", call),
                };
                self.trace.note(self.now_ms, id, event);
                let at_ms = self.now_ms + self.random.between(1, WAY_MS_MAX);
                let one_shot = matches!(ask.what, What::Invoke(_));
                self.queue
                    .push(at_ms, Event::Device(Box::new(Errand { node: id, boot, call, ask })));
                if one_shot {
                    self.dispatched(id);
                }
                Ok(())
            }
        }
    }

    /// Something arrives at a device.
    pub(super) fn arrive(&mut self, errand: Errand) -> Result<(), Violation> {
        let device = self.field.device(&errand.ask.device);
        let taken = match device.take(&errand.ask) {
            Ok(taken) => taken,
            Err(wrong) => return HandOvers::wrong(errand.node, &errand.ask.device, &wrong),
        };
        if let Some(answer) = taken {
            let at_ms = self.now_ms + self.random.between(1, WAY_MS_MAX);
            self.queue.push(at_ms, Event::Answer(Box::new((errand, answer))));
        }
        Ok(())
    }

    /// A device's answer comes back.
    pub(super) fn answer_arrives(
        &mut self,
        errand: Errand,
        answer: Answer,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let same = |node: &&mut crate::node::Node| node.boot == errand.boot;
        let Some(node) = self.nodes.get_mut(&errand.node).filter(same) else {
            return Ok(());
        };
        match node.life {
            Life::Running => {}
            Life::Paused => {
                self.queue.push(now_ms + PAUSED_MS, Event::Answer(Box::new((errand, answer))));
                return Ok(());
            }
            Life::Down | Life::Gone => return Ok(()),
        }
        let mono_ms = node.clock(now_ms).mono_ms;
        node.keeper.device_ended(errand.call, answer, mono_ms);
        self.keep(errand.node)
    }

    /// A device says what it is, to whoever listens.
    pub(super) fn tell_all(&mut self, heard: &Observation) {
        for id in self.running() {
            let boot = self.nodes.get(&id).map_or(0, |node| node.boot);
            let at_ms = self.now_ms + self.random.between(1, WAY_MS_MAX);
            self.queue.push(at_ms, Event::Report(id, boot, Box::new(heard.clone())));
        }
    }

    pub(super) fn report_arrives(
        &mut self,
        id: NodeId,
        boot: u64,
        heard: &Observation,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let same = |node: &&mut crate::node::Node| node.boot == boot && node.is_running();
        if let Some(node) = self.nodes.get_mut(&id).filter(same) {
            let mono_ms = node.clock(now_ms).mono_ms;
            node.keeper.heard(heard, mono_ms);
            return self.keep(id);
        }
        Ok(())
    }

    pub(super) fn keeper_decided(
        &mut self,
        id: NodeId,
        (boot, call): (u64, Call),
        end: &CommandEnd,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.boot == boot) else {
            return Ok(());
        };
        let mono_ms = node.clock(now_ms).mono_ms;
        if let Some(replica) = &node.replica {
            node.keeper.decided(call, end, replica.state(), mono_ms);
        }
        if let CommandEnd::Decided(answer) = end
            && let Outcome::Accepted(accepted) = &answer.outcome
            && !accepted.claims.is_empty()
        {
            self.claim_granted(id);
        }
        self.keep(id)
    }

    pub(super) fn keeper_may_read(
        &mut self,
        id: NodeId,
        (boot, call): (u64, Call),
        end: ReadEnd,
    ) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        self.invariants.hand_overs.lease_answered((id, boot), call, end == ReadEnd::Ready);
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.boot == boot) else {
            return Ok(());
        };
        let mono_ms = node.clock(now_ms).mono_ms;
        if let Some(replica) = &node.replica {
            node.keeper.barrier_ended(call, end == ReadEnd::Ready, replica.state(), mono_ms);
        }
        self.keep(id)
    }

    fn submit_own(&mut self, id: NodeId, command: AgentCommand, maker: Maker, within_ms: u64) {
        self.own_commands += 1;
        let text = format!("own.{}", self.own_commands);
        let request_id = text.parse().expect("a valid request id");
        let command = Command::Agents(command);
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        self.submit(id, &proposal, maker, Floor::default(), within_ms);
    }

    /// Gives links to nodes, if this node leads and its time has come.
    fn assign(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_running()) else { return };
        let mono_ms = node.clock(now_ms).mono_ms;
        let Some(replica) = node.replica.as_mut().filter(|replica| replica.is_leader()) else {
            return;
        };
        if mono_ms < node.assign_next_ms {
            return;
        }
        node.assign_next_ms = mono_ms + ASSIGN_EVERY_MS;
        let view = replica.view();
        let due = due(&view, &node.resting, mono_ms);
        node.resting.note(&view, mono_ms);
        let mut begun = Vec::new();
        for assignment in due {
            if node.assigning.contains_key(&assignment.link) {
                continue;
            }
            if let Some(from) = assignment.from
                && !replica.seize(from, silent_ms(), mono_ms)
            {
                continue;
            }
            node.assigning.insert(assignment.link.clone(), assignment.from);
            begun.push(assignment);
        }
        let boot = node.boot;
        for assignment in begun {
            let (link, owner) = (assignment.link.clone(), Some(assignment.owner));
            let expect_epoch = assignment.expect_epoch;
            let command = AgentCommand::LinkAssign { link, expect_epoch, owner };
            let maker = Maker::Assigner { boot, link: assignment.link };
            self.submit_own(id, command, maker, ASSIGN_WITHIN_MS);
        }
    }

    /// What became of an assignment. Whom something was taken from is answered again when that is
    /// decided.
    pub(super) fn assigned(&mut self, id: NodeId, boot: u64, link: &LinkId, end: &CommandEnd) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.boot == boot) else { return };
        let Some(from) = node.assigning.remove(link) else { return };
        let CommandEnd::Decided(answer) = end else {
            // It may be committed yet: whom it is taken from is not answered before that is known.
            node.undecided.insert(link.clone(), from);
            return;
        };
        node.undecided.remove(link);
        let Some(from) = from else { return };
        let open = |others: &BTreeMap<LinkId, Option<NodeId>>| {
            others.values().any(|other| *other == Some(from))
        };
        if !open(&node.assigning)
            && !open(&node.undecided)
            && let Some(replica) = &mut node.replica
        {
            replica.resume(from);
        }
        self.takeovers += u64::from(matches!(answer.outcome, Outcome::Accepted(_)));
    }
}

impl World {
    /// At the end: what is told of one-shots is true.
    ///
    /// # Errors
    /// It is not.
    pub fn check_field(&self) -> Result<(), Violation> {
        let Some((state, _)) = self.invariants.states.reference() else {
            return Ok(());
        };
        self.invariants.hand_overs.check_stages(state, &self.field)
    }

    /// (hand-overs, writes and one-shots that arrived, links taken from an owner).
    #[must_use]
    pub fn field_counts(&self) -> [u64; 4] {
        let (writes, one_shots) = self.field.counts();
        [self.invariants.hand_overs.left(), writes, one_shots, self.takeovers]
    }
}
