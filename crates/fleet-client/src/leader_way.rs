//! Sending commands straight to the leader, while that works.
//!
//! A command that any agent takes is relayed by most of them; sent to the leader it saves that hop.
//! The leader may be gone, though, or this user may not be allowed to speak to it alone, so only the
//! first attempt of a command goes this way, with little patience, and the way rests after it failed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fleet_protocol::{CommandTarget, Subjects};
use tokio::time::Instant;

/// How long a leader may be silent before somebody else is asked beside it. Long for a write, and
/// shorter than an election.
pub(crate) const LEADER_PATIENCE: Duration = Duration::from_millis(200);
/// Nobody leads: about as long as an election takes.
pub(crate) const REST_LEADERLESS: Duration = Duration::from_millis(250);
/// The leader took a command and kept silent.
pub(crate) const REST_SILENT: Duration = Duration::from_secs(2);

/// The two places where a command may be sent.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Any agent takes it.
    pub(crate) any: String,
    /// Only the leader does, where there is such a subject for it.
    pub(crate) leader: Option<String>,
}

impl Places {
    pub(crate) fn of(subjects: &Subjects, target: &CommandTarget) -> Self {
        Self { any: subjects.command(target), leader: Some(subjects.leader_command(target)) }
    }
}

/// Whether the way to the leader is worth a try; shared by all clones of a client.
#[derive(Debug, Clone)]
pub(crate) struct LeaderWay {
    began: Instant,
    /// Milliseconds after `began` until which it rests.
    rests_until_ms: Arc<AtomicU64>,
}

impl LeaderWay {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), rests_until_ms: Arc::default() }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.now_ms() >= self.rests_until_ms.load(Ordering::Relaxed)
    }

    /// Asks others for a while.
    pub(crate) fn rest(&self, pause: Duration) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(pause_ms);
        self.rests_until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// Asks others from now on: the server doesn't let this user do it.
    pub(crate) fn close(&self) {
        self.rests_until_ms.store(u64::MAX, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_way_rests_for_the_longer_pause_and_opens_again() {
        let way = LeaderWay::new();
        let other = way.clone();
        assert!(other.is_open());
        way.rest(REST_SILENT);
        way.rest(REST_LEADERLESS);
        assert!(!other.is_open(), "clones know of it");
        tokio::time::advance(REST_SILENT - Duration::from_millis(1)).await;
        assert!(!way.is_open());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(way.is_open());
        way.close();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(!way.is_open(), "what is forbidden stays so");
    }
}
