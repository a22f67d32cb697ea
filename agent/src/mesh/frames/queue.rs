//! A bounded queue of frames that never makes its writer wait: the oldest give way.
//!
//! A late heartbeat is worth less than the next one, and raft sends again what entries were
//! lost; so when the stream behind a queue is slow, what waited longest is dropped. Bytes are
//! bounded beside the number, because pieces of a snapshot are large and heartbeats are not.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// What may wait in one queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    /// Frames.
    pub frames_max: usize,
    /// Bytes of all of them.
    pub bytes_max: usize,
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
    frames: VecDeque<Bytes>,
    bytes: usize,
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
        let mut waiting = self.lock();
        let mut dropped = 0;
        while waiting.frames.len() >= self.bounds.frames_max
            || waiting.bytes + frame.len() > self.bounds.bytes_max
        {
            let Some(oldest) = waiting.frames.pop_front() else {
                break;
            };
            waiting.bytes -= oldest.len();
            dropped += 1;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.filled.notify_one();
        dropped
    }

    /// The next frame, if one waits.
    pub fn try_pop(&self) -> Option<Bytes> {
        let mut waiting = self.lock();
        let frame = waiting.frames.pop_front()?;
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

    /// Drops everything, for it was meant for a connection that is gone; gives how many frames.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut *self.lock()).frames.len()
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
        QueueBounds { frames_max: 3, bytes_max }
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
        assert_eq!(queue.clear(), 1);
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
