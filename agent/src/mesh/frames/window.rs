//! How much of what is not urgent may be on its way to one node: pure, with time as an argument.
//!
//! One connection carries all classes, and what the system has taken in of it leaves in order: were
//! a snapshot poured in, or a long append, a heartbeat behind it would wait until it is through, and on a narrow
//! cable that is many election timeouts. So the other end tells how far it has read, and no more is
//! written than this window leaves room for. It grows while it is filled and pieces are read about as
//! soon as the quickest was, doubling with each round trip, and shrinks when they come to wait for each other
//! (the idea is that of LEDBAT, RFC 6817). What is urgent then waits for less than half a second of
//! each stream, whatever the cable carries, and where that is much the window is no bound.
//!
//! How soon a piece can be read changes with the way. So every now and then the window waits until
//! all is read, and measures anew with a small piece, as BBR does; otherwise a way that has become a
//! longer one would be taken for a crowded one.

use std::collections::VecDeque;

/// The window at first, which may be too much for no cable, and at most.
const FIRST_BYTES: usize = 2 * 1024;
const BYTES_MIN: usize = 1024;
const BYTES_MAX: usize = 1024 * 1024;
/// The first piece, small so that the time it takes is the way's and not its own.
const PROBE_BYTES: usize = 256;
/// Pieces that are written at a time: this part of the window, and no less than fills a packet.
const PIECES_PER_WINDOW: usize = 8;
const PIECE_BYTES_MIN: usize = 1024;
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// A piece that is read so much later than the quickest did not wait, hardly waited, or waited for
/// too long.
const PROMPT_MS: u64 = 60;
const SOON_MS: u64 = 125;
const LATE_MS: u64 = 250;
/// Where pieces hardly wait, the window grows by so much slower.
const SOON_PART: usize = 8;

/// What the quickest piece took is forgotten after this time.
const QUICKEST_MS: u64 = 60_000;
/// And the window begins with this part of what it was.
const EMPTY_PART: usize = 4;

/// A piece that is on its way.
#[derive(Clone, Copy, Debug)]
struct Piece {
    bytes: usize,
    /// Of these, what was not read yet.
    left: usize,
    written_ms: u64,
    /// What was on its way when it was written, with it.
    with_bytes: usize,
}

/// The window of one stream.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    on_way: VecDeque<Piece>,
    on_way_bytes: usize,
    /// What the quickest piece took; unknown until a first small piece is read.
    quickest_ms: Option<u64>,
    /// Since when it is measured, whether the window was filled since then, and how many pieces
    /// are on their way from before.
    quickest_from_ms: u64,
    was_filled: bool,
    earlier: usize,
    /// Pieces that were written before this say nothing of the window as it is since.
    shrunk_ms: u64,
}

/// The other end claims to have read what was not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotWritten;

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: FIRST_BYTES,
            on_way: VecDeque::new(),
            on_way_bytes: 0,
            quickest_ms: None,
            quickest_from_ms: 0,
            was_filled: false,
            earlier: 0,
            shrunk_ms: 0,
        }
    }
}

impl Window {
    /// How much may be written now, in one piece.
    pub(super) fn room(&self) -> usize {
        if self.quickest_ms.is_none() {
            return PROBE_BYTES.saturating_sub(self.on_way_bytes);
        }
        let piece = (self.bytes / PIECES_PER_WINDOW).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let room = self.bytes.saturating_sub(self.on_way_bytes);
        // Crumbs are not worth their headers; there is more room when something was read.
        if room < PIECE_BYTES_MIN && self.on_way_bytes > 0 { 0 } else { room.min(piece) }
    }

    /// A piece was written.
    pub(super) fn written(&mut self, bytes: usize, now_ms: u64) {
        self.on_way_bytes = self.on_way_bytes.saturating_add(bytes);
        let with_bytes = self.on_way_bytes;
        self.on_way.push_back(Piece { bytes, left: bytes, written_ms: now_ms, with_bytes });
    }

    /// The other end has read so much more.
    pub(super) fn read(&mut self, bytes: usize, now_ms: u64) -> Result<(), NotWritten> {
        self.on_way_bytes = self.on_way_bytes.checked_sub(bytes).ok_or(NotWritten)?;
        let mut left = bytes;
        while let Some(piece) = self.on_way.front_mut() {
            if left < piece.left {
                piece.left -= left;
                break;
            }
            left -= piece.left;
            let piece = *piece;
            self.on_way.pop_front();
            self.judge(piece, now_ms);
        }
        Ok(())
    }

    fn judge(&mut self, piece: Piece, now_ms: u64) {
        if self.earlier > 0 {
            self.earlier -= 1;
            return;
        }
        let took_ms = now_ms.saturating_sub(piece.written_ms);
        let quickest_ms = self.quickest_ms.map_or(took_ms, |known_ms| known_ms.min(took_ms));
        if self.quickest_ms.replace(quickest_ms).is_none() {
            self.quickest_from_ms = now_ms;
        }
        let waited_ms = took_ms - quickest_ms;
        // That little is read promptly says nothing of how long much would take.
        let filled = piece.with_bytes >= self.bytes / 2;
        self.was_filled |= filled;
        if waited_ms <= PROMPT_MS && filled {
            self.grow(piece.bytes);
        } else if waited_ms <= SOON_MS && filled {
            self.grow(piece.bytes / SOON_PART);
        } else if waited_ms > LATE_MS && piece.written_ms >= self.shrunk_ms {
            self.bytes = (self.bytes / 2).max(BYTES_MIN);
            self.shrunk_ms = now_ms;
        }
        if now_ms.saturating_sub(self.quickest_from_ms) >= QUICKEST_MS {
            self.forget_quickest(took_ms, now_ms);
        }
    }

    /// The way may have become another one.
    fn forget_quickest(&mut self, took_ms: u64, now_ms: u64) {
        self.quickest_from_ms = now_ms;
        if !self.was_filled {
            // Little was on its way: what a piece of that takes is what the way takes.
            self.quickest_ms = Some(took_ms);
            return;
        }
        // What is written when all is read finds the way empty, and must not fill it at once.
        self.bytes = (self.bytes / EMPTY_PART).max(BYTES_MIN);
        self.quickest_ms = None;
        self.was_filled = false;
        self.earlier = self.on_way.len();
    }

    fn grow(&mut self, by: usize) {
        self.bytes = self.bytes.saturating_add(by).min(BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cable: what is on it is read in order, at its speed, and a while after it has come.
    struct Cable {
        windows: Vec<Window>,
        bytes_per_ms: usize,
        away_ms: u64,
        now_ms: u64,
        /// When the cable is through with what was written, and what of whose is read when.
        busy_until_us: u64,
        reads: VecDeque<(u64, usize, usize)>,
    }

    impl Cable {
        fn new(bytes_per_ms: usize, away_ms: u64) -> Self {
            let (windows, reads) = (vec![Window::default()], VecDeque::new());
            Self { windows, bytes_per_ms, away_ms, now_ms: 0, busy_until_us: 0, reads }
        }

        /// Goes on for so long; gives what was read, and how long something small that was
        /// written meanwhile had to wait at most.
        fn run(&mut self, for_ms: u64) -> (usize, u64) {
            let (read, wait_ms) = self.run_with(for_ms, |_| usize::MAX);
            (read.iter().sum(), wait_ms)
        }

        /// The same where so much comes to be written at each moment, for each window.
        fn run_with(&mut self, for_ms: u64, comes: impl Fn(u64) -> usize) -> (Vec<usize>, u64) {
            let mut read = vec![0; self.windows.len()];
            let mut waiting = vec![0_usize; self.windows.len()];
            let mut wait_ms = 0;
            for _ in 0..for_ms {
                self.now_ms += 1;
                while let Some((at_ms, whose, bytes)) = self.reads.front().copied()
                    && at_ms <= self.now_ms
                {
                    self.reads.pop_front();
                    self.windows[whose].read(bytes, self.now_ms).unwrap();
                    read[whose] += bytes;
                }
                for (whose, window) in self.windows.iter_mut().enumerate() {
                    waiting[whose] = waiting[whose].saturating_add(comes(self.now_ms));
                    while window.room() > 0 && waiting[whose] > 0 {
                        let piece = window.room().min(waiting[whose]);
                        waiting[whose] -= piece;
                        window.written(piece, self.now_ms);
                        let takes_us = (piece * 1_000 / self.bytes_per_ms) as u64;
                        self.busy_until_us = self.busy_until_us.max(self.now_ms * 1_000) + takes_us;
                        // It is told a little later.
                        let read_ms = self.busy_until_us / 1_000 + self.away_ms + 5;
                        self.reads.push_back((read_ms, whose, piece));
                    }
                }
                let busy_ms = self.busy_until_us / 1_000;
                wait_ms = wait_ms.max(busy_ms.saturating_sub(self.now_ms));
            }
            (read, wait_ms)
        }
    }

    #[test]
    fn what_is_urgent_waits_for_little_on_a_narrow_cable_and_the_cable_is_used() {
        for away_ms in [1, 30, 300] {
            for bytes_per_ms in [2, 8, 30, 125, 2_000] {
                let what = format!("{bytes_per_ms} kB/s, {away_ms} ms away");
                let mut cable = Cable::new(bytes_per_ms, away_ms);
                let (_, first_ms) = cable.run(10_000);
                let (read, wait_ms) = cable.run(120_000);
                // What is least is half a second of a cable that carries 2 kB/s.
                let (first, alone) = (FIRST_BYTES / bytes_per_ms, BYTES_MIN / bytes_per_ms);
                assert!(first_ms <= first as u64 + 260, "{what}: {first_ms} ms at first");
                assert!(wait_ms <= 260.max(alone as u64), "{what}: {wait_ms} ms");
                let share = read * 100 / (120_000 * bytes_per_ms);
                // Two pieces at a time are little for a way that is long and narrow.
                let least = if bytes_per_ms > 2 { 85 } else { 50 };
                assert!(share > least, "{what}: {share} % of it was used");
            }
        }
    }

    #[test]
    fn a_window_that_was_never_filled_has_not_grown() {
        let mut cable = Cable::new(8, 1);
        let every_tenth_second = |now_ms: u64| if now_ms.is_multiple_of(100) { 250 } else { 0 };
        cable.run_with(600_000, every_tenth_second);
        let begun_ms = cable.now_ms + 1;
        let long = |now_ms| if now_ms == begun_ms { 256 * 1024 } else { 0 };
        let (read, wait_ms) = cable.run_with(60_000, long);
        assert!(read[0] >= 256 * 1024, "{read:?} bytes");
        assert!(wait_ms <= 260, "{wait_ms} ms");
    }

    #[test]
    fn a_wide_cable_is_soon_not_bounded_by_it() {
        let mut cable = Cable::new(100_000, 1);
        cable.run(100);
        assert_eq!(cable.windows[0].bytes, BYTES_MAX);
        let mut far = Cable::new(100_000, 50);
        far.run(2_000);
        assert_eq!(far.windows[0].bytes, BYTES_MAX, "distance is no congestion");
    }

    #[test]
    fn a_way_that_has_become_longer_is_soon_not_taken_for_congestion() {
        let mut cable = Cable::new(200, 1);
        cable.run(10_000);
        cable.away_ms = 400;
        cable.run(5_000);
        assert_eq!(cable.windows[0].bytes, BYTES_MIN, "who can tell");
        cable.run(QUICKEST_MS + 5_000);
        assert!(cable.windows[0].bytes > 60_000, "{}", cable.windows[0].bytes);
    }

    #[test]
    fn streams_that_share_a_cable_all_get_on_and_leave_room_for_what_is_urgent() {
        for bytes_per_ms in [8, 30, 125] {
            for away_ms in [1, 50] {
                let what = format!("{bytes_per_ms} kB/s, {away_ms} ms away");
                let mut cable = Cable::new(bytes_per_ms, away_ms);
                cable.run(30_000);
                // Others begin when the cable is full already.
                cable.windows.extend([Window::default(), Window::default()]);
                cable.run(60_000);
                let (read, wait_ms) = cable.run_with(180_000, |_| usize::MAX);
                let all: usize = read.iter().sum();
                assert!(all * 100 / (180_000 * bytes_per_ms) > 85, "{what}: {all} bytes");
                for of_one in &read {
                    assert!(of_one * 100 / all >= 10, "{what}: {read:?}");
                }
                assert!(wait_ms <= 3 * 400, "{what}: {wait_ms} ms");
            }
        }
    }

    #[test]
    fn who_claims_to_have_read_what_was_not_written_is_found_out() {
        let mut window = Window::default();
        assert_eq!(window.room(), PROBE_BYTES);
        window.written(PROBE_BYTES, 1);
        assert_eq!(window.room(), 0);
        assert_eq!(window.read(PROBE_BYTES + 1, 2), Err(NotWritten));
        assert_eq!(window.read(PROBE_BYTES, 2), Ok(()));
        assert_eq!(window.room(), PIECE_BYTES_MIN);
        // In parts, as the other end happens to read.
        window.written(1_000, 3);
        for _ in 0..10 {
            assert_eq!(window.read(100, 3), Ok(()));
        }
        assert_eq!((window.on_way_bytes, window.on_way.len()), (0, 0));
    }
}
