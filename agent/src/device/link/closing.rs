//! The end of the work on a link: calls end, what they led to is told, the session is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::calls::Calls;
use super::work::Work;

/// How long calls under way may take to end when the session is to be closed.
const CLOSE_CALLS_WITHIN: Duration = Duration::from_millis(1_000);
/// How long telling the ends of one-shots that were cut short may take.
const CLOSE_TELL_WITHIN: Duration = Duration::from_millis(500);
/// How long closing may take.
const CLOSE_WITHIN: Duration = Duration::from_millis(1_000);

impl Work<'_> {
    /// Lets calls under way end, tells what they led to, and closes the session.
    pub(super) async fn close(mut self) {
        // Ends of one-shots that wait to be told, whether or not anything else is under way.
        self.settle_all();
        self.end_calls(CLOSE_CALLS_WITHIN).await;
        if self.under_way > 0 || self.telling {
            // Nobody will hear how they end. What they handed over is in doubt, and that is told:
            // otherwise it would be open until the link changes hands.
            self.calls.tasks.abort_all();
            self.give_up_all();
            self.settle_all();
            self.end_calls(CLOSE_TELL_WITHIN).await;
        }
        for (id, slot) in std::mem::take(&mut self.slots) {
            if let Some(memory) = self.task.memory.get_mut(&id) {
                memory.away = slot.course.away();
            }
            self.let_go_of(Some(slot));
        }
        let link = self.task.link();
        let control_is_lost = link.is_some_and(|link| {
            !link.paused && self.task.until_ms(&link, self.task.now_ms()).is_none()
        });
        let Calls { mut tasks, session, .. } = self.calls;
        tasks.abort_all();
        let joined = async { while tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(CLOSE_WITHIN, joined).await.is_ok();
        match Arc::try_unwrap(session) {
            // As if this node had died: nobody controls the link any more, and what is armed
            // against that goes off unless somebody takes it over in time.
            Ok(session) if control_is_lost => drop(session),
            Ok(session) if in_time => {
                let closing = tokio::spawn(session.close());
                if tokio::time::timeout(CLOSE_WITHIN, closing).await.is_err() {
                    tracing::warn!(link = %self.link.id, "closing a link took too long");
                }
            }
            // A call that blocks its thread holds the session; it goes when that ends.
            Ok(_) | Err(_) => {
                tracing::warn!(link = %self.link.id, "a connector doesn't let go of its session")
            }
        }
    }

    /// Takes the ends of calls under way, and tells what they led to.
    async fn end_calls(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while self.under_way > 0 || self.telling {
            let Ok(Some(ended)) =
                tokio::time::timeout_at(until, self.calls.tasks.join_next()).await
            else {
                break;
            };
            self.take_ended(ended);
            self.settle_all();
            self.tell_stages(self.task.now_ms());
        }
    }
}
