//! Committed entries: every node that has an index committed has the same entry there, for ever.
//!
//! Every entry is looked at when a node commits it, and all that a node's log holds is looked at
//! again after each start, so that a log that changes on disk does not pass.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use fleet_log::{Disk, Log, LogEntry};
use fleet_state::NodeId;

use super::Violation;
use crate::trace::Fnv;

/// A committed entry as it was first seen.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Its term.
    pub term: u64,
    /// Of its kind and content.
    pub hash: u64,
    /// The lowest term in which a node was that had it committed.
    pub seen_in_term: u64,
    node: NodeId,
}

/// All of them.
#[derive(Debug, Default)]
pub struct CommittedLog {
    entries: BTreeMap<u64, Committed>,
    checked: BTreeMap<NodeId, (u64, u64)>,
}

impl CommittedLog {
    /// A node has its log committed up to `commit`. Gives back the entries that no node was seen
    /// to have committed before, in order.
    ///
    /// # Errors
    /// An entry is another one than somewhere else.
    pub fn observe<D: Disk>(
        &mut self,
        node: NodeId,
        boot: u64,
        log: &Log<D>,
        (term, commit): (u64, u64),
    ) -> Result<Vec<LogEntry>, Violation> {
        let checked = self.checked.entry(node).or_default();
        let through = if checked.0 == boot { checked.1 } else { 0 };
        let first = log.first_index().max(through + 1);
        // What isn't written yet is looked at when it is.
        let last = commit.min(log.last_index());
        *checked = (boot, last.max(through));
        if first > last {
            return Ok(Vec::new());
        }
        let known = self.last_index();
        let mut entries = log
            .entries(first, last + 1, u64::MAX)
            .map_err(|e| Violation::new("log readable", format!("node {node}: {e}")))?;
        for entry in &entries {
            self.compare(node, entry, term)?;
        }
        entries.retain(|entry| entry.index > known);
        Ok(entries)
    }

    fn compare(&mut self, node: NodeId, entry: &LogEntry, term: u64) -> Result<(), Violation> {
        let now = Committed { term: entry.term, hash: hash_of(entry), seen_in_term: term, node };
        let known = self.entries.entry(entry.index).or_insert(now);
        known.seen_in_term = known.seen_in_term.min(term);
        if (known.term, known.hash) == (now.term, now.hash) {
            return Ok(());
        }
        Err(Violation::new(
            "state machine safety",
            format!(
                "node {node} has committed at index {} an entry of term {}, node {} one of term {} (contents equal: {})",
                entry.index,
                entry.term,
                known.node,
                known.term,
                known.hash == now.hash,
            ),
        ))
    }

    /// The entries by index.
    pub fn iter_from(&self, index: u64) -> impl Iterator<Item = (u64, &Committed)> {
        self.entries.range(index..).map(|(index, committed)| (*index, committed))
    }

    /// The term of the committed entry at an index.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        self.entries.get(&index).map(|committed| committed.term)
    }

    /// The highest committed index seen anywhere.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }
}

/// A hash of what an entry holds.
#[must_use]
pub(super) fn hash_of(entry: &LogEntry) -> u64 {
    let mut hash = Fnv::default();
    entry.kind.hash(&mut hash);
    entry.data.hash(&mut hash);
    hash.finish()
}
