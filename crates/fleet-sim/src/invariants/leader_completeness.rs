//! Leader completeness: what was committed in an earlier term is in the log of every leader.

use fleet_log::{Disk, Log};
use fleet_state::NodeId;

use super::{CommittedLog, Violation};

/// A node was seen to lead in a term for the first time.
///
/// An entry counts as committed in the lowest term in which any node was that had it committed;
/// its commit happened in that term or before.
///
/// # Errors
/// It lacks such an entry.
pub fn check_new_leader<D: Disk>(
    node: NodeId,
    term: u64,
    log: &Log<D>,
    committed: &CommittedLog,
) -> Result<(), Violation> {
    for (index, entry) in committed.iter_from(log.first_index()) {
        if entry.seen_in_term < term && log.term(index) != Some(entry.term) {
            return Err(Violation::new(
                "leader completeness",
                format!(
                    "node {node} leads in term {term} without the entry at index {index} of term {}, committed by term {}; its log has term {:?} there and ends at {}",
                    entry.term,
                    entry.seen_in_term,
                    log.term(index),
                    log.last_index(),
                ),
            ));
        }
    }
    Ok(())
}
