//! Times in which the loop could not go on: its disk held it up, or the machine did.
//!
//! While a leader stands still its heartbeats do, and the others elect another one, rightly. Who
//! looks for the reason afterwards must find it: without these lines a slow disk looks like a
//! network that fails. Pure, but for what it logs.

use std::time::Duration;

/// Ticks without a turn after which the others may take a leader for gone; a little less than the
/// shortest election timeout.
const TICKS_MAX: u64 = 8;
/// A line for each cause at most so often; what comes between is counted in the next.
const SAY_EVERY_MS: u64 = 10_000;

/// What held the loop up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A turn took long; what takes long in one is waiting for the disk.
    Disk,
    /// It was not run when it should have been.
    Machine,
}

/// Times of one cause.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    longest_ms: u64,
    say_from_ms: u64,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    cause: Cause,
    count: u64,
    longest_ms: u64,
}

/// Notes them, and says so.
#[derive(Debug)]
pub(super) struct Stalls {
    longest_ms: u64,
    disk: Seen,
    machine: Seen,
}

impl Stalls {
    pub(super) fn new(tick_ms: u64) -> Self {
        let longest_ms = tick_ms.saturating_mul(TICKS_MAX);
        Self { longest_ms, disk: Seen::default(), machine: Seen::default() }
    }

    /// A turn is over that began then.
    pub(super) fn turned(&mut self, began_ms: u64, now_ms: u64) {
        say(self.note(Cause::Disk, now_ms.saturating_sub(began_ms), now_ms));
    }

    /// The loop has slept from then on, and wanted to for so long at most.
    pub(super) fn slept(&mut self, from_ms: u64, rest: Duration, now_ms: u64) {
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let late_ms = now_ms.saturating_sub(from_ms.saturating_add(rest_ms));
        say(self.note(Cause::Machine, late_ms, now_ms));
    }

    fn note(&mut self, cause: Cause, held_ms: u64, now_ms: u64) -> Option<Line> {
        if held_ms <= self.longest_ms {
            return None;
        }
        let seen = match cause {
            Cause::Disk => &mut self.disk,
            Cause::Machine => &mut self.machine,
        };
        seen.count = seen.count.saturating_add(1);
        seen.longest_ms = seen.longest_ms.max(held_ms);
        if now_ms < seen.say_from_ms {
            return None;
        }
        let Seen { count, longest_ms, .. } = std::mem::take(seen);
        seen.say_from_ms = now_ms.saturating_add(SAY_EVERY_MS);
        Some(Line { cause, count, longest_ms })
    }
}

fn say(line: Option<Line>) {
    let Some(Line { cause, count, longest_ms }) = line else { return };
    match cause {
        Cause::Disk => tracing::warn!(
            count,
            longest_ms,
            "this node stood still while it wrote: its disk is too slow, or busy; meanwhile others may take its lead"
        ),
        Cause::Machine => tracing::warn!(
            count,
            longest_ms,
            "this node was not let run: the machine is too busy, or was paused; meanwhile others may take its lead"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_said_once_in_a_while_with_what_came_between() {
        let mut stalls = Stalls::new(25);
        let line = |cause, count, longest_ms| Some(Line { cause, count, longest_ms });
        for (cause, held_ms, now_ms, want) in [
            (Cause::Disk, 200, 1_000, None),
            (Cause::Disk, 201, 1_000, line(Cause::Disk, 1, 201)),
            (Cause::Disk, 900, 2_000, None),
            (Cause::Machine, 300, 2_000, line(Cause::Machine, 1, 300)),
            (Cause::Disk, 300, 10_999, None),
            (Cause::Disk, 250, 11_000, line(Cause::Disk, 3, 900)),
            (Cause::Disk, 5, 90_000, None),
            (Cause::Disk, 220, 90_000, line(Cause::Disk, 1, 220)),
        ] {
            assert_eq!(stalls.note(cause, held_ms, now_ms), want, "{held_ms} ms at {now_ms}");
        }
    }
}
