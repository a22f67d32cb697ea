//! Progress: what a leader would send a member next lies behind what the member is known to have.
//!
//! A late rejection that sets this back is no harm by itself, but Raft's own reasoning rests on it.

use fleet_state::NodeId;

use super::Violation;

/// The members as their leader sees them: (node, known to have, next to be sent).
///
/// # Errors
/// Something that a member has would be sent to it again.
pub fn check_progress(
    leader: NodeId,
    members: impl Iterator<Item = (u64, u64, u64)>,
) -> Result<(), Violation> {
    for (node, matched, next) in members {
        if next <= matched {
            let what =
                format!("leader {leader} would send {next} to node {node}, which has {matched}");
            return Err(Violation::new("progress goes on", what));
        }
    }
    Ok(())
}
