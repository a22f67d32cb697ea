//! One history of configurations: each follows from the one before by one committed change, every
//! node goes through the same ones, and there is always somebody who votes.

use std::collections::{BTreeMap, BTreeSet};

use fleet_consensus::frame::ConfChange;
use fleet_state::NodeId;

use super::Violation;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Configuration {
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

/// Configurations by the index of the entry that made them.
#[derive(Debug, Default)]
pub struct Membership {
    history: BTreeMap<u64, Configuration>,
}

impl Membership {
    /// A change of the configuration was committed, seen for the first time.
    ///
    /// # Errors
    /// It leaves nobody who votes.
    pub fn commit(&mut self, index: u64, change: ConfChange) -> Result<(), Violation> {
        let (mut voters, mut learners) = self.newest();
        let (ConfChange::AddVoter(node) | ConfChange::AddLearner(node) | ConfChange::Remove(node)) =
            change;
        voters.remove(&node);
        learners.remove(&node);
        match change {
            ConfChange::AddVoter(_) => voters.insert(node),
            ConfChange::AddLearner(_) => learners.insert(node),
            ConfChange::Remove(_) => false,
        };
        if voters.is_empty() {
            let what = format!("{change:?} at index {index} leaves nobody who votes");
            return Err(Violation::new("one configuration history", what));
        }
        self.history.insert(index, Configuration { voters, learners });
        Ok(())
    }

    /// A node has this configuration from `index` on.
    ///
    /// # Errors
    /// It is not the one that others have there, or no single change leads to it.
    pub fn observe(
        &mut self,
        node: NodeId,
        index: u64,
        voters: &[NodeId],
        learners: &[NodeId],
    ) -> Result<(), Violation> {
        let now = Configuration {
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
        };
        let fail = |what: String| Err(Violation::new("one configuration history", what));
        if now.voters.is_empty() || !now.voters.is_disjoint(&now.learners) {
            return fail(format!("node {node} has {now:?} at index {index}"));
        }
        match self.history.range(..=index).next_back() {
            Some((_, known)) if *known == now => Ok(()),
            Some((at, known)) => fail(format!(
                "node {node} has {now:?} at index {index}; the log made {known:?} at index {at}"
            )),
            // Where the site begins.
            None => {
                self.history.insert(index, now);
                Ok(())
            }
        }
    }

    /// The newest configuration seen anywhere.
    #[must_use]
    pub fn newest(&self) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        self.history
            .last_key_value()
            .map(|(_, now)| (now.voters.clone(), now.learners.clone()))
            .unwrap_or_default()
    }

    /// The index of the entry that made the newest configuration.
    #[must_use]
    pub fn newest_index(&self) -> u64 {
        self.history.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// How many configurations there were.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.history.len()
    }
}
