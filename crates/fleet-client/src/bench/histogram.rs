//! Latencies in buckets that grow with the value: a fixed amount of memory, an error below 1 %.

use std::time::Duration;

/// Buckets per doubling of the value.
const STEPS_BITS: u32 = 7;
const STEPS: u64 = 1 << STEPS_BITS;
/// Enough for 2^40 microseconds, twelve days.
const BUCKETS: usize = ((40 - STEPS_BITS as usize) + 1) << STEPS_BITS;

/// Counts of latencies in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, max_us: 0 }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(us).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.max_us = self.max_us.max(us);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.count = self.count.saturating_add(other.count);
        self.max_us = self.max_us.max(other.max_us);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn max(&self) -> u64 {
        self.max_us
    }

    /// The latency in microseconds that this share of all did not exceed.
    pub(super) fn at(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if *count > 0 && seen >= wanted {
                return upper(bucket).min(self.max_us);
            }
        }
        self.max_us
    }
}

/// Values below `STEPS` have a bucket each; above, each doubling has `STEPS`.
fn bucket(us: u64) -> usize {
    let doublings = (u64::BITS - us.leading_zeros()).saturating_sub(STEPS_BITS);
    // Above the first row the leading bit is implied, and the next seven choose the step.
    let step = (us >> doublings.saturating_sub(1)) & (STEPS - 1);
    let step = if doublings == 0 { us } else { step };
    usize::try_from(u64::from(doublings) << STEPS_BITS | step).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let doublings = bucket >> STEPS_BITS;
    let step = (bucket as u64) & (STEPS - 1);
    match doublings {
        0 => step,
        doublings => ((STEPS | step) + 1)
            .checked_shl((doublings - 1) as u32)
            .map_or(u64::MAX, |above| above - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_values_and_lie_close() {
        let mut last = None;
        for us in (0..10_000).chain((10_000..100_000_000).step_by(9_973)) {
            let found = bucket(us);
            assert!(upper(found) >= us, "{us} in {found} up to {}", upper(found));
            assert!(upper(found) - us <= us / 64, "{us} in {found} up to {}", upper(found));
            assert!(last.is_none_or(|last| found >= last), "{us}");
            last = Some(found);
        }
        assert!(bucket((1 << 40) - 1) < BUCKETS);
    }

    #[test]
    fn shares() {
        let mut histogram = Histogram::default();
        for us in 1..=1_000 {
            histogram.record(Duration::from_micros(us));
        }
        let close = |found: u64, exact: u64| found >= exact && found <= exact + exact / 64;
        assert!(close(histogram.at(0.5), 500), "{}", histogram.at(0.5));
        assert!(close(histogram.at(0.99), 990), "{}", histogram.at(0.99));
        assert_eq!((histogram.at(1.0), histogram.max(), histogram.count()), (1_000, 1_000, 1_000));
        assert_eq!(Histogram::default().at(0.5), 0);
        let mut two = histogram.clone();
        two.merge(&histogram);
        assert_eq!((two.count(), two.at(0.5)), (2_000, histogram.at(0.5)));
    }
}
