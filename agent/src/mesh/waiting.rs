//! Connections from outside that are in their handshake: whose they are is not known yet.
//!
//! The library holds a bounded number of them, and one that says nothing holds its place for
//! seconds. So strangers must not take all: there are places for addresses where members are,
//! and no single address gets many. Pure; who asks says what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use libp2p::swarm::ConnectionId;

/// Places for addresses of which nothing is known, of all that there are.
const STRANGERS_MAX: usize = 32;
/// Places for one address: of strangers, and of members, who may share one.
const PER_STRANGER_MAX: usize = 8;
const PER_MEMBER_MAX: usize = 16;

/// There is no place for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded;

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many connections from there are being made")
    }
}

impl std::error::Error for Crowded {}

/// The connections under way. Their number is bounded by the library.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    known: BTreeSet<IpAddr>,
    under_way: BTreeMap<ConnectionId, IpAddr>,
}

impl Waiting {
    /// Where members are, as far as is known.
    pub(super) fn set_known(&mut self, known: BTreeSet<IpAddr>) {
        self.known = known;
    }

    /// One begins.
    pub(super) fn begin(&mut self, id: ConnectionId, from: IpAddr) -> Result<(), Crowded> {
        let is_known = self.known.contains(&from);
        let of_it = self.under_way.values().filter(|ip| **ip == from).count();
        let most = if is_known { PER_MEMBER_MAX } else { PER_STRANGER_MAX };
        let strangers = self.under_way.values().filter(|ip| !self.known.contains(ip)).count();
        if of_it >= most || (!is_known && strangers >= STRANGERS_MAX) {
            return Err(Crowded);
        }
        self.under_way.insert(id, from);
        Ok(())
    }

    /// One has come to its end, whichever.
    pub(super) fn ended(&mut self, id: ConnectionId) {
        self.under_way.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_places_for_members() {
        let member: IpAddr = "10.0.0.1".parse().unwrap();
        let stranger = |number: u8| IpAddr::from([192, 168, 1, number]);
        let mut waiting = Waiting::default();
        waiting.set_known(BTreeSet::from([member]));
        let mut next = 0;
        let mut begin = |waiting: &mut Waiting, from| {
            next += 1;
            waiting.begin(ConnectionId::new_unchecked(next), from).is_ok()
        };
        let one = (0..20).filter(|_| begin(&mut waiting, stranger(1))).count();
        assert_eq!(one, PER_STRANGER_MAX);
        let all = one + (2..200).filter(|number| begin(&mut waiting, stranger(*number))).count();
        assert_eq!(all, STRANGERS_MAX);
        let members = (0..40).filter(|_| begin(&mut waiting, member)).count();
        assert_eq!(members, PER_MEMBER_MAX, "they have places of their own");
        // The first one is given up.
        waiting.ended(ConnectionId::new_unchecked(1));
        assert!(begin(&mut waiting, stranger(1)));
        assert!(!begin(&mut waiting, stranger(1)));
    }
}
