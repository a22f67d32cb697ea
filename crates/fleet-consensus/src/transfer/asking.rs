//! How much of a snapshot is asked for at a time, and when again: pure, with time as an argument.
//!
//! What is asked for twice travels twice. On a cable that carries a chunk in some seconds a
//! receiver that asked again twice a second would fill it with copies, and still be waiting for
//! them when the snapshot is long installed. So this one waits for as long as chunks have been
//! taking, asks for no more than comes within some seconds, and for the next part while the one
//! before is on its way. Meanwhile it says that it is still there, which costs no answer. And copies
//! that come all the same are no silence: what is behind them on the cable is still to come.

use crate::config::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_PATIENCE_MAX_MS, SNAPSHOT_PATIENCE_MIN_MS, SNAPSHOT_PATIENCE_MS,
    SNAPSHOT_TELL_MS, SNAPSHOT_WINDOW_BYTES,
};

/// The window at first, at least and at most. Two of them are on their way.
const WINDOW_BYTES: u64 = SNAPSHOT_CHUNK_BYTES / 2;
const WINDOW_BYTES_MIN: u64 = 4 * 1024;
const WINDOW_BYTES_MAX: u64 = SNAPSHOT_WINDOW_BYTES / 2;
/// A window that comes within this time may be twice as large, and one that takes longer than
/// twice as long half as large.
const WINDOW_MS: u64 = 1_000;
/// Patience is this many times what a chunk has taken.
const PATIENCE_CHUNKS: u64 = 3;

/// What to say to the sender now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Nothing,
    /// What was asked for is still awaited.
    StillHere,
    For {
        offset: u64,
        len: u64,
    },
}

/// How far the transfer of one file is.
#[derive(Debug)]
pub(super) struct Asking {
    size_bytes: u64,
    received: u64,
    asked_through: u64,
    window_bytes: u64,
    patience_ms: u64,
    /// The longest wait for a chunk since something was asked for.
    slowest_ms: u64,
    /// When something was asked for last, and whether anything has come since.
    asked_ms: u64,
    has_come: bool,
    /// When the sender was told anything last.
    told_ms: u64,
    /// When the last chunk came, be it one that was there already, or the offer.
    heard_ms: u64,
}

impl Asking {
    pub(super) const fn new(size_bytes: u64, now_ms: u64) -> Self {
        Self {
            size_bytes,
            received: 0,
            asked_through: 0,
            window_bytes: WINDOW_BYTES,
            patience_ms: SNAPSHOT_PATIENCE_MS,
            slowest_ms: 0,
            asked_ms: now_ms,
            has_come: false,
            told_ms: now_ms,
            heard_ms: now_ms,
        }
    }

    /// Bytes that are there, from the beginning on.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.received >= self.size_bytes
    }

    /// For how long nothing has come.
    pub(super) const fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms)
    }

    /// Another one is asked from here on: nothing is on its way.
    pub(super) const fn begin_anew(&mut self) {
        self.asked_through = self.received;
        self.patience_ms = SNAPSHOT_PATIENCE_MS;
    }

    /// The next bytes have come.
    pub(super) fn came(&mut self, bytes: u64, now_ms: u64) {
        self.slowest_ms = self.slowest_ms.max(now_ms.saturating_sub(self.waiting_since_ms()));
        self.patience_ms = self.patience_ms.max(patience_ms(self.slowest_ms));
        self.received = self.received.saturating_add(bytes);
        self.asked_through = self.asked_through.max(self.received);
        self.heard_ms = now_ms;
        self.has_come = true;
    }

    /// Bytes have come that were there already.
    pub(super) const fn came_again(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// What to say now.
    pub(super) fn ask(&mut self, now_ms: u64) -> Ask {
        if self.is_complete() {
            return Ask::Nothing;
        }
        let on_way = self.asked_through - self.received;
        let is_enough = on_way > self.window_bytes || self.asked_through >= self.size_bytes;
        if on_way > 0 && is_enough {
            if now_ms.saturating_sub(self.waiting_since_ms()) < self.patience_ms {
                if now_ms.saturating_sub(self.told_ms) < SNAPSHOT_TELL_MS {
                    return Ask::Nothing;
                }
                self.told_ms = now_ms;
                return Ask::StillHere;
            }
            // It was lost, or takes longer than thought.
            self.patience_ms = (self.patience_ms * 2).min(SNAPSHOT_PATIENCE_MAX_MS);
            self.window_bytes = (self.window_bytes / 2).max(WINDOW_BYTES_MIN);
            self.asked_through = self.received;
        } else if self.has_come {
            let took_ms = now_ms.saturating_sub(self.asked_ms);
            if took_ms <= WINDOW_MS {
                self.window_bytes = (self.window_bytes * 2).min(WINDOW_BYTES_MAX);
            } else if took_ms > 2 * WINDOW_MS {
                self.window_bytes = (self.window_bytes / 2).max(WINDOW_BYTES_MIN);
            }
            let calmed_ms = self.patience_ms - self.patience_ms / 4;
            self.patience_ms = calmed_ms.max(patience_ms(self.slowest_ms));
            self.slowest_ms = 0;
        }
        let offset = self.asked_through;
        let len = (self.size_bytes - offset).min(self.window_bytes);
        self.asked_through = offset + len;
        self.asked_ms = now_ms;
        self.has_come = false;
        self.told_ms = now_ms;
        Ask::For { offset, len }
    }

    /// Since when the next chunk is awaited.
    const fn waiting_since_ms(&self) -> u64 {
        if self.heard_ms > self.asked_ms { self.heard_ms } else { self.asked_ms }
    }
}

/// For how long the next chunk is waited for, where the slowest took so long.
fn patience_ms(slowest_ms: u64) -> u64 {
    let chunks_ms = slowest_ms.saturating_mul(PATIENCE_CHUNKS);
    chunks_ms.clamp(SNAPSHOT_PATIENCE_MIN_MS, SNAPSHOT_PATIENCE_MAX_MS)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::config::{SNAPSHOT_SILENCE_MS, SNAPSHOT_STALL_MS};

    /// What a transfer took over a cable that carries so much, and how much travelled.
    struct Took {
        ms: u64,
        bytes: u64,
        silent_ms: u64,
    }

    /// Every `lost_every`th chunk is lost.
    fn transfer(size_bytes: u64, bytes_per_ms: u64, away_ms: u64, lost_every: u64) -> Took {
        transfer_over(size_bytes, |_| bytes_per_ms, away_ms, lost_every)
    }

    /// The same over a cable that changes.
    fn transfer_over(
        size_bytes: u64,
        bytes_per_ms: impl Fn(u64) -> u64,
        away_ms: u64,
        lost_every: u64,
    ) -> Took {
        let mut asking = Asking::new(size_bytes, 0);
        let mut took = Took { ms: 0, bytes: 0, silent_ms: 0 };
        let (mut coming, mut busy_until_ms) = (VecDeque::new(), 0);
        let (mut chunks, mut told_ms) = (0_u64, 0);
        // The sender may be asked at every step of this.
        for now_ms in (0..3_600_000).step_by(10) {
            while let Some((at_ms, from, bytes)) = coming.front().copied()
                && at_ms <= now_ms
            {
                coming.pop_front();
                if from == asking.received() {
                    asking.came(bytes, now_ms);
                } else if from < asking.received() {
                    asking.came_again(now_ms);
                }
                assert!(asking.silent_ms(now_ms) < SNAPSHOT_STALL_MS, "it would be given up");
            }
            if asking.is_complete() {
                took.ms = now_ms;
                return took;
            }
            loop {
                let ask = asking.ask(now_ms);
                if ask == Ask::Nothing {
                    break;
                }
                took.silent_ms = took.silent_ms.max(now_ms - told_ms);
                told_ms = now_ms;
                if let Ask::For { offset, len } = ask {
                    let end = offset + len;
                    let mut from = offset;
                    while from < end {
                        let bytes = SNAPSHOT_CHUNK_BYTES.min(end - from);
                        busy_until_ms = now_ms.max(busy_until_ms) + bytes / bytes_per_ms(now_ms);
                        chunks += 1;
                        took.bytes += bytes;
                        if lost_every == 0 || !chunks.is_multiple_of(lost_every) {
                            coming.push_back((busy_until_ms + 2 * away_ms, from, bytes));
                        }
                        from += bytes;
                    }
                }
            }
        }
        panic!("an hour: {} of {size_bytes} bytes", asking.received());
    }

    #[test]
    fn a_narrow_cable_carries_hardly_anything_twice() {
        for (bytes_per_ms, away_ms) in [(2, 1), (4, 100), (8, 1), (8, 400), (30, 20)] {
            let size_bytes = 300_000;
            let took = transfer(size_bytes, bytes_per_ms, away_ms, 0);
            let what = format!("{bytes_per_ms} kB/s, {away_ms} ms away");
            let twice = took.bytes - size_bytes;
            // At most what is asked for before anything has come.
            assert!(twice <= 4 * WINDOW_BYTES, "{what}: {twice} bytes twice");
            let least_ms = size_bytes / bytes_per_ms;
            assert!(took.ms <= least_ms * 3 / 2 + 5_000, "{what}: {} ms", took.ms);
            assert!(took.silent_ms < SNAPSHOT_SILENCE_MS, "{what}: {} ms silent", took.silent_ms);
        }
    }

    #[test]
    fn a_wide_cable_is_used() {
        for (bytes_per_ms, away_ms) in
            [(1_000, 1), (10_000, 20), (100_000, 1), (10_000, 400), (1_000, 300)]
        {
            let size_bytes = 100 * 1024 * 1024;
            let took = transfer(size_bytes, bytes_per_ms, away_ms, 0);
            assert_eq!(took.bytes, size_bytes, "nothing twice");
            // A window for each way there and back, or what the cable carries; in steps of ten.
            let windows = size_bytes / SNAPSHOT_WINDOW_BYTES;
            let least_ms = (size_bytes / bytes_per_ms).max(windows * (2 * away_ms + 10));
            assert!(took.ms <= least_ms * 3 / 2 + 1_000, "{bytes_per_ms}: {} ms", took.ms);
        }
    }

    #[test]
    fn a_cable_that_becomes_narrow_carries_what_is_left() {
        for narrow_from_ms in [200, 1_000, 3_000] {
            let size_bytes = 8 * 1024 * 1024;
            let rate = |now_ms| if now_ms < narrow_from_ms { 1_000 } else { 8 };
            let took = transfer_over(size_bytes, rate, 5, 0);
            let left = size_bytes.saturating_sub(narrow_from_ms * 1_000);
            // What was on its way then may come twice or so.
            let most = left + 3 * SNAPSHOT_WINDOW_BYTES;
            assert!(took.ms <= narrow_from_ms + most / 8 + 10_000, "{narrow_from_ms}: {}", took.ms);
        }
    }

    #[test]
    fn what_is_lost_is_asked_for_again_from_there() {
        for (bytes_per_ms, lost_every) in [(8, 5), (1_000, 7), (10_000, 50)] {
            let size_bytes = 2_000_000;
            let took = transfer(size_bytes, bytes_per_ms, 5, lost_every);
            let lost = took.bytes / SNAPSHOT_CHUNK_BYTES / lost_every;
            assert!(lost > 0, "nothing was lost");
            let each_ms = SNAPSHOT_PATIENCE_MAX_MS + 2_000;
            let most_ms = took.bytes / bytes_per_ms + (lost + 1) * each_ms;
            assert!(took.ms <= most_ms, "{bytes_per_ms}: {} of {most_ms} ms", took.ms);
            assert!(took.silent_ms < SNAPSHOT_SILENCE_MS, "{} ms silent", took.silent_ms);
        }
    }
}
