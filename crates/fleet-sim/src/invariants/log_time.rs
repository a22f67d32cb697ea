//! Log time: it never goes back, and it goes on no faster than time.
//!
//! Deadlines in the state live by it. A leader that restarted and has heard nothing since asks its
//! wall clock how long it was away; where wall clocks are wrong, log time may then jump. So it may
//! once in a term, with the first stamp of its leader, but never while that leader goes on.

use std::collections::BTreeMap;

use super::Violation;

/// Clocks of different nodes are read at different moments.
const AHEAD_MS_MAX: u64 = 1_000;
/// A clock may be faster than time by this share of it.
const FAST_SHARE: u64 = 20;

/// Log time so far.
#[derive(Debug, Default)]
pub struct LogTime {
    last_ms: u64,
    /// Since when there was a leader, by term.
    elected_ms: BTreeMap<u64, u64>,
    /// The newest term and its first stamp.
    began: (u64, u64),
}

impl LogTime {
    /// There is a leader in a term.
    pub fn elected(&mut self, term: u64, now_ms: u64) {
        self.elected_ms.entry(term).or_insert(now_ms);
    }

    /// An entry of `term` was applied at `now_ms`, and log time is `log_ms` now. `clocks_right`
    /// says whether no wall clock was ever changed.
    ///
    /// # Errors
    /// It went back, or too far.
    pub fn observe(
        &mut self,
        term: u64,
        log_ms: u64,
        now_ms: u64,
        clocks_right: bool,
    ) -> Result<(), Violation> {
        let last_ms = std::mem::replace(&mut self.last_ms, log_ms);
        if log_ms < last_ms {
            let what = format!("it went from {last_ms} back to {log_ms}");
            return Err(Violation::new("log time goes on", what));
        }
        let fast = |what| Err(Violation::new("log time is no faster than time", what));
        if clocks_right && log_ms > now_ms + now_ms / FAST_SHARE + AHEAD_MS_MAX {
            return fast(format!("it is {log_ms} after {now_ms} ms"));
        }
        if log_ms == last_ms {
            return Ok(());
        }
        let (in_term, first_ms) = self.began;
        if in_term != term {
            self.began = (term, log_ms);
            return Ok(());
        }
        let passed_ms = now_ms.saturating_sub(self.elected_ms.get(&term).copied().unwrap_or(0));
        if log_ms > first_ms + passed_ms + passed_ms / FAST_SHARE + AHEAD_MS_MAX {
            let what = format!("from {first_ms} to {log_ms} within {passed_ms} ms of term {term}");
            return fast(what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_may_stand_still_and_go_on() {
        let mut time = LogTime::default();
        time.elected(2, 1_000);
        for (log_ms, now_ms) in [(0, 1_500), (400, 1_600), (400, 9_000), (8_000, 9_000)] {
            assert_eq!(time.observe(2, log_ms, now_ms, true), Ok(()));
        }
        // A new leader that doesn't know how long it was away may jump, once.
        time.elected(3, 9_500);
        assert_eq!(time.observe(3, 90_000_000, 9_900, false), Ok(()));
        assert_eq!(time.observe(3, 90_000_100, 10_000, false), Ok(()));
    }

    #[test]
    fn log_time_neither_goes_back_nor_runs() {
        let begun = || {
            let mut time = LogTime::default();
            time.elected(2, 1_000);
            time.observe(2, 500, 1_500, false).unwrap();
            time
        };
        assert!(begun().observe(2, 499, 1_600, false).is_err(), "back");
        assert!(begun().observe(2, 5_000, 1_600, false).is_err(), "a jump within a term");
        assert!(begun().observe(3, 5_000, 1_600, true).is_err(), "ahead of time");
    }
}
