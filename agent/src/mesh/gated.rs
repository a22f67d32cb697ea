//! The gate around the protocols of the mesh.
//!
//! A behaviour that wraps all others. For each connection it asks the [`Gate`]; a member's gets
//! the handlers of all protocols, a guest's the one for asking, and what the wrapped behaviours
//! hear of connections is what concerns members alone. So no protocol has to mind guests: to
//! gossip, Kademlia and frames they do not exist.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, connection_limits};

use super::behaviour::{Behaviour, BehaviourEvent};
use super::gate::{Admitted, Gate, Policy};
use super::waiting::Waiting;

/// Everything, behind the gate.
pub(super) struct Gated {
    gate: Gate,
    /// Counts what is under way, whoever it will turn out to be.
    limits: connection_limits::Behaviour,
    /// And from where.
    waiting: Waiting,
    /// All that a guest meets. Nothing is ever opened toward a guest, so it need not be polled.
    guests: libp2p_stream::Behaviour,
    /// What members meet.
    pub(super) members: Behaviour,
    waker: Option<Waker>,
}

impl Gated {
    pub(super) fn new(
        gate: Gate,
        limits: connection_limits::ConnectionLimits,
        members: Behaviour,
    ) -> Self {
        let guests = libp2p_stream::Behaviour::new();
        let limits = connection_limits::Behaviour::new(limits);
        let waiting = Waiting::default();
        Self { gate, limits, waiting, guests, members, waker: None }
    }

    /// From now on these are let in.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        self.gate.set_policy(policy);
        self.wake();
    }

    /// Where members are, as far as is known.
    pub(super) fn set_known(&mut self, known: BTreeSet<IpAddr>) {
        self.waiting.set_known(known);
    }

    /// Sends guests away whose time is over.
    pub(super) fn sweep(&mut self) {
        if self.gate.sweep() {
            self.wake();
        }
    }

    /// Whether this connection is a guest's.
    pub(super) fn is_guest(&self, id: ConnectionId) -> bool {
        self.gate.is_guest(id)
    }

    /// Connections of this peer that are no guest's.
    pub(super) fn connections_of(&self, peer: &PeerId) -> usize {
        self.gate.connections_of(peer)
    }

    /// Takes in the streams of guests.
    pub(super) fn guests_control(&self) -> libp2p_stream::Control {
        self.guests.new_control()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_established(&mut self, made: ConnectionEstablished<'_>) {
        if self.gate.is_guest(made.connection_id) {
            return self.guests.on_swarm_event(FromSwarm::ConnectionEstablished(made));
        }
        let other_established = self.gate.connections_of(&made.peer_id);
        self.gate.on_established(made.peer_id, made.connection_id);
        let made = ConnectionEstablished { other_established, ..made };
        self.members.on_swarm_event(FromSwarm::ConnectionEstablished(made));
    }

    fn on_closed(&mut self, closed: ConnectionClosed<'_>) {
        let was_guest = self.gate.is_guest(closed.connection_id);
        self.gate.on_closed(Some(&closed.peer_id), closed.connection_id);
        if was_guest {
            return self.guests.on_swarm_event(FromSwarm::ConnectionClosed(closed));
        }
        let remaining_established = self.gate.connections_of(&closed.peer_id);
        let closed = ConnectionClosed { remaining_established, ..closed };
        self.members.on_swarm_event(FromSwarm::ConnectionClosed(closed));
    }
}

impl NetworkBehaviour for Gated {
    type ConnectionHandler = Either<THandler<Behaviour>, THandler<libp2p_stream::Behaviour>>;
    type ToSwarm = BehaviourEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.limits.handle_pending_inbound_connection(id, local, remote)?;
        if let Some(ip) = remote.ip_addr() {
            self.waiting.begin(id, ip).map_err(|crowded| {
                self.gate.crowded();
                ConnectionDenied::new(crowded)
            })?;
        }
        self.members.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.waiting.ended(id);
        self.limits.handle_established_inbound_connection(id, peer, local, remote)?;
        match self.gate.admit_inbound(id, peer).map_err(ConnectionDenied::new)? {
            Admitted::Member => self
                .members
                .handle_established_inbound_connection(id, peer, local, remote)
                .map(Either::Left),
            Admitted::Guest => self
                .guests
                .handle_established_inbound_connection(id, peer, local, remote)
                .map(Either::Right),
        }
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.gate.admit_outbound(&peer).map_err(ConnectionDenied::new)?;
        }
        self.limits.handle_pending_outbound_connection(id, peer, addresses, role)?;
        self.members.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.limits.handle_established_outbound_connection(id, peer, address, role, port)?;
        self.gate.admit_outbound(&peer).map_err(ConnectionDenied::new)?;
        self.members
            .handle_established_outbound_connection(id, peer, address, role, port)
            .map(Either::Left)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library adds events at will")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.limits.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionEstablished(made) => self.on_established(made),
            FromSwarm::ConnectionClosed(closed) => self.on_closed(closed),
            FromSwarm::AddressChange(change) if self.gate.is_guest(change.connection_id) => {}
            FromSwarm::ListenFailure(failure) => {
                self.waiting.ended(failure.connection_id);
                self.gate.on_closed(None, failure.connection_id);
                self.members.on_swarm_event(event);
            }
            other => self.members.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => self.members.on_connection_handler_event(peer, id, event),
            Either::Right(event) => self.guests.on_connection_handler_event(peer, id, event),
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.gate.take_closing() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        if let Poll::Ready(event) = self.members.poll(context) {
            return Poll::Ready(event.map_in(Either::Left));
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
