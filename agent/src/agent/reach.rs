//! How this node reaches the others: over NATS where it is used, over the mesh where that is on.
//!
//! One of the two is enough. What differs with a way missing is decided here and nowhere else:
//! without NATS nothing is preferred to the mesh, and nobody waits for a server; without a mesh
//! nobody knows that a process is gone before its silence tells.

use std::sync::Arc;

use fleet_consensus::View;
use fleet_protocol::Subjects;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Config, RaftConfig, TransportConfig};
use crate::consensus::MonotonicClock;
use crate::control::{LocalDoor, MeshSource, answer_joins};
use crate::device::connectors::nats::OpenNats;
use crate::mesh::{self, EventLoop, JoinAsk, MeshEvent, MeshHandle, MeshOut, MeshParts, Refusals};
use crate::metrics::Metrics;
use crate::nats::{ConnectError, Connection, ConnectionPlan, Prepared, follow_server, prepare};
use crate::storage::{DataDir, NodeFile};
use crate::transport::{
    ChoiceConfig, Inbox, InboxSender, MeshWay, NatsWay, WayMode, WayNews, WayParts, WaySwitch,
    Ways, inbox, meet, way_news,
};

/// Heartbeats that a node may stay silent on NATS while the mesh hears it.
const SILENT_HEARTBEATS: u64 = 2;
/// NATS is taken again after it has carried a node's frames for this long.
const NATS_BACK_MS: u64 = 1_000;
/// Messages that a subscription holds.
const SUBSCRIPTION_CAPACITY: usize = 16_384;
/// The same of what devices say, which are messages of up to a megabyte of whatever they like.
const DEVICE_SUBSCRIPTION_CAPACITY: usize = 512;
/// Publications that a client holds before it gives up (frames) or waits (replies).
const PUBLISH_CAPACITY: usize = 4_096;

/// What is opened before the consensus loop starts.
pub(super) struct Reach {
    /// The way out for frames.
    pub(super) wire: Ways,
    /// The way in for frames.
    pub(super) inbox: Inbox,
    /// Nodes whose process is known to be gone.
    pub(super) crashed: watch::Receiver<Refusals>,
    /// What is used once the loop runs.
    pub(super) rest: Rest,
}

/// What is used once the loop runs.
pub(super) struct Rest {
    /// Ends when frames over NATS can't be received any more.
    pub(super) receiving: JoinHandle<()>,
    /// What control tells of the others.
    pub(super) seen: MeshSource,
    /// Changes of ways.
    pub(super) switches: mpsc::Receiver<WaySwitch>,
    /// The connection for control.
    pub(super) control: Option<Connection>,
    /// Opens a connection for devices that speak NATS.
    pub(super) devices: Option<OpenNats>,
    /// The NATS servers, without secrets.
    pub(super) nats_urls: Vec<String>,
    frames: Option<Connection>,
    mesh: Option<Meshed>,
    subjects: Subjects,
}

struct Meshed {
    handle: MeshHandle,
    event_loop: EventLoop,
    joins: mpsc::Receiver<JoinAsk>,
}

/// Whose reach it is.
pub(super) struct Whose<'a> {
    pub(super) config: &'a Config,
    pub(super) dir: &'a DataDir,
    pub(super) file: &'a NodeFile,
    pub(super) clock: MonotonicClock,
    pub(super) metrics: Metrics,
}

impl Reach {
    /// Opens the ways that the configuration names. An unreachable NATS server is no error.
    pub(super) async fn open(whose: &Whose<'_>) -> anyhow::Result<Self> {
        let Whose { config, file, metrics, .. } = whose;
        let subjects = Subjects::new(&file.site);
        let (to_inbox, inbox) = inbox();
        let nats = connect_both(config, file, metrics).await?;
        let (frames, control, devices, nats_urls) = nats.map_or_else(Default::default, |nats| {
            (Some(nats.frames), Some(nats.control), Some(nats.devices), nats.urls)
        });
        let mesh = prepare_mesh(whose, to_inbox.clone())?;
        let (nats_way, receiving) = match &frames {
            None => (None, tokio::spawn(std::future::pending())),
            Some(frames) => {
                let (frames, metrics) = (frames.clone(), metrics.clone());
                let (way, receiving) =
                    NatsWay::open(frames, subjects.clone(), file.node, to_inbox, metrics).await?;
                (Some(way), receiving)
            }
        };
        let handle = mesh.as_ref().map(|mesh| mesh.handle.clone());
        let (teller, WayNews { table, switches }) = way_news();
        let wire = Ways::new(WayParts {
            config: choice_config(&config.raft, nats_way.is_some()),
            nats: nats_way,
            mesh: handle.as_ref().map(|handle| MeshWay::new(handle.lanes(), metrics.clone())),
            teller,
            metrics: metrics.clone(),
        });
        let crashed = handle
            .as_ref()
            .map_or_else(|| watch::channel(Arc::default()).1, MeshHandle::watch_crashed);
        let seen = MeshSource { mesh: handle, ways: table };
        let rest =
            Rest { receiving, seen, switches, control, devices, nats_urls, frames, mesh, subjects };
        Ok(Self { wire, inbox, crashed, rest })
    }
}

/// What is left to be run of the mesh.
pub(super) struct MeshRun {
    meshed: Meshed,
    /// Where the gateways tell each other over NATS where they are.
    meeting: Option<(Connection, String)>,
}

impl Rest {
    /// What is to run once there are views and a desk.
    pub(super) fn take_mesh(&mut self) -> Option<MeshRun> {
        let subject = self.subjects.mesh();
        let meeting = self.frames.take().map(|frames| (frames, subject));
        self.mesh.take().map(|meshed| MeshRun { meshed, meeting })
    }
}

impl MeshRun {
    /// Lets the mesh run, and answer what others ask.
    pub(super) fn start(
        self,
        view: watch::Receiver<Arc<View>>,
        door: LocalDoor,
        ways: &mut JoinSet<&'static str>,
    ) {
        let Meshed { handle, event_loop, joins } = self.meshed;
        ways.spawn(async move {
            event_loop.run(view).await;
            "the mesh"
        });
        ways.spawn(async move {
            answer_joins(joins, door).await;
            "the task that lets gateways join over the mesh"
        });
        if let Some((frames, subject)) = self.meeting {
            tokio::spawn(meet_over_nats(frames, subject, handle));
        }
    }
}

/// What is made of the settings for NATS.
struct Nats {
    frames: Connection,
    control: Connection,
    devices: OpenNats,
    urls: Vec<String>,
}

/// Both connections to NATS, frames on one of their own, and its servers; none where NATS is not
/// used.
async fn connect_both(
    config: &Config,
    file: &NodeFile,
    metrics: &Metrics,
) -> anyhow::Result<Option<Nats>> {
    if !config.nats.enabled {
        return Ok(None);
    }
    let prepared = Arc::new(prepare(&config.nats)?);
    let open =
        |purpose| connect(Arc::clone(&prepared), plan(file, metrics, purpose), metrics.clone());
    let frames = open("raft").await?;
    let control = open("control").await?;
    let urls = prepared.urls();
    // What this node tells devices must not come back to it as if somebody else had told it; and a
    // server that has nobody else to give it to then says that nobody listens.
    let plan = ConnectionPlan {
        echo: false,
        subscription_capacity: DEVICE_SUBSCRIPTION_CAPACITY,
        ..plan(file, metrics, "devices")
    };
    let metrics = metrics.clone();
    let devices: OpenNats =
        Arc::new(move || Box::pin(connect(Arc::clone(&prepared), plan.clone(), metrics.clone())));
    Ok(Some(Nats { frames, control, devices, urls }))
}

fn plan(file: &NodeFile, metrics: &Metrics, purpose: &'static str) -> ConnectionPlan {
    ConnectionPlan {
        name: format!("flotilla {} {} {purpose}", file.site, file.name),
        purpose,
        subscription_capacity: SUBSCRIPTION_CAPACITY,
        publish_capacity: PUBLISH_CAPACITY,
        echo: true,
        slow_consumers: metrics.slow_consumers(purpose),
    }
}

async fn connect(
    prepared: Arc<Prepared>,
    plan: ConnectionPlan,
    metrics: Metrics,
) -> Result<Connection, ConnectError> {
    let connection = prepared.connect(&plan).await?;
    let (client, state) = (connection.client.clone(), connection.state.clone());
    tokio::spawn(metrics.clone().follow_connection(plan.purpose, state.clone()));
    tokio::spawn(follow_server(client, state, plan.purpose, metrics));
    Ok(connection)
}

/// When the way to a node is changed. A heartbeat says what works, so it is the measure.
fn choice_config(raft: &RaftConfig, with_nats: bool) -> ChoiceConfig {
    ChoiceConfig {
        mode: match raft.transport {
            // Nothing is missed that was never there.
            TransportConfig::Auto if !with_nats => WayMode::Mesh,
            TransportConfig::Auto => WayMode::Auto,
            TransportConfig::Nats => WayMode::Nats,
            TransportConfig::Mesh => WayMode::Mesh,
        },
        silent_ms: raft
            .tick_ms
            .saturating_mul(u64::from(raft.heartbeat_ticks))
            .saturating_mul(SILENT_HEARTBEATS),
        back_ms: NATS_BACK_MS,
    }
}

fn prepare_mesh(whose: &Whose<'_>, inbox: InboxSender) -> anyhow::Result<Option<Meshed>> {
    let Whose { config, dir, file, clock, metrics } = whose;
    if !config.mesh.enabled {
        return Ok(None);
    }
    let (handle, MeshOut { events, joins }, event_loop) = mesh::new(MeshParts {
        config: config.mesh.clone(),
        site: file.site.clone(),
        uid: file.uid,
        node: file.node,
        boot: file.boot,
        sign_key: dir.identity()?.sign_key().clone(),
        data_dir: dir.path().to_owned(),
        inbox,
        clock: *clock,
        metrics: metrics.clone(),
    })?;
    tokio::spawn(log_mesh(events));
    Ok(Some(Meshed { handle, event_loop, joins }))
}

/// Who comes and goes on the mesh, for the log.
async fn log_mesh(mut events: mpsc::Receiver<MeshEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            MeshEvent::Listening(address) => tracing::debug!(address, "the mesh listens"),
            MeshEvent::Up(node) => tracing::info!(node = node.get(), "connected over the mesh"),
            MeshEvent::Down(node) => {
                tracing::info!(node = node.get(), "not connected over the mesh any more");
            }
        }
    }
}

/// Lets the gateways tell each other over NATS where they are.
async fn meet_over_nats(connection: Connection, subject: String, mesh: MeshHandle) {
    if let Err(error) = meet(connection, subject, mesh).await {
        tracing::warn!(%error, "the other gateways are not told where this one is");
    }
}
