//! The peers that are connected now, and the tasks that write to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_consensus::frame::Class;
use fleet_state::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::Control;
use tokio::task::AbortHandle;

use super::behaviour::SCORE_IGNORED;
use super::frames::{StreamTo, write};
use super::lanes::NodeLanes;
use crate::consensus::MonotonicClock;
use crate::metrics::Metrics;

/// The writers of one node; they end with this.
#[derive(Debug)]
struct Writers {
    node: NodeId,
    lanes: Arc<NodeLanes>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Debug, Default)]
struct Peer {
    connections: u32,
    /// What it calls itself; counts only while the members are not known.
    claimed: Option<NodeId>,
    writers: Option<Writers>,
    gossip: Gossip,
    /// When each connection had its last ping answered, or was made.
    answered_ms: BTreeMap<ConnectionId, u64>,
}

/// Where pings were not answered for this long, nobody is at the other end of the connection any
/// more: three pings and a little. What the library tells of failed pings comes much later,
/// because it tries each in a new stream and gives that ten seconds.
pub(super) const SILENT_MS_MAX: u64 = 7_000;

/// What gossip does with what a peer sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gossip {
    /// It is taken in.
    #[default]
    Heard,
    /// It is thrown away unread, for what came before.
    Ignored,
}

/// What writers need to begin.
pub(super) struct WriterParts<'a> {
    pub(super) control: &'a Control,
    pub(super) urgent: &'a StreamProtocol,
    pub(super) paced: &'a StreamProtocol,
    pub(super) metrics: &'a Metrics,
    pub(super) bulk_bytes_per_second: u64,
    pub(super) clock: MonotonicClock,
}

/// The peers that are connected now.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
}

impl Peers {
    /// A connection was made; `true` when it is the first to this peer.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        now_ms: u64,
    ) -> bool {
        let peer = self.by_id.entry(peer).or_default();
        peer.answered_ms.insert(connection, now_ms);
        peer.connections = peer.connections.saturating_add(1);
        peer.connections == 1
    }

    /// This connection is gone.
    pub(super) fn closed(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(peer) = self.by_id.get_mut(peer) {
            peer.answered_ms.remove(&connection);
        }
    }

    /// A connection is gone and so many are left; gives the node when it was the last.
    pub(super) fn disconnected(&mut self, peer: &PeerId, left: u32) -> Option<Option<NodeId>> {
        if left > 0 {
            if let Some(peer) = self.by_id.get_mut(peer) {
                peer.connections = left;
            }
            return None;
        }
        let gone = self.by_id.remove(peer)?;
        Some(gone.writers.as_ref().map(|writers| writers.node))
    }

    /// Whether a connection to this peer stands.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.by_id.contains_key(peer)
    }

    /// Whether more than one connection to this peer stands.
    pub(super) fn has_several_connections(&self, peer: &PeerId) -> bool {
        self.by_id.get(peer).is_some_and(|peer| peer.connections > 1)
    }

    /// What gossip thinks of a peer now; gives what it does with it, if that is news.
    pub(super) fn scored(&mut self, peer: &PeerId, score: f64) -> Option<Gossip> {
        let gossip = if score < SCORE_IGNORED { Gossip::Ignored } else { Gossip::Heard };
        let held = &mut self.by_id.get_mut(peer)?.gossip;
        (std::mem::replace(held, gossip) != gossip).then_some(gossip)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PeerId> {
        self.by_id.keys()
    }

    /// What a peer calls itself.
    pub(super) fn claim(&mut self, peer: &PeerId, node: Option<NodeId>) {
        if let Some(peer) = self.by_id.get_mut(peer) {
            peer.claimed = node;
        }
    }

    /// What a peer has called itself.
    pub(super) fn claimed(&self, peer: &PeerId) -> Option<NodeId> {
        self.by_id.get(peer)?.claimed
    }

    /// The node that frames for this peer are for.
    pub(super) fn node_of(&self, peer: &PeerId) -> Option<NodeId> {
        Some(self.by_id.get(peer)?.writers.as_ref()?.node)
    }

    /// From now on this peer is that node, or none; `true` when that is news.
    pub(super) fn set_node(
        &mut self,
        id: PeerId,
        node: Option<NodeId>,
        parts: &WriterParts<'_>,
    ) -> bool {
        let Some(peer) = self.by_id.get_mut(&id) else {
            return false;
        };
        if peer.writers.as_ref().map(|writers| writers.node) == node {
            return false;
        }
        peer.writers = node.map(|node| begin(id, node, parts));
        true
    }

    /// A ping was answered.
    pub(super) fn answered(&mut self, peer: &PeerId, connection: ConnectionId, now_ms: u64) {
        let peer = self.by_id.get_mut(peer);
        if let Some(answered_ms) = peer.and_then(|peer| peer.answered_ms.get_mut(&connection)) {
            *answered_ms = now_ms;
        }
    }

    /// Those that have been silent for too long; each is given once, and then has its time again.
    pub(super) fn take_silent(&mut self, now_ms: u64) -> Vec<(PeerId, ConnectionId)> {
        let all = self.by_id.iter_mut().flat_map(|(id, peer)| {
            peer.answered_ms.iter_mut().map(|(connection, at_ms)| (*id, *connection, at_ms))
        });
        let silent = all.filter(|(.., at_ms)| now_ms.saturating_sub(**at_ms) > SILENT_MS_MAX);
        silent
            .map(|(id, connection, at_ms)| {
                *at_ms = now_ms;
                (id, connection)
            })
            .collect()
    }

    /// The queues of all nodes that are connected.
    pub(super) fn lanes(&self) -> impl Iterator<Item = (NodeId, Arc<NodeLanes>)> {
        let writers = self.by_id.values().filter_map(|peer| peer.writers.as_ref());
        writers.map(|writers| (writers.node, Arc::clone(&writers.lanes)))
    }
}

fn begin(peer: PeerId, node: NodeId, parts: &WriterParts<'_>) -> Writers {
    let lanes = Arc::new(NodeLanes::default());
    let tasks = [Class::Urgent, Class::Normal, Class::Bulk].map(|class| {
        let protocol = match class {
            Class::Urgent => parts.urgent,
            Class::Normal | Class::Bulk => parts.paced,
        };
        let to = StreamTo {
            peer,
            class,
            protocol: protocol.clone(),
            control: parts.control.clone(),
            lanes: Arc::clone(&lanes),
            metrics: parts.metrics.clone(),
            bulk_bytes_per_second: parts.bulk_bytes_per_second,
            clock: parts.clock,
        };
        tokio::spawn(write(to)).abort_handle()
    });
    Writers { node, lanes, tasks: tasks.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gossip_thinks_is_news_when_it_changes() {
        let peer = PeerId::random();
        let mut peers = Peers::default();
        assert_eq!(peers.scored(&peer, -1e9), None, "it is not connected");
        peers.connected(peer, ConnectionId::new_unchecked(1), 1);
        for (score, news) in [
            (0.0, None),
            (SCORE_IGNORED, None),
            (SCORE_IGNORED - 1.0, Some(Gossip::Ignored)),
            (-1e9, None),
            (0.0, Some(Gossip::Heard)),
        ] {
            assert_eq!(peers.scored(&peer, score), news, "{score}");
        }
    }

    #[test]
    fn a_connection_without_answers_is_silent_once() {
        let (here, gone) = (PeerId::random(), PeerId::random());
        let connection = ConnectionId::new_unchecked;
        let mut peers = Peers::default();
        assert!(peers.connected(here, connection(1), 1_000));
        assert!(peers.connected(gone, connection(2), 1_000));
        assert!(!peers.connected(here, connection(3), 1_000));
        assert!(peers.has_several_connections(&here));
        // What answers on one connection says nothing of another one.
        peers.answered(&here, connection(3), 5_000);
        assert!(peers.take_silent(1_000 + SILENT_MS_MAX).is_empty());
        let mut silent = peers.take_silent(1_001 + SILENT_MS_MAX);
        silent.sort_by_key(|(_, connection)| *connection);
        assert_eq!(silent, [(here, connection(1)), (gone, connection(2))]);
        assert!(peers.take_silent(1_001 + SILENT_MS_MAX).is_empty(), "they are being closed");
        peers.closed(&here, connection(1));
        assert_eq!(peers.disconnected(&here, 1), None);
        peers.closed(&gone, connection(2));
        assert_eq!(peers.disconnected(&gone, 0), Some(None));
        assert_eq!(peers.take_silent(100_000), [(here, connection(3))]);
    }
}
