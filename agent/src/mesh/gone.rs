//! Nodes whose process is gone, as far as their machine can say. Pure; time comes in.
//!
//! When a process ends, its machine closes its connections and from then on refuses new ones.
//! Both together, shortly one after the other, are taken as a word that the process is gone. A
//! refusal alone says nothing: a node may have no mesh, or a firewall may answer in its place.
//! And one word is all there is for each lost connection: refusals that follow are no news.
//!
//! It is a word and no proof; the replica weighs it against what it hears of the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::NodeId;
use libp2p::PeerId;

/// A refusal later than this after the connection was lost has nothing to do with its loss. The
/// first attempt is made at once, and a second one soon after.
const REFUSED_WITHIN_MS: u64 = 1_000;

/// When such nodes refused a connection, by this node's monotonic clock.
pub type Refusals = Arc<BTreeMap<NodeId, u64>>;

/// Whose connections were lost, and when.
#[derive(Debug, Default)]
pub(super) struct Lost {
    since_ms: BTreeMap<PeerId, u64>,
}

impl Lost {
    /// The last connection of a member is gone.
    pub(super) fn lost(&mut self, peer: PeerId, now_ms: u64) {
        self.since_ms.insert(peer, now_ms);
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        self.since_ms.remove(peer);
    }

    /// An attempt was refused; `true` when that is the word that its process is gone.
    pub(super) fn refused(&mut self, peer: &PeerId, now_ms: u64) -> bool {
        let since_ms = self.since_ms.remove(peer);
        since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) <= REFUSED_WITHIN_MS)
    }

    /// Forgets those that are no members.
    pub(super) fn retain(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.since_ms.retain(|peer, _| keep(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_right_after_a_loss_is_a_word_and_only_once() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let mut lost = Lost::default();
        assert!(!lost.refused(&peer, 10), "it was never connected");
        lost.lost(peer, 1_000);
        assert!(!lost.refused(&other, 1_001));
        assert!(lost.refused(&peer, 1_001));
        for at_ms in [1_002, 1_300, 9_000] {
            assert!(!lost.refused(&peer, at_ms), "no news");
        }
        lost.lost(peer, 10_000);
        assert!(!lost.refused(&peer, 10_001 + REFUSED_WITHIN_MS), "about something else");
        lost.lost(peer, 20_000);
        lost.connected(&peer);
        assert!(!lost.refused(&peer, 20_001), "it is there");
        lost.lost(peer, 30_000);
        lost.retain(|_| false);
        assert!(!lost.refused(&peer, 30_001), "it is no member");
    }
}
