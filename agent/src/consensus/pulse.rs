//! When the loop last turned, for those who wait for it.
//!
//! The loop waits for its disk, and a disk may hang. Then nothing that the loop would have to do
//! happens: no deadline of a waiter expires, no new view is published, and the last one goes on
//! saying that there is a leader. Who stands outside the loop tells that by its pulse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A loop without a turn for longer than this stands still. One that has nothing to do turns many
/// times as often.
const STILL_MS_MIN: u64 = 2_000;
/// The same in ticks, where they are long: an idle replica lets two and a half pass.
const STILL_TICKS_MIN: u64 = 8;

/// The pulse of one loop; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    turned_ms: Arc<AtomicU64>,
    still_ms_min: u64,
}

impl Pulse {
    /// Of a loop that starts now, with ticks of this length.
    pub(super) fn new(tick_ms: u64, now_ms: u64) -> Self {
        let still_ms_min = tick_ms.saturating_mul(STILL_TICKS_MIN).max(STILL_MS_MIN);
        Self { turned_ms: Arc::new(AtomicU64::new(now_ms)), still_ms_min }
    }

    /// The loop is at work; gives the time back.
    pub(super) fn beat(&self, now_ms: u64) -> u64 {
        self.turned_ms.store(now_ms, Ordering::Relaxed);
        now_ms
    }

    /// For how long the loop has stood still; `None` while it turns.
    pub(super) fn still_ms(&self, now_ms: u64) -> Option<u64> {
        let age_ms = now_ms.saturating_sub(self.turned_ms.load(Ordering::Relaxed));
        (age_ms >= self.still_ms_min).then_some(age_ms)
    }
}

/// What is said of a loop that has stood still for so long.
pub(crate) fn stands_still(still_ms: u64) -> String {
    format!(
        "this agent has stood still for {still_ms} ms: its disk does not answer, or its machine is too busy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_stands_still_after_two_seconds_or_after_many_long_ticks() {
        for (tick_ms, bound_ms) in [(5, 2_000), (25, 2_000), (250, 2_000), (1_000, 8_000)] {
            let pulse = Pulse::new(tick_ms, 100);
            assert_eq!(pulse.still_ms(100 + bound_ms - 1), None, "{tick_ms}");
            assert_eq!(pulse.still_ms(100 + bound_ms), Some(bound_ms), "{tick_ms}");
            pulse.beat(100 + bound_ms);
            assert_eq!(pulse.still_ms(100 + bound_ms), None, "{tick_ms}");
        }
    }
}
