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

use super::desk::{Desk, Job, read_failure};
use super::queries::page_bytes_max;

/// Shortest time between two pages of a stream that has nothing to catch up with.
const PAGE_INTERVAL: Duration = Duration::from_millis(10);

/// Answers one question for changes.
pub(super) async fn serve(desk: Arc<Desk>, request: ChangesRequest, job: Job) {
    if job.reply_to.is_none() {
        let failure =
            Failure::new(ErrorCode::Malformed, "there is no reply subject to tell changes to");
        return desk.fail(&job, &failure).await;
    }
    // The first page holds everything that was committed before it was asked for.
    if let Err(error) = desk.handle.linearizable(job.deadline).await {
        return desk.fail(&job, &read_failure(error)).await;
    }
    let cursor = request.cursor();
    if request.stream {
        desk.metrics.watchers.inc();
        stream(&desk, &request, cursor, &job).await;
        desk.metrics.watchers.dec();
    } else if let Err(failure) =
        send_page(&desk, &request, &cursor, (&job, PageKind::Page, 1)).await
    {
        desk.fail(&job, &failure).await;
    }
}

async fn stream(desk: &Desk, request: &ChangesRequest, mut cursor: Cursor, job: &Job) {
    let mut views = desk.handle.watch_view();
    let mut intake = desk.intake.subscribe();
    let mut sequence: u64 = 1;
    loop {
        let stopping = *intake.borrow_and_update() == super::IntakeState::Stopped;
        let over = stopping || Instant::now() >= job.deadline;
        let kind = if over { PageKind::End } else { PageKind::Page };
        views.mark_unchanged();
        let page = send_page(desk, request, &cursor, (job, kind, sequence)).await;
        let more = match page {
            Ok((next, more)) => {
                cursor = next;
                more
            }
            // The watcher fell behind what is kept: it has to read everything again.
            Err(failure) => return desk.fail(job, &failure).await,
        };
        if over {
            return;
        }
        sequence = sequence.saturating_add(1);
        if !more {
            tokio::time::sleep_until((Instant::now() + PAGE_INTERVAL).min(job.deadline)).await;
            let heartbeat = Instant::now() + Duration::from_millis(STREAM_HEARTBEAT_MS);
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                _ = intake.changed() => {}
                () = tokio::time::sleep_until(heartbeat.min(job.deadline)) => {}
            }
        }
    }
}

/// Sends one page; gives where the next begins, and whether there is more already.
async fn send_page(
    desk: &Desk,
    request: &ChangesRequest,
    cursor: &Cursor,
    (job, kind, sequence): (&Job, PageKind, u64),
) -> Result<(Cursor, bool), Failure> {
    let view = desk.handle.view();
    let page = changes::page(request, cursor, &view.state, page_bytes_max(desk))?;
    desk.answer(job, changes::page_message(&job.request_id, kind, sequence, &page)).await;
    Ok((page.next, page.more))
}
