//! One gateway with a real log and simulated devices, in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_consensus::frame::Class;
use fleet_consensus::{ReplicaConfig, Routes, View, Wire};
use fleet_state::{
    Command, DeviceId, DeviceSpec, LinkSpec, Mode, NodeId, Object, Outcome, Placement, Proposal,
    RequestId, Revision, Value,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::consensus::{self, AgentReplica, Handle, LoopParts, MonotonicClock, Submitted};
use crate::device::connectors::Connectors;
use crate::device::local::LocalHandle;
use crate::device::{self, DeviceContext, DeviceHandle, DeviceMetrics, ObservedTable};
use crate::metrics::Metrics;
use crate::site::{FoundRequest, found, parts};
use crate::storage::{DataDir, SpaceConfig, SpaceGuard, store_site_key};
use crate::transport::inbox;

/// How long anything may take in a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// No way to anybody.
struct NoWay;

impl Wire for NoWay {
    fn routes(&mut self, _to: NodeId, _class: Class, _now_ms: u64) -> Routes {
        Routes::NONE
    }

    fn send(&mut self, _route: fleet_consensus::frame::Route, _frame: Bytes) -> bool {
        false
    }
}

/// A gateway.
pub(super) struct Hall {
    pub(super) handle: Handle,
    pub(super) observed: ObservedTable,
    pub(super) metrics: DeviceMetrics,
    pub(super) local: LocalHandle,
    pub(super) dir: tempfile::TempDir,
    devices: Option<DeviceHandle>,
    connectors: Connectors,
    next: u64,
}

/// Reads an object.
pub(super) fn object(text: &str) -> Object {
    let value = Value::parse(text.as_bytes(), fleet_state::Limits::default()).expect("JSON");
    value.as_map().expect("an object").clone()
}

impl Hall {
    pub(super) fn new(connectors: Connectors) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("a data directory");
        let request = FoundRequest {
            site: "hall".parse().expect("a name"),
            name: "gw1".parse().expect("a name"),
            voters: 1,
            token_uses: 1,
            token_ttl_ms: 60_000,
            nats_urls: Vec::new(),
            mesh: crate::config::MeshConfig {
                enabled: false,
                listen: Vec::new(),
                listen_is_default: false,
                bootstrap: Vec::new(),
                mdns: false,
                bulk_bytes_per_second: 1 << 20,
            },
        };
        found(&data, &request).expect("a site");
        let mut file = data.node().expect("a node file").expect("one");
        file.boot += 1;
        let mut config = ReplicaConfig::new(file.node, file.uid);
        config.tick_ms = 5;
        let clock = MonotonicClock::start();
        let parts = parts(&data, &file, config).expect("parts");
        let (replica, _) = AgentReplica::open(parts, clock).expect("a replica");
        let (_, inbox) = inbox();
        let loop_parts = LoopParts {
            wire: NoWay,
            inbox,
            clock,
            tick_ms: 5,
            snapshot_dir: data.snapshot_path(),
            data_dir: data.path().to_owned(),
            store_site_key,
            space: SpaceGuard::new(data.path(), SpaceConfig::default()),
            crashed: watch::channel(Arc::default()).1,
            metrics: Metrics::new(),
        };
        let (handle, _) = consensus::start(replica, loop_parts).expect("a loop");
        let metrics = DeviceMetrics::default();
        let local_dir = data.path().to_owned();
        let local = device::local::start(local_dir, file.uid, file.node, metrics.clone());
        let mut hall = Self {
            handle,
            observed: ObservedTable::default(),
            metrics,
            local,
            dir,
            devices: None,
            connectors,
            next: 0,
        };
        hall.start();
        hall
    }

    /// Starts the southbound side, as a new process would.
    pub(super) fn start(&mut self) {
        self.devices = Some(device::start(DeviceContext {
            handle: self.handle.clone(),
            node: NodeId::FOUNDER,
            name: "gw1".parse().expect("a name"),
            boot: 1,
            site: "hall".parse().expect("a name"),
            secrets_dir: self.dir.path().to_owned(),
            connectors: self.connectors.clone(),
            observed: self.observed.clone(),
            local: self.local.clone(),
            metrics: self.metrics.clone(),
        }));
    }

    /// Ends it as a crash would.
    pub(super) fn crash(&mut self) {
        self.devices = None;
    }

    /// Ends it in order.
    pub(super) async fn drain(&mut self) {
        self.devices.take().expect("it runs").drain().await;
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.dir.path().join("plant.journal")
    }

    pub(super) async fn command(&mut self, command: Command) -> Revision {
        self.next += 1;
        let request_id: RequestId = format!("test-{}", self.next).parse().expect("an id");
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        match self.handle.submit(proposal, Instant::now() + PATIENCE).await {
            Submitted::Decided(answer) => {
                assert!(!matches!(answer.outcome, Outcome::Rejected(_)), "{:?}", answer.outcome);
                answer.revision
            }
            other @ (Submitted::Busy { .. }
            | Submitted::NoLeader
            | Submitted::Unknown
            | Submitted::Stopping) => unreachable!("{other:?}"),
        }
    }

    /// The request id that the last command had.
    pub(super) fn last_request(&self) -> RequestId {
        format!("test-{}", self.next).parse().expect("an id")
    }

    pub(super) async fn link(&mut self, settings: &str) {
        let address = self.journal().display().to_string();
        self.link_of("simulated", &address, settings).await;
    }

    pub(super) async fn link_of(&mut self, connector: &str, address: &str, settings: &str) {
        self.link_named("plant", connector, address, settings).await;
    }

    pub(super) async fn link_named(
        &mut self,
        id: &str,
        connector: &str,
        address: &str,
        settings: &str,
    ) {
        let spec = LinkSpec {
            connector: Arc::from(connector),
            address: Arc::from(address),
            placement: Placement::Any { labels: Default::default() },
            name: Arc::from(""),
            labels: Default::default(),
            settings: object(settings),
        };
        self.command(Command::LinkRegister { id: id.parse().expect("an id"), spec }).await;
    }

    pub(super) async fn device(&mut self, id: &str, mode: Mode) {
        let spec = DeviceSpec { link: Some("plant".parse().expect("an id")), ..Default::default() };
        let id: DeviceId = id.parse().expect("an id");
        self.command(Command::DeviceRegister { id: id.clone(), spec }).await;
        if mode != Mode::Observe {
            self.command(Command::DeviceMode { id, mode }).await;
        }
    }

    pub(super) async fn set(&mut self, id: &str, patch: &str, ttl_ms: Option<u64>) -> Revision {
        let (id, patch) = (id.parse().expect("an id"), object(patch));
        self.command(Command::DeviceUpdate { id, patch, ttl_ms }).await
    }

    /// Waits until the view is as `wanted`.
    pub(super) async fn until(&self, what: &str, mut wanted: impl FnMut(&View) -> bool) {
        let mut views = self.handle.watch_view();
        let seen = views.wait_for(|view| wanted(view));
        assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok(), "{what}\n{}", self.lines());
    }

    /// Waits until what is observed of a device is as `wanted`.
    pub(super) async fn until_observed(&self, id: &str, wanted: impl Fn(&Object) -> bool) {
        let id: DeviceId = id.parse().expect("an id");
        let is_so = || self.observed.device(&id).is_some_and(|known| wanted(&known.body));
        let mut followed = self.observed.follow();
        let wait = async {
            while !is_so() {
                let _next = followed.recv().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(in_time, "{:?}", self.observed.device(&id));
    }

    pub(super) async fn until_verified(&self, id: &str, revision: Revision) {
        let id: DeviceId = id.parse().expect("an id");
        let verified = |view: &View| {
            view.state.watermarks(&id).is_some_and(|marks| marks.verified >= revision)
        };
        self.until("it is not verified", verified).await;
    }

    fn lines(&self) -> String {
        std::fs::read_to_string(self.journal()).unwrap_or_default()
    }

    /// What was done to a device, as its journal says: `write` lines and the like.
    pub(super) fn done(&self, id: &str, did: &str) -> Vec<Object> {
        let lines = self.lines();
        let objects = lines.lines().map(object);
        objects
            .filter(|line| line.get("device").and_then(Value::as_text) == Some(id))
            .filter(|line| line.get("did").and_then(Value::as_text) == Some(did))
            .collect()
    }

    /// Writes a line into the journal, as a local hand does.
    pub(super) fn happens(&self, line: &str) {
        append(&self.journal(), line);
    }
}

fn append(path: &Path, line: &str) {
    use std::io::Write;
    let mut file =
        std::fs::OpenOptions::new().append(true).create(true).open(path).expect("a file");
    writeln!(file, "{line}").expect("a line");
}
