//! What is done while a link is connected.
//!
//! One loop holds all devices of the link. Something happens (an entry was applied, a device
//! spoke, a call ended, a moment came), the devices that it concerns are looked at, and the
//! planner's step, if there is one, is begun. At most [`CALLS_MAX`] calls are under way for the
//! link and one for a device; a device whose turn doesn't come waits in line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fleet_state::{DeviceId, Entity, FleetState, Link, Record, RequestId, StageItem};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::LinkTask;
use super::calls::{Calls, Ended, contained};
use super::foreign::Budget;
use super::slot::{Call, Known, Memory, Slot};
use crate::consensus::AppliedBatch;
use crate::device::connector::{CloseReason, Connector, Observation, Session};
use crate::device::local::Book;
use crate::device::setups::{device_setup, link_setup};

/// Calls under way for one link.
const CALLS_MAX: usize = 64;
/// Questions among them: devices that don't answer leave room for what is handed to the others.
const READS_MAX: usize = 32;
/// Observations taken in one turn.
const REPORTS_PER_TURN: usize = 256;
/// Longest pause of the loop when nothing is due: records that come with a snapshot wake nobody.
const IDLE_MS: u64 = 1_000;
/// How long the task that waits for the end of the connection may take to let go of the session.
const LET_GO_WITHIN: Duration = Duration::from_millis(1_000);
/// Why the work has ended. The session is closed then.
#[derive(Debug)]
pub(super) enum WorkEnded {
    /// The lease is over, or the link is another one now: look again.
    Again,
    /// The connection is gone.
    Lost(String),
}

/// The work on a connected link.
pub(super) struct Work<'a> {
    pub(super) task: &'a mut LinkTask,
    pub(super) link: Arc<Link>,
    pub(super) connector: Option<Arc<dyn Connector>>,
    pub(super) calls: Calls,
    pub(super) slots: BTreeMap<DeviceId, Slot>,
    /// Local writes, as they were looked at last.
    pub(super) book: Arc<Book>,
    /// Who is to be looked at again, and when.
    pub(super) agenda: BTreeSet<(u64, DeviceId)>,
    /// Who is to be looked at now.
    pub(super) line: VecDeque<DeviceId>,
    /// Who is looked at before all others, however many calls are under way: a stop is due.
    pub(super) urgent: BTreeSet<DeviceId>,
    /// Numbers of the questions under way.
    pub(super) reads: BTreeSet<u64>,
    /// Calls under way for devices.
    pub(super) under_way: usize,
    /// Those of them whose devices have left the link.
    pub(super) left: BTreeMap<DeviceId, Call>,
    /// Stages to be told, and whether some are being told.
    pub(super) to_tell: BTreeMap<DeviceId, StageItem>,
    pub(super) telling: bool,
    pub(super) tell_next_ms: u64,
    /// Nothing will be applied any more.
    pub(super) log_ended: bool,
    /// Why the session can't be used any more.
    pub(super) broken: Option<&'static str>,
    /// The one-shot that the call which is being begun hands over.
    pub(super) begun: Option<RequestId>,
    /// From the node's clock to wall time, for display.
    pub(super) wall_offset_ms: Option<u64>,
    /// Events of what others write that may be told yet.
    pub(super) foreign: Budget,
}

impl<'a> Work<'a> {
    pub(super) fn new(task: &'a mut LinkTask, link: Arc<Link>, session: Box<dyn Session>) -> Self {
        let handle = task.parts.handle.clone();
        let book = task.parts.local.book();
        let connector = task.parts.connectors.get(&link.spec.connector).ok().cloned();
        Self {
            task,
            link,
            connector,
            calls: Calls::new(session, handle),
            slots: BTreeMap::new(),
            book,
            agenda: BTreeSet::new(),
            line: VecDeque::new(),
            urgent: BTreeSet::new(),
            reads: BTreeSet::new(),
            under_way: 0,
            left: BTreeMap::new(),
            to_tell: BTreeMap::new(),
            telling: false,
            tell_next_ms: 0,
            log_ended: false,
            broken: None,
            begun: None,
            wall_offset_ms: None,
            foreign: Budget::default(),
        }
    }

    /// Works until there is a reason not to, and closes the session.
    pub(super) async fn run(mut self, mut heard: mpsc::Receiver<Observation>) -> WorkEnded {
        tracing::info!(link = %self.link.id, epoch = self.task.epoch, "a link is connected");
        let mut let_go = self.task.let_go.clone();
        let mut applied = self.task.parts.handle.subscribe();
        let mut books = self.task.parts.local.watch();
        let session = Arc::clone(&self.calls.session);
        let mut closed = tokio::spawn(async move { session.closed().await });
        self.take_all();
        let ended = loop {
            if let Some(ended) = self.may_go_on() {
                break ended;
            }
            self.look_at_all();
            let due = self.due();
            tokio::select! {
                () = sleep_until(due) => self.take_due(),
                batch = applied.recv(), if !self.log_ended => self.take_applied(batch),
                Ok(()) = books.changed() => self.take_local(),
                Some(ended) = self.calls.tasks.join_next() => self.take_ended(ended),
                Some(observation) = heard.recv() => self.take_heard(observation, &mut heard),
                reason = &mut closed => break lost(reason),
                _ = let_go.changed() => {}
            }
        };
        closed.abort();
        if !closed.is_finished() {
            // It holds the session until it has ended.
            let _cancelled = tokio::time::timeout(LET_GO_WITHIN, closed).await;
        }
        self.close().await;
        ended
    }

    /// Why the work must end, if it must.
    fn may_go_on(&self) -> Option<WorkEnded> {
        if let Some(why) = self.broken {
            return Some(WorkEnded::Lost(why.to_owned()));
        }
        let link = self.task.link();
        let same = link.as_ref().is_some_and(|link| link.spec == self.link.spec && !link.paused);
        let may_write = self.until_ms().is_some();
        (!same || !may_write).then_some(WorkEnded::Again)
    }

    /// Until when this node may write now.
    pub(super) fn until_ms(&self) -> Option<u64> {
        self.task.until_ms(&self.link, self.task.now_ms())
    }

    /// All devices of the link, as they are in the view.
    fn take_all(&mut self) {
        let view = self.task.parts.handle.view();
        let devices: Vec<DeviceId> =
            view.state.devices_of(&self.link.id).map(|device| device.id.clone()).collect();
        let known: Vec<DeviceId> = self.slots.keys().cloned().collect();
        for device in devices.iter().chain(&known) {
            self.take_record(&view.state, device);
        }
        self.tell_session(&view.state);
    }

    /// Tells the session which devices there are. It must hear of every setup before it is asked
    /// for something by it: a command by a former one goes to another register or topic.
    fn tell_session(&mut self, state: &FleetState) {
        let devices = state.devices_of(&self.link.id);
        let devices = devices.map(|device| device_setup(&device.id, &device.spec)).collect();
        let session = &self.calls.session;
        if contained(|| session.devices_changed(devices)).is_none() {
            self.broken = Some("the connector panicked when it was told of its devices");
        }
    }

    /// A device as it is in the state now; it may be new, changed, or not this link's any more.
    pub(super) fn take_record(&mut self, state: &FleetState, id: &DeviceId) {
        let on_link =
            |device: &&Arc<fleet_state::Device>| device.spec.link.as_ref() == Some(&self.link.id);
        let Some(device) = state.device(id).filter(on_link) else {
            let mut slot = self.slots.remove(id);
            if let Some(call) = slot.as_mut().and_then(|slot| slot.call.take()) {
                self.left.insert(id.clone(), call);
            }
            self.let_go_of(slot);
            self.task.memory.remove(id);
            return;
        };
        let (run, bound) = (self.task.run, self.task.log_bound);
        let served = Known { state, device, overlay: self.book.overlay(id).cloned(), run, bound };
        let observed = &self.task.parts.observed;
        let memory = self.task.memory.entry(id.clone()).or_insert_with(|| {
            let known = observed.device(id);
            let known =
                known.filter(|known| known.link.as_ref().is_none_or(|on| *on == self.link.id));
            Memory::of_shown(known.map(|known| known.body).as_deref())
        });
        let known = self
            .slots
            .get_mut(id)
            .filter(|slot| slot.setup == device_setup(&device.id, &device.spec));
        match (known, &self.connector) {
            (Some(slot), _) => slot.follow(served, memory),
            (None, Some(connector)) => {
                let setup = link_setup(&self.link.id, &self.link.spec);
                let now_ms = self.task.parts.handle.clock().now_ms();
                let mut slot = Slot::new(connector.as_ref(), &setup, served, memory, now_ms);
                let mut before = self.slots.remove(id);
                let former = before.as_mut().and_then(|slot| slot.call.take());
                self.let_go_of(before);
                slot.wait_for(former.or_else(|| self.left.remove(id)));
                self.slots.insert(id.clone(), slot);
            }
            (None, None) => {}
        }
        self.line_up(id);
    }

    /// Nobody looks at a device any more, so nobody could say that its drift has ended.
    pub(super) fn let_go_of(&self, slot: Option<Slot>) {
        let drifting = slot.map_or(0, |slot| slot.drifting());
        self.task.parts.metrics.drifting.dec_by(drifting);
    }

    /// Something was written locally, or merged: the devices that it concerns are looked at.
    pub(super) fn take_local(&mut self) {
        let before = std::mem::replace(&mut self.book, self.task.parts.local.book());
        let devices = before.devices().chain(self.book.devices());
        let ours = |device: &&DeviceId| self.slots.contains_key(*device);
        let touched: BTreeSet<DeviceId> = devices.filter(ours).cloned().collect();
        let view = self.task.parts.handle.view();
        for device in &touched {
            self.take_record(&view.state, device);
            let overlay = self.slots.get(device).and_then(|slot| slot.overlay.as_ref());
            if overlay.is_some_and(|overlay| overlay.stop.is_some()) {
                self.urgent.insert(device.clone());
            }
        }
    }

    fn take_applied(&mut self, batch: Result<Arc<AppliedBatch>, RecvError>) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(RecvError::Lagged(_)) => return self.take_all(),
            // The process is ending; nothing comes from there any more.
            Err(RecvError::Closed) => {
                self.log_ended = true;
                return;
            }
        };
        let mut touched = BTreeSet::new();
        let mut registered = false;
        for change in batch.items.iter().flat_map(|item| &item.changes) {
            let (device, is_device) = match &change.entity {
                Entity::Device(id) => (id, true),
                Entity::Watermarks(id) => (id, false),
                Entity::Invocation { device, .. } => (device, false),
                Entity::Link(_) | Entity::Param(_) | Entity::Member(_) | Entity::Token(_) => {
                    continue;
                }
            };
            let known = self.slots.contains_key(device);
            let ours = matches!(&change.record, Some(Record::Device(device))
                if device.spec.link.as_ref() == Some(&self.link.id));
            registered |= is_device && (known != ours || self.is_set_up_anew(&change.record));
            if known || ours {
                touched.insert(device.clone());
            }
        }
        let view = self.task.parts.handle.view();
        for device in &touched {
            self.take_record(&view.state, device);
        }
        if registered {
            self.tell_session(&view.state);
        }
    }

    fn is_set_up_anew(&self, record: &Option<Record>) -> bool {
        let Some(Record::Device(device)) = record else { return true };
        self.slots
            .get(&device.id)
            .is_some_and(|slot| slot.setup != device_setup(&device.id, &device.spec))
    }

    fn take_heard(&mut self, first: Observation, more: &mut mpsc::Receiver<Observation>) {
        let now_ms = self.task.now_ms();
        self.take_one_heard(&first, now_ms);
        for _ in 1..REPORTS_PER_TURN {
            let Ok(heard) = more.try_recv() else { return };
            self.take_one_heard(&heard, now_ms);
        }
    }

    fn take_one_heard(&mut self, heard: &Observation, now_ms: u64) {
        let metrics = &self.task.parts.metrics;
        metrics.reports.inc();
        if heard.foreign_write {
            metrics.foreign_writes.inc();
        }
        if let Some(slot) = self.slots.get_mut(&heard.device) {
            slot.heard(heard, now_ms);
            self.line_up(&heard.device);
        }
    }

    /// When something is to be looked at though nothing happens.
    fn due(&self) -> Instant {
        let now_ms = self.task.now_ms();
        let agenda = self.agenda.first().map(|(at_ms, _)| *at_ms);
        let stages = (!self.telling && !self.to_tell.is_empty()).then_some(self.tell_next_ms);
        // A lease that was renewed meanwhile ends later, and is looked at again then.
        let lease = self.until_ms();
        let due = agenda.into_iter().chain(stages).chain(lease).min();
        let idle_ms = now_ms.saturating_add(IDLE_MS);
        // At most in a millisecond: what is due now has been looked at.
        self.moment(due.unwrap_or(idle_ms).clamp(now_ms.saturating_add(1), idle_ms))
    }

    /// Whose moment has come, and calls that don't end.
    fn take_due(&mut self) {
        let now_ms = self.task.now_ms();
        while let Some((at_ms, _)) = self.agenda.first()
            && *at_ms <= now_ms
            && let Some((_, device)) = self.agenda.pop_first()
        {
            self.give_up_call(&device, now_ms);
            self.line_up(&device);
        }
    }

    /// Whether there is room for a question.
    pub(super) fn may_read(&self) -> bool {
        self.reads.len() < READS_MAX
    }

    pub(super) fn line_up(&mut self, device: &DeviceId) {
        if let Some(slot) = self.slots.get_mut(device)
            && !slot.in_line
        {
            slot.in_line = true;
            self.line.push_back(device.clone());
        }
    }

    /// Looks at everybody in line for whom there is room, and tells stages.
    fn look_at_all(&mut self) {
        while let Some(device) = self.urgent.pop_first() {
            self.look_at(&device, self.task.now_ms());
        }
        while self.under_way < CALLS_MAX
            && let Some(device) = self.line.pop_front()
        {
            // Anew for each: a line takes its time, and deadlines are counted from now.
            let now_ms = self.task.now_ms();
            self.look_at(&device, now_ms);
        }
        self.tell_stages(self.task.now_ms());
    }

    pub(super) fn take_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let now_ms = self.task.now_ms();
        match ended {
            Ok(Ended::Call { device, number, end }) => {
                self.reads.remove(&number);
                self.call_ended(&device, number, end, now_ms);
                self.line_up(&device);
            }
            Ok(Ended::Stages { items, end }) => self.stages_told(items, end, now_ms),
            // Aborted when the link is closed; what that leaves open is seen to there.
            Err(error) if error.is_cancelled() => {}
            // Panics are caught within; nothing else can end a task of ours.
            Err(error) => {
                tracing::error!(link = %self.link.id, %error, "a call ended without an end")
            }
        }
    }
}

fn lost(reason: Result<CloseReason, tokio::task::JoinError>) -> WorkEnded {
    WorkEnded::Lost(match reason {
        Ok(CloseReason::Lost(reason)) => reason,
        Ok(CloseReason::TakenOver(reason)) => format!("taken over: {reason}"),
        Err(_) => "the connector panicked".to_owned(),
    })
}
