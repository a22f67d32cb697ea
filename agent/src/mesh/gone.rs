//! Nodes whose process is gone, as far as their machine can say. Pure; time comes in.
//!
//! When a process ends, its machine closes its connections and from then on refuses new ones.
//! Both together, shortly one after the other, are taken as a word that the process is gone. A
//! refusal alone says nothing: a node may have no mesh, or a firewall may answer in its place.
//! And one word is all there is for each lost connection: refusals that follow are no news.
//!
//! The machine does not do both at the same moment. An attempt that is made between the two is
//! taken in for the ended process and then dropped, which says nothing; so a few more follow soon.
//!
//! It is a word and no proof; the replica weighs it against what it hears of the node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use fleet_state::NodeId;
use libp2p::PeerId;

/// A refusal later than this after the connection was lost has nothing to do with its loss. The
/// first attempt is made at once, and a second one soon after.
const REFUSED_WITHIN_MS: u64 = 1_000;
/// When the next attempts are made, each so long after one that said nothing.
const AGAIN_AFTER_MS: [u64; 4] = [10, 30, 80, 200];

/// When such nodes refused a connection, by this node's monotonic clock.
pub type Refusals = Arc<BTreeMap<NodeId, u64>>;

/// Whose connections were lost, and when.
#[derive(Debug, Default)]
pub(super) struct Lost {
    losses: BTreeMap<PeerId, Loss>,
}

#[derive(Clone, Copy, Debug)]
struct Loss {
    since_ms: u64,
    /// The machine at which the other end was.
    at: Option<IpAddr>,
    /// The attempts that have said nothing, and when the next one is due.
    unclear: usize,
    again_ms: Option<u64>,
}

impl Lost {
    /// The last connection of a member is gone; it was there.
    pub(super) fn lost(&mut self, peer: PeerId, at: Option<IpAddr>, now_ms: u64) {
        self.losses.insert(peer, Loss { since_ms: now_ms, at, unclear: 0, again_ms: None });
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        self.losses.remove(peer);
    }

    /// An attempt was refused; `true` when that is the word that its process is gone.
    pub(super) fn refused(&mut self, peer: &PeerId, now_ms: u64) -> bool {
        self.losses.remove(peer).is_some_and(|loss| loss.is_fresh(now_ms))
    }

    /// An attempt has failed and was not refused: one more is due soon.
    pub(super) fn unclear(&mut self, peer: &PeerId, now_ms: u64) {
        let loss = self.losses.get_mut(peer);
        if let Some(loss) = loss.filter(|loss| loss.again_ms.is_none() && loss.is_fresh(now_ms))
            && let Some(after_ms) = AGAIN_AFTER_MS.get(loss.unclear)
        {
            loss.unclear += 1;
            loss.again_ms = Some(now_ms.saturating_add(*after_ms));
        }
    }

    /// When the next attempt is due.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.losses.values().filter_map(|loss| loss.again_ms).min()
    }

    /// Whom to try again now, and at which machine. They count as tried.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<(PeerId, Option<IpAddr>)> {
        let is_due = |loss: &Loss| loss.again_ms.is_some_and(|due_ms| due_ms <= now_ms);
        let due = self.losses.iter_mut().filter(|(_, loss)| is_due(loss));
        due.map(|(peer, loss)| {
            loss.again_ms = None;
            (*peer, loss.at)
        })
        .collect()
    }

    /// Forgets those that are no members.
    pub(super) fn retain(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.losses.retain(|peer, _| keep(peer));
    }
}

impl Loss {
    const fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) <= REFUSED_WITHIN_MS
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
        lost.lost(peer, None, 1_000);
        assert!(!lost.refused(&other, 1_001));
        assert!(lost.refused(&peer, 1_001));
        for at_ms in [1_002, 1_300, 9_000] {
            assert!(!lost.refused(&peer, at_ms), "no news");
        }
        lost.lost(peer, None, 10_000);
        assert!(!lost.refused(&peer, 10_001 + REFUSED_WITHIN_MS), "about something else");
        lost.lost(peer, None, 20_000);
        lost.connected(&peer);
        assert!(!lost.refused(&peer, 20_001), "it is there");
        lost.lost(peer, None, 30_000);
        lost.retain(|_| false);
        assert!(!lost.refused(&peer, 30_001), "it is no member");
    }

    #[test]
    fn an_attempt_that_says_nothing_is_made_again_a_few_times() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let at = Some("10.0.0.1".parse().unwrap());
        let mut lost = Lost::default();
        lost.unclear(&peer, 10);
        assert_eq!(lost.due_ms(), None, "it was never connected");
        lost.lost(peer, at, 1_000);
        lost.lost(other, None, 1_000);
        assert_eq!(lost.due_ms(), None, "the first attempt is made by who says that");
        let mut now_ms = 1_000;
        for after_ms in AGAIN_AFTER_MS {
            lost.unclear(&peer, now_ms);
            lost.unclear(&peer, now_ms + 1);
            assert_eq!(lost.due_ms(), Some(now_ms + after_ms), "two that fail are one");
            assert_eq!(lost.take_due(now_ms + after_ms - 1), []);
            now_ms += after_ms;
            assert_eq!(lost.take_due(now_ms), [(peer, at)]);
            assert_eq!(lost.due_ms(), None);
        }
        lost.unclear(&peer, now_ms);
        assert_eq!(lost.due_ms(), None, "it is not for this to go on");
        assert!(lost.refused(&peer, now_ms));
        lost.unclear(&other, 1_001 + REFUSED_WITHIN_MS);
        assert_eq!(lost.due_ms(), None, "about something else");
        lost.unclear(&other, 1_500);
        lost.connected(&other);
        assert_eq!(lost.due_ms(), None, "it is there");
    }
}
