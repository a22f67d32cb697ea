//! Election safety: there is at most one leader in a term, and nobody follows another one in it.

use std::collections::{BTreeMap, BTreeSet};

use fleet_state::NodeId;

use super::Violation;

/// Who was seen leading in which term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, NodeId>,
    /// Terms in which somebody was seen leading, not only followed.
    led: BTreeSet<u64>,
}

impl ElectionSafety {
    /// A node leads in a term. Says whether this was not known before.
    ///
    /// # Errors
    /// Another node led in it.
    pub fn leads(&mut self, node: NodeId, term: u64) -> Result<bool, Violation> {
        match self.leaders.insert(term, node) {
            None => Ok(self.led.insert(term)),
            Some(before) if before == node => Ok(self.led.insert(term)),
            Some(before) => Err(Violation::new(
                "election safety",
                format!("node {node} leads in term {term}, in which node {before} led"),
            )),
        }
    }

    /// A node follows somebody in a term, who must have been elected in it.
    ///
    /// # Errors
    /// Another node led in it.
    pub fn follows(&mut self, node: NodeId, term: u64, leader: NodeId) -> Result<(), Violation> {
        // Who was deposed within the moment of its election was never seen leading.
        match *self.leaders.entry(term).or_insert(leader) {
            known if known == leader => Ok(()),
            known => Err(Violation::new(
                "election safety",
                format!(
                    "node {node} follows node {leader} in term {term}, in which node {known} led"
                ),
            )),
        }
    }

    /// How many terms had a leader.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }
}
