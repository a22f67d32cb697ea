//! Whether this agent can serve, and if not, why.

use fleet_consensus::View;
use serde::Serialize;

use crate::consensus::stands_still;
use crate::control::Membership;

/// A node may lack committed entries for this long before it counts as behind.
const BEHIND_MS_MAX: u64 = 5_000;

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
    pub node: u64,
    pub role: &'static str,
    pub leader: Option<u64>,
    pub term: u64,
    pub applied: u64,
    pub commit: u64,
}

/// Judges a view at `now_ms` of the node's monotonic clock; `still_ms` says for how long its loop
/// has stood still.
pub(super) fn report(view: &View, still_ms: Option<u64>, now_ms: u64, stopping: bool) -> Report {
    let standing = &view.standing;
    let mut reasons = Vec::new();
    if stopping {
        reasons.push("the agent is stopping".to_owned());
    }
    reasons.extend(still_ms.map(stands_still));
    let membership = Membership::of(view);
    reasons.extend(membership.trouble().map(str::to_owned));
    if standing.leader.is_none() && membership != Membership::Removed {
        let since = view.leaderless_since_ms.map_or(0, |since| now_ms.saturating_sub(since));
        reasons.push(format!(
            "no leader is known for {since} ms; a majority of the {} voters must be running and reach each other",
            standing.voters.len()
        ));
    }
    let behind = standing.commit.saturating_sub(view.applied.get());
    let age_ms = now_ms.saturating_sub(view.applied_at_ms);
    if behind > 0 && age_ms > BEHIND_MS_MAX {
        reasons.push(format!("{behind} committed entries are not applied, for {age_ms} ms"));
    }
    Report {
        ready: reasons.is_empty(),
        reasons,
        node: standing.node.get(),
        role: standing.role.as_str(),
        leader: standing.leader.map(|node| node.get()),
        term: standing.term,
        applied: view.applied.get(),
        commit: standing.commit,
    }
}
