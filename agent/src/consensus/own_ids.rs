//! Request ids for what this agent commands itself.
//!
//! The log doesn't remember them: such commands are guarded by the epoch of their link. They only
//! have to differ from each other as long as somebody waits for them, on any node.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use fleet_state::RequestId;

/// Gives one id after the other.
#[derive(Debug)]
pub(super) struct OwnIds {
    start: u64,
    next: AtomicU64,
}

impl OwnIds {
    /// Ids that no other start of any agent gives.
    pub(super) fn new() -> io::Result<Self> {
        let start = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { start, next: AtomicU64::new(1) })
    }

    pub(super) fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("own.{:016x}.{number}", self.start);
        text.parse().unwrap_or_else(|_| RequestId::from_uuid_bytes(self.start_and(number)))
    }

    fn start_and(&self, number: u64) -> [u8; 16] {
        (u128::from(self.start) << 64 | u128::from(number)).to_be_bytes()
    }
}
