//! The task that owns a connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_state::{DeviceId, LinkId, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::device::connector::{
    Availability, CloseReason, DeviceSetup, Handed, Invoke, MayWrite, Observation, Quality, Read,
    ReadError, ReadErrorKind, Reading, Reports, Write, WriteErrorKind,
};

use super::super::budget::{Budgets, Key};
use super::super::bus::Bus;
use super::super::bus_error::BusError;
use super::super::unit::Unit;
use super::transfer::{Failure, Heard, act, read_block, read_named, register, same, write_one};
use super::{Ask, Question};

/// Longest pause of the loop when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// Where things come from.
pub(super) struct Inputs {
    pub(super) asked: mpsc::Receiver<Ask>,
    pub(super) questioned: mpsc::Receiver<Question>,
    pub(super) changed: watch::Receiver<Vec<DeviceSetup>>,
}

/// Where things go.
pub(super) struct Outputs {
    pub(super) reports: Reports,
    pub(super) closing: watch::Sender<Option<CloseReason>>,
}

/// The task's state.
pub(super) struct Actor {
    link: LinkId,
    pub(super) bus: Bus,
    budgets: Arc<Budgets>,
    pub(super) may_write: MayWrite,
    pub(super) units: BTreeMap<DeviceId, Unit>,
    inputs: Inputs,
    outputs: Outputs,
    /// The last thing done was to refresh a watchdog.
    pub(super) kept_last: bool,
}

/// What ends the loop.
pub(super) enum End {
    Lost(CloseReason),
    Asked(Option<oneshot::Sender<()>>),
}

impl Actor {
    pub(super) fn new(
        link: LinkId,
        bus: Bus,
        (budgets, may_write): (Arc<Budgets>, MayWrite),
        inputs: Inputs,
        outputs: Outputs,
    ) -> Self {
        let units = BTreeMap::new();
        let mut actor =
            Self { link, bus, budgets, may_write, units, inputs, outputs, kept_last: false };
        actor.take_devices();
        actor
    }

    /// Works until the connection ends or is to end.
    pub(super) async fn run(mut self) {
        let end = loop {
            if let Some(end) = self.step().await {
                break end;
            }
        };
        self.bus.close().await;
        match end {
            End::Lost(reason) => {
                self.outputs.closing.send_replace(Some(reason));
            }
            End::Asked(done) => {
                if let Some(done) = done {
                    let _gave_up = done.send(());
                }
            }
        }
    }

    async fn step(&mut self) -> Option<End> {
        let due = self.units.values().filter_map(Unit::due).min();
        let due = due.unwrap_or_else(|| Instant::now() + IDLE);
        let keeping = self.keeping_due().unwrap_or_else(|| Instant::now() + IDLE);
        let kept_last = std::mem::take(&mut self.kept_last);
        tokio::select! {
            // 1. What a device is now: a command to it by its former map would go to another
            //    register. 2. What keeps devices armed, which must not wait long, and not twice in a
            //    row while something else waits. 3. What is handed over, 4. what is asked, 5. what is
            //    read anyway.
            biased;
            Ok(()) = self.inputs.changed.changed() => { self.take_devices(); None }
            () = sleep_until(keeping), if !kept_last => self.keep_one().await,
            ask = self.inputs.asked.recv() => self.on_ask(ask).await,
            Some(question) = self.inputs.questioned.recv() => { self.on_question(question).await; None }
            () = sleep_until(due) => self.on_due().await,
            () = sleep_until(keeping), if kept_last => self.keep_one().await,
        }
    }

    fn take_devices(&mut self) {
        let devices = self.inputs.changed.borrow_and_update().clone();
        let mut before = std::mem::take(&mut self.units);
        for setup in devices {
            let id = setup.id.clone();
            if let Some(same) = before.remove(&id).filter(|unit| unit.setup == setup) {
                self.units.insert(id, same);
                continue;
            }
            match Unit::new(setup, Instant::now()) {
                Ok(unit) => {
                    self.units.insert(id, unit);
                }
                Err(refusal) => {
                    warn!(link = %self.link, device = %id, %refusal, "the device has no usable map");
                }
            }
        }
    }

    /// Reads one block of the device that has waited longest.
    async fn on_due(&mut self) -> Option<End> {
        let now = Instant::now();
        let waiting = self.units.iter_mut().filter_map(|(id, unit)| Some((unit.due()?, id, unit)));
        let (_, id, unit) = waiting.min_by_key(|(due, _, _)| *due)?;
        let block = unit.take_due(now)?;
        let id = id.clone();
        let read = read_block(&mut self.bus, &unit.map, &block).await;
        let mut news = Observation::fresh(id.clone(), fleet_state::Object::new());
        match read {
            Ok((values, problem)) => {
                news.availability = unit.on_answer();
                news.values = unit.news(values, Instant::now());
                if let Some(problem) = problem {
                    complain(&self.link, unit, &id, problem, &mut news);
                } else {
                    unit.complaint = None;
                }
            }
            Err(error @ BusError::NotConnected(_)) => return Some(ended(&error)),
            Err(error) if error.is_absence() => news.availability = unit.on_silence(),
            Err(BusError::Exception(code)) => {
                news.availability = unit.on_answer();
                let at = block.refused(&BusError::Exception(code));
                complain(&self.link, unit, &id, at, &mut news);
            }
            Err(error) => debug!(link = %self.link, device = %id, %error, "a question was lost"),
        }
        let quiet = news.values.is_empty() && news.quality == Quality::Good;
        if news.availability.is_some() || !quiet {
            self.outputs.reports.send(news).await;
        }
        None
    }

    async fn on_ask(&mut self, ask: Option<Ask>) -> Option<End> {
        match ask {
            None => return Some(End::Asked(None)),
            Some(Ask::Close { done }) => return Some(End::Asked(Some(done))),
            // Who asked has given up, so nobody would hear what became of it.
            Some(Ask::Write { answer, .. } | Ask::Invoke { answer, .. }) if answer.is_closed() => {}
            Some(Ask::Write { write, answer }) => {
                self.bus.limit(Some(last_moment(write.deadline, write.expires)));
                let result = self.write(&write).await;
                self.bus.limit(None);
                let end = result.as_ref().err().and_then(end_of);
                let told = result.map(|()| Handed::Acknowledged);
                let _gave_up = answer.send(told.map_err(|failure| failure.told()));
                return end;
            }
            Some(Ask::Invoke { invoke, answer }) => {
                self.bus.limit(Some(last_moment(invoke.deadline, invoke.expires)));
                let result = self.invoke(&invoke).await;
                self.bus.limit(None);
                let end = result.as_ref().err().and_then(end_of);
                let told = result.map(|()| Handed::Acknowledged);
                let _gave_up = answer.send(told.map_err(|failure| failure.told()));
                return end;
            }
        }
        None
    }

    /// A question that nobody waits for any more would only keep the ones behind it waiting.
    async fn on_question(&mut self, Question { read, begun, answer }: Question) {
        if answer.is_closed() {
            return;
        }
        begun.store(true, Ordering::Relaxed);
        // What was read by then is an answer, so the last part of it leaves while there is time for
        // its own answer.
        let left = read.deadline.saturating_duration_since(Instant::now());
        let not_after = read.deadline.checked_sub(self.bus.timeout().min(left / 2));
        self.bus.limit(Some(not_after.unwrap_or(read.deadline)));
        let result = self.read(&read).await;
        self.bus.limit(None);
        let heard = result.as_ref().ok().map(|reading| reading.values.clone());
        // What nobody waits for any more is news for the next poll.
        if answer.send(result).is_ok()
            && let Some((unit, values)) = self.units.get_mut(&read.device).zip(heard)
        {
            unit.note_told(&values, Instant::now());
        }
    }

    async fn write(&mut self, write: &Write) -> Result<(), Failure> {
        let Some(unit) = self.units.get(&write.device) else {
            return Err(Failure::invalid(format!("{} is not on this link", write.device)));
        };
        // All of it is checked before any of it is written.
        for (name, value) in write.values.iter() {
            let register = register(&unit.map, name)?;
            if !register.is_written() {
                return Err(Failure::invalid(format!("{name} can't be desired")));
            }
            register.check(value).map_err(|why| Failure::invalid(format!("{name}: {why}")))?;
        }
        let mut wrote = false;
        for (name, value) in write.values.iter() {
            let key = (self.link.clone(), write.device.clone(), Arc::clone(name));
            let done = write_value(&mut self.bus, unit, (key, &self.budgets), value).await;
            wrote |= done.map_err(|failure| failure.after(wrote))?;
        }
        Ok(())
    }

    async fn invoke(&mut self, invoke: &Invoke) -> Result<(), Failure> {
        let Some(unit) = self.units.get(&invoke.device) else {
            return Err(Failure::invalid(format!("{} is not on this link", invoke.device)));
        };
        let Some(action) = unit.map.actions.get(&invoke.action) else {
            let known: Vec<_> = unit.map.actions.keys().map(AsRef::as_ref).collect();
            let known = if known.is_empty() { "it has none".to_owned() } else { known.join(", ") };
            return Err(Failure::invalid(format!("no such action; {known}")));
        };
        act(&mut self.bus, &unit.map, action, &invoke.args).await
    }

    async fn read(&mut self, read: &Read) -> Result<Reading, ReadError> {
        let unit = self.units.get_mut(&read.device).ok_or_else(|| ReadError {
            kind: ReadErrorKind::Unsupported,
            message: format!("{} is not on this link", read.device),
        })?;
        let wanted = |name: &str| {
            read.properties.as_ref().is_none_or(|properties| properties.contains(name))
        };
        let result = read_named(&mut self.bus, &unit.map, wanted).await;
        let Heard { values, problem, complete } = match result {
            Ok(read) => read,
            Err(error) => {
                if error.is_absence()
                    && let Some(availability) = unit.on_silence()
                {
                    report(&self.outputs.reports, &read.device, availability);
                }
                return Err(error.of_read());
            }
        };
        if let Some(availability) = unit.on_answer() {
            report(&self.outputs.reports, &read.device, availability);
        }
        if values.is_empty() {
            let message = problem.unwrap_or_else(|| "it has nothing that can be read".to_owned());
            return Err(ReadError { kind: ReadErrorKind::Unsupported, message });
        }
        let problem = unit.keeping.as_ref().and_then(|kept| kept.problem.clone()).or(problem);
        Ok(Reading { values, quality: Quality::Good, source_ms: None, problem, complete })
    }
}

/// Availability that was learnt on the way; a full queue will hear it with the next poll.
fn report(reports: &Reports, device: &DeviceId, availability: Availability) {
    let _full = reports.try_send(Observation::availability(device.clone(), availability));
}

/// Writes one value; `false`: it was so already.
async fn write_value(
    bus: &mut Bus,
    unit: &Unit,
    (key, budgets): (Key, &Arc<Budgets>),
    value: &Value,
) -> Result<bool, Failure> {
    let name = Arc::clone(&key.2);
    let name = name.as_ref();
    let register = register(&unit.map, name)?;
    if let Some(per_day) = register.writes_per_day {
        let Heard { values: now, .. } =
            read_named(bus, &unit.map, |other| other == name).await.map_err(|error| {
                let told = error.of_write();
                Failure::Refused(told.kind, format!("before writing: {}", told.message))
            })?;
        if now.get(name).is_some_and(|now| same(now, value)) {
            return Ok(false);
        }
        if !Arc::clone(budgets).spend(key, per_day).await {
            let message = format!("{name} has had its {per_day} writes for today");
            return Err(Failure::Refused(WriteErrorKind::Busy, message));
        }
    }
    write_one(bus, unit.map.unit, register, value).await.map(|()| true)
}

/// The last moment at which something may leave.
fn last_moment(deadline: Instant, expires: Option<Instant>) -> Instant {
    expires.map_or(deadline, |expires| expires.min(deadline))
}

fn end_of(failure: &Failure) -> Option<End> {
    if let Failure::Bus { error: error @ BusError::NotConnected(_), .. } = failure {
        return Some(ended(error));
    }
    None
}

pub(super) fn ended(error: &BusError) -> End {
    End::Lost(CloseReason::Lost(error.to_string()))
}

/// Says once what a device refuses to tell.
fn complain(
    link: &LinkId,
    unit: &mut Unit,
    device: &DeviceId,
    problem: String,
    news: &mut Observation,
) {
    if unit.complaint.as_ref() == Some(&problem) {
        return;
    }
    warn!(%link, %device, problem, "the device can't be read");
    unit.complaint = Some(problem);
    news.quality = if news.values.is_empty() { Quality::Bad } else { Quality::Uncertain };
}
