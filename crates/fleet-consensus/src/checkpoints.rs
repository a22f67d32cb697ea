//! Digests of the state that members tell each other, to find a node that has another state.
//!
//! At every [`CHECKPOINT_EVERY`]th index each node tells all others the digest of its state.
//! A node stops only when a majority of the voters agrees on one other digest at the same
//! index: a lone dissenter, be it broken or lying, can stop nobody but itself.

use std::collections::BTreeMap;

use fleet_state::NodeId;

/// Indexes between two checkpoints.
pub(crate) const CHECKPOINT_EVERY: u64 = 1024;
/// Checkpoints remembered; older ones have been decided long ago.
const CHECKPOINTS_KEPT: usize = 16;
/// Members heard at one checkpoint.
const HEARD_MAX: usize = 64;

#[derive(Debug, Default)]
struct Checkpoint {
    mine: Option<[u8; 32]>,
    theirs: BTreeMap<NodeId, [u8; 32]>,
}

#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    by_index: BTreeMap<u64, Checkpoint>,
}

impl Checkpoints {
    pub(crate) fn mine(&mut self, index: u64, digest: [u8; 32]) {
        self.entry(index).mine = Some(digest);
        self.trim();
    }

    pub(crate) fn theirs(&mut self, from: NodeId, index: u64, digest: [u8; 32]) {
        if !index.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        let checkpoint = self.entry(index);
        if checkpoint.theirs.len() < HEARD_MAX {
            checkpoint.theirs.insert(from, digest);
        }
        self.trim();
    }

    /// Whether a majority of `voters` has one digest at `index` that isn't this node's.
    pub(crate) fn outvoted(&self, index: u64, voters: &[NodeId]) -> bool {
        let Some(checkpoint) = self.by_index.get(&index) else {
            return false;
        };
        let Some(mine) = checkpoint.mine else {
            return false;
        };
        let mut votes: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        for (node, digest) in &checkpoint.theirs {
            if voters.contains(node) && *digest != mine {
                *votes.entry(*digest).or_default() += 1;
            }
        }
        let needed = raft::majority(voters.len());
        votes.values().any(|count| *count >= needed)
    }

    fn entry(&mut self, index: u64) -> &mut Checkpoint {
        self.by_index.entry(index).or_default()
    }

    /// Keeps the newest. A node that lags far behind forgets what it heard and is compared
    /// again once it has caught up.
    fn trim(&mut self) {
        while self.by_index.len() > CHECKPOINTS_KEPT {
            self.by_index.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn voters() -> Vec<NodeId> {
        [1, 2, 3].map(node).to_vec()
    }

    #[test]
    fn a_majority_of_voters_with_another_digest_stops_this_node() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.mine(1024, [1; 32]);
        checkpoints.theirs(node(2), 1024, [2; 32]);
        assert!(!checkpoints.outvoted(1024, &voters()));
        checkpoints.theirs(node(3), 1024, [2; 32]);
        assert!(checkpoints.outvoted(1024, &voters()));
    }

    #[test]
    fn learners_and_disagreeing_voters_stop_nobody() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.mine(1024, [1; 32]);
        checkpoints.theirs(node(2), 1024, [2; 32]);
        checkpoints.theirs(node(3), 1024, [3; 32]);
        checkpoints.theirs(node(9), 1024, [2; 32]);
        assert!(!checkpoints.outvoted(1024, &voters()));
    }

    #[test]
    fn what_was_heard_before_counts_when_this_node_arrives() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.theirs(node(2), 2048, [2; 32]);
        checkpoints.theirs(node(3), 2048, [2; 32]);
        assert!(!checkpoints.outvoted(2048, &voters()));
        checkpoints.mine(2048, [1; 32]);
        assert!(checkpoints.outvoted(2048, &voters()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut checkpoints = Checkpoints::default();
        for index in 0..1_000 {
            checkpoints.theirs(node(2), index * CHECKPOINT_EVERY, [2; 32]);
        }
        assert!(checkpoints.by_index.len() <= CHECKPOINTS_KEPT);
    }
}
