//! The task that owns a connection.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fleet_state::LinkId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::device::connector::{
    Availability, CloseReason, DeviceSetup, Invoke, Observation, Quality, Read, ReadError,
    ReadErrorKind, Reading, Reports, Write, WriteError, WriteErrorKind,
};

use super::super::wire::{Delivery, Message, Wire, WireEvent};
use super::super::wiring::{Incoming, Outgoing, Question, Wiring};
use super::reading::Readings;
use super::{Ask, undelivered, whole_seconds_until};

/// Own messages on command topics that may come back (3.1.1 has no word against it).
const ECHOES_MAX: usize = 512;
/// How long they may take.
const ECHO_AGE_MAX: Duration = Duration::from_secs(30);
/// Longest pause of the loop when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// Where things come from.
pub(super) struct Inputs {
    pub(super) events: mpsc::Receiver<WireEvent>,
    pub(super) asked: mpsc::Receiver<Ask>,
    pub(super) changed: watch::Receiver<Vec<DeviceSetup>>,
}

/// Where things go.
pub(super) struct Outputs {
    pub(super) reports: Reports,
    pub(super) closing: watch::Sender<Option<CloseReason>>,
    /// Told once, when the broker has confirmed the first subscriptions.
    pub(super) ready: Option<oneshot::Sender<Result<(), String>>>,
}

/// The task's state.
pub(super) struct Actor {
    link: LinkId,
    wire: Wire,
    wiring: Wiring,
    readings: Readings,
    subscribed: BTreeSet<String>,
    subscribing: JoinSet<Subscribed>,
    echoes: VecDeque<(Instant, Outgoing)>,
    problems: u64,
    inputs: Inputs,
    outputs: Outputs,
}

/// Topics that the broker refuses to tell of, and whether those are all that it was asked for.
type Subscribed = Result<(Vec<String>, bool), String>;

/// What ends the loop.
enum End {
    Lost(CloseReason),
    Asked(Option<oneshot::Sender<()>>),
}

impl Actor {
    pub(super) fn new(link: LinkId, wire: Wire, mut inputs: Inputs, outputs: Outputs) -> Self {
        let devices = inputs.changed.borrow_and_update().clone();
        let (wiring, refused) = Wiring::new(devices);
        for (device, refusal) in refused {
            warn!(%link, %device, %refusal, "the device can't be wired");
        }
        Self {
            link,
            wire,
            wiring,
            readings: Readings::default(),
            subscribed: BTreeSet::new(),
            subscribing: JoinSet::new(),
            echoes: VecDeque::new(),
            problems: 0,
            inputs,
            outputs,
        }
    }

    /// Works until the connection ends or is to end.
    pub(super) async fn run(mut self) {
        self.subscribe();
        if self.subscribing.is_empty() {
            self.say_ready(Ok(()));
        }
        let end = loop {
            if let Some(end) = self.step().await {
                break end;
            }
        };
        match end {
            End::Lost(reason) => {
                self.outputs.closing.send_replace(Some(reason));
            }
            End::Asked(done) => {
                self.wire.close().await;
                if let Some(done) = done {
                    let _gave_up = done.send(());
                }
            }
        }
    }

    async fn step(&mut self) -> Option<End> {
        let due = self.readings.due().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            event = self.inputs.events.recv() => self.on_event(event).await,
            ask = self.inputs.asked.recv() => self.on_ask(ask).await,
            Ok(()) = self.inputs.changed.changed() => self.on_devices().await,
            Some(done) = self.subscribing.join_next() => self.on_subscribed(done).await,
            () = sleep_until(due) => self.on_due(),
        }
    }

    async fn on_event(&mut self, event: Option<WireEvent>) -> Option<End> {
        match event {
            Some(WireEvent::Message(message)) => {
                self.on_message(message).await;
                None
            }
            Some(WireEvent::Closed(reason)) => Some(End::Lost(reason)),
            None => Some(End::Lost(CloseReason::Lost("the connection ended".to_owned()))),
        }
    }

    async fn on_message(&mut self, message: Message) {
        let own = self.is_own_echo(&message);
        let heard = self.wiring.hear(Incoming {
            topic: &message.topic,
            payload: &message.payload,
            retained: message.retained,
        });
        for problem in heard.problems {
            self.count(&problem);
        }
        if heard.rewired {
            self.subscribe();
        }
        for mut observation in heard.observations {
            if observation.foreign_write && own {
                continue;
            }
            self.trust(&mut observation);
            self.outputs.reports.send(observation).await;
        }
    }

    /// Takes a report into account for the questions that wait, and marks what may be an echo.
    fn trust(&mut self, observation: &mut Observation) {
        let fresh = !observation.retained && !observation.foreign_write;
        if !fresh || observation.values.is_empty() {
            return;
        }
        let now = Instant::now();
        let (quality, messages) =
            self.readings.heard(&observation.device, &observation.values, now);
        observation.quality = observation.quality.max(quality);
        self.send_questions(messages);
    }

    fn is_own_echo(&mut self, message: &Message) -> bool {
        let now = Instant::now();
        while let Some((at, _)) = self.echoes.front() {
            if now.saturating_duration_since(*at) < ECHO_AGE_MAX {
                break;
            }
            self.echoes.pop_front();
        }
        let place = self.echoes.iter().position(|(_, own)| {
            own.topic == message.topic && own.payload.as_bytes() == message.payload
        });
        place.and_then(|place| self.echoes.remove(place)).is_some()
    }

    /// Counts what can't be used. Said at the 1st, 2nd, 4th, … time, so that a flood of it is no
    /// flood of the log.
    fn count(&mut self, problem: &str) {
        self.problems += 1;
        if self.problems.is_power_of_two() {
            warn!(link = %self.link, count = self.problems, problem, "a message was refused");
        } else {
            debug!(link = %self.link, count = self.problems, problem, "a message was refused");
        }
    }

    async fn on_ask(&mut self, ask: Option<Ask>) -> Option<End> {
        if self.inputs.changed.has_changed().unwrap_or(false) {
            // A command to a device by its former settings would go to another topic.
            self.on_devices().await;
        }
        match ask {
            None => return Some(End::Asked(None)),
            Some(Ask::Close { done }) => return Some(End::Asked(Some(done))),
            // Who asked has given up, so nobody would hear what became of it.
            Some(Ask::Write { answer, .. } | Ask::Invoke { answer, .. }) if answer.is_closed() => {}
            Some(Ask::Write { write, answer }) => {
                let _gave_up = answer.send(self.write(&write));
            }
            Some(Ask::Invoke { invoke, answer }) => {
                let _gave_up = answer.send(self.invoke(&invoke));
            }
            Some(Ask::Read { read, answer }) => self.read(read, answer),
        }
        None
    }

    fn write(&mut self, write: &Write) -> Result<Vec<Delivery>, WriteError> {
        let messages = self.wiring.write(&write.device, &write.values)?;
        if self.wiring.availability(&write.device) == Availability::Offline {
            return Err(refusal(WriteErrorKind::Offline, "the device is offline"));
        }
        in_time(write.deadline)?;
        let deliveries = self.publish(messages, write.expires)?;
        if self.wiring.is_optimistic(&write.device) {
            self.readings.written(&write.device, Instant::now());
        }
        Ok(deliveries)
    }

    fn invoke(&mut self, invoke: &Invoke) -> Result<Vec<Delivery>, WriteError> {
        let message = self.wiring.invoke(&invoke.device, &invoke.action, &invoke.args)?;
        in_time(invoke.deadline)?;
        self.publish(vec![message], invoke.expires)
    }

    fn publish(
        &mut self,
        messages: Vec<Outgoing>,
        expires: Option<Instant>,
    ) -> Result<Vec<Delivery>, WriteError> {
        if expires.is_some_and(|expires| expires <= Instant::now()) {
            return Err(refusal(WriteErrorKind::Timeout, "its time has passed"));
        }
        let client = self.wire.client();
        let left = expires.map(whole_seconds_until).filter(|left| *left > 0);
        // A broker that can't be told how long to keep a message must not keep it at all.
        let kept = expires.is_none() || (left.is_some() && client.has_expiry());
        let mut deliveries = Vec::with_capacity(messages.len());
        for mut message in messages {
            message.acknowledged &= kept;
            let delivery = client
                .publish(&message, left)
                .map_err(|why| undelivered(&why, !deliveries.is_empty()))?;
            deliveries.push(delivery);
            if !client.has_expiry() && self.wiring.is_command_topic(&message.topic) {
                if self.echoes.len() >= ECHOES_MAX {
                    self.echoes.pop_front();
                }
                self.echoes.push_back((Instant::now(), message));
            }
        }
        Ok(deliveries)
    }

    fn read(&mut self, read: Read, answer: oneshot::Sender<Result<Reading, ReadError>>) {
        let question = match self.question(&read) {
            Ok(question) => question,
            Err(error) => {
                let _gave_up = answer.send(Err(error));
                return;
            }
        };
        let asked = (Instant::now(), read.deadline);
        let messages = self.readings.ask(read.device, question, asked, answer);
        self.send_questions(messages);
    }

    fn question(&self, read: &Read) -> Result<Question, ReadError> {
        // One question more or less is nothing to a broker, and what nobody wished is shown as well.
        let question = self.wiring.question(&read.device)?;
        if self.wiring.availability(&read.device) == Availability::Offline {
            let message = "the device is offline".to_owned();
            return Err(ReadError { kind: ReadErrorKind::Offline, message });
        }
        Ok(question)
    }

    /// Questions that can't be sent are not answered, and that is the error.
    fn send_questions(&mut self, messages: Vec<Outgoing>) {
        if let Err(error) = self.publish(messages, None) {
            debug!(link = %self.link, %error, "a question was not sent");
        }
    }

    fn on_due(&mut self) -> Option<End> {
        let messages = self.readings.tick(Instant::now());
        self.send_questions(messages);
        None
    }

    async fn on_devices(&mut self) -> Option<End> {
        let devices = self.inputs.changed.borrow_and_update().clone();
        let (refused, known) = self.wiring.replace(devices);
        for (device, refusal) in refused {
            warn!(link = %self.link, %device, %refusal, "the device can't be wired");
        }
        for heard in known {
            self.outputs.reports.send(heard).await;
        }
        self.subscribe();
        None
    }

    /// Makes the subscriptions what the wiring says.
    fn subscribe(&mut self) {
        let wanted = self.wiring.subscriptions();
        let gone: Vec<_> = self.subscribed.difference(&wanted).cloned().collect();
        let new: Vec<_> = wanted.difference(&self.subscribed).cloned().collect();
        self.wire.client().unsubscribe(&gone);
        self.subscribed = wanted;
        if !new.is_empty() {
            // Not awaited here: the answer comes behind messages that only this task takes out.
            let client = self.wire.client().clone();
            self.subscribing.spawn(async move {
                let refused = client.subscribe(&new).await?;
                let all = refused.len() == new.len();
                Ok((refused, all))
            });
        }
    }

    async fn on_subscribed(
        &mut self,
        done: Result<Subscribed, tokio::task::JoinError>,
    ) -> Option<End> {
        let first = self.outputs.ready.is_some();
        let refused = match done.unwrap_or_else(|error| Err(error.to_string())) {
            Ok((refused, all)) if !first || !all || refused.is_empty() => refused,
            Ok((refused, _)) => {
                let some = refused.first().map_or("anything", String::as_str);
                self.say_ready(Err(format!("the broker refuses to tell of {some}")));
                return None;
            }
            Err(problem) if first => {
                self.say_ready(Err(problem));
                return None;
            }
            Err(problem) => return Some(End::Lost(CloseReason::Lost(problem))),
        };
        self.say_ready(Ok(()));
        for topic in refused {
            self.count(&format!("the broker refuses to tell of {topic}"));
            for device in self.wiring.heard_on(&topic) {
                let mut unheard = Observation::fresh(device, fleet_state::Object::new());
                unheard.quality = Quality::Bad;
                self.outputs.reports.send(unheard).await;
            }
        }
        None
    }

    fn say_ready(&mut self, result: Result<(), String>) {
        if let Some(ready) = self.outputs.ready.take() {
            let _gave_up = ready.send(result);
        }
    }
}

/// Nothing leaves after its deadline: the lease may have ended with it.
fn in_time(deadline: Instant) -> Result<(), WriteError> {
    if deadline <= Instant::now() {
        return Err(refusal(WriteErrorKind::Timeout, "its time has passed"));
    }
    Ok(())
}

fn refusal(kind: WriteErrorKind, message: &str) -> WriteError {
    WriteError { may_have_acted: false, kind, message: message.to_owned() }
}
