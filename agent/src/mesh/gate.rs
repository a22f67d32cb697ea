//! Who may be connected: the live members of the site, and nobody else.
//!
//! A node that has just joined does not know the members yet: they stand in the state that it
//! is about to receive. Until then its gate is open to a few connections of anybody who knows
//! the site's uid. That admits nobody to anything: what counts are sealed frames, and their
//! senders prove themselves by the site's signature.
//!
//! A member keeps its place whatever strangers do: they are counted apart, and only before the
//! members are known. When a member is removed its connections are closed at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::metrics::Metrics;

/// Connections of one peer: two that cross, and one that takes the place of a dead one.
const CONNECTIONS_PER_PEER_MAX: usize = 4;
/// Connections in all while the members are not known.
const STRANGERS_MAX: usize = 16;

/// Whom the gate lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Policy {
    /// The members are not known yet.
    Open,
    /// These and no others.
    Members(BTreeSet<PeerId>),
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denied {
    NotAMember,
    TooMany,
}

impl Denied {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotAMember => "not_a_member",
            Self::TooMany => "too_many_connections",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAMember => "the peer is no member of the site",
            Self::TooMany => "there are too many connections already",
        })
    }
}

impl std::error::Error for Denied {}

/// The behaviour that decides about connections.
pub(super) struct Gate {
    policy: Policy,
    established: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    closing: VecDeque<PeerId>,
    waker: Option<Waker>,
    metrics: Metrics,
}

impl Gate {
    /// An open gate.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            policy: Policy::Open,
            established: BTreeMap::new(),
            closing: VecDeque::new(),
            waker: None,
            metrics,
        }
    }

    /// From now on these are let in; the connections of all others are closed.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        let strangers = self.established.keys().filter(|peer| !self.admits(peer)).copied();
        self.closing = strangers.collect();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether connections of this peer are let in.
    pub(super) fn admits(&self, peer: &PeerId) -> bool {
        match &self.policy {
            Policy::Open => true,
            Policy::Members(members) => members.contains(peer),
        }
    }

    fn check(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        self.decide(peer).map_err(|denied| {
            self.metrics.refuse("mesh", denied.as_str());
            ConnectionDenied::new(denied)
        })
    }

    fn decide(&self, peer: &PeerId) -> Result<(), Denied> {
        if !self.admits(peer) {
            return Err(Denied::NotAMember);
        }
        let of_peer = self.established.get(peer).map_or(0, BTreeSet::len);
        let all: usize = self.established.values().map(BTreeSet::len).sum();
        let crowded = self.policy == Policy::Open && all >= STRANGERS_MAX;
        if of_peer >= CONNECTIONS_PER_PEER_MAX || crowded {
            return Err(Denied::TooMany);
        }
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match peer {
            Some(peer) if !self.admits(&peer) => Err(ConnectionDenied::new(Denied::NotAMember)),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library adds events at will")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                self.established.entry(made.peer_id).or_default().insert(made.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(of_peer) = self.established.get_mut(&closed.peer_id) {
                    of_peer.remove(&closed.connection_id);
                    if of_peer.is_empty() {
                        self.established.remove(&closed.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer_id) = self.closing.pop_front() {
            let connection = CloseConnection::All;
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(gate: &mut Gate, peer: PeerId, id: usize) {
        let connections = gate.established.entry(peer).or_default();
        connections.insert(ConnectionId::new_unchecked(id));
    }

    #[test]
    fn members_only_once_they_are_known() {
        let mut gate = Gate::new(Metrics::new());
        let (member, stranger) = (PeerId::random(), PeerId::random());
        assert_eq!(gate.decide(&stranger), Ok(()));
        connect(&mut gate, stranger, 1);
        connect(&mut gate, member, 2);
        gate.set_policy(Policy::Members([member].into()));
        assert_eq!(gate.decide(&stranger), Err(Denied::NotAMember));
        assert_eq!(gate.decide(&member), Ok(()));
        assert_eq!(gate.closing, [stranger]);
        gate.set_policy(Policy::Members(BTreeSet::new()));
        assert!(gate.closing.contains(&member), "a removed member is cut off");
    }

    #[test]
    fn connections_are_counted() {
        let mut gate = Gate::new(Metrics::new());
        let member = PeerId::random();
        for id in 0..STRANGERS_MAX {
            connect(&mut gate, PeerId::random(), id);
        }
        assert_eq!(gate.decide(&member), Err(Denied::TooMany), "open gates are narrow");
        gate.set_policy(Policy::Members([member].into()));
        for id in 0..CONNECTIONS_PER_PEER_MAX {
            assert_eq!(gate.decide(&member), Ok(()), "places of members are theirs");
            connect(&mut gate, member, 100 + id);
        }
        assert_eq!(gate.decide(&member), Err(Denied::TooMany));
    }
}
