//! When the view is looked at: soon after something was decided, and now and then without that,
//! because time alone makes things due as well.

use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::consensus::Handle;

/// Looks at the view, with a least time between two.
#[derive(Debug)]
pub(super) struct Looks {
    views: watch::Receiver<Arc<View>>,
    apart: Duration,
    last: Instant,
}

impl Looks {
    /// The first look is due at once, others not sooner than `apart` after the one before.
    pub(super) fn new(handle: &Handle, apart: Duration) -> Self {
        let mut views = handle.watch_view();
        views.mark_changed();
        Self { views, apart, last: Instant::now() - apart }
    }

    /// Waits for the next look: for news, `at_most` after the one before. Nothing is lost when
    /// the wait is dropped.
    pub(super) async fn next(&mut self, at_most: Duration) {
        sleep_until(self.last + self.apart).await;
        // When the loop that publishes views has ended, time alone makes looks.
        let _news = timeout_at(self.last + at_most, self.views.changed()).await;
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use fleet_consensus::NodeRole;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_follow_news_and_keep_apart() {
        let (tell, views) =
            watch::channel(Arc::new(crate::metrics::tests::view(NodeRole::Follower, None)));
        let mut looks = Looks { views, apart: Duration::from_millis(50), last: Instant::now() };
        let begun = Instant::now();
        let at = || begun.elapsed().as_millis();
        let at_most = Duration::from_millis(250);
        looks.next(at_most).await;
        assert_eq!(at(), 250, "no news");
        tell.send_modify(|_| {});
        looks.next(at_most).await;
        assert_eq!(at(), 300, "news, and the least time after the last look");
        looks.next(at_most).await;
        assert_eq!(at(), 550, "that news was seen");
        let dropped = tokio::time::timeout(Duration::from_millis(120), looks.next(at_most)).await;
        assert!(dropped.is_err());
        tell.send_modify(|_| {});
        looks.next(at_most).await;
        assert_eq!(at(), 670, "news after a wait that was dropped");
        drop(tell);
        looks.next(at_most).await;
        assert_eq!(at(), 720, "an ended loop makes no hot one");
    }
}
