//! How often registers that wear out may still be written.
//!
//! Parameters of drives and thermostats often lie in memory that takes some 100,000 writes. A
//! register that is declared `nonvolatile` is written only when it differs, and at most so often
//! per day. What is left is on disk (`kept`) before the device is written, so that an agent that
//! is started again and again wears nothing out; another that takes a link over begins with a full
//! budget.

mod kept;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_state::{DeviceId, LinkId};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use kept::{Kept, Left};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Registers that are counted.
const REGISTERS_MAX: usize = 10_000;

/// A register of a device of a link.
pub(crate) type Key = (LinkId, DeviceId, Arc<str>);

/// The budgets of an agent.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    buckets: Mutex<BTreeMap<Key, Bucket>>,
    /// Where they outlive the agent.
    kept: Option<Kept>,
}

/// What is left: it refills evenly over the day.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    /// What passed before the agent started and is not made up for yet.
    owed: Duration,
}

impl Bucket {
    fn refill(&mut self, full: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at) + std::mem::take(&mut self.owed);
        self.left = (self.left + passed.as_secs_f64() / DAY.as_secs_f64() * full).min(full);
        self.at = now;
    }
}

impl Budgets {
    /// Those that an earlier start left in this folder, and what becomes of them. What can't be read
    /// is said, and counts as never written.
    pub(crate) fn kept_in(dir: PathBuf) -> Self {
        let kept = Kept::new(dir);
        let now = Instant::now();
        let mut buckets = BTreeMap::new();
        for (device, was) in kept.read(wall_ms(), DAY) {
            for Left { link, register, left } in was.left {
                if buckets.len() < REGISTERS_MAX {
                    let bucket = Bucket { left, at: now, owed: was.since };
                    buckets.insert((link, device.clone(), register), bucket);
                }
            }
        }
        Self { buckets: Mutex::new(buckets), kept: Some(kept) }
    }

    /// Takes one write out of a budget, durably; `false`: there is none left.
    pub(crate) async fn spend(self: Arc<Self>, key: Key, per_day: u32) -> bool {
        let device = key.1.clone();
        if !self.take(key, per_day, Instant::now()) {
            return false;
        }
        if self.kept.is_some() {
            // It doesn't panic; if it did, the write would still be counted as long as the agent lives.
            let _ended = spawn_blocking(move || self.keep(&device)).await;
        }
        true
    }

    fn take(&self, key: Key, per_day: u32, now: Instant) -> bool {
        // Nothing panics while it is held, and a count that is off by one would do no harm.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REGISTERS_MAX && !buckets.contains_key(&key) {
            return false;
        }
        let full = f64::from(per_day);
        let fresh = Bucket { left: full, at: now, owed: Duration::ZERO };
        let bucket = buckets.entry(key).or_insert(fresh);
        bucket.refill(full, now);
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }

    /// Writes down what is left of a device's registers.
    fn keep(&self, device: &DeviceId) {
        let Some(kept) = &self.kept else { return };
        let look = || {
            let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let those = buckets.iter().filter(|((_, other, _), _)| other == device);
            those
                .map(|((link, _, register), bucket)| Left {
                    link: link.clone(),
                    register: Arc::clone(register),
                    left: bucket.left,
                })
                .collect()
        };
        kept.write(device, wall_ms(), look);
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(device: &str) -> Key {
        ("l".parse().unwrap(), device.parse().unwrap(), Arc::from("limit"))
    }

    #[test]
    fn it_ends_and_comes_back() {
        let budgets = Budgets::default();
        let mut now = Instant::now();
        for _ in 0..3 {
            assert!(budgets.take(key("d"), 3, now));
        }
        assert!(!budgets.take(key("d"), 3, now));
        now += DAY / 3 + Duration::from_secs(1);
        assert!(budgets.take(key("d"), 3, now));
        assert!(!budgets.take(key("d"), 3, now));
        now += DAY * 9;
        assert_eq!((0..9).filter(|_| budgets.take(key("d"), 3, now)).count(), 3);
    }

    #[tokio::test]
    async fn it_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let start = || Arc::new(Budgets::kept_in(dir.path().join("wear")));
        for _ in 0..3 {
            assert!(start().spend(key("d"), 3).await);
        }
        assert!(!start().spend(key("d"), 3).await, "a start refills nothing");
        assert!(start().spend(key("e"), 3).await, "another device has its own");
    }

    #[test]
    fn the_time_between_two_starts_refills() {
        let now = Instant::now();
        let mut bucket = Bucket { left: 0.0, at: now, owed: DAY / 2 };
        bucket.refill(4.0, now);
        assert!((bucket.left - 2.0).abs() < 1e-9);
        bucket.refill(4.0, now);
        assert!((bucket.left - 2.0).abs() < 1e-9, "once");
    }
}
