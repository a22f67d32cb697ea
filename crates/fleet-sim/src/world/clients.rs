//! Clients: each has one operation at a time and tries until it is answered or gives up.
//!
//! An operation may have several attempts, one after the other or two at once, on any nodes,
//! all under one request id. Now and then an old command is sent again: it must hear its first
//! answer.

use std::collections::BTreeMap;

use fleet_consensus::{CommandEnd, ReadEnd};
use fleet_state::{Answer, LinkId, NodeId, ParamKey, Proposal, RequestId};

use super::scenario::Ended;
use super::{Event, World};
use crate::invariants::{Floor, Known, Violation};
use crate::node::Attempt;
use crate::swarm::Workload;
use crate::trace;

/// Attempts at one operation before a client gives up.
const ATTEMPTS_MAX: u32 = 16;
/// Answered commands of which a client may send one again.
const OLD_COMMANDS_MAX: usize = 64;
/// How long a client waits beyond the deadline that it gave.
const GRACE_MS: u64 = 100;

/// Who made an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Client {
        client: usize,
        operation: u64,
    },
    Operator,
    /// Nobody waits: an old command once more.
    Again,
    /// A scenario looks at the end itself.
    Scenario,
    /// A node's own southbound side, in one start of it.
    Keeper {
        boot: u64,
        call: crate::keeper::Call,
    },
    /// A leader that gives a link to a node.
    Assigner {
        boot: u64,
        link: LinkId,
    },
}

/// An attempt that has not ended.
pub(super) struct Open {
    pub(super) maker: Maker,
    pub(super) node: NodeId,
    pub(super) request: Option<RequestId>,
    pub(super) floor: Floor,
    pub(super) key: Option<ParamKey>,
}

#[derive(Clone)]
pub(super) enum Wish {
    Write(Proposal),
    Read(ParamKey),
}

struct Operation {
    number: u64,
    wish: Wish,
    floor: Floor,
    attempts: u32,
    open: u32,
    /// An attempt ended without an answer, so that it may have taken effect.
    unknown: bool,
}

/// What clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientFigures {
    /// Operations begun.
    pub begun: u64,
    /// Writes with an answer from the log.
    pub decided: u64,
    /// Reads answered.
    pub read: u64,
    /// Operations given up with every attempt refused.
    pub not_taken: u64,
    /// Operations given up.
    pub unknown: u64,
}

/// All clients.
pub(super) struct Clients {
    pub(super) workload: Workload,
    current: Vec<Option<Operation>>,
    /// Each client's last wake-up; earlier ones don't count.
    wakes: Vec<u64>,
    open: BTreeMap<Attempt, Open>,
    old: Vec<(Proposal, Floor)>,
    operations: u64,
    figures: ClientFigures,
    pub(super) ended: BTreeMap<Attempt, Ended>,
    stopped: bool,
}

impl Clients {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            workload: workload.clone(),
            current: (0..workload.clients).map(|_| None).collect(),
            wakes: vec![0; workload.clients],
            open: BTreeMap::new(),
            old: Vec::new(),
            operations: 0,
            figures: ClientFigures::default(),
            ended: BTreeMap::new(),
            stopped: false,
        }
    }

    pub(super) fn open_attempts(&self, node: NodeId) -> usize {
        self.open.values().filter(|open| open.node == node).count()
    }
}

impl World {
    /// Clients begin their work.
    pub fn start_clients(&mut self) {
        for client in 0..self.clients.current.len() {
            let in_ms = self.random.between(1, 50);
            self.wake(client, in_ms);
        }
    }

    /// Clients that had done enough go on.
    pub fn wake_idle_clients(&mut self) {
        for client in 0..self.clients.current.len() {
            if self.clients.current.get(client).is_some_and(Option::is_none) {
                self.think(client);
            }
        }
    }

    /// Clients finish what they are at and begin nothing more.
    pub fn stop_clients(&mut self) {
        self.clients.stopped = true;
    }

    /// Whether no client waits for anything.
    #[must_use]
    pub fn clients_idle(&self) -> bool {
        self.clients.current.iter().all(Option::is_none)
    }

    /// What clients saw.
    #[must_use]
    pub fn client_figures(&self) -> ClientFigures {
        self.clients.figures
    }

    pub(super) fn client_acts(&mut self, client: usize, wake: u64) -> Result<(), Violation> {
        if self.clients.wakes.get(client) != Some(&wake) {
            return Ok(());
        }
        let Some(slot) = self.clients.current.get_mut(client) else {
            return Ok(());
        };
        let Some(mut operation) = slot.take() else {
            // Who has done enough goes on when calm returns.
            let enough = self.clients.operations >= self.clients.workload.operations_max;
            if !self.clients.stopped && (!enough || self.nemesis_stopped()) {
                self.begin_operation(client);
            }
            return Ok(());
        };
        if operation.open == 0 {
            let tired = operation.attempts >= ATTEMPTS_MAX || self.random.per_mille(80);
            if tired {
                return self.give_up(client, &operation);
            }
            self.attempt(client, &mut operation);
        }
        if let Some(slot) = self.clients.current.get_mut(client) {
            *slot = Some(operation);
        }
        Ok(())
    }

    fn begin_operation(&mut self, client: usize) {
        self.clients.operations += 1;
        self.clients.figures.begun += 1;
        let number = self.clients.operations;
        let wish = self.draw_wish(number);
        let floor = self.invariants.order.begin();
        self.history_begins(number, &wish);
        let mut operation = Operation { number, wish, floor, attempts: 0, open: 0, unknown: false };
        self.attempt(client, &mut operation);
        if let Some(slot) = self.clients.current.get_mut(client) {
            *slot = Some(operation);
        }
    }

    /// One more attempt, sometimes two at once.
    fn attempt(&mut self, client: usize, operation: &mut Operation) {
        let running = self.running();
        let wait_ms = self.random.between(200, 2_000);
        // The client acts again when its patience ends, whatever came back.
        self.wake(client, wait_ms + GRACE_MS);
        let copies = if self.random.per_mille(80) { 2 } else { 1 };
        for _ in 0..copies {
            operation.attempts += 1;
            let Some(node) = self.random.pick(&running).copied() else {
                continue;
            };
            operation.open += 1;
            let maker = Maker::Client { client, operation: operation.number };
            match operation.wish.clone() {
                Wish::Write(proposal) => {
                    self.invariants.answers.asked_again(&proposal.request_id);
                    self.submit(node, &proposal, maker, operation.floor, wait_ms);
                }
                Wish::Read(key) => {
                    let floor = operation.floor;
                    let open = Open { maker, node, request: None, floor, key: Some(key) };
                    self.ask_read(node, open, wait_ms);
                }
            }
        }
    }

    pub(super) fn submit(
        &mut self,
        node: NodeId,
        proposal: &Proposal,
        maker: Maker,
        floor: Floor,
        wait_ms: u64,
    ) {
        self.attempts_made += 1;
        let (attempt, now_ms) = (self.attempts_made, self.now_ms);
        let Some(at) = self.nodes.get_mut(&node) else {
            return;
        };
        let deadline_ms = at.clock(now_ms).mono_ms + wait_ms;
        let Some(replica) = &mut at.replica else {
            return;
        };
        let request = Some(proposal.request_id.clone());
        self.clients.open.insert(attempt, Open { maker, node, request, floor, key: None });
        self.trace.note(now_ms, node, trace::Event::Submit(attempt));
        replica.handle_submit(proposal, deadline_ms, attempt);
        self.due.insert(node);
    }

    pub(super) fn ask_read(&mut self, node: NodeId, open: Open, wait_ms: u64) {
        self.attempts_made += 1;
        let (attempt, now_ms) = (self.attempts_made, self.now_ms);
        let Some(at) = self.nodes.get_mut(&node) else {
            return;
        };
        let deadline_ms = at.clock(now_ms).mono_ms + wait_ms;
        let Some(replica) = &mut at.replica else {
            return;
        };
        self.clients.open.insert(attempt, open);
        self.trace.note(now_ms, node, trace::Event::Submit(attempt));
        replica.handle_read(deadline_ms, attempt);
        self.due.insert(node);
    }

    pub(super) fn command_ended(
        &mut self,
        node: NodeId,
        attempt: Attempt,
        end: CommandEnd,
    ) -> Result<(), Violation> {
        let Some(open) = self.clients.open.remove(&attempt) else {
            let what = format!("attempt {attempt} on node {node} ended twice: {end:?}");
            return Err(Violation::new("one end for each attempt", what));
        };
        let (word, index) = match &end {
            CommandEnd::Decided(answer) => ("decided", answer.revision.get()),
            CommandEnd::Busy(_) => ("busy", 0),
            CommandEnd::NoLeader => ("no leader", 0),
            CommandEnd::Unknown => ("unknown", 0),
        };
        self.trace.note(self.now_ms, node, trace::Event::Ended(attempt, word, index));
        if let (CommandEnd::Decided(answer), Some(id)) = (&end, &open.request) {
            self.invariants.answers.acknowledged(id, answer)?;
            self.invariants.order.wrote(open.floor, answer.revision.get())?;
        }
        match open.maker.clone() {
            Maker::Again => Ok(()),
            Maker::Keeper { boot, call } => self.keeper_decided(node, (boot, call), &end),
            Maker::Assigner { boot, link } => {
                self.assigned(node, boot, &link, &end);
                Ok(())
            }
            Maker::Scenario => {
                let ended = match end {
                    CommandEnd::Decided(answer) => Ended::Decided(answer),
                    CommandEnd::Busy(_) | CommandEnd::NoLeader => Ended::NotTaken,
                    CommandEnd::Unknown => Ended::Unknown,
                };
                self.clients.ended.insert(attempt, ended);
                Ok(())
            }
            Maker::Operator => self.operator_heard(&open, end),
            Maker::Client { client, operation } => {
                match end {
                    CommandEnd::Decided(answer) => self.write_done(client, operation, &answer),
                    CommandEnd::Busy(_) | CommandEnd::NoLeader => {
                        self.attempt_failed(client, operation, false);
                        self.note_refused(client, operation)?;
                    }
                    CommandEnd::Unknown => self.attempt_failed(client, operation, true),
                }
                Ok(())
            }
        }
    }

    pub(super) fn read_ended(
        &mut self,
        node: NodeId,
        attempt: Attempt,
        end: ReadEnd,
    ) -> Result<(), Violation> {
        let Some(open) = self.clients.open.remove(&attempt) else {
            let what = format!("read {attempt} on node {node} ended twice: {end:?}");
            return Err(Violation::new("one end for each attempt", what));
        };
        let applied = self.view_index(node);
        self.trace.note(self.now_ms, node, trace::Event::Ended(attempt, "read", applied));
        if end == ReadEnd::Ready {
            self.judge_read(node, &open, applied)?;
        }
        if let Maker::Keeper { boot, call } = open.maker {
            return self.keeper_may_read(node, (boot, call), end);
        }
        let Maker::Client { client, operation } = open.maker else {
            let ended = if end == ReadEnd::Ready { Ended::Read(applied) } else { Ended::NotTaken };
            self.clients.ended.insert(attempt, ended);
            return Ok(());
        };
        if end == ReadEnd::Ready {
            self.read_done(client, operation, node);
        } else {
            self.attempt_failed(client, operation, false);
        }
        Ok(())
    }

    fn judge_read(&mut self, node: NodeId, open: &Open, applied: u64) -> Result<(), Violation> {
        if let (Some(key), Some(replica)) =
            (&open.key, self.nodes.get(&node).and_then(|n| n.replica.as_ref()))
        {
            let seen = replica.state().param(key).map(|param| param.revision.get());
            self.invariants.order.read(open.floor, applied, key, seen)?;
        }
        Ok(())
    }

    fn view_index(&self, node: NodeId) -> u64 {
        let replica = self.nodes.get(&node).and_then(|n| n.replica.as_ref());
        replica.map_or(0, |replica| replica.applied().get())
    }

    fn read_done(&mut self, client: usize, number: u64, node: NodeId) {
        let Some(operation) = self.take_operation(client, number) else {
            return;
        };
        self.clients.figures.read += 1;
        if let Wish::Read(key) = &operation.wish {
            self.history_reads(number, key, node);
        }
        self.think(client);
    }

    fn write_done(&mut self, client: usize, number: u64, answer: &Answer) {
        let Some(operation) = self.take_operation(client, number) else {
            return;
        };
        self.clients.figures.decided += 1;
        self.history_decides(number, &operation.wish, answer);
        if let Wish::Write(proposal) = operation.wish {
            self.remember(proposal, operation.floor);
        }
        self.think(client);
    }

    /// Somebody may send it again.
    fn remember(&mut self, proposal: Proposal, floor: Floor) {
        if self.clients.old.len() >= OLD_COMMANDS_MAX {
            self.clients.old.remove(0);
        }
        self.clients.old.push((proposal, floor));
        self.send_old_one();
    }

    fn send_old_one(&mut self) {
        if !self.random.per_mille(60) {
            return;
        }
        let running = self.running();
        let node = self.random.pick(&running).copied();
        let old = self.random.pick(&self.clients.old).cloned();
        if let (Some(node), Some((proposal, floor))) = (node, old) {
            self.submit(node, &proposal, Maker::Again, floor, 1_000);
        }
    }

    fn take_operation(&mut self, client: usize, number: u64) -> Option<Operation> {
        let slot = self.clients.current.get_mut(client)?;
        slot.take_if(|operation| operation.number == number)
    }

    fn think(&mut self, client: usize) {
        let think_ms = self.random.between(1, self.clients.workload.think_ms_max);
        self.wake(client, think_ms);
    }

    /// A client acts in so many milliseconds, and not when it would have otherwise.
    fn wake(&mut self, client: usize, in_ms: u64) {
        if let Some(wake) = self.clients.wakes.get_mut(client) {
            *wake += 1;
            self.queue.push(self.now_ms + in_ms, Event::Client(client, *wake));
        }
    }

    fn attempt_failed(&mut self, client: usize, number: u64, unknown: bool) {
        let Some(Some(operation)) = self.clients.current.get_mut(client) else {
            return;
        };
        if operation.number != number {
            return;
        }
        operation.open = operation.open.saturating_sub(1);
        operation.unknown |= unknown;
        if operation.open == 0 {
            let again_ms = self.random.between(5, 150);
            self.wake(client, again_ms);
        }
    }

    /// As long as nobody asks again, what was refused must not happen.
    fn note_refused(&mut self, client: usize, number: u64) -> Result<(), Violation> {
        let Some(Some(operation)) = self.clients.current.get(client) else {
            return Ok(());
        };
        let refused = operation.number == number && operation.open == 0 && !operation.unknown;
        match &operation.wish {
            Wish::Write(proposal) if refused => {
                self.invariants.answers.all_refused(proposal.request_id.clone())
            }
            Wish::Write(_) | Wish::Read(_) => Ok(()),
        }
    }

    fn give_up(&mut self, client: usize, operation: &Operation) -> Result<(), Violation> {
        if let Wish::Write(proposal) = &operation.wish {
            let known = if operation.unknown { Known::Unknown } else { Known::NotTaken };
            if known == Known::NotTaken {
                self.clients.figures.not_taken += 1;
                self.invariants.answers.all_refused(proposal.request_id.clone())?;
                self.history_refuses(operation.number, proposal);
            } else {
                self.clients.figures.unknown += 1;
                // Whoever does not know comes back and asks.
                self.remember(proposal.clone(), operation.floor);
            }
        }
        self.think(client);
        Ok(())
    }

    /// A node's process ended: nobody there answers any more.
    pub(super) fn attempts_lost(&mut self, node: NodeId) {
        let lost: Vec<Attempt> = self
            .clients
            .open
            .iter()
            .filter(|(_, open)| open.node == node)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in lost {
            let Some(open) = self.clients.open.remove(&attempt) else {
                continue;
            };
            match open.maker {
                Maker::Client { client, operation } => self.attempt_failed(client, operation, true),
                Maker::Operator => self.operator_lost(),
                Maker::Again | Maker::Keeper { .. } | Maker::Assigner { .. } => {}
                Maker::Scenario => {
                    self.clients.ended.insert(attempt, Ended::Unknown);
                }
            }
        }
    }
}
