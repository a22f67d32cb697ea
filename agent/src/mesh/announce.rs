//! Where a node can be reached, signed by it: what one node tells another over any other way.
//!
//! While NATS works, every node learns the others' addresses from there, so the mesh comes
//! together without anybody writing an address into a file. An announcement carries the site,
//! the node, its boot counter and a number that grows, and a signature by the node's key; who
//! forges or repeats one gains nothing, and addresses are hints in any case.

use std::collections::BTreeMap;

use bytes::Bytes;
use fleet_state::codec::{DecodeError, Reader, Writer};
use fleet_state::{NodeId, SiteUid};
use libp2p::identity::{Keypair, PublicKey};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, watch};

use super::addresses::ADDRESSES_PER_PEER_MAX;

const LABEL: &[u8] = b"flotilla mesh announcement v1";
const ADDRESS_BYTES_MAX: usize = 64;
const SIGNATURE_BYTES: usize = 64;
/// Bytes of the largest announcement.
pub(super) const ANNOUNCEMENT_BYTES_MAX: usize = 1_024;

/// Announcements that may wait for the event loop.
const HEARD_MAX: usize = 64;

/// What a node says of where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) node: NodeId,
    pub(super) boot: u64,
    pub(super) number: u64,
    pub(super) addresses: Vec<Multiaddr>,
}

/// Why an announcement is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed,
    /// The node is no member that is known.
    Unknown,
    BadSignature,
    /// One as new was heard before.
    Old,
    /// More than are checked in a second.
    TooMany,
}

impl Refused {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown_author",
            Self::BadSignature => "bad_signature",
            Self::Old => "old",
            Self::TooMany => "too_many",
        }
    }
}

impl Announcement {
    /// The announcement as bytes, signed; `None` when the key can't sign.
    pub(super) fn seal(&self, uid: SiteUid, keypair: &Keypair) -> Option<Vec<u8>> {
        let mut writer = Writer::new();
        writer.u64(self.node.get());
        writer.u64(self.boot);
        writer.u64(self.number);
        writer.count(self.addresses.len().min(ADDRESSES_PER_PEER_MAX));
        for address in self.addresses.iter().take(ADDRESSES_PER_PEER_MAX) {
            writer.bytes(address.as_ref());
        }
        let mut bytes = writer.into_vec();
        bytes.extend(keypair.sign(&signed(uid, &bytes)).ok()?);
        Some(bytes)
    }

    fn read(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let node = NodeId::new(reader.u64()?).ok_or(DecodeError::Invalid { what: "node" })?;
        let (boot, number) = (reader.u64()?, reader.u64()?);
        let count = reader.count(ADDRESSES_PER_PEER_MAX)?;
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let bytes = reader.bytes(ADDRESS_BYTES_MAX)?.to_vec();
            let bad = |_| DecodeError::Invalid { what: "address" };
            addresses.push(Multiaddr::try_from(bytes).map_err(bad)?);
        }
        reader.finish()?;
        Ok(Self { node, boot, number, addresses })
    }
}

/// What the signature is over.
fn signed(uid: SiteUid, body: &[u8]) -> Vec<u8> {
    [LABEL, uid.to_string().as_bytes(), body].concat()
}

/// Signatures checked within a second at most: whoever may publish here can forge as many as he
/// likes. Members tell a few in a minute.
const CHECKS_PER_SECOND: u32 = 32;

/// Counts the checks of the present second.
#[derive(Debug, Default)]
struct Checks {
    second: u64,
    made: u32,
}

impl Checks {
    fn may_check(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if self.second != second {
            *self = Self { second, made: 0 };
        }
        self.made = self.made.saturating_add(1);
        self.made <= CHECKS_PER_SECOND
    }
}

/// Takes announcements of members in, each at most once.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    checks: Checks,
    /// The newest of each; no more than there are members.
    newest: BTreeMap<NodeId, (u64, u64)>,
}

impl Announcements {
    /// Checks an announcement. `member` tells the key of a node.
    pub(super) fn open(
        &mut self,
        uid: SiteUid,
        bytes: &[u8],
        now_ms: u64,
        member: impl Fn(NodeId) -> Option<(PeerId, PublicKey)>,
    ) -> Result<(PeerId, Announcement), Refused> {
        if bytes.len() > ANNOUNCEMENT_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let (body, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(Refused::Malformed)?;
        let said = Announcement::read(body).map_err(|_| Refused::Malformed)?;
        let (peer, key) = member(said.node).ok_or(Refused::Unknown)?;
        let age = (said.boot, said.number);
        if self.newest.get(&said.node).is_some_and(|newest| age <= *newest) {
            return Err(Refused::Old);
        }
        if !self.checks.may_check(now_ms) {
            return Err(Refused::TooMany);
        }
        if !key.verify(&signed(uid, body), signature) {
            return Err(Refused::BadSignature);
        }
        self.newest.insert(said.node, age);
        Ok((peer, said))
    }

    /// Forgets nodes that are no members any more.
    pub(super) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.newest.retain(|node, _| keep(*node));
    }
}

/// The event loop's side: makes this node's announcement and takes those of others.
pub(super) struct Rendezvous {
    uid: SiteUid,
    keypair: Keypair,
    number: u64,
    announcements: Announcements,
    out: watch::Sender<Option<Bytes>>,
    heard: mpsc::Receiver<Bytes>,
}

/// The handle's side.
#[derive(Clone, Debug)]
pub(super) struct RendezvousHandle {
    pub(super) announcement: watch::Receiver<Option<Bytes>>,
    heard: mpsc::Sender<Bytes>,
}

impl RendezvousHandle {
    /// Hands on what came from another node. A flood is dropped.
    pub(super) fn hear(&self, bytes: Bytes) {
        let fits = bytes.len() <= ANNOUNCEMENT_BYTES_MAX;
        // What is too large is not kept; in its place comes what is refused and counted alike.
        let _dropped = self.heard.try_send(if fits { bytes } else { Bytes::new() });
    }
}

impl Rendezvous {
    pub(super) fn new(uid: SiteUid, keypair: Keypair) -> (RendezvousHandle, Self) {
        let (out, announcement) = watch::channel(None);
        let (heard_in, heard) = mpsc::channel(HEARD_MAX);
        let announcements = Announcements::default();
        let ours = Self { uid, keypair, number: 0, announcements, out, heard };
        (RendezvousHandle { announcement, heard: heard_in }, ours)
    }

    /// Says anew where this node can be reached.
    pub(super) fn announce(&mut self, node: NodeId, boot: u64, addresses: &[Multiaddr]) {
        self.number = self.number.saturating_add(1);
        let addresses = addresses.to_vec();
        let said = Announcement { node, boot, number: self.number, addresses };
        if let Some(bytes) = said.seal(self.uid, &self.keypair) {
            self.out.send_replace(Some(bytes.into()));
        }
    }

    /// The next announcement that came, unread.
    pub(super) async fn next(&mut self) -> Bytes {
        match self.heard.recv().await {
            Some(bytes) => bytes,
            // Every handle is gone, so nothing can come any more.
            None => std::future::pending().await,
        }
    }

    /// Checks one; see [`Announcements::open`].
    pub(super) fn open(
        &mut self,
        bytes: &[u8],
        now_ms: u64,
        member: impl Fn(NodeId) -> Option<(PeerId, PublicKey)>,
    ) -> Result<(PeerId, Announcement), Refused> {
        self.announcements.open(self.uid, bytes, now_ms, member)
    }

    /// Forgets nodes that are no members any more.
    pub(super) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.announcements.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> SiteUid {
        "00112233445566778899aabbccddeeff".parse().unwrap()
    }

    fn said(number: u64) -> Announcement {
        Announcement {
            node: NodeId::new(2).unwrap(),
            boot: 3,
            number,
            addresses: vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()],
        }
    }

    #[test]
    fn what_a_member_says_is_taken_once() {
        let keypair = Keypair::generate_ed25519();
        let member = |node: NodeId| {
            (node.get() == 2).then(|| (keypair.public().to_peer_id(), keypair.public()))
        };
        let mut heard = Announcements::default();
        let bytes = said(1).seal(uid(), &keypair).unwrap();
        let (peer, opened) = heard.open(uid(), &bytes, 1, member).unwrap();
        assert_eq!((peer, opened), (keypair.public().to_peer_id(), said(1)));
        assert_eq!(heard.open(uid(), &bytes, 1, member), Err(Refused::Old));
        let next = said(2).seal(uid(), &keypair).unwrap();
        assert_eq!(heard.open(uid(), &next, 1, |_| None), Err(Refused::Unknown));
        let other: SiteUid = "ffffffffffffffffffffffffffffffff".parse().unwrap();
        assert_eq!(heard.open(other, &next, 1, member), Err(Refused::BadSignature));
        let forged = said(9).seal(uid(), &Keypair::generate_ed25519()).unwrap();
        assert_eq!(heard.open(uid(), &forged, 1, member), Err(Refused::BadSignature));
        assert!(heard.open(uid(), &next, 1, member).is_ok(), "a forged one spoils nothing");
    }

    #[test]
    fn anything_else_is_refused() {
        let keypair = Keypair::generate_ed25519();
        let member = |_| Some((keypair.public().to_peer_id(), keypair.public()));
        let good = said(1).seal(uid(), &keypair).unwrap();
        assert!(good.len() < ANNOUNCEMENT_BYTES_MAX);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Announcements::default().open(uid(), &bad, 1, member).is_err(), "byte {at}");
            assert!(Announcements::default().open(uid(), &good[..at], 1, member).is_err());
        }
        let flood = vec![0; 100_000];
        assert_eq!(
            Announcements::default().open(uid(), &flood, 1, member),
            Err(Refused::Malformed)
        );
    }

    #[test]
    fn forged_ones_cost_so_many_checks_in_a_second() {
        let keypair = Keypair::generate_ed25519();
        let member = |_| Some((keypair.public().to_peer_id(), keypair.public()));
        let forged = said(u64::MAX).seal(uid(), &Keypair::generate_ed25519()).unwrap();
        let mut heard = Announcements::default();
        for at in 0..2 * CHECKS_PER_SECOND {
            let refused = heard.open(uid(), &forged, 5_999, member);
            let why = if at < CHECKS_PER_SECOND { Refused::BadSignature } else { Refused::TooMany };
            assert_eq!(refused, Err(why));
        }
        let good = said(1).seal(uid(), &keypair).unwrap();
        assert_eq!(heard.open(uid(), &good, 5_999, member), Err(Refused::TooMany));
        assert!(heard.open(uid(), &good, 6_000, member).is_ok(), "what it is told again counts");
    }
}
