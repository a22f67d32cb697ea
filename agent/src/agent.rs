//! The composition root of a running agent: what starts in which order, and what ends in which.
//!
//! Start: lock, node file (the boot counter grows on disk before anything is said in its name),
//! keys, log and snapshots with replay, the ways to the others (`reach`), the loop, intake, the
//! mesh, the local door, health. Nothing is left half started: an error anywhere ends the process with its reason.
//!
//! End (SIGTERM, Ctrl-C): leadership is handed over and intake stops while the waiting are
//! answered; the log is synced; exit 0. A second signal exits at once. A core task that ends by
//! itself ends the process with its reason.

mod reach;

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use fleet_consensus::{Fault, ReplicaConfig};
use fleet_protocol::door::DOOR_SOCKET;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{Config, RaftConfig, SocketPlace};
use crate::consensus::{self, AgentReplica, Handle, LoopParts, MonotonicClock, OpenNotes};
use crate::control::{self, ControlContext, ControlHandle, NodeFacts, SnapshotFile, SnapshotList};
use crate::device::connectors::Connectors;
use crate::device::connectors::nats::NatsConnector;
use crate::device::local::LocalHandle;
use crate::device::{self, DeviceContext, DeviceHandle, Lookout, LookoutParts, ObservedTable};
use crate::http::door::{self, DoorConfig, DoorServer};
use crate::http::{self, HttpContext, HttpServer};
use crate::metrics::Metrics;
use crate::site;
use crate::storage::{DataDir, NodeFile, SpaceConfig, SpaceGuard, quarantine, store_site_key};
use reach::{Reach, Whose};

/// Where a node keeps the credentials of its links, in its data directory.
const LINK_SECRETS: &str = "link-secrets";
/// What is left of the budgets of registers that wear out.
const REGISTER_WRITES: &str = "register-writes";
/// How long a drain may take before the process ends anyway.
const DRAIN_MAX: Duration = Duration::from_secs(8);
/// How long a loop that ends with a fault may take to say so.
const FAULT_WAIT: Duration = Duration::from_secs(2);
/// How long a request under way may take while draining.
const DRAIN_INTAKE_MAX: Duration = Duration::from_secs(5);

/// What runs.
struct Running {
    handle: Handle,
    consensus: JoinHandle<Result<(), Fault>>,
    /// Frames and the mesh, each with its name: none of them ends before the process does.
    ways: JoinSet<&'static str>,
    control: ControlHandle,
    devices: DeviceHandle,
    door: DoorServer,
    http: Option<HttpServer>,
    stopping: watch::Sender<bool>,
}

/// Runs the agent of the node in `config.node.data_dir` until it is told to stop.
///
/// # Errors
/// Why it could not start, or what ended it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let (dir, mut file) = DataDir::open_existing(&config.node.data_dir)?;
    if let Some(reason) = quarantine::reason(dir.path()) {
        bail!("{} is in quarantine: {reason}", dir.path().display());
    }
    check_expectations(&config, &file)?;
    file.boot += 1;
    dir.write_node(&file)?;
    let mut signals = Signals::new()?;
    tracing::info!(
        site = %file.site,
        uid = %file.uid,
        node = file.node.get(),
        name = %file.name,
        boot = file.boot,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let mut running = start(&config, &dir, &file).await?;
    let ended = tokio::select! {
        () = signals.first() => None,
        reason = running.failed() => Some(reason),
    };
    if let Some(reason) = ended {
        return Err(fault_of(running, reason).await);
    }
    tracing::info!("told to stop; draining (a second signal stops at once)");
    tokio::select! {
        drained = drain(running) => drained,
        () = signals.first() => bail!("stopped at once by a second signal"),
    }
}

/// The data directory is the authority; what the configuration expects must agree with it.
fn check_expectations(config: &Config, file: &NodeFile) -> anyhow::Result<()> {
    if let Some(expected) = config.site.name.as_ref().filter(|name| **name != file.site) {
        bail!(
            "site.name is {expected}, but {} belongs to site {}; correct the configuration or the directory",
            config.node.data_dir.display(),
            file.site
        );
    }
    Ok(())
}

/// The settings of a node's replica.
fn replica_config(raft: &RaftConfig, file: &NodeFile) -> ReplicaConfig {
    let ticks = |ticks: u32| usize::try_from(ticks).unwrap_or(usize::MAX);
    ReplicaConfig {
        tick_ms: raft.tick_ms,
        heartbeat_ticks: ticks(raft.heartbeat_ticks),
        election_ticks_min: ticks(raft.election_ticks_min),
        election_ticks_max: ticks(raft.election_ticks_max),
        snapshot_every_entries: raft.snapshot_every_entries,
        snapshot_every_bytes: raft.snapshot_every_bytes,
        log_trailing_entries: raft.log_trailing_entries,
        log_bytes_max: raft.log_bytes_max,
        ..ReplicaConfig::new(file.node, file.uid)
    }
}

async fn start(config: &Config, dir: &DataDir, file: &NodeFile) -> anyhow::Result<Running> {
    let clock = MonotonicClock::start();
    let metrics = Metrics::new();
    let mut parts = site::parts(dir, file, replica_config(&config.raft, file))?;
    parts.log_disk = parts.log_disk.counted(metrics.log_disk.clone());
    parts.snapshot_disk = parts.snapshot_disk.counted(metrics.snapshot_disk.clone());
    let (replica, notes) = AgentReplica::open(parts, clock)?;
    say(&notes);

    let whose = Whose { config, dir, file, clock, metrics: metrics.clone() };
    let Reach { wire, inbox, crashed, mut rest } = Reach::open(&whose).await?;
    let loop_parts = LoopParts {
        wire,
        inbox,
        clock,
        tick_ms: config.raft.tick_ms,
        snapshot_dir: dir.snapshot_path(),
        data_dir: dir.path().to_owned(),
        store_site_key,
        space: SpaceGuard::new(dir.path(), SpaceConfig::default()),
        crashed,
        metrics: metrics.clone(),
    };
    let (handle, consensus) =
        consensus::start(replica, loop_parts).context("the consensus loop could not be started")?;
    let nats = NatsConnector::new(rest.devices.take());
    let wear = dir.path().join(REGISTER_WRITES);
    let connectors = Connectors::all(nats, wear, config.devices.simulated_dir.clone());
    let observed = ObservedTable::default();
    let local =
        device::local::start(dir.path().to_owned(), file.uid, file.node, metrics.devices.clone());
    let parts = (&connectors, &observed, &local, &metrics);
    let (devices, lookout) = southbound(&handle, file, dir, parts);
    let mesh = rest.take_mesh();
    let control = control::start(ControlContext {
        nats: rest.control,
        handle: handle.clone(),
        node: facts(file),
        snapshots: snapshot_list(dir),
        mesh: rest.seen,
        switches: rest.switches,
        observed,
        local,
        connectors,
        lookout,
        metrics: metrics.clone(),
    });
    let mut ways = JoinSet::new();
    let receiving = rest.receiving;
    ways.spawn(async move {
        let _ended = receiving.await;
        "the task that receives frames"
    });
    if let Some(mesh) = mesh {
        mesh.start(handle.watch_view(), control.local_door(), &mut ways);
    }
    let door = door_config(config, dir, rest.nats_urls);
    let door = door::open(door, control.local_door()).await?;
    let (stopping, stopping_seen) = watch::channel(false);
    let http = match config.http.listen {
        None => None,
        Some(address) => {
            let context = HttpContext { handle: handle.clone(), metrics, stopping: stopping_seen };
            let server = http::start(address, context).await;
            Some(server.with_context(|| format!("http.listen = {address} can't be used"))?)
        }
    };
    Ok(Running { handle, consensus, ways, control, devices, door, http, stopping })
}

impl Running {
    /// Waits until something has ended without which the agent would only seem to live.
    async fn failed(&mut self) -> anyhow::Error {
        let http = async {
            match &mut self.http {
                Some(http) => http.failed().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            Some(ended) = self.ways.join_next() => match ended {
                Ok(name) => format!("{name} has ended"),
                Err(error) => format!("a task of the ways to other nodes failed: {error}"),
            },
            reason = consensus_ended(&self.handle) => return reason,
            reason = self.control.failed() => reason,
            reason = self.devices.failed() => reason,
            reason = self.door.failed() => reason,
            reason = http => reason,
        };
        anyhow!(ended)
    }
}

/// What drives the links of this node, and what looks along them.
fn southbound(
    handle: &Handle,
    file: &NodeFile,
    dir: &DataDir,
    (connectors, observed, local, metrics): (&Connectors, &ObservedTable, &LocalHandle, &Metrics),
) -> (DeviceHandle, Lookout) {
    let secrets_dir = dir.path().join(LINK_SECRETS);
    let devices = device::start(DeviceContext {
        handle: handle.clone(),
        node: file.node,
        name: file.name.clone(),
        boot: file.boot,
        site: file.site.clone(),
        secrets_dir: secrets_dir.clone(),
        connectors: connectors.clone(),
        observed: observed.clone(),
        local: local.clone(),
        metrics: metrics.devices.clone(),
    });
    let lookout = Lookout::new(LookoutParts {
        handle: handle.clone(),
        node: file.node,
        name: file.name.clone(),
        site: file.site.clone(),
        secrets_dir,
        connectors: connectors.clone(),
        observed: observed.clone(),
    });
    (devices, lookout)
}

fn door_config(config: &Config, dir: &DataDir, nats_urls: Vec<String>) -> DoorConfig {
    let socket = match &config.http.socket {
        SocketPlace::DataDir => Some(dir.path().join(DOOR_SOCKET)),
        SocketPlace::At(path) => Some(path.clone()),
        SocketPlace::Off => None,
    };
    DoorConfig { socket, address: config.http.door, nats_urls }
}

fn facts(file: &NodeFile) -> NodeFacts {
    NodeFacts {
        site: file.site.clone(),
        uid: file.uid,
        id: file.node,
        name: file.name.clone(),
        boot: file.boot,
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// The complete snapshots of this node, newest first.
fn snapshot_list(dir: &DataDir) -> SnapshotList {
    let path = dir.snapshot_path();
    SnapshotList::new(move || {
        let disk = crate::storage::RealDisk::open(&path)?;
        let names = fleet_consensus::snapshot_store::SnapshotStore::new(disk).names()?;
        names
            .into_iter()
            .map(|(index, term, name)| {
                let path = path.join(name);
                let size_bytes = std::fs::metadata(&path)?.len();
                Ok(SnapshotFile { index, term, path, size_bytes })
            })
            .collect()
    })
}

/// What was found on disk that an operator should know.
fn say(notes: &OpenNotes) {
    if let Some(cut) = &notes.recovery.cut {
        tracing::warn!(
            file = cut.file,
            offset = cut.offset,
            size_bytes = cut.size_bytes,
            last_index = cut.last_index,
            reason = cut.reason,
            "the end of the log was damaged, as after a power cut, and was cut off"
        );
    }
    for name in &notes.damaged_snapshots {
        tracing::error!(
            file = name,
            "a snapshot is damaged; it was renamed and an older one is used"
        );
    }
}

/// Ends when the loop has ended, which it should only do in a drain.
async fn consensus_ended(handle: &Handle) -> anyhow::Error {
    let mut leads = handle.watch_leads();
    while leads.changed().await.is_ok() {}
    anyhow!("the consensus loop has ended")
}

/// The fault behind the end of the loop, if it is what ended. A loop that is about to end takes
/// other tasks with it, so it gets a moment.
async fn fault_of(running: Running, otherwise: anyhow::Error) -> anyhow::Error {
    let Running { handle, consensus, .. } = running;
    if tokio::time::timeout(FAULT_WAIT, consensus_ended(&handle)).await.is_err() {
        return otherwise;
    }
    match consensus.join() {
        Ok(Ok(())) => otherwise,
        Ok(Err(fault)) => fault.into(),
        Err(_) => anyhow!("the consensus loop panicked; the log above says where"),
    }
}

async fn drain(running: Running) -> anyhow::Result<()> {
    let Running { handle, consensus, ways: _ways, control, devices, door, http, stopping } =
        running;
    stopping.send_replace(true);
    let started = Instant::now();
    // What was taken in is still decided; what comes from now on goes to other agents.
    // Links are given back while the log still decides, so that others need not wait.
    devices.drain().await;
    control.drain(started + DRAIN_INTAKE_MAX).await;
    handle.drain(started + DRAIN_MAX).await;
    door.close().await;
    if let Some(http) = http {
        http.close().await;
    }
    let joined = tokio::task::spawn_blocking(move || consensus.join());
    match tokio::time::timeout(DRAIN_MAX, joined).await {
        Ok(Ok(Ok(Ok(())))) => {
            tracing::info!(took_ms = millis(started.elapsed()), "stopped");
            Ok(())
        }
        Ok(Ok(Ok(Err(fault)))) => Err(fault.into()),
        Ok(_) => bail!("the consensus loop panicked; the log above says where"),
        Err(_) => bail!("the consensus loop did not end in time"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals can't be received");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn first(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
