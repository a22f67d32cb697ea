//! One owner's connection to a simulated link.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_state::{DeviceId, Object, Value};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::super::connector::{
    Availability, CloseReason, Connect, ConnectError, DeviceSetup, Handed, Invoke, Observation,
    Quality, Read, ReadError, ReadErrorKind, Reading, Reports, Session, Write, WriteError,
    WriteErrorKind,
};
use super::journal::{Journal, append};
use super::settings::Settings;

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The action that takes a device away.
const DIE: &str = "die";

/// One owner's connection.
pub(super) struct SimulatedSession {
    path: PathBuf,
    settings: Settings,
    epoch: u64,
    journal: Arc<Mutex<Journal>>,
    devices: watch::Sender<BTreeSet<DeviceId>>,
    lots: AtomicU64,
    reading: JoinHandle<String>,
    ended: watch::Receiver<Option<String>>,
}

impl SimulatedSession {
    pub(super) async fn open(
        connect: Connect,
        settings: Settings,
        path: PathBuf,
    ) -> Result<Self, ConnectError> {
        let journal = Journal::open(&path).await.map_err(|error| {
            ConnectError::new(format!("{} can't be used: {error}", path.display()))
        })?;
        let journal = Arc::new(Mutex::new(journal));
        let ids = connect.devices.iter().map(|device| device.id.clone()).collect();
        let (devices, devices_seen) = watch::channel(ids);
        let (end, ended) = watch::channel(None);
        let follow = follow(Arc::clone(&journal), devices_seen, connect.reports, settings.reports);
        let reading = tokio::spawn(async move {
            let reason = follow.await;
            end.send_replace(Some(reason.clone()));
            reason
        });
        let lots = AtomicU64::new(settings.seed ^ connect.epoch.rotate_left(32));
        let epoch = connect.epoch;
        Ok(Self { path, settings, epoch, journal, devices, lots, reading, ended })
    }

    /// Draws a lot: the same ones after each other for the same seed and epoch.
    fn happens(&self, probability: f64) -> bool {
        let drawn = self.lots.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
        f64::from(part) < probability * f64::from(u32::MAX)
    }

    async fn is_away(&self, device: &DeviceId) -> Result<bool, WriteError> {
        let mut journal = self.journal.lock().await;
        // What was read here is not reported twice: the follower compares with what it told.
        journal.read_on().await.map_err(|error| lost(&error.to_string()))?;
        Ok(journal.devices.get(device).is_some_and(|device| device.away))
    }

    /// What every hand-over begins with; `false` when it gets lost on the way. Nothing arrives
    /// after its time.
    async fn travel(&self, device: &DeviceId, until: Instant) -> Result<bool, WriteError> {
        tokio::time::sleep(Duration::from_millis(self.settings.latency_ms)).await;
        if until <= Instant::now() {
            let message = "its time was over before it arrived".to_owned();
            let kind = WriteErrorKind::Timeout;
            return Err(WriteError { may_have_acted: false, kind, message });
        }
        if self.is_away(device).await? {
            let message = "the device is away".to_owned();
            return Err(WriteError {
                may_have_acted: false,
                kind: WriteErrorKind::Offline,
                message,
            });
        }
        if self.happens(self.settings.refusal) {
            let message = "the device refuses, as it was set to".to_owned();
            return Err(WriteError {
                may_have_acted: false,
                kind: WriteErrorKind::Refused,
                message,
            });
        }
        Ok(!self.happens(self.settings.loss))
    }

    fn line(&self, device: &DeviceId, did: &str, sequence: u64) -> Object {
        let mut line = Object::new();
        line.insert("device", device.as_str());
        line.insert("did", did);
        line.insert("epoch", self.epoch);
        line.insert("sequence", sequence);
        line.insert("at_ms", wall_ms());
        line
    }

    async fn hand_over(&self, line: &Object) -> Result<Handed, WriteError> {
        append(&self.path, line).await.map_err(|error| lost(&error.to_string()))?;
        Ok(if self.settings.acknowledges { Handed::Acknowledged } else { Handed::Sent })
    }
}

fn lost(message: &str) -> WriteError {
    let message = format!("the journal can't be used: {message}");
    WriteError { may_have_acted: true, kind: WriteErrorKind::LinkLost, message }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Session for SimulatedSession {
    fn read<'a>(&'a self, read: &'a Read) -> BoxFuture<'a, Result<Reading, ReadError>> {
        async move {
            let failed = |kind, message: &str| Err(ReadError { kind, message: message.to_owned() });
            if !self.settings.readable {
                return failed(ReadErrorKind::Unsupported, "it can't be asked, as it was set to");
            }
            tokio::time::sleep(Duration::from_millis(self.settings.latency_ms)).await;
            let mut journal = self.journal.lock().await;
            if let Err(error) = journal.read_on().await {
                return failed(ReadErrorKind::LinkLost, &error.to_string());
            }
            let device = journal.devices.get(&read.device).cloned().unwrap_or_default();
            if device.away {
                return failed(ReadErrorKind::Offline, "the device is away");
            }
            Ok(Reading {
                values: device.values,
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
            if !self.travel(&write.device, write.deadline).await? {
                return Ok(Handed::Sent);
            }
            let mut line = self.line(&write.device, "write", write.sequence);
            line.insert("revision", write.revision.get());
            line.insert("values", write.values.clone());
            let handed = self.hand_over(&line).await?;
            if self.happens(self.settings.drift) {
                let mut line = self.line(&write.device, "drift", write.sequence);
                let nulls = write.values.iter().map(|(key, _)| (Arc::clone(key), Value::Null));
                line.insert("values", nulls.collect::<Object>());
                self.hand_over(&line).await?;
            }
            Ok(handed)
        }
        .boxed()
    }

    fn invoke<'a>(&'a self, invoke: &'a Invoke) -> BoxFuture<'a, Result<Handed, WriteError>> {
        async move {
            if !self.travel(&invoke.device, invoke.deadline).await? {
                return Ok(Handed::Sent);
            }
            let mut line = self.line(&invoke.device, "invoke", invoke.sequence);
            line.insert("action", invoke.action.as_ref());
            line.insert("args", invoke.args.clone());
            line.insert("request_id", invoke.request_id.to_string());
            if invoke.action.as_ref() == DIE {
                line.insert("availability", Availability::Offline.as_str());
            }
            self.hand_over(&line).await
        }
        .boxed()
    }

    fn devices_changed(&self, devices: Vec<DeviceSetup>) {
        self.devices.send_replace(devices.into_iter().map(|device| device.id).collect());
    }

    fn closed<'a>(&'a self) -> BoxFuture<'a, CloseReason> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(reason) => CloseReason::Lost(reason.clone().unwrap_or_default()),
                Err(_) => CloseReason::Lost("it was closed".to_owned()),
            }
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.reading.abort() }.boxed()
    }
}

impl Drop for SimulatedSession {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reports what the journal says of the devices, until it can't be read any more.
async fn follow(
    journal: Arc<Mutex<Journal>>,
    devices: watch::Receiver<BTreeSet<DeviceId>>,
    reports: Reports,
    tells: bool,
) -> String {
    let mut told = BTreeSet::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let mut news = BTreeMap::new();
        {
            let mut journal = journal.lock().await;
            if let Err(error) = journal.read_on().await {
                return format!("the journal can't be read: {error}");
            }
            let touched = std::mem::take(&mut journal.touched);
            let devices = devices.borrow();
            let fresh = devices.iter().filter(|device| !told.contains(*device));
            for device in touched.iter().filter(|device| devices.contains(*device)).chain(fresh) {
                let is = journal.devices.get(device).cloned().unwrap_or_default();
                news.insert(device.clone(), is);
            }
            told.clone_from(&devices);
        }
        for (device, is) in news {
            let availability = if is.away { Availability::Offline } else { Availability::Online };
            let values = if tells && !is.away { is.values } else { Object::new() };
            let mut heard = Observation::fresh(device, values);
            heard.availability = Some(availability);
            reports.send(heard).await;
        }
    }
}
