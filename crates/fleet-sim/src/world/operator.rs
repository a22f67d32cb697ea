//! The operator: invites, removes and promotes nodes, one step after the other, until each is
//! decided.

use std::collections::VecDeque;
use std::sync::Arc;

use fleet_consensus::CommandEnd;
use fleet_state::{Command, NodeId, Outcome, Proposal, RejectCode};

use super::clients::{Maker, Open};
use super::{Event, World, name_of};
use crate::invariants::Violation;
use crate::node::Life;
use crate::site::{Invitation, NodeSecrets};

/// How often the operator looks at the site.
const LOOK_EVERY_MS: u64 = 50;
/// How long the operator waits for one answer.
const PATIENCE_MS: u64 = 800;
/// How long an invitation is valid.
const INVITATION_TTL_MS: u64 = 3_600_000;

enum Task {
    Invite(NodeSecrets, Invitation),
    Join(NodeSecrets),
    Command,
}

struct Step {
    task: Task,
    proposal: Proposal,
}

/// Who looks after membership.
#[derive(Default)]
pub(super) struct Operator {
    steps: VecDeque<Step>,
    waiting: bool,
    /// Accepted nodes that have no credential yet.
    arriving: Vec<(NodeId, NodeSecrets)>,
    names: u64,
    refused: u64,
}

impl World {
    /// Has one more node join.
    pub fn invite(&mut self) {
        self.operator.names += 1;
        let name = name_of(self.operator.names + 1);
        let secrets = NodeSecrets::new(name, &mut self.random);
        let invitation = Invitation::new(&mut self.random);
        let command = Command::TokenCreate {
            id: invitation.id,
            key: invitation.key,
            ttl_ms: INVITATION_TTL_MS,
            uses: 1,
            note: Arc::from("simulated"),
        };
        self.push_step(Task::Invite(secrets, invitation), command);
    }

    /// Has a node removed.
    pub fn remove(&mut self, node: NodeId) {
        self.push_step(Task::Command, Command::MemberRemove { node });
    }

    /// Has the site aim for another number of voters.
    pub fn set_voters(&mut self, voters: u8) {
        self.push_step(Task::Command, Command::SetVoters { voters });
    }

    /// Has a command decided, after those before it.
    pub(super) fn push_command(&mut self, command: Command) {
        self.push_step(Task::Command, command);
    }

    fn push_step(&mut self, task: Task, command: Command) {
        let request_id = self.request_id();
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        self.operator.steps.push_back(Step { task, proposal });
    }

    /// Whether everything that was asked for has been decided and everybody has arrived.
    #[must_use]
    pub fn operator_idle(&self) -> bool {
        self.operator.steps.is_empty() && self.operator.arriving.is_empty()
    }

    /// How many of its commands were rejected.
    #[must_use]
    pub fn operator_refused(&self) -> u64 {
        self.operator.refused
    }

    pub(super) fn operator_acts(&mut self) -> Result<(), Violation> {
        self.queue.push(self.now_ms + LOOK_EVERY_MS, Event::Operator);
        self.receive_arrivals()?;
        self.retire_removed();
        if self.operator.waiting {
            return Ok(());
        }
        let Some(proposal) = self.operator.steps.front().map(|step| step.proposal.clone()) else {
            return Ok(());
        };
        let running = self.running();
        let Some(node) = self.random.pick(&running).copied() else {
            return Ok(());
        };
        self.operator.waiting = true;
        let floor = crate::invariants::Floor::default();
        self.submit(node, &proposal, Maker::Operator, floor, PATIENCE_MS);
        Ok(())
    }

    pub(super) fn operator_lost(&mut self) {
        self.operator.waiting = false;
    }

    pub(super) fn operator_heard(&mut self, open: &Open, end: CommandEnd) -> Result<(), Violation> {
        self.operator.waiting = false;
        let CommandEnd::Decided(answer) = end else {
            return Ok(());
        };
        let current = |step: &Step| Some(&step.proposal.request_id) == open.request.as_ref();
        if !self.operator.steps.front().is_some_and(current) {
            return Ok(());
        }
        let Some(step) = self.operator.steps.pop_front() else {
            return Ok(());
        };
        match (step.task, answer.outcome) {
            (task, Outcome::Rejected(rejection))
                if rejection.code == RejectCode::RequestExpired =>
            {
                // It waited for so long that nobody remembers whether it was done. It is asked anew.
                self.push_step(task, step.proposal.command);
                self.operator.steps.rotate_right(1);
            }
            (Task::Join(secrets), Outcome::Rejected(_)) => {
                self.operator.refused += 1;
                self.remove_unborn(&secrets);
            }
            (_, Outcome::Rejected(_)) => self.operator.refused += 1,
            (Task::Invite(secrets, invitation), _) => {
                let command = Command::Join(secrets.join_request(&invitation));
                self.push_step(Task::Join(secrets), command);
                // A node joins as soon as it is invited.
                self.operator.steps.rotate_right(1);
            }
            (Task::Join(secrets), Outcome::Accepted(accepted)) => {
                if let Some(node) = accepted.node {
                    self.operator.arriving.push((node, secrets));
                }
            }
            (Task::Join(_), Outcome::Unchanged) | (Task::Command, _) => {}
        }
        Ok(())
    }

    /// A member that was accepted without anybody hearing of it, and can't ask again because its
    /// invitation is over, has no node and never will: it is removed, and another one is invited.
    fn remove_unborn(&mut self, secrets: &NodeSecrets) {
        let unborn = self.invariants.states.reference().and_then(|(state, _)| {
            let mut members = state.members().filter(|member| member.is_live());
            members.find(|member| member.name == secrets.name).map(|member| member.id)
        });
        if let Some(id) = unborn.filter(|id| !self.nodes.contains_key(id)) {
            self.remove(id);
            self.invite();
        }
    }

    /// Nodes whose credential can be read on any node begin to run.
    fn receive_arrivals(&mut self) -> Result<(), Violation> {
        let mut waiting = Vec::new();
        for (id, secrets) in std::mem::take(&mut self.operator.arriving) {
            match self.credential_of(id) {
                Some(signature) => self.bring_in(id, secrets, signature)?,
                None => waiting.push((id, secrets)),
            }
        }
        self.operator.arriving = waiting;
        Ok(())
    }

    fn credential_of(&self, id: NodeId) -> Option<[u8; 64]> {
        let states = self
            .nodes
            .values()
            .filter(|n| n.is_running())
            .filter_map(|n| n.replica.as_ref().map(fleet_consensus::Replica::state));
        states.filter_map(|state| state.member(&id)?.credential).next()
    }

    /// Nodes that know of their removal, or whose removal everybody knows, are switched off in
    /// the end. Until then they run and may disturb.
    fn retire_removed(&mut self) {
        let (voters, learners) = self.invariants.membership.newest();
        let Some((reference, _)) = self.invariants.states.reference() else {
            return;
        };
        let gone: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.life != Life::Gone)
            .filter(|node| !voters.contains(&node.id) && !learners.contains(&node.id))
            .filter(|node| reference.member(&node.id).is_none_or(|member| !member.is_live()))
            .map(|node| node.id)
            .collect();
        for id in gone {
            let removed = self.nodes.get(&id).is_some_and(|n| n.removed);
            if self.random.per_mille(if removed { 100 } else { 10 }) {
                self.wipe(id);
            }
        }
    }
}
