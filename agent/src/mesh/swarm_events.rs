//! What the swarm reports, and what follows from it.

use std::net::IpAddr;
use std::sync::Arc;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify, kad, ping};

use super::addresses::split;
use super::announce::Refused;
use super::behaviour::{BehaviourEvent, node_in};
use super::book::Source;
use super::event_loop::EventLoop;
use super::handle::MeshEvent;
use super::local::Found;
use super::peers::WriterParts;
use super::presence::{Beat, Heard};
use super::refusal::is_refused;
use super::roster::Roster;

impl EventLoop {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library adds events at will")]
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { connection_id, peer_id, .. }
                if self.swarm.behaviour().is_guest(connection_id) =>
            {
                tracing::debug!(peer = %peer_id, "a guest");
            }
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, connection_id, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, cause, connection_id, endpoint, .. } => {
                // Guests' don't count.
                let left = self.swarm.behaviour().connections_of(&peer_id);
                tracing::debug!(peer = %peer_id, ?cause, left, "connection closed");
                let left = u32::try_from(left).unwrap_or(u32::MAX);
                self.peers.closed(&peer_id, connection_id);
                self.on_disconnected(peer_id, left, endpoint.get_remote_address().ip_addr());
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, connection_id } => {
                tracing::debug!(peer = ?peer_id, ?error, "a gateway could not be reached");
                if let Some(peer) = peer_id {
                    self.book.failed(peer, connection_id, self.clock.now_ms());
                    self.forget_wrong(peer, &error);
                    self.note_unreachable(&peer, is_refused(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { error, peer_id, .. } => {
                tracing::debug!(peer = ?peer_id, %error, "a connection was not let in");
                self.metrics.refuse("mesh", "handshake");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(&address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.chores.listening.retain(|known| *known != address);
                self.announce();
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "trouble while listening for other gateways");
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "other gateways can't connect to this one any more");
            }
            other => tracing::trace!(?other, "swarm"),
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Ping(event) => self.on_ping(&event),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Frames(()) => {}
        }
    }

    fn on_listening(&mut self, address: &Multiaddr) {
        if self.chores.listening.contains(address) {
            return;
        }
        self.chores.listening.push(address.clone());
        let reachable = format!("{address}/p2p/{}", self.swarm.local_peer_id());
        tracing::info!(address = reachable, "listening for other gateways");
        self.tell(MeshEvent::Listening(reachable));
        self.announce();
        self.chores.keep_due_ms = 0;
        self.chores.status_due_ms = 0;
    }

    /// Where this node listens, for those who look for it.
    fn announce(&mut self) {
        self.rendezvous.announce(self.node, self.boot, &self.chores.listening);
        self.local.listens_on(&self.chores.listening);
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let now_ms = self.clock.now_ms();
        let dialled = match endpoint {
            ConnectedPoint::Dialer { address, .. } => split(address).map(|at| at.address),
            ConnectedPoint::Listener { .. } => None,
        };
        self.book.connected(peer, connection, dialled, now_ms);
        if self.peers.connected(peer, connection, now_ms) {
            self.note_alive(&peer);
            tracing::debug!(%peer, ?endpoint, "connected");
            self.name_peer(peer, now_ms);
        }
    }

    fn on_disconnected(&mut self, peer: PeerId, left: u32, at: Option<IpAddr>) {
        let now_ms = self.clock.now_ms();
        let Some(node) = self.peers.disconnected(&peer, left) else {
            return;
        };
        self.book.disconnected(peer, now_ms);
        if self.roster.node_of(&peer).is_some() {
            self.lost.lost(peer, at, now_ms);
        }
        // At once, whoever's turn it is: when it is refused, the process is gone.
        self.redial(peer, at, now_ms);
        self.seeds.hurry(now_ms);
        self.chores.search_due_ms = self.chores.search_due_ms.min(now_ms);
        if let Some(node) = node {
            self.presence.connection(node, false, now_ms);
            self.publish_lanes();
            self.tell(MeshEvent::Down(node));
            self.chores.status_due_ms = 0;
        }
    }

    /// Nobody listens where a node did, or it can't be said why it is not reached.
    fn note_unreachable(&mut self, peer: &PeerId, refused: bool) {
        let now_ms = self.clock.now_ms();
        if self.peers.is_connected(peer) {
            return;
        }
        let Some(node) = self.roster.node_of(peer) else { return };
        if !refused {
            self.lost.unclear(peer, now_ms);
        } else if self.lost.refused(peer, now_ms) {
            self.crashed.send_modify(|crashed| {
                Arc::make_mut(crashed).insert(node, now_ms);
            });
        }
    }

    /// A node's process is there.
    fn note_alive(&mut self, peer: &PeerId) {
        self.lost.connected(peer);
        let Some(node) = self.roster.node_of(peer) else { return };
        self.crashed.send_if_modified(|crashed| {
            crashed.contains_key(&node) && Arc::make_mut(crashed).remove(&node).is_some()
        });
    }

    /// Somebody else answers where a peer was looked for.
    fn forget_wrong(&mut self, peer: PeerId, error: &DialError) {
        if let DialError::WrongPeerId { address, .. } = error
            && let Some(at) = split(address)
        {
            self.book.wrong(peer, &at.address);
        }
    }

    /// The node behind a connected peer: by its record, or, before any record is known, by what
    /// it calls itself.
    fn name_peer(&mut self, peer: PeerId, now_ms: u64) {
        let node = if self.roster.is_known() {
            self.roster.node_of(&peer)
        } else {
            self.peers.claimed(&peer)
        };
        let before = self.peers.node_of(&peer);
        let parts = WriterParts {
            control: &self.control,
            urgent: &self.names.urgent,
            paced: &self.names.paced,
            metrics: &self.metrics,
            bulk_bytes_per_second: self.bulk_bytes_per_second,
            clock: self.clock,
        };
        if !self.peers.set_node(peer, node, &parts) {
            return;
        }
        self.publish_lanes();
        if let Some(before) = before {
            self.presence.connection(before, false, now_ms);
            self.tell(MeshEvent::Down(before));
        }
        if let Some(node) = node {
            self.presence.connection(node, true, now_ms);
            self.tell(MeshEvent::Up(node));
        }
        self.chores.status_due_ms = 0;
    }

    /// The members have changed.
    pub(super) fn rename_peers(&mut self, now_ms: u64) {
        let all: Vec<PeerId> = self.peers.iter().copied().collect();
        for peer in all {
            self.name_peer(peer, now_ms);
        }
        // Some were connected before presence knew that they are members.
        for (node, _) in self.peers.lanes() {
            self.presence.connection(node, true, now_ms);
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { peer_id, info, .. } => {
                self.peers.claim(&peer_id, node_in(&info.agent_version));
                let now_ms = self.clock.now_ms();
                self.name_peer(peer_id, now_ms);
                for address in self.rules.filter(peer_id, info.listen_addrs) {
                    self.book.learn(peer_id, address, Source::Claimed, now_ms);
                }
                self.place_in_kad(peer_id);
            }
            identify::Event::Error { peer_id, error, .. } => {
                tracing::debug!(peer = %peer_id, %error, "a peer does not say who it is");
            }
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
        }
    }

    /// Kademlia knows of a peer what the book knows, and no more: it would keep every address
    /// that was ever claimed.
    fn place_in_kad(&mut self, peer: PeerId) {
        let kad = &mut self.swarm.behaviour_mut().members.kad;
        kad.remove_peer(&peer);
        for address in self.book.addresses_of(&peer) {
            kad.add_address(&peer, address.clone());
        }
    }

    /// Those that are no members any more are in no table.
    pub(super) fn forget_removed(&mut self, roster: &Roster) {
        let kad = &mut self.swarm.behaviour_mut().members.kad;
        let known = kad.kbuckets().flat_map(|bucket| {
            let peers: Vec<_> = bucket.iter().map(|at| *at.node.key.preimage()).collect();
            peers
        });
        let gone: Vec<PeerId> = known.filter(|peer| roster.node_of(peer).is_none()).collect();
        for peer in gone {
            kad.remove_peer(&peer);
        }
    }

    fn on_ping(&mut self, event: &ping::Event) {
        let now_ms = self.clock.now_ms();
        match &event.result {
            Ok(rtt) => {
                self.peers.answered(&event.peer, event.connection, now_ms);
                if let Some(node) = self.peers.node_of(&event.peer) {
                    self.presence.pinged(node, *rtt, now_ms);
                }
            }
            Err(error) => {
                tracing::debug!(peer = %event.peer, %error, "a ping was not answered");
                // The only connection is judged by how long it was silent.
                if self.peers.has_several_connections(&event.peer) {
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }

    /// Closes the connections of those that have not answered for long: a cable was pulled, or an
    /// address is another's now. Without it they would count as connected until the system gives
    /// up, and nobody would look for them elsewhere.
    pub(super) fn close_silent(&mut self, now_ms: u64) {
        for (peer, connection) in self.peers.take_silent(now_ms) {
            tracing::debug!(%peer, "a connection is dead");
            // It may be gone already.
            let _gone = self.swarm.close_connection(connection);
        }
    }

    /// A node says by another way where it is.
    pub(super) fn on_announcement(&mut self, bytes: &[u8]) {
        let now_ms = self.clock.now_ms();
        match self.rendezvous.open(bytes, now_ms, |node| self.roster.key_of(node)) {
            Ok((peer, said)) => {
                for address in self.rules.filter(peer, said.addresses) {
                    self.book.learn(peer, address, Source::Claimed, now_ms);
                }
                self.book.hurry(peer, now_ms);
            }
            // It is told again and again, also to oneself and to those who don't know it yet.
            Err(Refused::Old | Refused::Unknown) => {}
            Err(refused @ (Refused::Malformed | Refused::BadSignature | Refused::TooMany)) => {
                self.metrics.refuse("announcement", refused.as_str());
            }
        }
    }

    /// Somebody on the local network says where it is.
    pub(super) fn on_found(&mut self, (peer, address): Found) {
        // Before the members are known anybody may be one; the uid in the handshake tells.
        if self.roster.is_known() && self.roster.node_of(&peer).is_none() {
            return;
        }
        let now_ms = self.clock.now_ms();
        for address in self.rules.filter(peer, [address]) {
            self.book.learn(peer, address, Source::Local, now_ms);
            self.book.hurry(peer, now_ms);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library adds events at will")]
    fn on_kad(&mut self, event: kad::Event) {
        let now_ms = self.clock.now_ms();
        match event {
            kad::Event::RoutingUpdated { peer, addresses, .. } => {
                for address in self.rules.filter(peer, addresses.iter().cloned()) {
                    self.book.learn(peer, address, Source::Claimed, now_ms);
                }
            }
            kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(Ok(found)),
                ..
            } => {
                for info in found.peers {
                    for address in self.rules.filter(info.peer_id, info.addrs) {
                        self.book.learn(info.peer_id, address, Source::Claimed, now_ms);
                    }
                }
            }
            other => tracing::trace!(?other, "kad"),
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else {
            return;
        };
        let acceptance = self.judge(&message);
        self.swarm.behaviour_mut().members.gossip.report_message_validation_result(
            &message_id,
            &propagation_source,
            acceptance,
        );
    }

    /// A message counts when its author, whose signature was checked, is the member that it
    /// speaks of. Everything else is refused before it is passed on.
    fn judge(&mut self, message: &gossipsub::Message) -> gossipsub::MessageAcceptance {
        let author = message.source.and_then(|peer| self.roster.node_of(&peer));
        let Some(author) = author else {
            // A member that this node has not heard of yet is no liar.
            self.metrics.refuse("presence", "unknown_author");
            return gossipsub::MessageAcceptance::Ignore;
        };
        match Beat::decode(&message.data) {
            Ok(beat) if beat.node == author => {
                let applied = self.chores.standing.map_or(0, |(_, _, applied)| applied);
                match self.presence.beat(beat, applied, self.clock.now_ms()) {
                    Heard::New => gossipsub::MessageAcceptance::Accept,
                    // Late, or told again by somebody: whoever passed it on may be innocent.
                    Heard::Old => {
                        self.metrics.refuse("presence", "old");
                        gossipsub::MessageAcceptance::Ignore
                    }
                    Heard::TooMany => {
                        self.metrics.refuse("presence", "too_many");
                        gossipsub::MessageAcceptance::Ignore
                    }
                }
            }
            Ok(_) => {
                self.metrics.refuse("presence", "not_the_author");
                gossipsub::MessageAcceptance::Reject
            }
            Err(_) => {
                self.metrics.refuse("presence", "malformed");
                gossipsub::MessageAcceptance::Reject
            }
        }
    }
}
