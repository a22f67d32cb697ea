//! Lanes: what is counted and bounded per kind of request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Commands being worked on at a time; the consensus loop has its own bound on waiters.
const COMMANDS_MAX: usize = 8_192;
/// Queries being worked on at a time.
const QUERIES_MAX: usize = 1_024;
/// Questions for changes at a time, streams included; each stream lives a minute at most.
const CHANGES_MAX: usize = 256;
/// Administrative requests at a time.
const ADMIN_MAX: usize = 64;
/// Questions to this node at a time; a snapshot chunk is held in memory for each.
const NODE_MAX: usize = 32;

/// One kind of request.
#[derive(Debug)]
pub(super) struct Lane {
    /// Word in metrics and in the service registration.
    pub surface: &'static str,
    permits: Arc<Semaphore>,
    permits_max: usize,
    /// All lanes together, for the metrics.
    under_way: Gauge,
    pub stats: LaneStats,
}

/// What the service registration tells of a lane.
#[derive(Debug, Default)]
pub(super) struct LaneStats {
    pub requests: AtomicU64,
    pub errors: AtomicU64,
    pub nanos: AtomicU64,
    pub last_error: Mutex<String>,
}

/// A request that is being worked on; counted until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    lane: Arc<Lane>,
    started: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Lane {
    fn new(surface: &'static str, permits_max: usize, under_way: &Gauge) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(permits_max));
        let (under_way, stats) = (under_way.clone(), LaneStats::default());
        Arc::new(Self { surface, permits, permits_max, under_way, stats })
    }

    /// Takes one request on, unless there are too many.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Permit> {
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        self.under_way.inc();
        Some(Permit { lane: Arc::clone(self), started: Instant::now(), _permit: permit })
    }

    /// Notes an error for the service registration.
    pub(super) fn note_error(&self, code: &str) {
        self.stats.errors.fetch_add(1, Ordering::Relaxed);
        let mut last = self.stats.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != code {
            last.clear();
            last.push_str(code);
        }
    }

    fn in_flight(&self) -> usize {
        self.permits_max.saturating_sub(self.permits.available_permits())
    }

    async fn idle(&self) {
        let all = u32::try_from(self.permits_max).unwrap_or(u32::MAX);
        // The semaphore is never closed; an error would mean that nothing can be under way.
        drop(self.permits.acquire_many(all).await);
    }
}

impl Permit {
    /// Since when the request has been worked on.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lane.under_way.dec();
        let nanos = u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lane.stats.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// All lanes of an agent.
#[derive(Debug)]
pub(super) struct Lanes {
    pub commands: Arc<Lane>,
    pub query: Arc<Lane>,
    pub changes: Arc<Lane>,
    pub admin: Arc<Lane>,
    pub node: Arc<Lane>,
}

impl Lanes {
    /// `under_way` shows how many requests are being worked on.
    pub(super) fn new(under_way: &Gauge) -> Self {
        Self {
            commands: Lane::new("commands", COMMANDS_MAX, under_way),
            query: Lane::new("query", QUERIES_MAX, under_way),
            changes: Lane::new("changes", CHANGES_MAX, under_way),
            admin: Lane::new("admin", ADMIN_MAX, under_way),
            node: Lane::new("node", NODE_MAX, under_way),
        }
    }

    pub(super) fn all(&self) -> [&Arc<Lane>; 5] {
        [&self.commands, &self.query, &self.changes, &self.admin, &self.node]
    }

    /// Requests being worked on.
    pub(super) fn in_flight(&self) -> usize {
        self.all().iter().map(|lane| lane.in_flight()).sum()
    }

    /// Waits until nothing is being worked on. Nothing new gets in meanwhile.
    pub(super) async fn idle(&self) {
        for lane in self.all() {
            lane.idle().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_lane_admits_up_to_its_bound_and_knows_when_it_is_idle() {
        let under_way = Gauge::default();
        let lanes = Lanes::new(&under_way);
        let held: Vec<Permit> = std::iter::from_fn(|| lanes.node.admit()).collect();
        assert_eq!(held.len(), NODE_MAX);
        assert_eq!(lanes.in_flight(), NODE_MAX);
        assert_eq!(under_way.get(), NODE_MAX as i64);
        assert_eq!(lanes.node.stats.requests.load(Ordering::Relaxed), NODE_MAX as u64 + 1);

        let mut idle = Box::pin(lanes.idle());
        let first = std::future::poll_fn(|cx| Poll::Ready(idle.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        drop(held);
        idle.await;
        assert_eq!(lanes.in_flight(), 0);
        assert_eq!(under_way.get(), 0);
    }
}
