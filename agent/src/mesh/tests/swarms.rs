//! Nodes for the tests: an event loop each, and a replicated state that the test edits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use fleet_consensus::frame::Class;
use fleet_consensus::status::Standing;
use fleet_consensus::{NodeRole, View};
use fleet_state::credential::{join_message, join_proof};
use fleet_state::{
    Body, Command, Entry, FleetState, FoundingMember, FoundingParams, FoundingToken, JoinRequest,
    NodeId, NodeKeys, NodeName, Proposal, Revision, Role, TokenId,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::MeshConfig;
use crate::consensus::MonotonicClock;
use crate::mesh::event_loop::{EventLoop, MeshOut, MeshParts, new};
use crate::mesh::handle::{MeshEvent, MeshHandle};
use crate::mesh::joins::JoinAsk;
use crate::metrics::Metrics;
use crate::transport::{Inbound, Inbox, inbox};

/// Longest wait for anything, on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: [u8; 32] = [9; 32];

pub(super) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn name(node: u64) -> NodeName {
    format!("n{node}").parse().unwrap()
}

pub(super) fn key(node: u64) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(node).unwrap(); 32])
}

fn keys(node: u64) -> NodeKeys {
    NodeKeys {
        sign: key(node).verifying_key().to_bytes(),
        exchange: [u8::try_from(100 + node).unwrap(); 32],
    }
}

/// The state of a site with so many members.
pub(super) fn site_of(members: u64) -> FleetState {
    let token: TokenId = "0102030405060708".parse().unwrap();
    let mut state = FleetState::found(FoundingParams {
        site: "home".parse().unwrap(),
        uid: "00112233445566778899aabbccddeeff".parse().unwrap(),
        site_public_key: [0; 32],
        member: FoundingMember { name: name(1), keys: keys(1), credential: [0; 64] },
        voters: 3,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: Some(FoundingToken {
            id: token,
            key: TOKEN,
            ttl_ms: 1_000_000,
            uses: 100,
            note: "".into(),
        }),
        wall_time_ms: 1,
    });
    for node in 2..=members {
        let proof = join_proof(&TOKEN, &join_message(token, &name(node), &keys(node)));
        let join = JoinRequest { token, name: name(node), keys: keys(node), proof };
        let proposal = Proposal {
            request_id: format!("join-{node}").parse().unwrap(),
            if_revision: None,
            actor: None,
            command: Command::Join(join),
        };
        let body = Body::Proposal(proposal);
        let revision = Revision::new(state.last_applied().get() + 1);
        let applied = state.apply(revision, &Entry { log_time_ms: 1, wall_time_ms: 1, body });
        assert!(!applied.changes.is_empty(), "{applied:?}");
    }
    assert_eq!(state.members().count() as u64, members);
    state
}

/// The state after a member was removed.
pub(super) fn without(mut state: FleetState, node: u64) -> FleetState {
    let revision = Revision::new(state.last_applied().get() + 1);
    state.apply_role(revision, id(node), Role::Removed);
    state
}

pub(super) fn view(node: u64, state: FleetState) -> Arc<View> {
    let standing = Standing {
        node: id(node),
        role: NodeRole::Follower,
        leader: None,
        term: 1,
        commit: 1,
        first_index: 1,
        last_index: 1,
        voters: Vec::new(),
        learners: Vec::new(),
        progress: Vec::new(),
        snapshot_index: 0,
        log_bytes: 0,
        low_space: false,
        leases: fleet_consensus::Leases::default(),
    };
    Arc::new(View {
        applied: state.last_applied(),
        state,
        standing: Arc::new(standing),
        applied_at_ms: 1,
        leaderless_since_ms: None,
    })
}

/// A node of the mesh.
pub(super) struct Node {
    pub(super) number: u64,
    pub(super) handle: MeshHandle,
    pub(super) events: mpsc::Receiver<MeshEvent>,
    pub(super) joins: mpsc::Receiver<JoinAsk>,
    pub(super) inbox: Inbox,
    pub(super) metrics: Metrics,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) dir: tempfile::TempDir,
    pub(super) task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Settings of a node on the loopback that begins with these addresses.
pub(super) fn config(bootstrap: &[String]) -> MeshConfig {
    MeshConfig {
        enabled: true,
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        listen_is_default: false,
        bootstrap: bootstrap.to_vec(),
        mdns: false,
        bulk_bytes_per_second: 1 << 20,
    }
}

/// A node that is not running yet, for tests that reach into it.
pub(super) fn prepare(number: u64, bootstrap: &[String]) -> (Node, EventLoop) {
    let dir = tempfile::tempdir().unwrap();
    let (to_inbox, inbox) = inbox();
    let metrics = Metrics::new();
    let (handle, MeshOut { events, joins }, event_loop) = new(MeshParts {
        config: config(bootstrap),
        site: "home".parse().unwrap(),
        uid: "00112233445566778899aabbccddeeff".parse().unwrap(),
        node: id(number),
        boot: 1,
        sign_key: key(number),
        data_dir: dir.path().to_owned(),
        inbox: to_inbox,
        clock: MonotonicClock::start(),
        metrics: metrics.clone(),
    })
    .unwrap();
    let (view, _) = watch::channel(view(number, site_of(1)));
    let task = tokio::spawn(std::future::ready(()));
    let node = Node { number, handle, events, joins, inbox, metrics, view, dir, task };
    (node, event_loop)
}

impl Node {
    /// A running node that knows this state.
    pub(super) fn start(number: u64, state: FleetState, bootstrap: &[String]) -> Self {
        let (mut node, event_loop) = prepare(number, bootstrap);
        node.run(event_loop, state);
        node
    }

    pub(super) fn run(&mut self, event_loop: EventLoop, state: FleetState) {
        self.set_state(state);
        self.task = tokio::spawn(event_loop.run(self.view.subscribe()));
    }

    pub(super) fn set_state(&self, state: FleetState) {
        self.view.send_replace(view(self.number, state));
    }

    /// Where it can be reached, its PeerId behind.
    pub(super) async fn address(&mut self) -> String {
        loop {
            let event = tokio::time::timeout(LIMIT, self.events.recv()).await;
            if let MeshEvent::Listening(address) = event.expect("it listens").unwrap() {
                return address;
            }
        }
    }

    /// The same without the PeerId: it is not known who is there.
    pub(super) async fn nameless_address(&mut self) -> String {
        let address = self.address().await;
        address.split("/p2p/").next().unwrap().to_owned()
    }

    pub(super) fn connected(&self) -> Vec<u64> {
        self.handle.lanes.borrow().keys().map(|node| node.get()).collect()
    }

    pub(super) async fn await_connected(&self, want: &[u64]) {
        let what = format!("node {} is connected to {want:?}", self.number);
        until(&what, || self.connected() == want).await;
    }

    /// Queues a frame; gives how many had to be dropped for it.
    pub(super) fn send(&self, to: u64, class: Class, frame: impl Into<Bytes>) -> usize {
        let lanes = self.handle.lanes.borrow().get(&id(to)).cloned();
        lanes.expect("connected").queue(class).push(frame.into())
    }

    pub(super) async fn receive(&mut self) -> Inbound {
        tokio::time::timeout(LIMIT, self.inbox.recv()).await.expect("a frame").unwrap()
    }

    pub(super) fn refused(&self, surface: &'static str, reason: &'static str) -> u64 {
        let label = crate::metrics::Refusal { surface, reason };
        self.metrics.refused.get_or_create(&label).get()
    }

    /// Frames that waited for a stream in vain.
    pub(super) fn dropped_unwritten(&self) -> u64 {
        self.metrics.frames_dropped.get_or_create(&crate::mesh::frames::WAY).get()
    }
}

/// Memory may breathe, and grow by what so many connections and streams need.
pub(super) const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// How much memory this test has, with all its nodes.
pub(super) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        look.tick().await;
    }
}
