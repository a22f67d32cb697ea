//! A bounded queue of frames that never makes its writer wait: the oldest give way.
//!
//! A late heartbeat is worth less than the next one, and raft sends again what entries were
//! lost; so when the stream behind a queue is slow, what waited longest is dropped. Bytes are
//! bounded beside the number, because pieces of a snapshot are large and heartbeats are not.
//!
//! With pieces of a snapshot it is the other way round. Only the very next one is of use to the
//! receiver, who asks again twice a second while none comes; on a cable that carries one in several
//! seconds the newer ones are copies, and the oldest the one that is waited for. So where a queue is
//! for them, a large frame that has waited is kept, and others like it are refused until it is gone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A frame of this size is large.
const LARGE_BYTES: usize = 16 * 1024;
/// One that has waited for so long belongs to an earlier question than one that comes now.
const WAITED: Duration = Duration::from_millis(250);

/// What may wait in one queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    /// Frames.
    pub frames_max: usize,
    /// Bytes of all of them.
    pub bytes_max: usize,
    /// Which of the large ones give way.
    pub large: Large,
}

/// Which large frames are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Large {
    /// The newest, as of all others.
    Newest,
    /// Those that have waited.
    Oldest,
}

/// Frames that wait for one stream. One task takes them out.
#[derive(Debug)]
pub struct FrameQueue {
    bounds: QueueBounds,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(Bytes, Instant)>,
    bytes: usize,
}

impl Waiting {
    /// Whether a large frame has waited.
    fn is_large_waiting(&self, now: Instant) -> bool {
        let waited = |(frame, since): &(Bytes, Instant)| {
            frame.len() >= LARGE_BYTES && now.duration_since(*since) >= WAITED
        };
        self.frames.iter().any(waited)
    }
}

impl FrameQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(bounds: QueueBounds) -> Self {
        Self { bounds, waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Puts a frame at the end; gives how many were dropped to make room.
    pub fn push(&self, frame: Bytes) -> usize {
        if frame.len() > self.bounds.bytes_max {
            return 1;
        }
        let now = Instant::now();
        let mut waiting = self.lock();
        let is_copy = self.bounds.large == Large::Oldest
            && frame.len() >= LARGE_BYTES
            && waiting.is_large_waiting(now);
        if is_copy {
            return 1;
        }
        let mut dropped = 0;
        while waiting.frames.len() >= self.bounds.frames_max
            || waiting.bytes + frame.len() > self.bounds.bytes_max
        {
            let Some((oldest, _)) = waiting.frames.pop_front() else {
                break;
            };
            waiting.bytes -= oldest.len();
            dropped += 1;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back((frame, now));
        drop(waiting);
        self.filled.notify_one();
        dropped
    }

    /// The next frame, if one waits.
    pub fn try_pop(&self) -> Option<Bytes> {
        let mut waiting = self.lock();
        let (frame, _) = waiting.frames.pop_front()?;
        waiting.bytes -= frame.len();
        Some(frame)
    }

    /// The next frame.
    pub async fn pop(&self) -> Bytes {
        loop {
            if let Some(frame) = self.try_pop() {
                return frame;
            }
            self.filled.notified().await;
        }
    }

    /// Drops everything: it was meant for a connection that is gone.
    pub fn clear(&self) {
        *self.lock() = Waiting::default();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    fn bounds(bytes_max: usize) -> QueueBounds {
        QueueBounds { frames_max: 3, bytes_max, large: Large::Newest }
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_oldest_large_one_is_wanted_it_does_not_give_way() {
        let bounds = QueueBounds { frames_max: 4, bytes_max: 1 << 20, large: Large::Oldest };
        let queue = FrameQueue::new(bounds);
        // What is asked for at a time comes at a time.
        assert_eq!(queue.push(frame(0, LARGE_BYTES)), 0);
        assert_eq!(queue.push(frame(1, LARGE_BYTES)), 0);
        tokio::time::advance(WAITED).await;
        assert_eq!(queue.push(frame(0, LARGE_BYTES)), 1, "it waits already");
        assert_eq!(queue.push(frame(9, LARGE_BYTES - 1)), 0, "small ones are no copies");
        assert_eq!(queue.try_pop().unwrap()[0], 0);
        assert_eq!(queue.push(frame(2, LARGE_BYTES)), 1, "the second of then is next");
        assert_eq!(queue.try_pop().unwrap()[0], 1);
        assert_eq!(queue.push(frame(2, LARGE_BYTES)), 0);
        assert_eq!(queue.try_pop().unwrap()[0], 9);
        assert_eq!(queue.try_pop().unwrap()[0], 2);
    }

    #[test]
    fn the_oldest_give_way() {
        let queue = FrameQueue::new(bounds(100));
        for byte in 0..3 {
            assert_eq!(queue.push(frame(byte, 10)), 0);
        }
        assert_eq!(queue.push(frame(3, 10)), 1);
        assert_eq!(queue.push(frame(4, 90)), 2);
        assert_eq!(queue.push(frame(5, 101)), 1, "larger than the queue: dropped itself");
        assert_eq!(queue.try_pop().unwrap()[0], 3);
        assert_eq!(queue.try_pop().unwrap()[0], 4);
        assert!(queue.try_pop().is_none());
        assert_eq!(queue.push(frame(6, 100)), 0, "bytes are counted down");
        queue.clear();
        assert!(queue.try_pop().is_none());
        assert_eq!(queue.push(frame(7, 100)), 0);
    }

    #[tokio::test]
    async fn a_reader_is_woken() {
        let queue = std::sync::Arc::new(FrameQueue::new(bounds(9)));
        let reader = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.pop().await }
        });
        tokio::task::yield_now().await;
        queue.push(frame(1, 1));
        assert_eq!(reader.await.unwrap()[0], 1);
    }
}
