//! Log time: what deadlines in the replicated state live by.
//!
//! The leader stamps every entry. It goes on from the newest stamp that it holds by its own
//! monotonic clock, so a wall clock that jumps moves nothing. But the newest stamp may have been
//! old when it arrived: a node that catches up hears of yesterday's entries now. So followers ask
//! the leader for its log time; what it answers, counted from the question, is an upper bound for
//! ever after, and a leader to come goes on from there. What must never be handed over late may
//! rest on it.
//!
//! Only a leader that restarted and was not answered since does not know how late it is; it then
//! adds what its wall clock says has passed, if that is forward. The result is in the
//! entry and so the same on all nodes.

use crate::seeded;

/// Now, by both clocks of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of the monotonic clock.
    pub mono_ms: u64,
    /// Milliseconds since 1970 by the wall clock; for display, and see the module.
    pub wall_ms: u64,
}

/// The longest way of a question and its answer that is worth something.
const TOLD_WITHIN_MS: u64 = 1_000;

/// The clock that stamps entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTime {
    stamp_ms: u64,
    wall_ms: u64,
    /// When the stamp was heard live; `None` while it is only known from disk.
    heard_mono_ms: Option<u64>,
    /// Log time was no more than the first when this clock read the second.
    bound: Option<(u64, u64)>,
}

impl LogTime {
    /// From what was read from disk.
    pub(crate) fn from_disk(stamp_ms: u64, wall_ms: u64) -> Self {
        Self { stamp_ms, wall_ms, heard_mono_ms: None, bound: None }
    }

    /// An entry with this stamp was applied now. It may be old already.
    pub(crate) fn heard(&mut self, stamp_ms: u64, wall_ms: u64, now: Now) {
        if stamp_ms >= self.stamp_ms {
            let heard_mono_ms = Some(now.mono_ms);
            *self = Self { stamp_ms, wall_ms, heard_mono_ms, ..*self };
        }
    }

    /// The leader says that it was so late when it heard a question of this moment. Counted from
    /// the question, that is never too early.
    pub(crate) fn told(&mut self, log_ms: u64, asked_ms: u64, now: Now) {
        let in_time = asked_ms <= now.mono_ms && now.mono_ms - asked_ms <= TOLD_WITHIN_MS;
        if in_time && !seeded::on("log-time-as-heard") {
            self.bound = Some((log_ms, asked_ms));
        }
    }

    /// Whether this node knows how late it is at most.
    pub(crate) fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }

    /// The stamp for an entry proposed now.
    pub(crate) fn stamp(&mut self, now: Now) -> u64 {
        let passed_ms = match self.heard_mono_ms {
            Some(_) if seeded::on("log-time-by-wall-clock") => {
                now.wall_ms.saturating_sub(self.wall_ms)
            }
            Some(heard) => now.mono_ms.saturating_sub(heard),
            None => now.wall_ms.saturating_sub(self.wall_ms),
        };
        let since_stamp_ms = self.stamp_ms.saturating_add(passed_ms);
        let stamp_ms = match self.bound {
            Some((log_ms, at_ms)) => {
                since_stamp_ms.max(log_ms.saturating_add(now.mono_ms.saturating_sub(at_ms)))
            }
            None if seeded::on("log-time-as-heard") => since_stamp_ms,
            // What was heard since the start may have been old.
            None => {
                let by_wall_ms = now.wall_ms.saturating_sub(self.wall_ms);
                since_stamp_ms.max(self.stamp_ms.saturating_add(by_wall_ms))
            }
        };
        *self = Self {
            stamp_ms,
            wall_ms: now.wall_ms,
            heard_mono_ms: Some(now.mono_ms),
            bound: Some((stamp_ms, now.mono_ms)).filter(|_| !seeded::on("log-time-as-heard")),
        };
        stamp_ms
    }

    /// What [`LogTime::stamp`] would give, without giving it.
    pub(crate) fn peek(&self, now: Now) -> u64 {
        let mut copy = *self;
        copy.stamp(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64, wall_ms: u64) -> Now {
        Now { mono_ms, wall_ms }
    }

    #[test]
    fn wall_jumps_do_not_move_a_live_clock() {
        let mut time = LogTime::from_disk(1_000, 50_000);
        time.heard(1_000, 50_000, at(10, 50_000));
        time.told(1_000, 10, at(11, 50_000));
        assert_eq!(time.stamp(at(15, 9_999_999)), 1_005);
        assert_eq!(time.stamp(at(20, 0)), 1_010);
    }

    #[test]
    fn an_entry_that_was_old_when_it_came_does_not_make_it_early() {
        let mut time = LogTime::from_disk(0, 0);
        time.told(9_000, 100, at(150, 0));
        time.heard(1_000, 0, at(200, 0));
        assert_eq!(time.stamp(at(300, 0)), 9_200);
        let mut late = LogTime::from_disk(0, 0);
        late.told(9_000, 100, at(1_101, 0));
        assert!(!late.is_bounded(), "an answer that took too long is worth nothing");
    }

    #[test]
    fn a_leader_hears_its_own_entries_without_losing_time() {
        let mut time = LogTime::from_disk(0, 0);
        let first = time.stamp(at(100, 0));
        time.heard(first, 0, at(2_100, 0));
        assert_eq!(time.stamp(at(2_200, 0)), first + 2_100);
    }

    #[test]
    fn a_gap_from_disk_is_bridged_forward_only() {
        let mut time = LogTime::from_disk(1_000, 50_000);
        assert_eq!(time.peek(at(10, 57_000)), 8_000);
        assert_eq!(time.stamp(at(10, 40_000)), 1_000);
        assert_eq!(time.stamp(at(13, 40_000)), 1_003);
    }

    #[test]
    fn stamps_never_go_back() {
        let mut time = LogTime::from_disk(0, 0);
        let first = time.stamp(at(100, 100));
        time.heard(first.saturating_sub(50), 0, at(101, 0));
        assert!(time.stamp(at(102, 0)) >= first);
    }
}
