//! How often registers that wear out may still be written.
//!
//! Parameters of drives and thermostats often lie in memory that takes some 100,000 writes. A
//! register that is declared `nonvolatile` is written only when it differs, and at most so often
//! per day. The counts live as long as the agent, beyond sessions and reconnects; an agent that
//! starts anew, and another that takes a link over, begin with a full budget.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_state::{DeviceId, LinkId};
use tokio::time::Instant;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Registers that are counted.
const REGISTERS_MAX: usize = 10_000;

/// A register of a device of a link.
pub(crate) type Key = (LinkId, DeviceId, Arc<str>);

/// The budgets of an agent.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<BTreeMap<Key, Bucket>>);

/// What is left: it refills evenly over the day.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Budgets {
    /// Takes one write out of a budget; `false`: there is none left.
    pub(crate) fn take(&self, key: Key, per_day: u32, now: Instant) -> bool {
        // Nothing panics while it is held, and a count that is off by one would do no harm.
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REGISTERS_MAX && !buckets.contains_key(&key) {
            return false;
        }
        let full = f64::from(per_day);
        let bucket = buckets.entry(key).or_insert(Bucket { left: full, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64() / DAY.as_secs_f64();
        bucket.left = (bucket.left + passed * full).min(full);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_and_comes_back() {
        let budgets = Budgets::default();
        let key = || ("l".parse().unwrap(), "d".parse().unwrap(), Arc::from("limit"));
        let mut now = Instant::now();
        for _ in 0..3 {
            assert!(budgets.take(key(), 3, now));
        }
        assert!(!budgets.take(key(), 3, now));
        now += DAY / 3 + Duration::from_secs(1);
        assert!(budgets.take(key(), 3, now));
        assert!(!budgets.take(key(), 3, now));
        now += DAY * 9;
        assert_eq!((0..9).filter(|_| budgets.take(key(), 3, now)).count(), 3);
    }
}
