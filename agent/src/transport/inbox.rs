//! The one inbox of frames, whichever way they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fleet_consensus::frame::Path;
use tokio::sync::mpsc;

/// Frames that may wait for the loop; beyond it the newest are dropped and counted, and raft
/// sends again what mattered.
const INBOX_FRAMES_MAX: usize = 8_192;
/// No frame of this version is larger, whatever a server would carry.
pub const FRAME_BYTES_MAX: usize = 1_200 * 1024;

/// Bytes that may wait for the loop, seals unchecked: anybody who may publish to this node's
/// subject can fill it, and nothing more.
const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Gives a frame's bytes back to the budget when the frame has been taken.
#[derive(Debug)]
struct Weight {
    waiting_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A frame as it arrived.
#[derive(Debug)]
pub struct Inbound {
    /// The way that it came.
    pub path: Path,
    /// The sealed bytes.
    pub frame: Bytes,
    _weight: Weight,
}

/// The loop's end.
pub type Inbox = mpsc::Receiver<Inbound>;

/// A way's end.
#[derive(Clone, Debug)]
pub struct InboxSender {
    frames: mpsc::Sender<Inbound>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// A bounded inbox.
#[must_use]
pub fn inbox() -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(INBOX_FRAMES_MAX);
    (InboxSender { frames: sender, waiting_bytes: Arc::default() }, receiver)
}

/// Why a frame was dropped before the loop saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The loop is behind.
    Full,
    /// Larger than any frame.
    TooLarge,
    /// The loop has ended.
    Stopped,
}

impl Dropped {
    /// The word for counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "inbox_full",
            Self::TooLarge => "too_large",
            Self::Stopped => "stopped",
        }
    }
}

impl InboxSender {
    /// Puts a frame into the inbox without waiting.
    ///
    /// # Errors
    /// When it was dropped.
    pub fn put(&self, path: Path, frame: Bytes) -> Result<(), Dropped> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(Dropped::TooLarge);
        }
        let bytes = frame.len();
        let weight = Weight { waiting_bytes: Arc::clone(&self.waiting_bytes), bytes };
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > INBOX_BYTES_MAX {
            return Err(Dropped::Full);
        }
        let inbound = Inbound { path, frame, _weight: weight };
        self.frames.try_send(inbound).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Dropped::Full,
            mpsc::error::TrySendError::Closed(_) => Dropped::Stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_wait_within_a_budget_of_bytes() {
        let (sender, mut inbox) = inbox();
        let frame = Bytes::from(vec![0; 1024 * 1024]);
        let mut taken = 0;
        while sender.put(Path::Nats, frame.clone()).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, INBOX_BYTES_MAX / frame.len());
        assert_eq!(sender.put(Path::Nats, frame.clone()), Err(Dropped::Full));
        drop(inbox.try_recv().unwrap());
        sender.put(Path::Nats, frame).unwrap();
        let large = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        assert_eq!(sender.put(Path::Nats, large), Err(Dropped::TooLarge));
    }
}
