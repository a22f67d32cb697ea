//! Devices that speak NATS.
//!
//! A device listens on `….device.<id>.set` (and `.invoke`, `.get` where it has them) and
//! publishes what it is on `.reported` and whether it can be reached on `.availability`
//! (`online`, `offline`, `asleep`). Values are a JSON object by property. Headers carry epoch,
//! sequence, revision and, where there is one, the time left; a device that refuses what is older
//! than the highest (epoch, sequence) it has seen is its own fence, and says so with the setting
//! `fences`.
//!
//! The link has no address: it is the NATS connection of the agent that owns it. Settings of a
//! device, all optional: `acknowledges` (it answers what it is told; default true),
//! `readable` (it answers `.get`; default false), `fences` (default false), `watch` (writes of
//! others are told; default true). An answer is empty, or an object with `ok` and, if that is
//! false, `error`.
//!
//! Nothing is handed over while the connection to the server is down: the client would keep it, and
//! the device would get it when that is back, long after its time. What is on its way at that moment
//! carries the time after which it must not be acted on.
//!
//! That nobody listens on a device's subject is known at once, and nothing was handed over then.
//! So the owner may listen along (`watch`) only over the connection that it speaks over, and only
//! because that has no echo: what it says itself doesn't come back, and nobody is there because of
//! it. What does come is a write of somebody else. One-shots are not listened along to: of these it
//! must be known whether they were handed over, also while a former owner listens still.
//!
//! Where a device doesn't acknowledge, that its NATS server has the message is all that is known.

mod ear;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, Request};
use fleet_protocol::Subjects;
use fleet_protocol::subjects::{DeviceWord, device_headers};
use fleet_state::{DeviceId, Limits, Object, Value};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::connector::{
    Access, CloseReason, Connect, ConnectError, Connector, DeviceSetup, Fence, Handed, Invoke,
    LinkSetup, Profile, Quality, Read, ReadError, ReadErrorKind, Reading, Refusal, Session, Write,
    WriteError, WriteErrorKind,
};
use super::settings::Fields;
use crate::device::wall_ms;
use crate::nats::{Connection, LinkState};
use ear::Ear;

/// How often the connection to the server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the first connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const UNREACHABLE: &str = "the NATS server can't be reached";

/// Opens a connection over which nothing comes back that is published over it.
pub type OpenNats = Arc<
    dyn Fn() -> BoxFuture<'static, Result<Connection, crate::nats::ConnectError>> + Send + Sync,
>;

/// The connector of devices that speak NATS.
pub struct NatsConnector {
    open: Option<OpenNats>,
    /// One for all links, from the first on: the client goes on trying by itself.
    opened: OnceCell<Connection>,
}

impl NatsConnector {
    /// An agent without NATS can't open anything, and says so when it is to connect.
    #[must_use]
    pub fn new(open: Option<OpenNats>) -> Self {
        Self { open, opened: OnceCell::new() }
    }

    async fn client(&self) -> Result<Client, ConnectError> {
        let open = self.open.as_ref().ok_or_else(|| {
            ConnectError::new("this agent has no NATS connection; place the link on one that has")
        })?;
        let opened = self.opened.get_or_try_init(|| open()).await;
        let opened = opened.map_err(|error| ConnectError::new(error.to_string()))?;
        let mut state = opened.state.clone();
        let connected = state.wait_for(|state| *state != LinkState::Disconnected);
        match tokio::time::timeout(CONNECT_WITHIN, connected).await {
            Ok(Ok(_)) => Ok(opened.client.clone()),
            Ok(Err(_)) | Err(_) => Err(ConnectError::new(UNREACHABLE)),
        }
    }
}

/// What a device can do.
#[derive(Clone, Copy, Debug)]
struct Manners {
    acknowledges: bool,
    readable: bool,
    fences: bool,
    watch: bool,
}

impl Manners {
    fn read(settings: &Object) -> Result<Self, Refusal> {
        let fields = Fields::new("settings", settings);
        let manners = Self {
            acknowledges: fields.flag("acknowledges")?.unwrap_or(true),
            readable: fields.flag("readable")?.unwrap_or(false),
            fences: fields.flag("fences")?.unwrap_or(false),
            watch: fields.flag("watch")?.unwrap_or(true),
        };
        fields.finish()?;
        Ok(manners)
    }
}

impl Connector for NatsConnector {
    fn kind(&self) -> &'static str {
        "nats"
    }

    fn check_link(&self, link: &LinkSetup) -> Result<(), Refusal> {
        if !link.address.is_empty() {
            let problem = "a link over NATS has no address of its own";
            let hint = "leave it empty: it is the NATS connection of the agents";
            return Err(Refusal::new("address", problem).with_hint(hint));
        }
        Fields::new("settings", &link.settings).finish()
    }

    fn check_device(&self, _link: &LinkSetup, device: &DeviceSetup) -> Result<Profile, Refusal> {
        let manners = Manners::read(&device.settings)?;
        if !device.address.is_empty() {
            let problem = "a device over NATS has no address of its own";
            let hint = "leave it empty: its subjects carry its id";
            return Err(Refusal::new("address", problem).with_hint(hint));
        }
        Ok(Profile {
            properties: BTreeMap::new(),
            others: Some(Access::Desired),
            actions: None,
            fence: if manners.fences { Fence::Device } else { Fence::Lease },
            warnings: Vec::new(),
        })
    }

    fn connect<'a>(
        &'a self,
        connect: Connect,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, ConnectError>> {
        async move {
            let session = NatsSession::open(self.client().await?, connect).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}

struct NatsSession {
    client: Client,
    subjects: Subjects,
    devices: watch::Sender<Arc<BTreeMap<DeviceId, Manners>>>,
    hearing: JoinHandle<()>,
}

fn manners(devices: Vec<DeviceSetup>) -> Arc<BTreeMap<DeviceId, Manners>> {
    let known = devices
        .into_iter()
        .filter_map(|device| Some((device.id, Manners::read(&device.settings).ok()?)));
    Arc::new(known.collect())
}

impl NatsSession {
    async fn open(client: Client, connect: Connect) -> Result<Self, ConnectError> {
        let subjects = Subjects::new(&connect.site);
        let mut messages = Vec::new();
        for subject in subjects.devices_said() {
            messages.push(client.subscribe(subject).await.map_err(|error| {
                ConnectError::new(format!("devices can't be listened to: {error}"))
            })?);
        }
        // What is published before the server knows of the subscription would be missed.
        client.flush().await.map_err(|error| ConnectError::new(error.to_string()))?;
        let (devices, devices_seen) = watch::channel(manners(connect.devices));
        let ear = Ear::new(client.clone(), subjects.clone(), devices_seen);
        let hearing = tokio::spawn(ear.hear(messages, connect.reports));
        Ok(Self { client, subjects, devices, hearing })
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn manners(&self, device: &DeviceId) -> Option<Manners> {
        self.devices.borrow().get(device).copied()
    }

    /// The last moment always goes with a message: the client may keep it for a while, and after
    /// that moment another gateway may own the link.
    fn headers((epoch, sequence): (u64, u64), until: Instant) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(device_headers::EPOCH, epoch.to_string());
        headers.insert(device_headers::SEQUENCE, sequence.to_string());
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        headers.insert(device_headers::EXPIRES_IN_MS, left.to_string());
        let at_ms = u128::from(wall_ms()).saturating_add(left);
        headers.insert(device_headers::EXPIRES_AT_MS, at_ms.to_string());
        headers
    }

    /// Hands something over, and hears what the device says to it, if it does.
    async fn hand_over(
        &self,
        device: &DeviceId,
        word: DeviceWord,
        message: (HeaderMap, Object),
        deadline: Instant,
    ) -> Result<Handed, WriteError> {
        if !self.is_connected() {
            return Err(failed(WriteErrorKind::LinkLost, false, UNREACHABLE.to_owned()));
        }
        let (headers, body) = message;
        let subject = self.subjects.device(device, word);
        let payload = Value::Map(body).to_json().into_bytes();
        if !self.manners(device).is_some_and(|manners| manners.acknowledges) {
            let sent = self.client.publish_with_headers(subject, headers, payload.into()).await;
            sent.map_err(|error| match error.kind() {
                PublishErrorKind::InvalidSubject | PublishErrorKind::MaxPayloadExceeded => {
                    failed(WriteErrorKind::Invalid, false, error.to_string())
                }
                PublishErrorKind::Send => failed(WriteErrorKind::LinkLost, true, error.to_string()),
            })?;
            let flushed = self.client.flush().await;
            flushed.map_err(|error| failed(WriteErrorKind::LinkLost, true, error.to_string()))?;
            return Ok(Handed::Sent);
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let request = Request::new().headers(headers).payload(payload.into()).timeout(Some(within));
        match self.client.send_request(subject, request).await {
            Ok(answer) => acknowledged(&answer),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => failed(
                    WriteErrorKind::Offline,
                    false,
                    "nobody listens on the device's subject".to_owned(),
                ),
                RequestErrorKind::TimedOut => failed(
                    WriteErrorKind::Timeout,
                    true,
                    "the device did not answer in time".to_owned(),
                ),
                // It is looked at before it leaves.
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    failed(WriteErrorKind::Invalid, false, error.to_string())
                }
                RequestErrorKind::Other => {
                    failed(WriteErrorKind::LinkLost, true, error.to_string())
                }
            }),
        }
    }
}

/// The last moment at which something is wanted.
fn last_moment(deadline: Instant, expires: Option<Instant>) -> Instant {
    expires.map_or(deadline, |expires| expires.min(deadline))
}

fn failed(kind: WriteErrorKind, may_have_acted: bool, message: String) -> WriteError {
    WriteError { may_have_acted, kind, message }
}

/// What a device's answer to a hand-over means.
fn acknowledged(answer: &Message) -> Result<Handed, WriteError> {
    if answer.payload.is_empty() {
        return Ok(Handed::Acknowledged);
    }
    let said = object(&answer.payload).ok_or_else(|| {
        failed(WriteErrorKind::Timeout, true, "the device's answer can't be read".to_owned())
    })?;
    if said.get("ok") != Some(&Value::Bool(false)) {
        return Ok(Handed::Acknowledged);
    }
    let why = said.get("error").and_then(Value::as_text).unwrap_or("it gives no reason");
    Err(failed(WriteErrorKind::Refused, false, format!("the device refuses: {why}")))
}

fn object(payload: &[u8]) -> Option<Object> {
    Value::parse(payload, Limits::default()).ok()?.as_map().cloned()
}

impl Session for NatsSession {
    fn read<'a>(&'a self, read: &'a Read) -> BoxFuture<'a, Result<Reading, ReadError>> {
        async move {
            let failed = |kind, message: &str| ReadError { kind, message: message.to_owned() };
            if !self.manners(&read.device).is_some_and(|manners| manners.readable) {
                return Err(failed(ReadErrorKind::Unsupported, "the device only reports"));
            }
            if !self.is_connected() {
                return Err(failed(ReadErrorKind::LinkLost, UNREACHABLE));
            }
            let within = read.deadline.saturating_duration_since(Instant::now());
            let subject = self.subjects.device(&read.device, DeviceWord::Get);
            let request = Request::new().timeout(Some(within));
            let answer = self.client.send_request(subject, request).await.map_err(|error| {
                match error.kind() {
                    RequestErrorKind::NoResponders => {
                        failed(ReadErrorKind::Offline, "nobody listens on its subject")
                    }
                    RequestErrorKind::TimedOut => {
                        failed(ReadErrorKind::Timeout, "the device did not answer in time")
                    }
                    RequestErrorKind::InvalidSubject
                    | RequestErrorKind::MaxPayloadExceeded
                    | RequestErrorKind::Other => {
                        failed(ReadErrorKind::LinkLost, &error.to_string())
                    }
                }
            })?;
            let values = object(&answer.payload)
                .ok_or_else(|| failed(ReadErrorKind::Refused, "its answer can't be read"))?;
            Ok(Reading {
                values,
                quality: Quality::Good,
                source_ms: None,
                problem: None,
                complete: true,
            })
        }
        .boxed()
    }

    fn write<'a>(&'a self, write: &'a Write) -> BoxFuture<'a, Result<Handed, WriteError>> {
        async move {
            let whose = (write.epoch, write.sequence);
            let mut headers = Self::headers(whose, last_moment(write.deadline, write.expires));
            headers.insert(device_headers::REVISION, write.revision.to_string());
            let message = (headers, write.values.clone());
            self.hand_over(&write.device, DeviceWord::Set, message, write.deadline).await
        }
        .boxed()
    }

    fn invoke<'a>(&'a self, invoke: &'a Invoke) -> BoxFuture<'a, Result<Handed, WriteError>> {
        async move {
            let whose = (invoke.epoch, invoke.sequence);
            let mut headers = Self::headers(whose, last_moment(invoke.deadline, invoke.expires));
            headers.insert(device_headers::REQUEST_ID, invoke.request_id.to_string());
            let mut body = Object::new();
            body.insert("action", invoke.action.as_ref());
            body.insert("args", invoke.args.clone());
            let message = (headers, body);
            self.hand_over(&invoke.device, DeviceWord::Invoke, message, invoke.deadline).await
        }
        .boxed()
    }

    fn devices_changed(&self, devices: Vec<DeviceSetup>) {
        self.devices.send_replace(manners(devices));
    }

    fn closed<'a>(&'a self) -> BoxFuture<'a, CloseReason> {
        async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                if self.hearing.is_finished() {
                    return CloseReason::Lost("the subscription has ended".to_owned());
                }
                if self.client.connection_state() == State::Disconnected {
                    return CloseReason::Lost(UNREACHABLE.to_owned());
                }
            }
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.hearing.abort() }.boxed()
    }
}

impl Drop for NatsSession {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn session() -> NatsSession {
        // Nobody listens there, and the client would keep what is published until somebody does.
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect("nats://127.0.0.1:1").await.unwrap();
        let setup = |id: &str, settings: &str| DeviceSetup {
            id: id.parse().unwrap(),
            address: Arc::from(""),
            model: None,
            settings: object(settings.as_bytes()).unwrap(),
        };
        let devices = manners(vec![
            setup("door", r#"{"readable":true}"#),
            setup("mute", r#"{"acknowledges":false}"#),
        ]);
        NatsSession {
            client,
            subjects: Subjects::new(&"home".parse().unwrap()),
            devices: watch::channel(devices).0,
            hearing: tokio::spawn(std::future::pending()),
        }
    }

    #[tokio::test]
    async fn nothing_is_left_with_a_client_that_is_not_connected() {
        let session = session().await;
        let deadline = Instant::now() + Duration::from_secs(60);
        for device in ["door", "mute"] {
            let invoke = Invoke {
                device: device.parse().unwrap(),
                action: Arc::from("open"),
                args: Value::Null,
                request_id: "one".parse().unwrap(),
                epoch: 1,
                sequence: 1,
                deadline,
                expires: None,
            };
            let ended = tokio::time::timeout(Duration::from_secs(10), session.invoke(&invoke));
            let error = ended.await.expect("it is refused at once").unwrap_err();
            assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::LinkLost, false));
        }
        let read = Read { device: "door".parse().unwrap(), properties: None, deadline };
        assert_eq!(session.read(&read).await.unwrap_err().kind, ReadErrorKind::LinkLost);
        assert_eq!(
            session.client.statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed),
            0
        );
    }

    #[tokio::test]
    async fn a_time_limit_is_told_as_what_is_left_and_as_a_moment() {
        let number = |headers: &HeaderMap, name: &str| {
            headers.get(name).map(|value| value.as_str().parse::<u64>().unwrap())
        };
        let before_ms = wall_ms();
        let until = Instant::now() + Duration::from_secs(30);
        let headers = NatsSession::headers((7, 1), until);
        let left_ms = number(&headers, device_headers::EXPIRES_IN_MS).unwrap();
        let at_ms = number(&headers, device_headers::EXPIRES_AT_MS).unwrap();
        assert!((29_000..=30_000).contains(&left_ms), "{left_ms}");
        assert!((before_ms + left_ms..=wall_ms() + left_ms).contains(&at_ms), "{at_ms}");
    }

    #[test]
    fn what_has_no_time_limit_is_not_wanted_after_the_lease() {
        let lease = Instant::now() + Duration::from_secs(2);
        let [sooner, later] = [1, 30].map(|secs| Instant::now() + Duration::from_secs(secs));
        assert_eq!(last_moment(lease, None), lease);
        assert_eq!(last_moment(lease, Some(later)), lease);
        assert_eq!(last_moment(lease, Some(sooner)), sooner);
    }
}
