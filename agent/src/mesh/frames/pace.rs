//! How fast one peer may send: a bucket of bytes that fills with time.

/// What one peer may send in the long run, and at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) bytes_per_second: u64,
    pub(super) burst_bytes: u64,
    /// What a frame costs beside its bytes: small ones are work too.
    pub(super) frame_cost_bytes: u64,
}

/// A peer's bucket.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    left_bytes: u64,
    filled_ms: u64,
}

impl Pace {
    /// A full bucket.
    pub(super) const fn new(rate: Rate, now_ms: u64) -> Self {
        Self { rate, left_bytes: rate.burst_bytes, filled_ms: now_ms }
    }

    /// Takes a frame out; gives how many milliseconds the reader must wait before it reads on.
    pub(super) fn take(&mut self, frame_bytes: usize, now_ms: u64) -> u64 {
        let per_second = self.rate.bytes_per_second.max(1);
        let gone_ms = now_ms.saturating_sub(self.filled_ms);
        let filled = self.left_bytes.saturating_add(gone_ms.saturating_mul(per_second) / 1_000);
        self.left_bytes = filled.min(self.rate.burst_bytes);
        self.filled_ms = now_ms;
        let bytes = u64::try_from(frame_bytes).unwrap_or(u64::MAX);
        let cost = bytes.saturating_add(self.rate.frame_cost_bytes);
        match self.left_bytes.checked_sub(cost) {
            Some(left) => {
                self.left_bytes = left;
                0
            }
            None => {
                let missing = cost.saturating_sub(self.left_bytes);
                self.left_bytes = 0;
                let wait_ms = (missing.saturating_mul(1_000) / per_second).saturating_add(1);
                // The wait pays for what was missing; it must not be credited again.
                self.filled_ms = now_ms.saturating_add(wait_ms);
                wait_ms
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_kept_to_the_rate() {
        let rate = Rate { bytes_per_second: 1_000, burst_bytes: 500, frame_cost_bytes: 100 };
        let mut pace = Pace::new(rate, 0);
        let mut now_ms = 0;
        let mut frames = 0;
        while now_ms < 100_000 {
            now_ms += pace.take(0, now_ms);
            frames += 1;
        }
        assert!((990..=1_010).contains(&frames), "{frames}");
    }

    #[test]
    fn who_keeps_to_the_rate_never_waits() {
        let rate = Rate { bytes_per_second: 1_000, burst_bytes: 500, frame_cost_bytes: 10 };
        let mut pace = Pace::new(rate, 0);
        for now_ms in (0..1_000_000).step_by(100) {
            assert_eq!(pace.take(80, now_ms), 0);
        }
        assert!(pace.take(usize::MAX, 1_000_000) > 1_000_000, "no overflow");
    }
}
