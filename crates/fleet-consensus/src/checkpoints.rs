//! Digests of the state that members tell each other, to find a node that has another state.
//!
//! At every [`CHECKPOINT_EVERY`]th index each node tells all others the digest of its state.
//! A node stops only when a majority of the voters agrees on one other digest at the same
//! index: a lone dissenter, be it broken or lying, can stop nobody but itself. Nor can it keep
//! others from stopping: of each node its own newest digests are kept, so what one says, of
//! whatever indexes, pushes out nothing that another said.

use std::collections::BTreeMap;

use fleet_state::NodeId;

/// Indexes between two checkpoints.
pub(crate) const CHECKPOINT_EVERY: u64 = 1024;
/// Checkpoints remembered of one node; older ones have been decided long ago.
const KEPT_MAX: usize = 16;
/// Nodes heard, this one not counted: as many as can be members.
const HEARD_MAX: usize = fleet_state::limits::MEMBERS_MAX;

/// Digests by index.
type Digests = BTreeMap<u64, [u8; 32]>;

#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    mine: Digests,
    theirs: BTreeMap<NodeId, Digests>,
}

impl Checkpoints {
    pub(crate) fn mine(&mut self, index: u64, digest: [u8; 32]) {
        keep(&mut self.mine, index, digest);
    }

    /// The sender is known by its seal. A node that lags far behind forgets what it heard, and
    /// is compared again once it has caught up.
    pub(crate) fn theirs(&mut self, from: NodeId, index: u64, digest: [u8; 32]) {
        if !index.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        if !self.theirs.contains_key(&from) && self.theirs.len() >= HEARD_MAX {
            // Ids are never given twice, so the lowest is the likeliest to be gone.
            self.theirs.pop_first();
        }
        keep(self.theirs.entry(from).or_default(), index, digest);
    }

    /// Whether a majority of `voters` has one digest at `index` that isn't this node's.
    pub(crate) fn outvoted(&self, index: u64, voters: &[NodeId]) -> bool {
        let Some(mine) = self.mine.get(&index) else {
            return false;
        };
        let mut votes: BTreeMap<&[u8; 32], usize> = BTreeMap::new();
        let told = voters.iter().filter_map(|voter| self.theirs.get(voter)?.get(&index));
        for digest in told.filter(|digest| *digest != mine) {
            *votes.entry(digest).or_default() += 1;
        }
        let needed = raft::majority(voters.len());
        votes.values().any(|count| *count >= needed)
    }
}

/// Keeps the newest.
fn keep(digests: &mut Digests, index: u64, digest: [u8; 32]) {
    digests.insert(index, digest);
    while digests.len() > KEPT_MAX {
        digests.pop_first();
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
    fn who_tells_of_indexes_far_away_silences_nobody_else() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.theirs(node(2), 1024, [2; 32]);
        for ahead in 1..100 {
            checkpoints.theirs(node(4), (ahead << 40) * CHECKPOINT_EVERY, [4; 32]);
        }
        checkpoints.mine(1024, [1; 32]);
        checkpoints.theirs(node(3), 1024, [2; 32]);
        assert!(checkpoints.outvoted(1024, &voters()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut checkpoints = Checkpoints::default();
        for number in 1..1_000 {
            checkpoints.mine(number * CHECKPOINT_EVERY, [2; 32]);
            checkpoints.theirs(node(number), number * CHECKPOINT_EVERY, [2; 32]);
            checkpoints.theirs(node(2_000), number * CHECKPOINT_EVERY, [2; 32]);
        }
        assert_eq!(checkpoints.mine.len(), KEPT_MAX);
        assert_eq!(checkpoints.theirs.len(), HEARD_MAX);
        assert!(checkpoints.theirs.values().all(|digests| digests.len() <= KEPT_MAX));
    }
}
