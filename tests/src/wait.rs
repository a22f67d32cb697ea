//! Waiting for a condition, with a deadline. No test sleeps for a fixed time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(20);
/// How long one look may take where something must stay true.
pub const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// Looks at `condition` until it gives a value, and returns that.
///
/// # Panics
/// If it gives none within `limit`; the message names `what`.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        // The condition itself may hang, for example on a paused process.
        let left = limit.saturating_sub(begun.elapsed()).max(POLL);
        if let Ok(Some(value)) = tokio::time::timeout(left, condition()).await {
            return value;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// As [`until`], for a condition that is only true or false.
///
/// # Panics
/// If it is not true within `limit`.
pub async fn until_true<F, Fut>(what: &str, limit: Duration, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    until(what, limit, || {
        let looked = condition();
        async { looked.await.then_some(()) }
    })
    .await;
}

/// Checks that `condition` stays true for as long as `span`.
///
/// # Panics
/// At the first look that finds it false, or takes longer than [`LOOK_LIMIT`].
pub async fn stays_true<F, Fut>(what: &str, span: Duration, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let begun = Instant::now();
    while begun.elapsed() < span {
        let looked = tokio::time::timeout(LOOK_LIMIT, condition()).await;
        assert!(looked.is_ok(), "a look takes more than {LOOK_LIMIT:?}: {what}");
        assert_eq!(looked, Ok(true), "after {:?} no longer true: {what}", begun.elapsed());
        tokio::time::sleep(POLL).await;
    }
}

/// As [`until`], for threads without a runtime.
///
/// # Panics
/// If it gives no value within `limit`.
pub fn until_blocking<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(POLL);
    }
}

/// By how much later than asked this machine wakes a task, all in all: what a bound on a time may be
/// exceeded by where others have the machine as well.
#[derive(Debug)]
pub struct HeldUp {
    late_us: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl HeldUp {
    /// Watches until it is dropped.
    pub fn watch() -> Self {
        let late_us = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&late_us);
        let watching = tokio::spawn(async move {
            loop {
                let asked = Instant::now();
                tokio::time::sleep(POLL).await;
                let late = asked.elapsed().saturating_sub(POLL + Duration::from_millis(2));
                told.fetch_add(
                    u64::try_from(late.as_micros()).unwrap_or(u64::MAX),
                    Ordering::Relaxed,
                );
            }
        });
        Self { late_us, watching }
    }

    /// So far.
    pub fn so_far(&self) -> Duration {
        Duration::from_micros(self.late_us.load(Ordering::Relaxed))
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
