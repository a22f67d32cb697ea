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
//! has left that term. Time is the node's own monotonic clock, an argument as everywhere.

use std::collections::BTreeMap;

use fleet_state::NodeId;

/// The leader's notes; empty on other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    led_since_ms: Option<u64>,
    heard: BTreeMap<NodeId, u64>,
}

impl Leases {
    /// This node leads now.
    pub(crate) fn begin(&mut self, now_ms: u64) {
        *self = Self { led_since_ms: Some(now_ms), heard: BTreeMap::new() };
    }

    /// This node doesn't lead any more.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// A member asked for a read barrier. No more are kept than there are members, who alone
    /// are heard at all.
    pub(crate) fn heard(&mut self, node: NodeId, now_ms: u64) {
        if self.led_since_ms.is_some() {
            self.heard.insert(node, now_ms);
        }
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
        leases.begin(200);
        assert_eq!(leases.silent_ms(node, 200), Some(0));
        leases.end();
        assert_eq!(leases.silent_ms(node, 300), None);
    }
}
