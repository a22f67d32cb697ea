//! Log matching: two logs with an entry of equal index and term are equal up to it.

use fleet_log::{Disk, Log};
use fleet_state::NodeId;

use super::Violation;
use super::committed_log::hash_of;

/// Compares the logs of all nodes with each other.
///
/// # Errors
/// Two of them contradict each other.
pub fn compare_logs<D: Disk>(logs: &[(NodeId, &Log<D>)]) -> Result<(), Violation> {
    for (at, (one, log)) in logs.iter().enumerate() {
        for (other, other_log) in logs.iter().skip(at + 1) {
            compare(*one, log, *other, other_log)?;
        }
    }
    Ok(())
}

fn compare<D: Disk>(
    one: NodeId,
    log: &Log<D>,
    other: NodeId,
    other_log: &Log<D>,
) -> Result<(), Violation> {
    let first = log.first_index().max(other_log.first_index());
    let last = log.last_index().min(other_log.last_index());
    let equal = (first..=last).rev().find(|index| log.term(*index) == other_log.term(*index));
    let Some(last) = equal else {
        return Ok(());
    };
    let unreadable = |e| Violation::new("log readable", format!("nodes {one}, {other}: {e}"));
    let entries = log.entries(first, last + 1, u64::MAX).map_err(unreadable)?;
    let others = other_log.entries(first, last + 1, u64::MAX).map_err(unreadable)?;
    for (a, b) in entries.iter().zip(&others) {
        if a.term != b.term || hash_of(a) != hash_of(b) {
            return Err(Violation::new(
                "log matching",
                format!(
                    "the logs of nodes {one} and {other} agree on the term at index {last} and differ at {} (terms {} and {})",
                    a.index, a.term, b.term
                ),
            ));
        }
    }
    Ok(())
}
