//! Which peer is which node: what the replicated member records say, in the mesh's words.

use std::collections::{BTreeMap, BTreeSet};

use fleet_consensus::View;
use fleet_state::{Digest, NodeId, Role};
use libp2p::PeerId;
use libp2p::identity::PublicKey;

use super::gate::Policy;
use super::identity::public_key;

/// The live members of the site but this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roster {
    by_peer: BTreeMap<PeerId, NodeId>,
    keys: BTreeMap<NodeId, PublicKey>,
    /// Those that were removed.
    gone: BTreeSet<PeerId>,
    /// Whether any member record is there at all.
    known: bool,
    /// Whether this node is no member any more.
    removed: bool,
    /// Of the member records that all this was read from.
    read_from: Option<Digest>,
}

impl Roster {
    /// The roster in a view of the replicated state.
    pub(super) fn of(view: &View, me: NodeId) -> Self {
        let read_from = Some(view.state.members_digest());
        let mut roster = Self { read_from, ..Self::default() };
        for member in view.state.members() {
            roster.known = true;
            let removed = member.role == Role::Removed;
            if member.id == me {
                roster.removed = removed;
            } else if let Some(key) = public_key(&member.keys.sign) {
                if removed {
                    roster.gone.insert(key.to_peer_id());
                    continue;
                }
                roster.by_peer.insert(key.to_peer_id(), member.id);
                roster.keys.insert(member.id, key);
            }
        }
        roster
    }

    /// Whether a view says the same. Most do: reading keys for each would be most of the work.
    pub(super) fn agrees_with(&self, view: &View) -> bool {
        self.read_from == Some(view.state.members_digest())
    }

    /// Whether the members are known; a node that has just joined has none of their records.
    pub(super) const fn is_known(&self) -> bool {
        self.known
    }

    /// The node behind a peer.
    pub(super) fn node_of(&self, peer: &PeerId) -> Option<NodeId> {
        self.by_peer.get(peer).copied()
    }

    /// The peer behind a node, and its key.
    pub(super) fn key_of(&self, node: NodeId) -> Option<(PeerId, PublicKey)> {
        let key = self.keys.get(&node)?;
        Some((key.to_peer_id(), key.clone()))
    }

    /// The other live members.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&PeerId, NodeId)> {
        self.by_peer.iter().map(|(peer, node)| (peer, *node))
    }

    /// Which peer is which node.
    pub(super) fn by_peer(&self) -> BTreeMap<PeerId, NodeId> {
        self.by_peer.clone()
    }

    /// Whom the gate lets in. A removed node keeps away by itself.
    pub(super) fn policy(&self) -> Policy {
        match (self.known, self.removed) {
            (false, _) => Policy::Open,
            (true, true) => Policy::Closed,
            (true, false) => Policy::Members {
                live: self.by_peer.keys().copied().collect(),
                removed: self.gone.clone(),
            },
        }
    }
}
