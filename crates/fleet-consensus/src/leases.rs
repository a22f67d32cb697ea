//! When the leader last heard each node ask for a read barrier.
//!
//! A node that owns links renews its lease by read barriers: it may write for a fixed time after
//! the *start* of the last one that succeeded. The leader hears the question later than it was
//! asked, so counting the same time from when it last heard one, and a margin for clocks that
//! run apart, it knows when the lease is over without telling the node anything.
//!
//! A new leader has heard nobody, and its predecessor may have granted barriers up to its
//! election: it counts all nodes as heard then. A barrier that starts later can't be granted by
//! the predecessor, which needs a majority to answer in its term after the start, and a majority
//! has left that term.
//!
//! A leader that is about to take something from a silent node *seizes* it first: the node's
//! questions stay unanswered until what takes it is committed, so that every barrier granted
//! afterwards shows it. Without that, a node that wakes up at just this moment could get a lease
//! on what is being given away. Time is the node's own monotonic clock, an argument as everywhere.

use std::collections::BTreeMap;

use fleet_state::NodeId;

/// A node is answered again after this time, whatever became of what was to be taken from it: a
/// leader that can't commit anything for so long doesn't lead any more.
const SEIZED_MS_MAX: u64 = 10_000;

/// The leader's notes; empty on other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    led_since_ms: Option<u64>,
    heard: BTreeMap<NodeId, u64>,
    /// Whose questions stay unanswered, and until when at the latest.
    seized: BTreeMap<NodeId, u64>,
}

impl Leases {
    /// This node leads now.
    pub fn begin(&mut self, now_ms: u64) {
        *self = Self { led_since_ms: Some(now_ms), ..Self::default() };
    }

    /// This node doesn't lead any more.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// A member asked for a read barrier, or was given something just now. No more are kept
    /// than there are members, who alone are heard at all.
    pub fn heard(&mut self, node: NodeId, now_ms: u64) {
        if self.led_since_ms.is_some() {
            self.heard.insert(node, now_ms);
        }
    }

    /// Seizes a node that has been silent for longer than `silent_ms`; `false` when it has not.
    pub(crate) fn seize(&mut self, node: NodeId, silent_ms: u64, now_ms: u64) -> bool {
        let silent = self.silent_ms(node, now_ms).is_some_and(|silent| silent > silent_ms);
        if silent {
            self.seized.insert(node, now_ms.saturating_add(SEIZED_MS_MAX));
        }
        silent
    }

    /// What was taken is committed: the node is answered again.
    pub(crate) fn resume(&mut self, node: NodeId) {
        self.seized.remove(&node);
    }

    /// Whether the node's questions stay unanswered.
    pub(crate) fn is_seized(&self, node: NodeId, now_ms: u64) -> bool {
        self.seized.get(&node).is_some_and(|until_ms| now_ms < *until_ms)
    }

    /// For how long no barrier can have been asked for by this node; `None` unless this node
    /// leads.
    #[must_use]
    pub fn silent_ms(&self, node: NodeId, now_ms: u64) -> Option<u64> {
        let heard_ms = self.heard.get(&node).copied().unwrap_or(0).max(self.led_since_ms?);
        Some(now_ms.saturating_sub(heard_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_leader_counts_all_as_heard_and_knows_silence_by_its_own_clock() {
        let node = NodeId::FOUNDER;
        let other = NodeId::new(2).unwrap_or(node);
        let mut leases = Leases::default();
        leases.heard(node, 5);
        assert_eq!(leases.silent_ms(node, 10), None, "it doesn't lead");
        leases.begin(100);
        assert_eq!(leases.silent_ms(node, 130), Some(30), "as if heard at the election");
        leases.heard(node, 150);
        assert_eq!(leases.silent_ms(node, 160), Some(10));
        assert_eq!(leases.silent_ms(other, 160), Some(60));
        assert!(!leases.seize(node, 10, 160), "heard ten milliseconds ago");
        assert!(leases.seize(node, 9, 160));
        assert!(leases.is_seized(node, 170) && !leases.is_seized(other, 170));
        assert!(!leases.is_seized(node, 160 + SEIZED_MS_MAX));
        leases.resume(node);
        assert!(!leases.is_seized(node, 170));
        leases.begin(200);
        assert_eq!(leases.silent_ms(node, 200), Some(0));
        leases.end();
        assert_eq!(leases.silent_ms(node, 300), None);
    }
}
