//! What happened to the replica, told in the log.

use fleet_consensus::replica::Notice;

pub(super) fn log_notice(notice: &Notice) {
    match notice {
        Notice::Role { role, term, leader } => tracing::info!(
            role = role.as_str(),
            term,
            leader = leader.map(|node| node.get()),
            "role, leader or term changed"
        ),
        Notice::Membership { voters, learners, index } => {
            tracing::info!(?voters, ?learners, index, "membership changed")
        }
        Notice::SnapshotOffered { index, size_bytes, from } => {
            tracing::info!(index, size_bytes, from = from.get(), "a snapshot is being received")
        }
        Notice::SnapshotInstalled { index } => tracing::info!(index, "a snapshot was installed"),
        Notice::SnapshotTaken { index, size_bytes } => {
            tracing::info!(index, size_bytes, "a snapshot was taken");
        }
        Notice::Removed => tracing::warn!(
            "this node was removed from the site; it takes no more part. To bring the gateway back, wipe the data directory and join with a new token"
        ),
    }
}
