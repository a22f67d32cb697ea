//! Queries: answered from a view of this node, after a read barrier unless stale is enough.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fleet_consensus::View;
use fleet_protocol::limits::{PAGE_BYTES_MAX, PAGE_ENVELOPE_BYTES};
use fleet_protocol::query::{self, Query, ReadContext, ReadMark};
use fleet_protocol::{Consistency, QueryTarget};

use super::desk::{Desk, Job};

/// Answers one query.
pub(super) async fn serve(desk: Arc<Desk>, query: Query, job: Job) {
    let view = match query.consistency {
        Consistency::Stale => desk.handle.view(),
        Consistency::Linearizable => match desk.linearizable(job.deadline).await {
            Ok(view) => view,
            Err(failure) => return desk.fail(&job, &failure).await,
        },
    };
    let is_list = matches!(query.target, QueryTarget::List { .. });
    let mark = mark(&desk, &view, query.consistency);
    let (request_id, page_bytes_max) = (job.request_id.clone(), page_bytes_max(&job));
    let observed = desk.observed.clone();
    let look = move || {
        let context = ReadContext {
            request_id: &request_id,
            mark,
            leader: view.standing.leader,
            term: view.standing.term,
            page_bytes_max,
            observed: Some(&observed),
        };
        query::answer(&query, &view.state, &context)
    };
    let answered = if is_list {
        desk.aside.look(job.deadline, look).await.and_then(std::convert::identity)
    } else {
        look()
    };
    match answered {
        Ok(message) => {
            desk.metrics.queries.inc();
            desk.answer(&job, message).await;
        }
        Err(failure) => desk.fail(&job, &failure).await,
    }
}

/// At what point of the log a view was taken, and how old it may be.
pub(super) fn mark(desk: &Desk, view: &View, consistency: Consistency) -> ReadMark {
    // Before it met a leader, a node can't know how long it was away.
    let known = desk.met_leader.load(Ordering::Relaxed) || view.standing.leader.is_some();
    let age_ms = match consistency {
        Consistency::Stale if known => {
            let now_ms = desk.handle.clock().now_ms();
            Some(age_ms(view, now_ms).max(desk.handle.still_ms().unwrap_or(0)))
        }
        Consistency::Stale | Consistency::Linearizable => None,
    };
    ReadMark { consistency, revision: view.applied, age_ms }
}

/// What fits into an answer beside the envelope.
pub(super) fn page_bytes_max(job: &Job) -> usize {
    job.answers.payload_bytes_max().saturating_sub(PAGE_ENVELOPE_BYTES).min(PAGE_BYTES_MAX)
}

/// How long ago this node was last known to be up to date.
///
/// With a leader and everything committed applied, that is now, as far as this node can know; a
/// leader that is lost is noticed within an election timeout. A view of a loop that stands still is
/// as old as that.
fn age_ms(view: &View, now_ms: u64) -> u64 {
    let since = match view.leaderless_since_ms {
        Some(since) => since,
        None if view.standing.commit > view.applied.get() => view.applied_at_ms,
        None => now_ms,
    };
    now_ms.saturating_sub(since)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_consensus::NodeRole;

    use crate::metrics::tests::view;

    use super::age_ms;

    #[test]
    fn a_stale_read_says_how_old_it_may_be() {
        // Applied all that is known, with a leader: as new as this node can know.
        let fresh = view(NodeRole::Follower, Some(1));
        assert_eq!(age_ms(&fresh, 9_000), 0);

        let mut behind = view(NodeRole::Follower, Some(1));
        Arc::make_mut(&mut behind.standing).commit = 100;
        assert_eq!(age_ms(&behind, 9_000), 8_000);

        let mut cut_off = view(NodeRole::PreCandidate, None);
        cut_off.leaderless_since_ms = Some(4_000);
        assert_eq!(age_ms(&cut_off, 9_000), 5_000);
        assert_eq!(age_ms(&cut_off, 3_000), 0);
    }
}
