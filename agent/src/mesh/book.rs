//! The address book: where peers may be found, and when to try again. Pure; time comes in.
//!
//! An address has a source. One on which the peer was reached beats one that the operator
//! wrote, which beats what the local network, the last run or the peer itself says. A peer
//! keeps a few addresses; worse and older ones give way.
//!
//! One attempt may be several dials at once; it has failed when the last of them has, and counts
//! once. Redialling backs off per peer, and the peer with the smaller id calls first: when two come
//! back at the same time they make one connection, not two.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::addresses::ADDRESSES_PER_PEER_MAX;

/// Addresses that one attempt goes through.
const ADDRESSES_PER_DIAL_MAX: usize = 4;
/// Peers in the book; members are fewer.
const PEERS_MAX: usize = 1_024;
/// Wait after the first failure; it doubles up to the longest.
const RETRY_MS_MIN: u64 = 250;
const RETRY_MS_MAX: u64 = 8_000;
/// Head start of the peer with the smaller id.
const COURTESY_MS: u64 = 400;

/// Where an address comes from, the better ones last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The peer, or another one, says so.
    Claimed,
    /// It was good in an earlier run.
    Kept,
    /// The local network says so.
    Local,
    /// The operator wrote it.
    Configured,
    /// The peer was reached there.
    Proven,
}

#[derive(Clone, Debug)]
struct Known {
    address: Multiaddr,
    source: Source,
    learnt_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Card {
    known: Vec<Known>,
    failures: u32,
    due_ms: u64,
    /// Dials of the present attempt that have not ended; what the library dials is not among them.
    under_way: BTreeSet<ConnectionId>,
}

/// Addresses of peers, and when to dial them.
#[derive(Debug)]
pub(super) struct Book {
    me: PeerId,
    cards: BTreeMap<PeerId, Card>,
}

impl Book {
    /// An empty book of this peer.
    pub(super) const fn new(me: PeerId) -> Self {
        Self { me, cards: BTreeMap::new() }
    }

    /// Adds an address, or raises its standing; `true` when it was not known.
    pub(super) fn learn(
        &mut self,
        peer: PeerId,
        address: Multiaddr,
        source: Source,
        now_ms: u64,
    ) -> bool {
        if peer == self.me || (self.cards.len() >= PEERS_MAX && !self.cards.contains_key(&peer)) {
            return false;
        }
        let card = self.cards.entry(peer).or_default();
        if let Some(known) = card.known.iter_mut().find(|known| known.address == address) {
            known.source = known.source.max(source);
            known.learnt_ms = now_ms;
            return false;
        }
        // The worst makes room, and never the newest: one that was proven years ago may be
        // nobody's by now, and the one that is told now the only one that is right.
        card.known.truncate(ADDRESSES_PER_PEER_MAX - 1);
        card.known.push(Known { address, source, learnt_ms: now_ms });
        card.known.sort_by_key(|known| std::cmp::Reverse((known.source, known.learnt_ms)));
        // News are worth an attempt.
        card.due_ms = card.due_ms.min(now_ms.saturating_add(RETRY_MS_MIN));
        true
    }

    /// A connection to the peer stands; `address` is where it was reached, if it was dialled.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        address: Option<Multiaddr>,
        now_ms: u64,
    ) {
        if let Some(address) = address {
            self.learn(peer, address, Source::Proven, now_ms);
        }
        if let Some(card) = self.cards.get_mut(&peer) {
            card.failures = 0;
            card.under_way.remove(&id);
        }
    }

    /// The last connection to the peer is gone.
    pub(super) fn disconnected(&mut self, peer: PeerId, now_ms: u64) {
        let courtesy_ms = self.courtesy_ms(&peer);
        if let Some(card) = self.cards.get_mut(&peer) {
            card.failures = 0;
            card.due_ms = now_ms.saturating_add(courtesy_ms);
        }
    }

    /// The next attempt is due now, whoever's turn it is.
    pub(super) fn at_once(&mut self, peer: PeerId, now_ms: u64) {
        if let Some(card) = self.cards.get_mut(&peer) {
            card.due_ms = now_ms;
        }
    }

    /// The peer is being dialled.
    pub(super) fn begun(&mut self, peer: PeerId, id: ConnectionId) {
        if let Some(card) = self.cards.get_mut(&peer) {
            card.under_way.insert(id);
        }
    }

    /// A dial has failed; the attempt has, if it was the last one of it.
    pub(super) fn failed(&mut self, peer: PeerId, id: ConnectionId, now_ms: u64) {
        let spread_ms = spread_ms(&self.me, &peer);
        let card = self.cards.get_mut(&peer);
        let card = card.filter(|card| card.under_way.contains(&id));
        if let Some(card) = card {
            card.under_way.remove(&id);
            if !card.under_way.is_empty() {
                return;
            }
            let wait_ms = RETRY_MS_MIN.checked_shl(card.failures.min(16)).unwrap_or(RETRY_MS_MAX);
            card.failures = card.failures.saturating_add(1);
            card.due_ms = now_ms.saturating_add(wait_ms.min(RETRY_MS_MAX) + spread_ms);
        }
    }

    /// The peer may be dialled at once again: something suggests that it is there.
    pub(super) fn hurry(&mut self, peer: PeerId, now_ms: u64) {
        let courtesy_ms = self.courtesy_ms(&peer);
        if let Some(card) = self.cards.get_mut(&peer) {
            card.due_ms = card.due_ms.min(now_ms.saturating_add(courtesy_ms));
        }
    }

    /// The addresses to dial now, best first, if an attempt is due. It counts as begun.
    pub(super) fn take_due(&mut self, peer: &PeerId, now_ms: u64) -> Option<Vec<Multiaddr>> {
        let card = self.cards.get_mut(peer)?;
        if card.known.is_empty() || now_ms < card.due_ms {
            return None;
        }
        // Until its end is told no other attempt is made.
        card.due_ms = now_ms.saturating_add(RETRY_MS_MAX);
        card.known.sort_by_key(|known| std::cmp::Reverse((known.source, known.learnt_ms)));
        // The first attempt goes to the best, the next one to those behind them, and so on round.
        let shift = usize::try_from(card.failures).unwrap_or(0) * ADDRESSES_PER_DIAL_MAX;
        let number = card.known.len();
        let turn = card.known.iter().cycle().skip(shift.checked_rem(number).unwrap_or(0));
        let turn = turn.take(number.min(ADDRESSES_PER_DIAL_MAX));
        Some(turn.map(|known| known.address.clone()).collect())
    }

    /// Somebody else has answered at this address. What the operator wrote is kept: it is for him
    /// to change, and who lives there may come back.
    pub(super) fn wrong(&mut self, peer: PeerId, address: &Multiaddr) {
        if let Some(card) = self.cards.get_mut(&peer) {
            let stays =
                |known: &Known| known.address != *address || known.source == Source::Configured;
            card.known.retain(stays);
        }
    }

    /// The addresses of a peer.
    pub(super) fn addresses_of(&self, peer: &PeerId) -> impl Iterator<Item = &Multiaddr> {
        let known = self.cards.get(peer).map(|card| card.known.iter());
        known.into_iter().flatten().map(|known| &known.address)
    }

    /// Its addresses on this machine.
    pub(super) fn addresses_at(&self, peer: &PeerId, ip: IpAddr) -> Vec<Multiaddr> {
        let here = self.addresses_of(peer).filter(|address| address.ip_addr() == Some(ip));
        here.take(ADDRESSES_PER_DIAL_MAX).cloned().collect()
    }

    /// Where peers are.
    pub(super) fn ips(&self) -> BTreeSet<IpAddr> {
        let known = self.cards.values().flat_map(|card| &card.known);
        known.filter_map(|known| known.address.ip_addr()).collect()
    }

    /// Whether any address of the peer is known.
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.cards.get(peer).is_some_and(|card| !card.known.is_empty())
    }

    /// Drops the cards of all others.
    pub(super) fn retain(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.cards.retain(|peer, _| keep(peer));
    }

    /// Every peer with its addresses, best first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, impl Iterator<Item = &Multiaddr>)> {
        self.cards.iter().map(|(peer, card)| (peer, card.known.iter().map(|known| &known.address)))
    }

    fn courtesy_ms(&self, peer: &PeerId) -> u64 {
        if self.me < *peer { 0 } else { COURTESY_MS }
    }
}

/// Attempts of different pairs must not come in step; any function of both will do.
fn spread_ms(me: &PeerId, peer: &PeerId) -> u64 {
    let sum = |id: &PeerId| id.to_bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>();
    (sum(me).wrapping_mul(31).wrapping_add(sum(peer))) % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    /// An attempt of one dial that fails.
    fn fail(book: &mut Book, peer: PeerId, now_ms: u64) {
        book.begun(peer, id(1));
        book.failed(peer, id(1), now_ms);
    }

    fn pair() -> (PeerId, PeerId) {
        let (a, b) = (PeerId::random(), PeerId::random());
        (a.min(b), a.max(b))
    }

    #[test]
    fn better_addresses_come_first_and_worse_give_way() {
        let (me, peer) = pair();
        let mut book = Book::new(me);
        for port in 0..20 {
            book.learn(peer, at(port), Source::Claimed, u64::from(port));
        }
        book.learn(peer, at(100), Source::Configured, 1);
        book.connected(peer, id(1), Some(at(15)), 100);
        let due = book.take_due(&peer, 1_000).unwrap();
        assert_eq!(due.len(), ADDRESSES_PER_DIAL_MAX);
        assert_eq!(due[..2], [at(15), at(100)]);
        let (_, all) = book.iter().next().unwrap();
        assert_eq!(all.count(), ADDRESSES_PER_PEER_MAX);
        assert!(!book.learn(me, at(1), Source::Configured, 1), "oneself is nobody to call");
        assert!(!book.knows(&me));
    }

    #[test]
    fn attempts_back_off_and_begin_anew() {
        let (me, peer) = pair();
        let mut book = Book::new(me);
        book.learn(peer, at(1), Source::Kept, 0);
        let mut now_ms = 0;
        let mut attempts = Vec::new();
        while now_ms < 60_000 {
            if book.take_due(&peer, now_ms).is_some() {
                attempts.push(now_ms);
                fail(&mut book, peer, now_ms);
            }
            now_ms += 10;
        }
        assert!((9..=14).contains(&attempts.len()), "{attempts:?}");
        book.disconnected(peer, now_ms);
        assert!(book.take_due(&peer, now_ms).is_some(), "at once after a connection was lost");
        assert!(book.take_due(&peer, now_ms + 1_000).is_none(), "one attempt at a time");
        book.hurry(peer, now_ms);
        assert!(book.take_due(&peer, now_ms).is_some());
    }

    #[test]
    fn an_attempt_of_two_dials_fails_once_and_at_its_end() {
        let (me, peer) = pair();
        let mut book = Book::new(me);
        book.learn(peer, at(1), Source::Proven, 0);
        let next = |book: &Book| book.cards[&peer].due_ms - 1_000;
        for (dials, failed) in [(vec![1], vec![1]), (vec![1, 2], vec![1, 2]), (vec![1], vec![7, 1])]
        {
            book.connected(peer, id(99), None, 1_000);
            book.disconnected(peer, 1_000);
            assert!(book.take_due(&peer, 1_000).is_some());
            dials.iter().for_each(|dial| book.begun(peer, id(*dial)));
            // What the library dialled by itself is no attempt of this node's.
            let (last, before) = failed.split_last().unwrap();
            before.iter().for_each(|dial| book.failed(peer, id(*dial), 1_000));
            assert_eq!(next(&book), RETRY_MS_MAX, "{dials:?}: not all have ended");
            book.failed(peer, id(*last), 1_000);
            let wait_ms = RETRY_MS_MIN..RETRY_MS_MIN + 100;
            assert!(wait_ms.contains(&next(&book)), "{dials:?}: in {}", next(&book));
        }
        // One of the two succeeds.
        book.connected(peer, id(99), None, 1_000);
        book.begun(peer, id(1));
        book.begun(peer, id(2));
        book.connected(peer, id(1), None, 1_000);
        book.failed(peer, id(2), 1_000);
        assert!(book.cards[&peer].under_way.is_empty());
    }

    #[test]
    fn an_address_where_somebody_else_lives_is_dropped() {
        let (me, peer) = pair();
        let mut book = Book::new(me);
        book.learn(peer, at(1), Source::Proven, 0);
        book.learn(peer, at(2), Source::Configured, 0);
        for port in [1, 2, 3] {
            book.wrong(peer, &at(port));
        }
        assert!(book.addresses_of(&peer).eq([&at(2)]), "what the operator wrote is his");
    }

    #[test]
    fn every_address_has_its_turn() {
        let (me, peer) = pair();
        let mut book = Book::new(me);
        for port in 1..=6 {
            book.learn(peer, at(port), Source::Claimed, u64::from(port));
        }
        let mut now_ms = 0;
        let mut dialled = Vec::new();
        for _ in 0..3 {
            now_ms += 60_000;
            let turn = book.take_due(&peer, now_ms).unwrap();
            assert_eq!(turn.len(), ADDRESSES_PER_DIAL_MAX);
            dialled.push(turn);
            fail(&mut book, peer, now_ms);
        }
        assert_eq!(dialled[0], [at(6), at(5), at(4), at(3)]);
        assert_eq!(dialled[1], [at(2), at(1), at(6), at(5)]);
        book.connected(peer, id(1), None, now_ms);
        book.disconnected(peer, now_ms);
        assert_eq!(book.take_due(&peer, now_ms + 1_000).unwrap(), dialled[0], "the best again");
    }

    #[test]
    fn the_smaller_id_calls_first() {
        let (small, large) = pair();
        for (me, peer, wait_ms) in [(small, large, 0), (large, small, COURTESY_MS)] {
            let mut book = Book::new(me);
            book.learn(peer, at(1), Source::Proven, 0);
            book.disconnected(peer, 1_000);
            assert_eq!(book.take_due(&peer, 1_000 + wait_ms / 2).is_some(), wait_ms == 0);
            assert_eq!(book.take_due(&peer, 1_000 + wait_ms).is_some(), wait_ms != 0);
        }
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = Book::new(PeerId::random());
        for _ in 0..PEERS_MAX + 10 {
            book.learn(PeerId::random(), at(1), Source::Claimed, 0);
        }
        assert_eq!(book.iter().count(), PEERS_MAX);
        book.retain(|_| false);
        assert_eq!(book.iter().count(), 0);
    }
}
