//! What the rest of the agent holds of the mesh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_state::NodeId;
use libp2p::PeerId;
use tokio::sync::watch;

use super::announce::RendezvousHandle;
use super::asks::{Asks, Question, Told};
use super::echo::Echo;
use super::gone::Refusals;
use super::lanes::LaneTable;
use super::presence::NodePresence;

/// What the mesh knows, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshStatus {
    /// Where this node can be reached, each with its PeerId behind.
    pub listening: Vec<String>,
    /// This node's PeerId.
    pub peer: String,
    /// How busy this machine is, in thousandths of one that is just busy.
    pub load_permille: u32,
    /// The other members.
    pub nodes: BTreeMap<NodeId, NodePresence>,
    /// Where they may be found, best first, each with its PeerId behind.
    pub addresses: BTreeMap<NodeId, Vec<String>>,
    /// Who they are on the mesh.
    pub(super) peers: BTreeMap<NodeId, PeerId>,
}

/// Why there was no round trip.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// There is no connection.
    #[error("the two nodes are not connected over the mesh")]
    NotConnected,
    /// There is one, and nothing came back.
    #[error("no echo came back over the mesh: {0}")]
    NoEcho(std::io::Error),
}

/// Something happened that people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// This node can be reached there.
    Listening(String),
    /// A node is connected.
    Up(NodeId),
    /// The last connection to a node is gone.
    Down(NodeId),
}

/// The mesh, to whoever uses it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MeshHandle {
    pub(super) lanes: watch::Receiver<LaneTable>,
    pub(super) status: watch::Receiver<Arc<MeshStatus>>,
    pub(super) on_nats: Arc<watch::Sender<bool>>,
    pub(super) rendezvous: RendezvousHandle,
    pub(super) crashed: watch::Receiver<Refusals>,
    pub(super) echo: Echo,
    pub(super) asks: Asks,
}

impl MeshHandle {
    /// The nodes that frames can be sent to now.
    #[must_use]
    pub fn lanes(&self) -> watch::Receiver<LaneTable> {
        self.lanes.clone()
    }

    /// One round trip to a node.
    ///
    /// # Errors
    /// When it is not connected, or does not answer in time.
    pub async fn ping(&self, node: NodeId) -> Result<Duration, PingError> {
        let peer = self.connected(node).ok_or(PingError::NotConnected)?;
        self.echo.round_trip(peer).await.map_err(PingError::NoEcho)
    }

    /// Asks a node something, for as long as the caller waits.
    ///
    /// # Errors
    /// When it is not connected, or gives no answer.
    pub async fn ask(&self, node: NodeId, question: &Question) -> Result<Told, PingError> {
        let peer = self.connected(node).ok_or(PingError::NotConnected)?;
        self.asks.ask(peer, question).await.map_err(PingError::NoEcho)
    }

    /// Has what members ask answered, until the swarm has ended.
    ///
    /// # Errors
    /// When somebody answers already.
    pub fn answer<A, F>(
        &self,
        answer: A,
    ) -> Result<impl Future<Output = ()> + Send + use<A, F>, libp2p_stream::AlreadyRegistered>
    where
        A: Fn(Question) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Told>> + Send + 'static,
    {
        self.asks.answer(self.status.clone(), answer)
    }

    /// The peer behind a node that is connected. Opening a stream to one that is not would dial it.
    fn connected(&self, node: NodeId) -> Option<PeerId> {
        let connected = self.lanes.borrow().contains_key(&node);
        self.status.borrow().peers.get(&node).copied().filter(|_| connected)
    }

    /// Whether this node is connected to NATS, as far as the mesh was told.
    #[must_use]
    pub fn is_on_nats(&self) -> bool {
        *self.on_nats.borrow()
    }

    /// Follows what the mesh knows.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Arc<MeshStatus>> {
        self.status.clone()
    }

    /// Follows which nodes have closed their connections and refused the next one, and when: their
    /// process is gone, as far as their machine can say.
    #[must_use]
    pub fn watch_crashed(&self) -> watch::Receiver<Refusals> {
        self.crashed.clone()
    }

    /// What this node tells the others about where it is, signed; none before it listens.
    #[must_use]
    pub fn watch_announcement(&self) -> watch::Receiver<Option<Bytes>> {
        self.rendezvous.announcement.clone()
    }

    /// Hands in what another node tells about where it is. It is checked before it is used.
    pub fn hear(&self, announcement: Bytes) {
        self.rendezvous.hear(announcement);
    }

    /// Notes whether this node is connected to NATS, for the others to see.
    pub fn note_nats(&self, connected: bool) {
        self.on_nats.send_if_modified(|now| std::mem::replace(now, connected) != connected);
    }
}
