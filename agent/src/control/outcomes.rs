//! Outcomes of commands that came without a reply subject: whatever becomes of one is an event.
//!
//! An outcome that the log decided, or that nobody knows, is always told: such a command has cost
//! its sender a place in the log or a deadline. A refusal costs nothing but a message, so of these
//! only so many are told in a second. Otherwise whoever may publish a byte could have a whole
//! event sent to every listener for it, as often as he likes. The rest is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// Refusals that are told at once after a quiet time.
const REFUSALS_AT_ONCE: u64 = 40;
/// Time between two of them after that: 20 a second.
const REFUSAL_INTERVAL_MS: u64 = 50;
/// How far ahead of time the last refusal that is told may be.
const AHEAD_MS_MAX: u64 = (REFUSALS_AT_ONCE - 1) * REFUSAL_INTERVAL_MS;

/// How many refusals may be told yet.
#[derive(Debug)]
pub(super) struct RefusalBudget {
    since: Instant,
    /// When the next refusal would be due if they came evenly spread, after `since`.
    due_ms: AtomicU64,
}

impl RefusalBudget {
    /// A full budget.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, due_ms: AtomicU64::new(0) }
    }

    /// Whether one more may be told; if so, it is spent.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let gone = now.saturating_duration_since(self.since).as_millis();
        let now_ms = u64::try_from(gone).unwrap_or(u64::MAX);
        let spent = self.due_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due_ms| {
            let due_ms = due_ms.max(now_ms);
            let has_room = due_ms.saturating_sub(now_ms) <= AHEAD_MS_MAX;
            has_room.then(|| due_ms.saturating_add(REFUSAL_INTERVAL_MS))
        });
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(budget: &RefusalBudget, now: Instant) -> u64 {
        (0..10_000).map(|_| u64::from(budget.spend(now))).sum()
    }

    #[tokio::test]
    async fn refusals_are_told_up_to_a_bound_that_fills_with_time() {
        let begun = Instant::now();
        let budget = RefusalBudget::new(begun);
        assert_eq!(told(&budget, begun), REFUSALS_AT_ONCE);
        let second = begun + Duration::from_secs(1);
        assert_eq!(told(&budget, second), 1_000 / REFUSAL_INTERVAL_MS);
        assert_eq!(told(&budget, second), 0);
        // A long silence saves up no more than the bound.
        let day = begun + Duration::from_secs(86_400);
        assert_eq!(told(&budget, day), REFUSALS_AT_ONCE);
        // A clock that stands still, or an earlier moment, gives nothing.
        assert_eq!(told(&budget, begun), 0);
    }
}
