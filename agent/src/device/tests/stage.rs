//! A connector that does what a test tells it to, and remembers what it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet_state::{DeviceId, Object};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::device::connector::{
    Access, CloseReason, Connect, ConnectError, Connector, DeviceSetup, Fence, Handed, Invoke,
    LinkSetup, Profile, Quality, Read, ReadError, Reading, Refusal, Session, Write, WriteError,
};

/// The word that links to it are registered with.
pub(super) const KIND: &str = "stage";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happened, and what is held back.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Connecting waits.
    pub(super) hold_connect: bool,
    /// Reads wait.
    pub(super) hold_reads: bool,
    /// One-shots wait.
    pub(super) hold_invokes: bool,
    /// Calls of these names panic.
    pub(super) panics: BTreeSet<&'static str>,
    /// When connecting began, each time.
    pub(super) connecting: Vec<Instant>,
    /// Connecting that began, ended, and was given up.
    pub(super) connects: (u32, u32, u32),
    /// The setups that the session knows now.
    pub(super) known: BTreeMap<DeviceId, DeviceSetup>,
    /// Reads that began.
    pub(super) reads: u32,
    /// Those under way, and the most that were for one device at a time.
    pub(super) reading: BTreeMap<DeviceId, u32>,
    pub(super) reading_max: u32,
    /// One-shots that began.
    pub(super) invokes: u32,
    /// Sessions that were closed in order.
    pub(super) closes: u32,
}

/// The connector, and the test's view of it.
#[derive(Clone, Debug)]
pub(super) struct Stage(Arc<watch::Sender<Seen>>);

impl Stage {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::channel(Seen::default()).0))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Seen)) {
        self.0.send_modify(change);
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.0.subscribe();
        // Cloned at once: who holds the value and borrows it again waits for ever when somebody
        // wants to write in between.
        let found = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| wanted(seen)))
            .await
            .map(|found| found.expect("the sender lives as long as this connector").clone());
        found.unwrap_or_else(|_elapsed| unreachable!("{what}: {:?}", self.0.borrow()))
    }

    /// Panics if it was set to.
    fn act(&self, call: &str) {
        let panics = self.0.borrow().panics.contains(call);
        assert!(!panics, "it was set to, in {call}");
    }

    async fn wait(&self, held: impl Fn(&Seen) -> bool) {
        let mut seen = self.0.subscribe();
        // The sender lives as long as this connector.
        let _free = seen.wait_for(|seen| !held(seen)).await;
    }
}

/// Does something when it is dropped.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Connector for Stage {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn check_link(&self, _link: &LinkSetup) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_device(&self, _link: &LinkSetup, device: &DeviceSetup) -> Result<Profile, Refusal> {
        assert!(device.settings.get("panics").is_none(), "it was set to");
        if device.settings.get("refused").is_some() {
            return Err(Refusal::new("settings.refused", "it was set to"));
        }
        Ok(Profile {
            properties: BTreeMap::new(),
            others: Some(Access::Desired),
            actions: None,
            fence: Fence::Lease,
            warnings: Vec::new(),
        })
    }

    fn connect<'a>(
        &'a self,
        connect: Connect,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, ConnectError>> {
        async move {
            self.change(|seen| {
                seen.connects.0 += 1;
                seen.connecting.push(Instant::now());
            });
            self.act("connect");
            let done = Mutex::new(false);
            let _end = AtEnd(|| {
                let done = *done.lock().unwrap_or_else(PoisonError::into_inner);
                self.change(|seen| seen.connects.2 += u32::from(!done));
            });
            self.wait(|seen| seen.hold_connect).await;
            *done.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.change(|seen| {
                seen.connects.1 += 1;
                seen.known = known(connect.devices);
            });
            Ok(Box::new(Scene { stage: self.clone(), _connect: connect.reports })
                as Box<dyn Session>)
        }
        .boxed()
    }
}

fn known(devices: Vec<DeviceSetup>) -> BTreeMap<DeviceId, DeviceSetup> {
    devices.into_iter().map(|device| (device.id.clone(), device)).collect()
}

struct Scene {
    stage: Stage,
    _connect: crate::device::connector::Reports,
}

impl Session for Scene {
    fn read<'a>(&'a self, read: &'a Read) -> BoxFuture<'a, Result<Reading, ReadError>> {
        async move {
            self.stage.change(|seen| {
                seen.reads += 1;
                let reading = seen.reading.entry(read.device.clone()).or_default();
                *reading += 1;
                seen.reading_max = seen.reading_max.max(*reading);
            });
            let _end = AtEnd(|| {
                self.stage
                    .change(|seen| *seen.reading.entry(read.device.clone()).or_default() -= 1);
            });
            self.stage.act("read");
            self.stage.wait(|seen| seen.hold_reads).await;
            Ok(Reading {
                values: Object::new(),
                quality: Quality::Good,
                source_ms: None,
                problem: None,
                complete: true,
            })
        }
        .boxed()
    }

    fn write<'a>(&'a self, _write: &'a Write) -> BoxFuture<'a, Result<Handed, WriteError>> {
        async {
            self.stage.act("write");
            Ok(Handed::Acknowledged)
        }
        .boxed()
    }

    fn invoke<'a>(&'a self, _invoke: &'a Invoke) -> BoxFuture<'a, Result<Handed, WriteError>> {
        async move {
            self.stage.change(|seen| seen.invokes += 1);
            self.stage.act("invoke");
            self.stage.wait(|seen| seen.hold_invokes).await;
            Ok(Handed::Acknowledged)
        }
        .boxed()
    }

    fn devices_changed(&self, devices: Vec<DeviceSetup>) {
        self.stage.act("devices_changed");
        self.stage.change(|seen| seen.known = known(devices));
    }

    fn closed<'a>(&'a self) -> BoxFuture<'a, CloseReason> {
        async {
            self.stage.wait(|seen| !seen.panics.contains("closed")).await;
            self.stage.act("closed");
            CloseReason::Lost("it need not panic any more".to_owned())
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.stage.change(|seen| seen.closes += 1);
            self.stage.act("close");
        }
        .boxed()
    }
}
