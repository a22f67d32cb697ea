//! The one inbox of frames, whichever way they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fleet_consensus::frame::Path;
use tokio::sync::mpsc;

/// Frames of one way that may wait for the loop; beyond it the newest are dropped and counted,
/// and raft sends again what mattered.
const WAY_FRAMES_MAX: usize = 4_096;
/// No frame of this version is larger, whatever a server would carry.
pub const FRAME_BYTES_MAX: usize = 1_200 * 1024;

/// Bytes of one way that may wait for the loop, seals unchecked. Anybody who may publish to this
/// node's subject can fill what is NATS's, and nothing more: the mesh has places of its own.
const WAY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What of one way waits.
#[derive(Debug, Default)]
struct Waiting {
    frames: AtomicUsize,
    bytes: AtomicUsize,
}

/// Gives a frame's place back when the frame has been taken.
#[derive(Debug)]
struct Place {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Place {
    fn take(waiting: &Arc<Waiting>, bytes: usize) -> Option<Self> {
        let place = Self { waiting: Arc::clone(waiting), bytes };
        let frames = waiting.frames.fetch_add(1, Ordering::Relaxed) + 1;
        let all_bytes = waiting.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (frames <= WAY_FRAMES_MAX && all_bytes <= WAY_BYTES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.frames.fetch_sub(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A frame as it arrived.
#[derive(Debug)]
pub struct Inbound {
    /// The way that it came.
    pub path: Path,
    /// The sealed bytes.
    pub frame: Bytes,
    _place: Place,
}

/// The loop's end.
pub type Inbox = mpsc::Receiver<Inbound>;

/// A way's end.
#[derive(Clone, Debug)]
pub struct InboxSender {
    frames: mpsc::Sender<Inbound>,
    waiting: [Arc<Waiting>; Path::COUNT],
}

/// A bounded inbox.
#[must_use]
pub fn inbox() -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(WAY_FRAMES_MAX * Path::COUNT);
    (InboxSender { frames: sender, waiting: Default::default() }, receiver)
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
        let waiting = match path {
            Path::Nats => &self.waiting[0],
            Path::Mesh => &self.waiting[1],
        };
        let place = Place::take(waiting, frame.len()).ok_or(Dropped::Full)?;
        let inbound = Inbound { path, frame, _place: place };
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
    fn each_way_has_places_of_its_own() {
        let large = Bytes::from(vec![0; 1024 * 1024]);
        let small = Bytes::from_static(b"a heartbeat");
        for (frame, fit) in [(large, WAY_BYTES_MAX / (1024 * 1024)), (small, WAY_FRAMES_MAX)] {
            for (flooded, other) in [(Path::Nats, Path::Mesh), (Path::Mesh, Path::Nats)] {
                let (sender, mut inbox) = inbox();
                let mut taken = 0;
                while sender.put(flooded, frame.clone()).is_ok() {
                    taken += 1;
                }
                assert_eq!(taken, fit);
                assert_eq!(sender.put(flooded, frame.clone()), Err(Dropped::Full));
                sender.put(other, frame.clone()).unwrap();
                drop(inbox.try_recv().unwrap());
                sender.put(flooded, frame.clone()).unwrap();
            }
        }
        let too_large = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        assert_eq!(inbox().0.put(Path::Nats, too_large), Err(Dropped::TooLarge));
    }
}
