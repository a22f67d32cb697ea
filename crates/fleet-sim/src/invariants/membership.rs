//! One history of configurations: each follows from the one before by one committed change, every
//! node goes through the same ones, and there is always somebody who votes.
//!
//! A configuration that is in force on a node is in force after any restart of it. If all nodes
//! forgot one, they would elect under the one before, which may need a node that was given up for
//! good in the meantime.

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
    /// The newest configuration that was in force on each node.
    in_force: BTreeMap<NodeId, u64>,
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

    /// A node has this configuration in force, after a turn or a start.
    ///
    /// # Errors
    /// It had a newer one before.
    pub fn in_force(
        &mut self,
        node: NodeId,
        voters: &[NodeId],
        learners: &[NodeId],
    ) -> Result<(), Violation> {
        let known = self.in_force.get(&node).copied().unwrap_or(0);
        let is = |configuration: &Configuration| {
            configuration.voters.iter().eq(voters) && configuration.learners.iter().eq(learners)
        };
        let found = self.history.range(known..).find(|(_, configuration)| is(configuration));
        match found {
            Some((at, _)) => {
                self.in_force.insert(node, *at);
                Ok(())
            }
            None if known == 0 => Ok(()),
            None => {
                let what = format!(
                    "node {node} has voters {voters:?} and learners {learners:?}; the configuration \
                     of index {known} was in force there"
                );
                Err(Violation::new("a configuration in force stays", what))
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
