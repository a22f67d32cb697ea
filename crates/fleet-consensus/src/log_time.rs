//! Log time: what deadlines in the replicated state live by.
//!
//! The leader stamps every entry. It goes on from the newest stamp that it holds by its own
//! monotonic clock, so a wall clock that jumps moves nothing. Only a leader that restarted
//! and has not heard a live entry since does not know how old its newest stamp is; it then
//! adds what its wall clock says has passed, if that is forward. The result is in the entry
//! and so the same on all nodes.

use crate::seeded;

/// Now, by both clocks of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of the monotonic clock.
    pub mono_ms: u64,
    /// Milliseconds since 1970 by the wall clock; for display, and see the module.
    pub wall_ms: u64,
}

/// The clock that stamps entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTime {
    stamp_ms: u64,
    wall_ms: u64,
    /// When the stamp was heard live; `None` while it is only known from disk.
    heard_mono_ms: Option<u64>,
}

impl LogTime {
    /// From what was read from disk.
    pub(crate) fn from_disk(stamp_ms: u64, wall_ms: u64) -> Self {
        Self { stamp_ms, wall_ms, heard_mono_ms: None }
    }

    /// An entry with this stamp was applied now.
    pub(crate) fn heard(&mut self, stamp_ms: u64, wall_ms: u64, now: Now) {
        if stamp_ms >= self.stamp_ms {
            *self = Self { stamp_ms, wall_ms, heard_mono_ms: Some(now.mono_ms) };
        }
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
        *self = Self {
            stamp_ms: self.stamp_ms.saturating_add(passed_ms),
            wall_ms: now.wall_ms,
            heard_mono_ms: Some(now.mono_ms),
        };
        self.stamp_ms
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
        assert_eq!(time.stamp(at(15, 9_999_999)), 1_005);
        assert_eq!(time.stamp(at(20, 0)), 1_010);
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
