//! Commit and applied index of a node only grow while it runs, and nothing is applied that is
//! not committed. A restart may begin anew at its snapshot.

use std::collections::BTreeMap;

use fleet_state::NodeId;

use super::Violation;

#[derive(Clone, Copy, Debug)]
struct Seen {
    boot: u64,
    term: u64,
    commit: u64,
    applied: u64,
}

/// The last that was seen of each node.
#[derive(Debug, Default)]
pub struct CommitMonotone {
    seen: BTreeMap<NodeId, Seen>,
}

impl CommitMonotone {
    /// Where a node is now.
    ///
    /// # Errors
    /// It went back, or ahead of itself.
    pub fn observe(
        &mut self,
        node: NodeId,
        boot: u64,
        (term, commit, applied): (u64, u64, u64),
    ) -> Result<(), Violation> {
        let fail = |what: String| Err(Violation::new("commit monotone", what));
        if applied > commit {
            return fail(format!("node {node} has applied {applied} and committed {commit}"));
        }
        let now = Seen { boot, term, commit, applied };
        if let Some(before) = self.seen.insert(node, now) {
            // A term is durable before anybody hears of it; it never goes back.
            if term < before.term {
                return fail(format!("node {node} went from term {} to {term}", before.term));
            }
            if before.boot == boot && (commit < before.commit || applied < before.applied) {
                return fail(format!("node {node} went from {before:?} to {now:?}"));
            }
        }
        Ok(())
    }
}
