//! The node's monotonic clock in milliseconds, as the replica counts it.

use tokio::time::Instant;

/// Milliseconds since the process started; never goes back.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    started: Instant,
}

impl MonotonicClock {
    /// A clock that reads 1 now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The reading now, in milliseconds; at least 1.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.at_ms(Instant::now())
    }

    /// The reading at `instant`, in milliseconds; instants before the start read 1.
    #[must_use]
    pub fn at_ms(&self, instant: Instant) -> u64 {
        let elapsed = instant.saturating_duration_since(self.started).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1
    }
}
