//! When a replica that nothing happens to has to be looked at next.
//!
//! A tick is short, because elections and retries are measured in it, and a gateway that has
//! nothing to do should not wake forty times a second to find that out. A replica that follows
//! or leads in peace lets ticks pass and makes up for them at once: as leader when its next
//! heartbeat is due, else after two, which is what [`Replica::handle_tick`] makes up for.

use fleet_log::Disk;
use raft::eraftpb::MessageType;

use super::Replica;
use crate::config::CATCH_UP_TICKS_MAX;

/// How long nothing has to be looked at.
enum Rest {
    /// Somebody waits for what ticks bring about.
    None,
    /// Until a leader's heartbeat is due.
    UntilBeat { ticks: u64 },
    /// Until a heartbeat should have been heard.
    UntilHeard,
}

impl<D: Disk, T> Replica<D, T> {
    /// When [`Replica::handle_tick`] has to be called next, in milliseconds of the monotonic
    /// clock. It may be called earlier. Anything else that is handed in can bring it forward.
    #[must_use]
    pub fn next_tick_ms(&self) -> u64 {
        let tick_ms = self.config.tick_ms;
        let rest_ms = match self.rest() {
            Rest::None => tick_ms,
            Rest::UntilBeat { ticks } => ticks.saturating_mul(tick_ms),
            // A little more, so that the heartbeat that brings the ticks about is here by then.
            Rest::UntilHeard => CATCH_UP_TICKS_MAX.saturating_mul(tick_ms) + tick_ms / 2,
        };
        self.pace.last_tick_ms.saturating_add(rest_ms)
    }

    fn rest(&self) -> Rest {
        if !self.is_at_peace() {
            return Rest::None;
        }
        if !self.is_leader() || self.pace.beat_at_tick == 0 {
            return Rest::UntilHeard;
        }
        let beat_ticks = u64::try_from(self.config.heartbeat_ticks).unwrap_or(u64::MAX);
        let next = self.pace.beat_at_tick.saturating_add(beat_ticks);
        Rest::UntilBeat { ticks: next.saturating_sub(self.pace.ticks).clamp(1, CATCH_UP_TICKS_MAX) }
    }

    /// Nobody waits for anything that ticks would bring about.
    fn is_at_peace(&self) -> bool {
        self.leader().is_some()
            && self.waiters.len() == 0
            && self.reads.is_idle()
            && self.transfer.is_idle()
            && !self.crash.is_suspicious()
            && self.raw.raft.lead_transferee.is_none()
            && !self.pace.draining
    }

    /// One tick of raft; notes when it made heartbeats.
    pub(super) fn tick_raft(&mut self) {
        self.raw.tick();
        self.pace.ticks += 1;
        let last = self.raw.raft.msgs.last();
        if last.is_some_and(|message| message.get_msg_type() == MessageType::MsgHeartbeat) {
            self.pace.beat_at_tick = self.pace.ticks;
        }
    }
}
