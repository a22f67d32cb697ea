//! The one inbox of frames, whichever way they came.

use bytes::Bytes;
use fleet_consensus::frame::Path;
use tokio::sync::mpsc;

/// Frames that may wait for the loop; beyond it the newest are dropped and counted, and raft
/// sends again what mattered.
const INBOX_FRAMES_MAX: usize = 8_192;
/// No frame of this version is larger, whatever a server would carry.
pub const FRAME_BYTES_MAX: usize = 1_200 * 1024;

/// A frame as it arrived.
#[derive(Debug)]
pub struct Inbound {
    /// The way that it came.
    pub path: Path,
    /// The sealed bytes.
    pub frame: Bytes,
}

/// The loop's end.
pub type Inbox = mpsc::Receiver<Inbound>;

/// A way's end.
#[derive(Clone, Debug)]
pub struct InboxSender(mpsc::Sender<Inbound>);

/// A bounded inbox.
#[must_use]
pub fn inbox() -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(INBOX_FRAMES_MAX);
    (InboxSender(sender), receiver)
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
        self.0.try_send(Inbound { path, frame }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Dropped::Full,
            mpsc::error::TrySendError::Closed(_) => Dropped::Stopped,
        })
    }
}
