//! The task that owns the swarm.
//!
//! It receives the swarm's events, new views of the replicated state and a tick, and calls one
//! function for each. It never waits for a consumer: frames go from readers to the inbox, what
//! is known goes into watch channels, and events are dropped when nobody takes them.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use fleet_consensus::View;
use fleet_state::{NodeId, SiteName, SiteUid};
use libp2p::futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use libp2p_stream::{Control, IncomingStreams};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::addresses::{Address, AddressError, AddressRules, parse};
use super::announce::Rendezvous;
use super::asks::Asks;
use super::behaviour::{Behaviour, DIAL_CONCURRENCY, IDLE_MAX, Names, limits};
use super::book::{Book, Source};
use super::dial::transport;
use super::echo::{self, Echo};
use super::frames::{Intake, accept};
use super::gate::Gate;
use super::gated::Gated;
use super::gone::{Lost, Refusals};
use super::handle::{MeshEvent, MeshHandle, MeshStatus};
use super::identity::keypair;
use super::joins::{self, Answerer, JoinAsk};
use super::lanes::LaneTable;
use super::local::Local;
use super::memory;
use super::peers::Peers;
use super::peers_file::PeersFile;
use super::presence::PresenceTable;
use super::roster::Roster;
use super::seeds::Seeds;
use crate::config::MeshConfig;
use crate::consensus::MonotonicClock;
use crate::metrics::Metrics;
use crate::transport::InboxSender;

/// Events that may wait for whoever takes them.
const EVENTS_MAX: usize = 256;
/// Joiners that may wait for control.
const JOINS_MAX: usize = 16;

/// What the mesh of a node is made from.
pub struct MeshParts {
    /// Section `[mesh]` of the configuration.
    pub config: MeshConfig,
    /// The site's name, part of every protocol name.
    pub site: SiteName,
    /// The site's uid, without which no connection comes about.
    pub uid: SiteUid,
    /// This node.
    pub node: NodeId,
    /// How often it was started.
    pub boot: u64,
    /// Its key.
    pub sign_key: SigningKey,
    /// Where what is known of others is kept.
    pub data_dir: PathBuf,
    /// Where frames go.
    pub inbox: InboxSender,
    /// The node's clock.
    pub clock: MonotonicClock,
    /// Counters.
    pub metrics: Metrics,
}

impl std::fmt::Debug for MeshParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Why the mesh could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// An address in the configuration.
    #[error("{key}: {address} can't be used: {reason}")]
    Address {
        /// The key.
        key: &'static str,
        /// The address.
        address: String,
        /// Why.
        reason: AddressError,
    },
    /// Listening failed.
    #[error(
        "mesh.listen: {address} can't be listened on: {reason}; choose another address or port"
    )]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A setting of the library.
    #[error("the mesh can't be set up: {0}")]
    Setup(String),
}

/// The swarm and everything that is known about its peers.
pub struct EventLoop {
    pub(super) swarm: Swarm<Gated>,
    pub(super) names: Names,
    pub(super) control: Control,
    pub(super) node: NodeId,
    pub(super) boot: u64,
    pub(super) rules: AddressRules,
    pub(super) bulk_bytes_per_second: u64,
    pub(super) roster: Roster,
    pub(super) book: Book,
    pub(super) seeds: Seeds,
    pub(super) peers: Peers,
    pub(super) presence: PresenceTable,
    pub(super) local: Local,
    pub(super) rendezvous: Rendezvous,
    pub(super) chores: Chores,
    pub(super) lanes: watch::Sender<LaneTable>,
    pub(super) status: watch::Sender<Arc<MeshStatus>>,
    pub(super) lost: Lost,
    pub(super) crashed: watch::Sender<Refusals>,
    pub(super) on_nats: watch::Receiver<bool>,
    pub(super) events: mpsc::Sender<MeshEvent>,
    pub(super) clock: MonotonicClock,
    pub(super) metrics: Metrics,
    pub(super) data_dir: PathBuf,
    /// Which peer is which node, for those who answer.
    nodes: watch::Sender<Arc<BTreeMap<PeerId, NodeId>>>,
    incoming: Option<Incoming>,
    answerer: Answerer,
    intake: Intake,
}

impl std::fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Streams that others open.
struct Incoming {
    urgent: IncomingStreams,
    paced: IncomingStreams,
    echoes: IncomingStreams,
    joins: IncomingStreams,
    guests: IncomingStreams,
}

/// What comes out of the mesh beside frames.
#[derive(Debug)]
pub struct MeshOut {
    /// What happens.
    pub events: mpsc::Receiver<MeshEvent>,
    /// Who asks to join.
    pub joins: mpsc::Receiver<JoinAsk>,
}

/// What is done now and then.
#[derive(Debug, Default)]
pub(super) struct Chores {
    /// Where this node listens.
    pub(super) listening: Vec<Multiaddr>,
    /// What was written to disk last.
    pub(super) kept: PeersFile,
    /// When all of it was looked at.
    pub(super) ticked_ms: u64,
    pub(super) keep_due_ms: u64,
    pub(super) beat_due_ms: u64,
    pub(super) beats: u64,
    pub(super) search_due_ms: u64,
    pub(super) status_due_ms: u64,
    /// How busy the machine was when this node told of itself last.
    pub(super) load_permille: u32,
    /// What this node says of itself, from the last view.
    pub(super) standing: Option<(fleet_consensus::NodeRole, u64, u64)>,
}

/// The mesh of a node: the handle for those who use it, what comes out, and the loop to be run.
///
/// # Errors
/// See [`MeshError`].
pub fn new(parts: MeshParts) -> Result<(MeshHandle, MeshOut, EventLoop), MeshError> {
    let setup = |error: &dyn std::fmt::Display| MeshError::Setup(error.to_string());
    let keypair = keypair(&parts.sign_key).ok_or_else(|| setup(&"the node's key is not valid"))?;
    let me = keypair.public().to_peer_id();
    let listen = addresses("mesh.listen", &parts.config.listen)?;
    let bootstrap = addresses("mesh.bootstrap", &parts.config.bootstrap)?;
    let rules = AddressRules::new(&listen, &bootstrap);
    let names = Names::new(&parts.site).map_err(|error| setup(&error))?;
    let members = Behaviour::new(&keypair, parts.node, &names).map_err(|error| setup(&error))?;
    let gate = Gate::new(memory::is_short, parts.clock, parts.metrics.clone());
    let behaviour = Gated::new(gate, limits(), members);
    let (rendezvous_handle, rendezvous) = Rendezvous::new(parts.uid, keypair.clone());
    let transport = transport(&keypair, parts.uid, rules).map_err(|error| setup(&error))?;
    let mut swarm = Swarm::new(transport, behaviour, me, swarm_config());
    let mut control = swarm.behaviour().members.frames.new_control();
    let mut guests = swarm.behaviour().guests_control();
    let incoming = Incoming {
        urgent: control.accept(names.urgent.clone()).map_err(|error| setup(&error))?,
        paced: control.accept(names.paced.clone()).map_err(|error| setup(&error))?,
        echoes: control.accept(names.echo.clone()).map_err(|error| setup(&error))?,
        joins: control.accept(names.join.clone()).map_err(|error| setup(&error))?,
        guests: guests.accept(names.join.clone()).map_err(|error| setup(&error))?,
    };
    let kept = PeersFile::load(&parts.data_dir);
    let book = first_book(me, rules, &kept, &bootstrap, parts.clock.now_ms());
    super::listening::listen(&mut swarm, &listen, parts.config.listen_is_default, &kept)?;
    let (lanes, lanes_seen) = watch::channel(LaneTable::default());
    let (status, status_seen) = watch::channel(Arc::default());
    let (crashed, crashed_seen) = watch::channel(Arc::default());
    let (on_nats, on_nats_seen) = watch::channel(false);
    let (events, events_out) = mpsc::channel(EVENTS_MAX);
    let (joins, joins_out) = mpsc::channel(JOINS_MAX);
    let (nodes, nodes_seen) = watch::channel(Arc::default());
    let answerer = Answerer { nodes: nodes_seen, joins, metrics: parts.metrics.clone() };
    let handle = MeshHandle {
        lanes: lanes_seen,
        status: status_seen,
        on_nats: Arc::new(on_nats),
        rendezvous: rendezvous_handle,
        crashed: crashed_seen,
        echo: Echo { control: control.clone(), protocol: names.echo.clone() },
        asks: Asks {
            control: control.clone(),
            protocol: names.asks.clone(),
            metrics: parts.metrics.clone(),
        },
    };
    let event_loop = EventLoop {
        swarm,
        names,
        control,
        node: parts.node,
        boot: parts.boot,
        rules,
        bulk_bytes_per_second: parts.config.bulk_bytes_per_second,
        roster: Roster::default(),
        book,
        seeds: Seeds::new(bootstrap),
        peers: Peers::default(),
        presence: PresenceTable::default(),
        local: Local::start(me, parts.config.mdns),
        rendezvous,
        chores: Chores { kept, ..Chores::default() },
        lanes,
        status,
        lost: Lost::default(),
        crashed,
        on_nats: on_nats_seen,
        events,
        clock: parts.clock,
        metrics: parts.metrics.clone(),
        data_dir: parts.data_dir,
        nodes,
        incoming: Some(incoming),
        answerer,
        intake: Intake { inbox: parts.inbox, metrics: parts.metrics, clock: parts.clock },
    };
    Ok((handle, MeshOut { events: events_out, joins: joins_out }, event_loop))
}

pub(super) fn swarm_config() -> swarm::Config {
    let concurrency = u8::try_from(DIAL_CONCURRENCY.get()).ok().and_then(NonZeroU8::new);
    swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_MAX)
        .with_dial_concurrency_factor(concurrency.unwrap_or(NonZeroU8::MIN))
}

pub(super) fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<Address>, MeshError> {
    let parse = |text: &String| {
        parse(text).map_err(|reason| MeshError::Address { key, address: text.clone(), reason })
    };
    texts.iter().map(parse).collect()
}

fn first_book(
    me: PeerId,
    rules: AddressRules,
    kept: &PeersFile,
    bootstrap: &[Address],
    now_ms: u64,
) -> Book {
    let mut book = Book::new(me);
    for (peer, addresses) in kept.peers() {
        for address in rules.filter(peer, addresses) {
            book.learn(peer, address, Source::Kept, now_ms);
        }
    }
    for seed in bootstrap {
        if let Some(peer) = seed.peer {
            book.learn(peer, seed.address.clone(), Source::Configured, now_ms);
        }
    }
    book
}

impl EventLoop {
    /// Runs until the consensus loop has ended, whose views are `view`.
    pub async fn run(mut self, mut view: watch::Receiver<Arc<View>>) {
        let mut tasks = JoinSet::new();
        if let Some(incoming) = self.incoming.take() {
            tasks.spawn(accept(incoming.urgent, incoming.paced, self.intake.clone()));
            tasks.spawn(echo::answer(incoming.echoes, self.metrics.clone()));
            let answerer = self.answerer.clone();
            tasks.spawn(joins::answer(incoming.joins, answerer.clone()));
            tasks.spawn(joins::answer(incoming.guests, answerer));
        }
        let first = view.borrow_and_update().clone();
        self.on_view(&first);
        loop {
            let until_tick = self.until_tick();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                changed = view.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let view = view.borrow_and_update().clone();
                    self.on_view(&view);
                }
                heard = self.rendezvous.next() => self.on_announcement(&heard),
                found = self.local.next() => self.on_found(found),
                () = tokio::time::sleep(until_tick) => self.on_tick(),
            }
        }
        self.keep(u64::MAX);
    }

    /// The replicated state says who is a member.
    fn on_view(&mut self, view: &View) {
        let standing = &view.standing;
        let role_changed = self
            .chores
            .standing
            .is_none_or(|(role, term, _)| (role, term) != (standing.role, standing.term));
        self.chores.standing = Some((standing.role, standing.term, view.applied.get()));
        if role_changed {
            self.chores.beat_due_ms = 0;
        }
        if self.roster.agrees_with(view) {
            return;
        }
        let roster = Roster::of(view, self.node);
        let now_ms = self.clock.now_ms();
        self.swarm.behaviour_mut().set_policy(roster.policy());
        self.nodes.send_replace(Arc::new(roster.by_peer()));
        let nodes: Vec<NodeId> = roster.peers().map(|(_, node)| node).collect();
        self.presence.set_members(&nodes, now_ms);
        self.rendezvous.retain(|node| nodes.contains(&node));
        if roster.is_known() {
            self.book.retain(|peer| roster.node_of(peer).is_some());
            self.lost.retain(|peer| roster.node_of(peer).is_some());
            self.forget_removed(&roster);
        }
        tracing::debug!(members = nodes.len(), "members of the mesh changed");
        self.roster = roster;
        self.rename_peers(now_ms);
        self.chores.search_due_ms = now_ms;
        self.chores.status_due_ms = 0;
    }

    /// Tells whoever listens; nobody has to.
    pub(super) fn tell(&self, event: MeshEvent) {
        let _dropped = self.events.try_send(event);
    }

    /// The nodes that frames can be sent to, anew.
    pub(super) fn publish_lanes(&self) {
        let table: BTreeMap<_, _> = self.peers.lanes().collect();
        self.metrics.mesh_nodes.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        self.lanes.send_replace(Arc::new(table));
    }
}
