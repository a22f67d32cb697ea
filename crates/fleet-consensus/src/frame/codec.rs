//! The two halves that turn payloads into sealed frames and back, and what they know together.

use ed25519_dalek::VerifyingKey;
use fleet_state::{NodeId, NodeKeys, SiteUid};
use x25519_dalek::StaticSecret;

use super::{
    credential::Credential,
    keyring::{KeyError, Keyring},
    limits::{BOOT_MAX, CREDENTIAL_CHECKS_PER_SECOND, GREETING_GAP_MS},
    payload::Payload,
    route::Arrival,
};

/// Who this node is, and what it starts with.
pub struct FrameIdentity {
    /// The site.
    pub site: SiteUid,
    /// The public half of the site key, which signs credentials.
    pub site_public_key: [u8; 32],
    /// This node.
    pub me: NodeId,
    /// Its boot counter: written to disk before this start, higher than at any start before; from 1.
    pub boot: u64,
    /// Fresh random bytes of this start. Should the boot counter ever be set back, nonces still differ.
    pub salt: [u8; 8],
    /// The secret half of this node's exchange key.
    pub exchange_secret: [u8; 32],
    /// What this node shows to strangers, once it has it.
    pub credential: Option<Credential>,
}

/// Why a codec could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The site's public key is not a point that can sign.
    #[error("the site's public key is not a valid Ed25519 key")]
    SiteKey,
    /// The boot counter is 0 or beyond what a nonce can hold.
    #[error("the boot counter is {0}; it must be between 1 and {BOOT_MAX}")]
    Boot(u64),
}

/// A payload that came in one or more verified frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it.
    pub from: NodeId,
    /// In which of its starts.
    pub boot: u64,
    /// How it came.
    pub arrival: Arrival,
    /// What it says.
    pub payload: Payload,
}

/// Seals for and opens from all other nodes of the site.
pub struct FrameCodec {
    pub(super) site: SiteUid,
    pub(super) site_key: VerifyingKey,
    pub(super) me: NodeId,
    pub(super) boot: u64,
    pub(super) salt: [u8; 8],
    pub(super) credential: Option<Credential>,
    pub(super) keyring: Keyring,
    /// The last sequence given out. One for all receivers and classes, so that no nonce of this start is used twice
    /// even when a node leaves the keyring and comes back.
    pub(super) sequence: u64,
    pub(super) checks: CheckBudget,
    pub(super) swept_ms: u64,
}

impl FrameCodec {
    /// A codec that knows nobody yet.
    ///
    /// # Errors
    /// The identity makes no sense.
    pub fn new(identity: FrameIdentity) -> Result<Self, IdentityError> {
        if identity.boot == 0 || identity.boot > BOOT_MAX {
            return Err(IdentityError::Boot(identity.boot));
        }
        let site_key = VerifyingKey::from_bytes(&identity.site_public_key)
            .map_err(|_| IdentityError::SiteKey)?;
        if site_key.is_weak() {
            return Err(IdentityError::SiteKey);
        }
        let secret = StaticSecret::from(identity.exchange_secret);
        Ok(Self {
            site: identity.site,
            site_key,
            me: identity.me,
            boot: identity.boot,
            salt: identity.salt,
            credential: identity.credential,
            keyring: Keyring::new(identity.site, identity.me, secret),
            sequence: 0,
            checks: CheckBudget::default(),
            swept_ms: 0,
        })
    }

    /// Takes in a member's record. The same record again changes nothing. A node not heard from is greeted.
    ///
    /// # Errors
    /// The node was removed, is this one, or its key is worth nothing.
    pub fn upsert(&mut self, node: NodeId, keys: &NodeKeys) -> Result<(), KeyError> {
        self.keyring.upsert(node, keys)
    }

    /// From now on and for ever this node is refused.
    pub fn remove(&mut self, node: NodeId) {
        self.keyring.remove(node);
    }

    /// What this node shows from now on to nodes that it has not heard from.
    pub fn set_credential(&mut self, credential: Credential) {
        self.credential = Some(credential);
    }

    /// Whether frames can be sealed for the node.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.keyring.get(node).is_some()
    }

    /// When something genuine last came from the node.
    #[must_use]
    pub fn heard_ms(&self, node: NodeId) -> Option<u64> {
        self.keyring.get(node).and_then(|peer| peer.heard.as_ref().map(|_| peer.last_ms))
    }

    /// The node's boot counter, as last heard.
    #[must_use]
    pub fn boot_of(&self, node: NodeId) -> Option<u64> {
        self.keyring.get(node).and_then(|peer| peer.heard.as_ref().map(|heard| heard.boot))
    }

    /// Nodes to which a [`Payload::Hello`] should be sent now: those new in the keyring, and those that still seal for
    /// an earlier start of this node. To be asked after each opening and at each tick.
    pub fn take_greetings(&mut self, now_ms: u64) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = Vec::new();
        for (node, peer) in self.keyring.iter_mut() {
            let greeting = &mut peer.greeting;
            let rested =
                greeting.sent_ms.is_none_or(|sent| now_ms.saturating_sub(sent) >= GREETING_GAP_MS);
            if greeting.due && rested {
                greeting.due = false;
                greeting.sent_ms = Some(now_ms);
                nodes.push(node);
            }
        }
        nodes.sort_unstable();
        nodes
    }

    /// No way took the greeting of this node: it is due again, after the usual gap.
    pub fn greeting_failed(&mut self, node: NodeId) {
        if let Some(peer) = self.keyring.get_mut(node) {
            peer.greeting.due = true;
        }
    }
}

/// Bounds the signatures that strangers can make this node check.
#[derive(Default)]
pub(super) struct CheckBudget {
    second: u64,
    used: u32,
}

impl CheckBudget {
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if second != self.second {
            *self = Self { second, used: 0 };
        }
        self.used = self.used.saturating_add(1);
        self.used <= CREDENTIAL_CHECKS_PER_SECOND
    }
}
