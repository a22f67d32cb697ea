//! Who may speak to this node, and under which keys.
//!
//! Two nodes share a secret by X25519 between their long-lived exchange keys. From it comes one key for each direction,
//! by HKDF-SHA256 with the site uid as salt and the two ids in the info: a frame can't be sent back to its maker, nor
//! carried to another site. Keys are derived once and kept.
//!
//! A member is known from its replicated record. A node that lags may not have that record yet; a stranger that shows a
//! credential signed by the site is kept apart in a small table until the record comes. A removed id is refused for
//! ever: ids are never given twice, so the list of them only grows by as many as were ever removed.

use std::collections::{BTreeMap, BTreeSet};

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use fleet_state::{NodeId, NodeKeys, SiteUid};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{
    limits::{MEMBERS_MAX, PROVISIONAL_IDLE_MS, PROVISIONAL_MAX},
    window::Heard,
};

const KEY_INFO: &[u8] = b"flotilla frame v1";

/// Why a node's keys were not taken into the keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The node was removed.
    #[error("node {0} was removed from the site; its id is never used again")]
    Removed(NodeId),
    /// The public key is one of the few that give no secret.
    #[error("the exchange key of node {0} is of low order and protects nothing")]
    WeakKey(NodeId),
    /// It is this node itself.
    #[error("node {0} is this node itself")]
    Myself(NodeId),
    /// More members than a site may have.
    #[error("the keyring is full with {MEMBERS_MAX} members")]
    Full,
}

/// One other node.
pub(super) struct Peer {
    exchange: [u8; 32],
    pub(super) seal: XChaCha20Poly1305,
    pub(super) open: XChaCha20Poly1305,
    /// What was heard from it, once something was.
    pub(super) heard: Option<Heard>,
    /// When a frame came from it that was sealed for this start of ours.
    pub(super) fresh_ms: Option<u64>,
    /// When anything genuine came from it.
    pub(super) last_ms: u64,
    pub(super) greeting: Greeting,
    provisional: bool,
}

/// Whether a node is to be greeted, so that it learns of our present start.
#[derive(Default)]
pub(super) struct Greeting {
    pub(super) due: bool,
    pub(super) sent_ms: Option<u64>,
}

/// Keys and standing of all other nodes.
pub(super) struct Keyring {
    site: SiteUid,
    me: NodeId,
    secret: StaticSecret,
    peers: BTreeMap<NodeId, Peer>,
    removed: BTreeSet<NodeId>,
}

impl Keyring {
    pub(super) fn new(site: SiteUid, me: NodeId, secret: StaticSecret) -> Self {
        Self { site, me, secret, peers: BTreeMap::new(), removed: BTreeSet::new() }
    }

    /// Takes in a member's record. The same keys again change nothing; a node known by its credential becomes a member.
    pub(super) fn upsert(&mut self, node: NodeId, keys: &NodeKeys) -> Result<(), KeyError> {
        if self.removed.contains(&node) {
            return Err(KeyError::Removed(node));
        }
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.exchange == keys.exchange
        {
            peer.provisional = false;
            return Ok(());
        }
        if !self.peers.contains_key(&node) && self.peers.len() >= MEMBERS_MAX + PROVISIONAL_MAX {
            return Err(KeyError::Full);
        }
        let mut peer = self.derive(node, keys)?;
        peer.greeting.due = true;
        self.peers.insert(node, peer);
        Ok(())
    }

    /// A removed node is refused for ever.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.peers.remove(&node);
        self.removed.insert(node);
    }

    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.peers.iter_mut().map(|(node, peer)| (*node, peer))
    }

    /// The keys of a stranger whose credential was verified; it is not yet in any table.
    pub(super) fn stranger(&self, node: NodeId, keys: &NodeKeys) -> Result<Peer, KeyError> {
        let mut peer = self.derive(node, keys)?;
        peer.provisional = true;
        Ok(peer)
    }

    /// Keeps a stranger whose seal was verified too. False when the table is full of nodes that are being heard.
    pub(super) fn admit(&mut self, node: NodeId, peer: Peer, now_ms: u64) -> bool {
        let count = self.peers.values().filter(|known| known.provisional).count();
        if count >= PROVISIONAL_MAX {
            let idle = self
                .peers
                .iter()
                .filter(|(_, known)| known.provisional)
                .filter(|(_, known)| now_ms.saturating_sub(known.last_ms) > PROVISIONAL_IDLE_MS)
                .min_by_key(|(node, known)| (known.last_ms, **node))
                .map(|(node, _)| *node);
            match idle {
                Some(node) => self.peers.remove(&node),
                None => return false,
            };
        }
        self.peers.insert(node, peer);
        true
    }

    fn derive(&self, node: NodeId, keys: &NodeKeys) -> Result<Peer, KeyError> {
        if node == self.me {
            return Err(KeyError::Myself(node));
        }
        let shared = self.secret.diffie_hellman(&PublicKey::from(keys.exchange));
        if !shared.was_contributory() {
            return Err(KeyError::WeakKey(node));
        }
        let hkdf = Hkdf::<Sha256>::new(Some(self.site.as_bytes()), shared.as_bytes());
        let direction = |from: NodeId, to: NodeId| {
            let (from, to) = (from.get().to_be_bytes(), to.get().to_be_bytes());
            let mut key = chacha20poly1305::Key::default();
            // The only error is an output of more than 255 hashes.
            hkdf.expand_multi_info(&[KEY_INFO, &from, &to], &mut key)
                .map_err(|_| KeyError::WeakKey(node))?;
            Ok(XChaCha20Poly1305::new(&key))
        };
        Ok(Peer {
            exchange: keys.exchange,
            seal: direction(self.me, node)?,
            open: direction(node, self.me)?,
            heard: None,
            fresh_ms: None,
            last_ms: 0,
            greeting: Greeting::default(),
            provisional: false,
        })
    }
}
