//! One history of configurations: each follows from the one before by one change, every node
//! goes through the same ones, and there is always somebody who votes.

use std::collections::{BTreeMap, BTreeSet};

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
        let newest = self.history.last_key_value().map_or(0, |(index, _)| *index);
        let in_force = self.history.range(..=index).next_back();
        match in_force {
            Some((_, known)) if *known == now => return Ok(()),
            Some((at, known)) if *at == index || index < newest => {
                return fail(format!("node {node} has {now:?} at index {index}, others {known:?}"));
            }
            Some((_, known)) if known.distance(&now) > 1 => {
                return fail(format!("{now:?} at index {index} follows {known:?}"));
            }
            Some(_) | None => {}
        }
        self.history.insert(index, now);
        Ok(())
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

impl Configuration {
    /// Nodes whose part differs.
    fn distance(&self, other: &Self) -> usize {
        let moved: BTreeSet<_> = self
            .voters
            .symmetric_difference(&other.voters)
            .chain(self.learners.symmetric_difference(&other.learners))
            .collect();
        moved.len()
    }
}
