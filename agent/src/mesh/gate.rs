//! Who may be connected: the live members of the site, and for a moment somebody who asks to join.
//!
//! A member's connection carries everything. A stranger who connects from outside is a *guest*: it
//! may ask to join and nothing else, because its connection has no handler for anything else
//! (`gated`). Guests are few, come at a bounded rate and stay for a bounded time, and have places
//! of their own, so whatever strangers do, a member keeps its place. While memory is short nobody is
//! let in as a guest (`memory`).
//!
//! A node that has just joined does not know the members yet: they stand in the state that it
//! is about to receive. Until then its gate is open to a few connections of anybody who knows
//! the site's uid. That admits nobody to anything: what counts are sealed frames, and their
//! senders prove themselves by the site's signature.
//!
//! When a member is removed its connections are closed at once. A guest that has become a member
//! is closed a moment later: what it asked is answered by then, and it comes back as a member.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use libp2p::PeerId;
use libp2p::swarm::{CloseConnection, ConnectionId};

use crate::consensus::MonotonicClock;
use crate::metrics::Metrics;

/// Connections of one peer: two that cross, and one that takes the place of a dead one.
const CONNECTIONS_PER_PEER_MAX: usize = 4;
/// Connections of one peer that may be made at once, and then one more in this time. Some of what
/// the library keeps of a connection it keeps for ever, so one peer must not make endlessly many.
const CONNECTIONS_AT_ONCE_MAX: u64 = 32;
const CONNECTION_EVERY_MS: u64 = 5_000;
/// Peers whose connections are counted; members are fewer.
const COUNTED_MAX: usize = 1_024;
/// Connections in all while the members are not known.
const STRANGERS_MAX: usize = 16;
/// Guests at a time.
const GUESTS_MAX: usize = 4;
/// How long a guest may stay.
const GUEST_MS_MAX: u64 = 15_000;
/// How long one that has become a member may stay a guest.
const GUEST_NOW_MEMBER_MS_MAX: u64 = 1_000;
/// Guests that may come at once, and then one more in this time.
const GUESTS_AT_ONCE_MAX: u64 = 8;
const GUEST_EVERY_MS: u64 = 1_000;

/// Whom the gate lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Policy {
    /// The members are not known yet.
    Open,
    /// The live members, and guests; those that were removed are not even that.
    Members { live: BTreeSet<PeerId>, removed: BTreeSet<PeerId> },
    /// Nobody: this node is no member any more.
    Closed,
}

/// As what a connection is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It carries everything.
    Member,
    /// It may ask to join.
    Guest,
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    NotAMember,
    TooMany,
    TooFast,
    TooManyGuests,
    NoMemory,
}

impl Denied {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotAMember => "not_a_member",
            Self::TooMany => "too_many_connections",
            Self::TooFast => "too_fast_connections",
            Self::TooManyGuests => "too_many_guests",
            Self::NoMemory => "no_memory",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAMember => "the peer is no member of the site",
            Self::TooMany => "there are too many connections already",
            Self::TooFast => "the peer's connections come and go too fast",
            Self::TooManyGuests => "there are too many guests, or they come too fast",
            Self::NoMemory => "there is no memory to spare for guests",
        })
    }
}

impl std::error::Error for Denied {}

/// Places that are used up, and come back with time.
#[derive(Debug, Clone, Copy)]
struct Tickets {
    /// In thousandths.
    left_milli: u64,
    counted_ms: u64,
}

impl Tickets {
    const fn full(at_once: u64) -> Self {
        Self { left_milli: at_once.saturating_mul(1_000), counted_ms: 0 }
    }

    /// What has come back until now.
    fn fill(&mut self, at_once: u64, every_ms: u64, now_ms: u64) {
        let gone_ms = now_ms.saturating_sub(self.counted_ms);
        let filled = self.left_milli.saturating_add(gone_ms.saturating_mul(1_000) / every_ms);
        self.left_milli = filled.min(at_once.saturating_mul(1_000));
        self.counted_ms = now_ms;
    }

    const fn is_out(&self) -> bool {
        self.left_milli < 1_000
    }

    const fn take(&mut self) {
        self.left_milli = self.left_milli.saturating_sub(1_000);
    }
}

#[derive(Debug, Clone, Copy)]
struct Guest {
    peer: PeerId,
    until_ms: u64,
}

/// Decides about connections.
pub(super) struct Gate {
    policy: Policy,
    members: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    guests: BTreeMap<ConnectionId, Guest>,
    /// Guests that may still come now.
    tickets: Tickets,
    /// Connections that each peer may still make now.
    rates: BTreeMap<PeerId, Tickets>,
    closing: VecDeque<(PeerId, CloseConnection)>,
    /// Whether there is no memory to spare.
    is_short: fn() -> bool,
    clock: MonotonicClock,
    metrics: Metrics,
}

impl Gate {
    /// An open gate, which asks so whether memory is short.
    pub(super) fn new(is_short: fn() -> bool, clock: MonotonicClock, metrics: Metrics) -> Self {
        Self {
            policy: Policy::Open,
            members: BTreeMap::new(),
            guests: BTreeMap::new(),
            tickets: Tickets::full(GUESTS_AT_ONCE_MAX),
            rates: BTreeMap::new(),
            closing: VecDeque::new(),
            is_short,
            clock,
            metrics,
        }
    }

    /// From now on these are let in; the connections of all others are closed.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        let strangers = self.members.iter().filter(|(peer, _)| !self.admits(peer));
        let closing: Vec<_> = strangers
            .flat_map(|(peer, all)| all.iter().map(|id| (*peer, CloseConnection::One(*id))))
            .collect();
        self.closing.extend(closing);
        let admitted: BTreeSet<PeerId> =
            self.rates.keys().filter(|peer| self.admits(peer)).copied().collect();
        self.rates.retain(|peer, _| admitted.contains(peer));
        let now_ms = self.clock.now_ms();
        let soon_ms = now_ms.saturating_add(GUEST_NOW_MEMBER_MS_MAX);
        let closed = self.policy == Policy::Closed;
        let members = match &self.policy {
            Policy::Members { live, .. } => Some(live),
            Policy::Open | Policy::Closed => None,
        };
        for guest in self.guests.values_mut() {
            if closed {
                guest.until_ms = now_ms;
            } else if members.is_some_and(|members| members.contains(&guest.peer)) {
                guest.until_ms = guest.until_ms.min(soon_ms);
            }
        }
    }

    /// Whether connections of this peer carry everything.
    pub(super) fn admits(&self, peer: &PeerId) -> bool {
        match &self.policy {
            Policy::Open => true,
            Policy::Members { live, .. } => live.contains(peer),
            Policy::Closed => false,
        }
    }

    /// Decides about a connection that another peer has made.
    pub(super) fn admit_inbound(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
    ) -> Result<Admitted, Denied> {
        let now_ms = self.clock.now_ms();
        let decided = self.decide_inbound(&peer, now_ms);
        match decided {
            Ok(Admitted::Guest) => {
                self.guests
                    .insert(id, Guest { peer, until_ms: now_ms.saturating_add(GUEST_MS_MAX) });
            }
            Ok(Admitted::Member) => {}
            Err(denied) => self.metrics.refuse("mesh", denied.as_str()),
        }
        decided
    }

    /// Decides about a connection that this node has made.
    pub(super) fn admit_outbound(&self, peer: &PeerId) -> Result<(), Denied> {
        self.decide_member(peer, self.clock.now_ms())
            .inspect_err(|denied| self.metrics.refuse("mesh", denied.as_str()))
    }

    fn decide_inbound(&mut self, peer: &PeerId, now_ms: u64) -> Result<Admitted, Denied> {
        match self.decide_member(peer, now_ms) {
            Ok(()) => Ok(Admitted::Member),
            Err(Denied::NotAMember) if self.may_be_guest(peer) => {
                self.decide_guest(peer, now_ms).map(|()| Admitted::Guest)
            }
            Err(denied) => Err(denied),
        }
    }

    fn may_be_guest(&self, peer: &PeerId) -> bool {
        match &self.policy {
            Policy::Members { removed, .. } => !removed.contains(peer),
            Policy::Open | Policy::Closed => false,
        }
    }

    fn decide_member(&self, peer: &PeerId, now_ms: u64) -> Result<(), Denied> {
        if !self.admits(peer) {
            return Err(Denied::NotAMember);
        }
        let of_peer = self.connections_of(peer);
        let all: usize = self.members.values().map(BTreeSet::len).sum();
        let crowded = self.policy == Policy::Open && all >= STRANGERS_MAX;
        if of_peer >= CONNECTIONS_PER_PEER_MAX || crowded {
            return Err(Denied::TooMany);
        }
        if self.rates.get(peer).is_some_and(|rate| {
            let mut rate = *rate;
            rate.fill(CONNECTIONS_AT_ONCE_MAX, CONNECTION_EVERY_MS, now_ms);
            rate.is_out()
        }) {
            return Err(Denied::TooFast);
        }
        Ok(())
    }

    fn decide_guest(&mut self, peer: &PeerId, now_ms: u64) -> Result<(), Denied> {
        self.tickets.fill(GUESTS_AT_ONCE_MAX, GUEST_EVERY_MS, now_ms);
        let is_here = self.guests.values().any(|guest| guest.peer == *peer);
        if is_here || self.guests.len() >= GUESTS_MAX || self.tickets.is_out() {
            return Err(Denied::TooManyGuests);
        }
        self.tickets.take();
        if (self.is_short)() { Err(Denied::NoMemory) } else { Ok(()) }
    }

    /// Whether this connection is a guest's.
    pub(super) fn is_guest(&self, id: ConnectionId) -> bool {
        self.guests.contains_key(&id)
    }

    /// Connections of this peer that carry everything.
    pub(super) fn connections_of(&self, peer: &PeerId) -> usize {
        self.members.get(peer).map_or(0, BTreeSet::len)
    }

    /// A connection that carries everything stands.
    pub(super) fn on_established(&mut self, peer: PeerId, id: ConnectionId) {
        self.members.entry(peer).or_default().insert(id);
        self.count(peer, self.clock.now_ms());
    }

    fn count(&mut self, peer: PeerId, now_ms: u64) {
        if self.rates.len() >= COUNTED_MAX && !self.rates.contains_key(&peer) {
            // Strangers before an open gate: they are few at a time.
            self.rates.clear();
        }
        let full = Tickets::full(CONNECTIONS_AT_ONCE_MAX);
        let rate = self.rates.entry(peer).or_insert(full);
        rate.fill(CONNECTIONS_AT_ONCE_MAX, CONNECTION_EVERY_MS, now_ms);
        rate.take();
    }

    /// A connection was refused before its handshake.
    pub(super) fn crowded(&self) {
        self.metrics.refuse("mesh", "crowded");
    }

    /// A connection is gone, or never came about.
    pub(super) fn on_closed(&mut self, peer: Option<&PeerId>, id: ConnectionId) {
        self.guests.remove(&id);
        let Some(peer) = peer else { return };
        if let Some(of_peer) = self.members.get_mut(peer) {
            of_peer.remove(&id);
            if of_peer.is_empty() {
                self.members.remove(peer);
            }
        }
    }

    /// Notes the guests whose time is over; `true` when there is something to close.
    pub(super) fn sweep(&mut self) -> bool {
        let now_ms = self.clock.now_ms();
        for (id, guest) in &mut self.guests {
            if now_ms >= guest.until_ms {
                // Asked for once; it is gone when the swarm says so.
                guest.until_ms = u64::MAX;
                self.closing.push_back((guest.peer, CloseConnection::One(*id)));
            }
        }
        !self.closing.is_empty()
    }

    /// The next connection to be closed.
    pub(super) fn take_closing(&mut self) -> Option<(PeerId, CloseConnection)> {
        self.closing.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(|| false, MonotonicClock::start(), Metrics::new())
    }

    fn only(members: &[PeerId]) -> Policy {
        Policy::Members { live: members.iter().copied().collect(), removed: BTreeSet::new() }
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn members_only_once_they_are_known() {
        let mut gate = gate();
        let (member, stranger) = (PeerId::random(), PeerId::random());
        assert_eq!(gate.admit_inbound(id(1), stranger), Ok(Admitted::Member));
        gate.on_established(stranger, id(1));
        gate.on_established(member, id(2));
        gate.set_policy(only(&[member]));
        assert_eq!(gate.admit_inbound(id(3), stranger), Ok(Admitted::Guest));
        assert_eq!(gate.admit_outbound(&stranger), Err(Denied::NotAMember));
        assert_eq!(gate.admit_inbound(id(4), member), Ok(Admitted::Member));
        assert!(
            matches!(gate.take_closing(), Some((peer, CloseConnection::One(at))) if peer == stranger && at == id(1))
        );
        gate.on_closed(Some(&stranger), id(1));
        let removed = Policy::Members { live: BTreeSet::new(), removed: [member].into() };
        gate.set_policy(removed);
        assert!(gate.take_closing().is_some_and(|(peer, _)| peer == member), "it is cut off");
        assert_eq!(gate.admit_inbound(id(5), member), Err(Denied::NotAMember), "for ever");
        gate.set_policy(Policy::Closed);
        assert_eq!(gate.admit_inbound(id(5), stranger), Err(Denied::NotAMember));
    }

    #[test]
    fn connections_are_counted() {
        let mut gate = gate();
        let member = PeerId::random();
        for number in 0..STRANGERS_MAX {
            gate.on_established(PeerId::random(), id(number));
        }
        assert_eq!(
            gate.admit_inbound(id(50), member),
            Err(Denied::TooMany),
            "open gates are narrow"
        );
        gate.set_policy(only(&[member]));
        for number in 100..100 + CONNECTIONS_PER_PEER_MAX {
            assert_eq!(gate.admit_inbound(id(number), member), Ok(Admitted::Member));
            gate.on_established(member, id(number));
        }
        assert_eq!(gate.admit_inbound(id(200), member), Err(Denied::TooMany));
        gate.on_closed(Some(&member), id(100));
        assert_eq!(gate.admit_inbound(id(200), member), Ok(Admitted::Member));
    }

    #[test]
    fn a_peer_does_not_come_and_go_endlessly() {
        let mut gate = gate();
        let (member, other) = (PeerId::random(), PeerId::random());
        gate.set_policy(only(&[member, other]));
        let mut made = 0;
        for now_ms in (0..100_000).step_by(10) {
            if gate.decide_member(&member, now_ms).is_ok() {
                gate.count(member, now_ms);
                made += 1;
            }
        }
        assert!((50..=53).contains(&made), "{made}");
        assert_eq!(gate.decide_member(&member, 99_999), Err(Denied::TooFast));
        assert_eq!(gate.decide_member(&other, 99_999), Ok(()));
        gate.set_policy(only(&[other]));
        assert!(gate.rates.is_empty(), "who is no member is not counted");
    }

    #[test]
    fn while_memory_is_short_members_come_and_guests_do_not() {
        let mut gate = Gate::new(|| true, MonotonicClock::start(), Metrics::new());
        let (member, stranger) = (PeerId::random(), PeerId::random());
        gate.set_policy(only(&[member]));
        assert_eq!(gate.admit_inbound(id(1), stranger), Err(Denied::NoMemory));
        assert_eq!(gate.admit_inbound(id(2), member), Ok(Admitted::Member));
        assert_eq!(gate.admit_outbound(&member), Ok(()));
        assert!(!gate.is_guest(id(1)));
        let label = crate::metrics::Refusal { surface: "mesh", reason: "no_memory" };
        assert_eq!(gate.metrics.refused.get_or_create(&label).get(), 1);
    }

    #[test]
    fn guests_are_few_and_come_at_a_rate() {
        let mut gate = gate();
        let member = PeerId::random();
        gate.set_policy(only(&[member]));
        for number in 0..GUESTS_MAX {
            assert_eq!(gate.decide_inbound(&PeerId::random(), 1), Ok(Admitted::Guest));
            gate.guests.insert(id(number), Guest { peer: PeerId::random(), until_ms: 9 });
        }
        assert_eq!(gate.decide_inbound(&PeerId::random(), 1), Err(Denied::TooManyGuests));
        assert_eq!(gate.decide_inbound(&member, 1), Ok(Admitted::Member), "its place is its own");
        // They come and go, and come again: the rate holds.
        gate.guests.clear();
        let admitted = (0..100_000)
            .step_by(10)
            .filter(|now_ms| gate.decide_inbound(&PeerId::random(), *now_ms).is_ok())
            .count();
        assert!((100..=110).contains(&admitted), "{admitted}");
        let same = PeerId::random();
        gate.guests.insert(id(1), Guest { peer: same, until_ms: 9 });
        assert_eq!(gate.decide_inbound(&same, 200_000), Err(Denied::TooManyGuests), "once each");
    }

    #[test]
    fn guests_go_when_their_time_is_over() {
        let mut gate = gate();
        let (early, late, joined) = (PeerId::random(), PeerId::random(), PeerId::random());
        gate.set_policy(only(&[]));
        gate.guests.insert(id(1), Guest { peer: early, until_ms: 0 });
        gate.guests.insert(id(2), Guest { peer: late, until_ms: u64::MAX - 1 });
        gate.guests.insert(id(3), Guest { peer: joined, until_ms: u64::MAX - 1 });
        gate.set_policy(only(&[joined]));
        gate.sweep();
        gate.sweep();
        assert!(gate.take_closing().is_some_and(|(peer, _)| peer == early));
        assert!(gate.take_closing().is_none(), "told once");
        assert!(gate.guests[&id(3)].until_ms <= gate.clock.now_ms() + GUEST_NOW_MEMBER_MS_MAX);
        gate.on_closed(Some(&early), id(1));
        assert!(!gate.is_guest(id(1)) && gate.is_guest(id(2)));
    }
}
