//! Election safety: there is at most one leader in a term.

use std::collections::BTreeMap;

use fleet_state::NodeId;

use super::Violation;

/// Who was seen leading in which term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, NodeId>,
}

impl ElectionSafety {
    /// A node leads in a term. Says whether this was not known before.
    ///
    /// # Errors
    /// Another node led in it.
    pub fn leads(&mut self, node: NodeId, term: u64) -> Result<bool, Violation> {
        match self.leaders.insert(term, node) {
            None => Ok(true),
            Some(before) if before == node => Ok(false),
            Some(before) => Err(Violation::new(
                "election safety",
                format!("node {node} leads in term {term}, in which node {before} led"),
            )),
        }
    }

    /// How many terms had a leader.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }
}
