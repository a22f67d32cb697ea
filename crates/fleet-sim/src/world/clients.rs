//! Clients: each has one operation at a time and tries until it is answered or gives up.
//!
//! An operation may have several attempts, one after the other or two at once, on any nodes,
//! all under one request id. Now and then an old command is sent again: it must hear its first
//! answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_consensus::{CommandEnd, ReadEnd};
use fleet_state::{
    BatchItem, Command, DeviceSpec, NodeId, Object, ParamKey, Proposal, RequestId, Revision, Value,
};

use super::{Event, World};
use crate::invariants::{Floor, Known, Violation};
use crate::node::Attempt;
use crate::random::Random;
use crate::swarm::Workload;
use crate::trace;

/// Attempts at one operation before a client gives up.
const ATTEMPTS_MAX: u32 = 16;
/// Answered commands of which a client may send one again.
const OLD_COMMANDS_MAX: usize = 64;
/// How long a client waits beyond the deadline that it gave.
const GRACE_MS: u64 = 100;

/// Who made an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Client {
        client: usize,
        operation: u64,
    },
    Operator,
    /// Nobody waits: an old command once more.
    Again,
}

/// An attempt that has not ended.
pub(super) struct Open {
    pub(super) maker: Maker,
    pub(super) node: NodeId,
    pub(super) request: Option<RequestId>,
    floor: Floor,
    key: Option<ParamKey>,
}

#[derive(Clone)]
enum Wish {
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
    workload: Workload,
    current: Vec<Option<Operation>>,
    open: BTreeMap<Attempt, Open>,
    old: Vec<(Proposal, Floor)>,
    operations: u64,
    figures: ClientFigures,
    stopped: bool,
}

impl Clients {
    pub(super) fn new(workload: &Workload) -> Self {
        Self {
            workload: workload.clone(),
            current: (0..workload.clients).map(|_| None).collect(),
            open: BTreeMap::new(),
            old: Vec::new(),
            operations: 0,
            figures: ClientFigures::default(),
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
            let at_ms = self.now_ms + self.random.between(1, 50);
            self.queue.push(at_ms, Event::Client(client));
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

    pub(super) fn client_acts(&mut self, client: usize) -> Result<(), Violation> {
        let Some(slot) = self.clients.current.get_mut(client) else {
            return Ok(());
        };
        let Some(mut operation) = slot.take() else {
            if !self.clients.stopped {
                self.begin_operation(client);
            }
            return Ok(());
        };
        if operation.open == 0 {
            let tired = operation.attempts >= ATTEMPTS_MAX || self.random.per_mille(30);
            if tired {
                self.give_up(client, &operation);
                return Ok(());
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
        self.queue.push(self.now_ms + wait_ms + GRACE_MS, Event::Client(client));
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

    fn ask_read(&mut self, node: NodeId, open: Open, wait_ms: u64) {
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
        match open.maker {
            Maker::Again => Ok(()),
            Maker::Operator => self.operator_heard(&open, end),
            Maker::Client { client, operation } => {
                match end {
                    CommandEnd::Decided(_) => self.operation_done(client, operation, true),
                    CommandEnd::Busy(_) | CommandEnd::NoLeader => {
                        self.attempt_failed(client, operation, false);
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
        let Maker::Client { client, operation } = open.maker else {
            return Ok(());
        };
        if end != ReadEnd::Ready {
            self.attempt_failed(client, operation, false);
            return Ok(());
        }
        if let (Some(key), Some(replica)) =
            (&open.key, self.nodes.get(&node).and_then(|n| n.replica.as_ref()))
        {
            let seen = replica.state().param(key).map(|param| param.revision.get());
            self.invariants.order.read(open.floor, applied, key, seen)?;
        }
        self.operation_done(client, operation, false);
        Ok(())
    }

    fn view_index(&self, node: NodeId) -> u64 {
        let replica = self.nodes.get(&node).and_then(|n| n.replica.as_ref());
        replica.map_or(0, |replica| replica.applied().get())
    }

    fn operation_done(&mut self, client: usize, number: u64, wrote: bool) {
        let Some(operation) = self.take_operation(client, number) else {
            return;
        };
        if wrote {
            self.clients.figures.decided += 1;
        } else {
            self.clients.figures.read += 1;
        }
        if let Wish::Write(proposal) = operation.wish {
            if self.clients.old.len() >= OLD_COMMANDS_MAX {
                self.clients.old.remove(0);
            }
            self.clients.old.push((proposal, operation.floor));
            self.send_old_one();
        }
        self.think(client);
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
        self.queue.push(self.now_ms + think_ms, Event::Client(client));
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
            let again_ms = self.now_ms + self.random.between(5, 150);
            self.queue.push(again_ms, Event::Client(client));
        }
    }

    fn give_up(&mut self, client: usize, operation: &Operation) {
        if let Wish::Write(proposal) = &operation.wish {
            let known = if operation.unknown { Known::Unknown } else { Known::NotTaken };
            if known == Known::NotTaken {
                self.clients.figures.not_taken += 1;
                self.invariants.answers.all_refused(proposal.request_id.clone());
            } else {
                self.clients.figures.unknown += 1;
            }
        }
        self.think(client);
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
                Maker::Again => {}
            }
        }
    }

    fn draw_wish(&mut self, number: u64) -> Wish {
        let workload = self.clients.workload.clone();
        let key = draw_key(&mut self.random, workload.keys);
        if self.random.per_mille(workload.reads) {
            return Wish::Read(key);
        }
        let request_id = self.request_id();
        let mut if_revision = None;
        let command = match self.random.below(20) {
            0..=9 => Command::ParamSet { key, value: self.draw_value(number) },
            10..=12 => {
                // Some of these preconditions hold, some don't.
                let last = self.invariants.order.value_at(&key, u64::MAX).unwrap_or(0);
                if_revision = Some(Revision::new(last));
                Command::ParamSet { key, value: self.draw_value(number) }
            }
            13 => Command::ParamDelete { key },
            14 => {
                let id = draw_device(&mut self.random, workload.keys);
                let name: Arc<str> = format!("device {number}").into();
                Command::DeviceRegister { id, spec: DeviceSpec { name, ..DeviceSpec::default() } }
            }
            15 | 16 => {
                let id = draw_device(&mut self.random, workload.keys);
                Command::DeviceUpdate { id, patch: patch(number) }
            }
            17 => Command::DeviceReplace {
                id: draw_device(&mut self.random, workload.keys),
                desired: patch(number),
            },
            _ => self.draw_batch(number),
        };
        Wish::Write(Proposal { request_id, if_revision, actor: None, command })
    }

    fn draw_batch(&mut self, number: u64) -> Command {
        let keys = self.clients.workload.keys;
        let count = self.random.between(1, 4);
        let items = (0..count).map(|_| BatchItem {
            command: Command::ParamSet {
                key: draw_key(&mut self.random, keys),
                value: Value::from(number),
            },
            if_revision: None,
        });
        Command::Batch(items.collect())
    }

    fn draw_value(&mut self, number: u64) -> Value {
        let bytes = self.random.below(self.clients.workload.value_bytes_max);
        let mut value = Object::new();
        value.insert("operation", number);
        value.insert("filler", "x".repeat(usize::try_from(bytes).unwrap_or(0)));
        Value::from(value)
    }

    /// A UUIDv7 by the clients' clock, which is right.
    pub(super) fn request_id(&mut self) -> RequestId {
        let mut bytes: [u8; 16] = self.random.bytes();
        let wall_ms = crate::node::WALL_START_MS + self.now_ms;
        let [_, _, time @ ..] = wall_ms.to_be_bytes();
        for (to, from) in bytes.iter_mut().zip(time) {
            *to = from;
        }
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = 0x70 | (*version & 0x0f);
        *variant = 0x80 | (*variant & 0x3f);
        RequestId::from_uuid_bytes(bytes)
    }
}

fn draw_key(random: &mut Random, keys: u64) -> ParamKey {
    let key = format!("area.param-{}", random.below(keys));
    key.parse().expect("a valid key")
}

fn draw_device(random: &mut Random, keys: u64) -> fleet_state::DeviceId {
    let id = format!("hall.device-{}", random.below(keys));
    id.parse().expect("a valid id")
}

fn patch(number: u64) -> Object {
    let mut patch = Object::new();
    patch.insert("operation", number);
    patch.insert("on", number % 2 == 0);
    patch
}
