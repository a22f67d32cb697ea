//! Log time: what deadlines in the replicated state live by.
//!
//! The leader stamps every entry. It goes on from the newest stamp that it holds by its own
//! monotonic clock, so a wall clock that jumps moves nothing. But the newest stamp may have been
//! old when it arrived: a node that catches up hears of yesterday's entries now. So followers ask
//! the leader for its log time; what it answers, counted from the question, is an upper bound for
//! ever after, and a leader to come goes on from there. What must never be handed over late may
//! rest on it.
//!
//! It bounds what was stamped up to the term of the leader that answered. A leader of a later term
//! may have been ahead; who leads after that one, and wasn't answered by it, doesn't know.
//!
//! Only a leader that does not know how late it is, as after a restart,
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
    bound: Option<Bound>,
}

/// Log time was no more than `log_ms` when this clock read `at_ms`, as a leader of `term` said.
#[derive(Clone, Copy, Debug)]
struct Bound {
    log_ms: u64,
    at_ms: u64,
    term: u64,
}

impl Bound {
    fn at(self, now: Now) -> u64 {
        self.log_ms.saturating_add(now.mono_ms.saturating_sub(self.at_ms))
    }
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

    /// The leader of a term says that it was so late when it heard a question of this moment.
    /// Counted from the question, that is never too early.
    ///
    /// What a leader of another term said is not lowered by it. What this one said before is: or a
    /// clock that runs fast would take this node ahead of log time, for as long as the term lasts.
    pub(crate) fn told(&mut self, log_ms: u64, asked_ms: u64, term: u64, now: Now) {
        let in_time = asked_ms <= now.mono_ms && now.mono_ms - asked_ms <= TOLD_WITHIN_MS;
        if !in_time || seeded::on("log-time-as-heard") {
            return;
        }
        let told = Bound { log_ms, at_ms: asked_ms, term };
        self.bound = Some(match self.bound {
            Some(known) if known.term > term => return,
            Some(known) if known.term < term && known.at(now) > told.at(now) => {
                Bound { term, ..known }
            }
            Some(_) | None => told,
        });
    }

    /// Whether this node knows how late it is at most, with all that was stamped up to a term.
    pub(crate) fn is_bounded(&self, term: u64) -> bool {
        self.bound.is_some_and(|bound| bound.term >= term)
    }

    /// The stamp for an entry proposed now, in this term.
    pub(crate) fn stamp(&mut self, now: Now, term: u64) -> u64 {
        let passed_ms = match self.heard_mono_ms {
            Some(_) if seeded::on("log-time-by-wall-clock") => {
                now.wall_ms.saturating_sub(self.wall_ms)
            }
            Some(heard) => now.mono_ms.saturating_sub(heard),
            None => now.wall_ms.saturating_sub(self.wall_ms),
        };
        let since_stamp_ms = self.stamp_ms.saturating_add(passed_ms);
        let stamp_ms = match self.bound {
            Some(bound) => since_stamp_ms.max(bound.at(now)),
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
            bound: Some(Bound { log_ms: stamp_ms, at_ms: now.mono_ms, term })
                .filter(|_| !seeded::on("log-time-as-heard")),
        };
        stamp_ms
    }

    /// What [`LogTime::stamp`] would give, without giving it.
    pub(crate) fn peek(&self, now: Now) -> u64 {
        let mut copy = *self;
        copy.stamp(now, 0)
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
        time.told(1_000, 10, 2, at(11, 50_000));
        assert_eq!(time.stamp(at(15, 9_999_999), 2), 1_005);
        assert_eq!(time.stamp(at(20, 0), 2), 1_010);
    }

    #[test]
    fn an_entry_that_was_old_when_it_came_does_not_make_it_early() {
        let mut time = LogTime::from_disk(0, 0);
        time.told(9_000, 100, 2, at(150, 0));
        time.heard(1_000, 0, at(200, 0));
        assert_eq!(time.stamp(at(300, 0), 2), 9_200);
        let mut late = LogTime::from_disk(0, 0);
        late.told(9_000, 100, 2, at(1_101, 0));
        assert!(!late.is_bounded(0), "an answer that took too long is worth nothing");
    }

    #[test]
    fn a_leader_of_a_later_term_does_not_make_it_earlier() {
        let mut time = LogTime::from_disk(0, 0);
        time.told(9_000, 100, 2, at(110, 0));
        assert!(time.is_bounded(2) && !time.is_bounded(3), "another leader may have been ahead");
        // Restarted, and nobody had told it the time.
        time.told(4_000, 150, 3, at(160, 0));
        time.told(1_000, 150, 2, at(160, 0));
        assert!(time.is_bounded(3));
        assert_eq!(time.peek(at(200, 0)), 9_100);
    }

    #[test]
    fn a_fast_clock_is_set_right_by_the_leader_of_the_same_term() {
        let mut time = LogTime::from_disk(0, 0);
        time.told(9_000, 100, 2, at(110, 0));
        time.told(9_950, 1_100, 2, at(1_110, 0));
        assert_eq!(time.peek(at(1_200, 0)), 10_050);
        time.told(99_000, 1_200, 3, at(1_210, 0));
        assert_eq!(time.peek(at(1_300, 0)), 99_100, "a later term's may be later");
    }

    #[test]
    fn a_leader_hears_its_own_entries_without_losing_time() {
        let mut time = LogTime::from_disk(0, 0);
        let first = time.stamp(at(100, 0), 2);
        time.heard(first, 0, at(2_100, 0));
        assert_eq!(time.stamp(at(2_200, 0), 2), first + 2_100);
    }

    #[test]
    fn a_gap_from_disk_is_bridged_forward_only() {
        let mut time = LogTime::from_disk(1_000, 50_000);
        assert_eq!(time.peek(at(10, 57_000)), 8_000);
        assert_eq!(time.stamp(at(10, 40_000), 2), 1_000);
        assert_eq!(time.stamp(at(13, 40_000), 2), 1_003);
    }

    #[test]
    fn stamps_never_go_back() {
        let mut time = LogTime::from_disk(0, 0);
        let first = time.stamp(at(100, 100), 2);
        time.heard(first.saturating_sub(50), 0, at(101, 0));
        assert!(time.stamp(at(102, 0), 2) >= first);
    }
}
