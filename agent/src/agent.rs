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

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use fleet_consensus::{Fault, ReplicaConfig};
use fleet_protocol::door::DOOR_SOCKET;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
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
/// How long a drain may take before the process ends anyway.
const DRAIN_MAX: Duration = Duration::from_secs(8);
/// How long a request under way may take while draining.
const DRAIN_INTAKE_MAX: Duration = Duration::from_secs(5);

/// What runs.
struct Running {
    handle: Handle,
    consensus: JoinHandle<Result<(), Fault>>,
    receiving: tokio::task::JoinHandle<()>,
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
        reason = running.control.failed() => Some(anyhow!(reason)),
        reason = consensus_ended(&running.consensus) => Some(reason),
        _ = &mut running.receiving => Some(anyhow!("the task that receives frames has ended")),
    };
    if let Some(reason) = ended {
        return Err(fault_of(running.consensus, reason, dir.path()));
    }
    tracing::info!("told to stop; draining (a second signal stops at once)");
    tokio::select! {
        drained = drain(running, dir.path()) => drained,
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
    let client = rest.control.as_ref().map(|connection| connection.client.clone());
    let connectors =
        Connectors::all(NatsConnector::new(client), config.devices.simulated_dir.clone());
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
    if let Some(mesh) = mesh {
        mesh.start(handle.watch_view(), control.local_door());
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
    let receiving = rest.receiving;
    Ok(Running { handle, consensus, receiving, control, devices, door, http, stopping })
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
async fn consensus_ended(thread: &JoinHandle<Result<(), Fault>>) -> anyhow::Error {
    let mut look = tokio::time::interval(Duration::from_millis(50));
    loop {
        look.tick().await;
        if thread.is_finished() {
            return anyhow!("the consensus loop has ended");
        }
    }
}

/// The fault behind the end of the loop, if it is what ended.
fn fault_of(
    thread: JoinHandle<Result<(), Fault>>,
    otherwise: anyhow::Error,
    data_dir: &Path,
) -> anyhow::Error {
    if !thread.is_finished() {
        return otherwise;
    }
    match thread.join() {
        Ok(Ok(())) => otherwise,
        Ok(Err(fault)) => noted(fault, data_dir),
        Err(_) => anyhow!("the consensus loop panicked; the log above says where"),
    }
}

/// A fault that a restart can't mend keeps this directory from being started again.
fn noted(fault: Fault, data_dir: &Path) -> anyhow::Error {
    if fault.is_final()
        && let Err(error) = quarantine::set(data_dir, &fault.to_string())
    {
        tracing::error!(%error, "the quarantine could not be written down; do not restart this node");
    }
    fault.into()
}

async fn drain(running: Running, data_dir: &Path) -> anyhow::Result<()> {
    let Running { handle, consensus, receiving: _, control, devices, door, http, stopping } =
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
        Ok(Ok(Ok(Err(fault)))) => Err(noted(fault, data_dir)),
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
