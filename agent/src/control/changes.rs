//! Changes since a revision: pages from the view, then a stream of later ones.
//!
//! Nothing is queued per watcher. Each page is made from the newest view and the watcher's cursor,
//! so a slow or absent watcher costs nothing but its permit, and a fast site's changes to one
//! thing are told once. A stream ends at its request's timeout, a minute at most: who still
//! listens asks again, and who is gone isn't fed for long.

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::changes::{self, ChangesRequest, Cursor, PageKind};
use fleet_protocol::limits::STREAM_HEARTBEAT_MS;
use fleet_protocol::{ErrorCode, Failure};
use tokio::time::Instant;

use super::IntakeState;
use super::desk::{Desk, Job};
use super::queries::page_bytes_max;

/// Shortest time between two pages of a stream that has nothing to catch up with.
const PAGE_INTERVAL: Duration = Duration::from_millis(10);

/// A watcher that is so many revisions behind is served aside.
const CHANGES_AT_ONCE_MAX: u64 = 1_024;

/// Answers one question for changes.
pub(super) async fn serve(desk: Arc<Desk>, request: ChangesRequest, job: Job) {
    if !job.answers.are_awaited() {
        let failure =
            Failure::new(ErrorCode::Malformed, "there is no reply subject to tell changes to");
        return desk.fail(&job, &failure).await;
    }
    let cursor = request.cursor();
    // The first page holds everything that was committed before it was asked for.
    let checked = match desk.linearizable(job.deadline).await {
        Ok(view) => changes::check_since(&cursor, view.applied),
        Err(failure) => Err(failure),
    };
    if let Err(failure) = checked {
        return desk.fail(&job, &failure).await;
    }
    if request.stream {
        desk.metrics.watchers.inc();
        stream(&desk, &request, cursor, &job).await;
        desk.metrics.watchers.dec();
    } else {
        let mut feed = Feed { cursor, sequence: 1, told_at: Instant::now(), is_taken: true };
        if let Err(failure) = feed.tell(&desk, &request, &job, PageKind::Page).await {
            desk.fail(&job, &failure).await;
        }
    }
}

/// Feeds one watcher until its deadline, or until the agent stops.
async fn stream(desk: &Desk, request: &ChangesRequest, cursor: Cursor, job: &Job) {
    let mut views = desk.handle.watch_view();
    let mut intake = desk.intake.subscribe();
    let mut feed = Feed { cursor, sequence: 1, told_at: Instant::now(), is_taken: true };
    loop {
        // Who hears of no more changes must not keep watchers from those who do.
        let ending = is_left(*intake.borrow_and_update(), job);
        let over = ending || Instant::now() >= job.deadline;
        let kind = if over { PageKind::End } else { PageKind::Page };
        let applied = views.borrow_and_update().applied;
        let more = match feed.tell(desk, request, job, kind).await {
            Ok(more) => more,
            // The watcher fell behind what is kept: it has to read everything again.
            Err(failure) => return desk.fail(job, &failure).await,
        };
        if over || !feed.is_taken {
            return;
        }
        if !more {
            tokio::time::sleep_until((Instant::now() + PAGE_INTERVAL).min(job.deadline)).await;
            let next_sign = feed.told_at + Duration::from_millis(STREAM_HEARTBEAT_MS);
            tokio::select! {
                // The view is also renewed when nothing was applied.
                changed = views.wait_for(|view| view.applied > applied) => {
                    if changed.is_err() { return }
                }
                _ = intake.changed() => {}
                () = job.answers.gone() => return,
                () = tokio::time::sleep_until(next_sign.min(job.deadline)) => {}
            }
        }
    }
}

/// Whether watchers are left. Over NATS another agent feeds them, and knows more than one that hears
/// of no more changes; whoever stands at this agent's own door has no other.
fn is_left(intake: IntakeState, job: &Job) -> bool {
    match intake {
        IntakeState::Serving | IntakeState::Reading => false,
        IntakeState::NoLeader | IntakeState::ForeignSite => !job.answers.are_local(),
        IntakeState::Removed | IntakeState::Stopped => true,
    }
}

/// How far a watcher was told.
struct Feed {
    cursor: Cursor,
    /// Number of the next page.
    sequence: u64,
    /// When the last page was sent.
    told_at: Instant,
    /// Whether the last page was taken, as far as one can know.
    is_taken: bool,
}

impl Feed {
    /// Sends the next page, unless there is nothing on it and the watcher heard of us lately.
    /// Gives whether there is more already.
    async fn tell(
        &mut self,
        desk: &Desk,
        request: &ChangesRequest,
        job: &Job,
        kind: PageKind,
    ) -> Result<bool, Failure> {
        let view = desk.handle.view();
        let page_bytes_max = page_bytes_max(job);
        let behind = view.applied.get().saturating_sub(self.cursor.revision.get());
        let page = if behind <= CHANGES_AT_ONCE_MAX {
            changes::page(request, &self.cursor, &view.state, page_bytes_max)
        } else {
            let (request, cursor) = (request.clone(), self.cursor.clone());
            let look = move || changes::page(&request, &cursor, &view.state, page_bytes_max);
            desk.aside.look(job.deadline, look).await.and_then(std::convert::identity)
        }?;
        let silence = self.told_at.elapsed() >= Duration::from_millis(STREAM_HEARTBEAT_MS);
        if !page.is_empty() || silence || kind == PageKind::End || self.sequence == 1 {
            let message = changes::page_message(&job.request_id, kind, self.sequence, &page);
            match kind {
                PageKind::Page if request.stream => self.is_taken = job.answers.page(message).await,
                PageKind::Page | PageKind::End => job.answers.last(message).await,
            }
            self.sequence = self.sequence.saturating_add(1);
            self.told_at = Instant::now();
        }
        self.cursor = page.next;
        Ok(page.more)
    }
}
