//! A leader that has crashed is replaced before its election timeout is over.
//!
//! Timeouts must be long, because silence proves nothing: the network may be slow, or gone. A
//! crash can be proved. Two proofs are taken:
//!
//! - An authentic frame of the leader carries a newer boot counter than the one that it led
//!   with: the process that led is gone.
//! - The agent says that the leader's connections were closed and the next one was refused, and
//!   no frame of the leader came on any way since, nor for two heartbeats. A closed connection
//!   alone is no proof, and neither is a leader that was heard after it: it lives, whatever its
//!   machine says, and its next pause is a pause.
//!
//! Then this node forgets the leader, so that it may grant a vote at once, and after a delay by
//! its rank among the voters it asks for pre-votes, if by then nobody leads and the proof still
//! holds. All of this concerns only when an election begins; who may win is up to Raft as ever,
//! and a leader that lives is not deposed by it: the others, who hear it, grant nothing.
//! Partitions and power loss leave no proof, and are for the timeouts.

use std::collections::BTreeMap;

use fleet_log::Disk;
use fleet_state::NodeId;
use raft::StateRole;

use super::Replica;
use crate::fault::Fault;
use crate::log_time::Now;

/// Between the campaigns of two neighbours in rank: long enough for the first to win.
const RANK_DELAY_MS: u64 = 30;
/// Heartbeats that a leader must be silent on every way.
const SILENT_HEARTBEATS: u64 = 2;
/// Heartbeats that a frame may take from a process that is gone: it was under way, or waited here.
const UNDER_WAY_HEARTBEATS: u64 = 1;
/// Before the first campaign: the others notice a moment earlier or later.
const NOTICED_MS: u64 = 10;
/// Between two campaigns of this node while the proof holds.
const AGAIN_MS: u64 = 60;

/// What is known of the leader's process.
#[derive(Debug, Default)]
pub(super) struct CrashWatch {
    /// The leader, its term, and the boot counter that it led with.
    led_by: Option<(NodeId, u64, u64)>,
    heard_ms: u64,
    /// Whom this node follows, and in which term.
    follows: Option<(NodeId, u64)>,
    suspicion: Option<Suspicion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspicion {
    leader: NodeId,
    /// Proved by a newer boot counter; else it needs the agent's word.
    restarted: bool,
    campaign_ms: u64,
}

impl CrashWatch {
    /// Whether a crash is being acted on.
    pub(super) const fn is_suspicious(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Who leads now. A new one has its time: what was heard before was another's.
    fn follow(&mut self, leader: Option<(NodeId, u64)>, now_ms: u64) {
        if self.follows != leader {
            self.follows = leader;
            self.heard_ms = now_ms;
        }
    }

    /// An authentic frame of the one that leads in this term. `true` when it proves that the
    /// process that led is gone.
    fn heard(&mut self, leader: NodeId, term: u64, boot: u64, now_ms: u64) -> bool {
        self.heard_ms = now_ms;
        match self.led_by {
            Some((node, led_in, led)) if (node, led_in) == (leader, term) => boot > led,
            // It may have been restarted since it led before.
            Some(_) | None => {
                self.led_by = Some((leader, term, boot));
                false
            }
        }
    }
}

impl<D: Disk, T> Replica<D, T> {
    /// Notes an authentic frame, before its content is looked at.
    pub(super) fn watch_leader(&mut self, from: NodeId, boot: u64, now: Now) {
        let term = self.raw.raft.term;
        if self.leader() == Some(from) && self.crash.heard(from, term, boot, now.mono_ms) {
            self.suspect(from, true, now);
        }
    }

    /// The agent's word: the connections of these nodes were closed and the next one was refused,
    /// at this moment of the monotonic clock. To be called again and again, also without any.
    ///
    /// # Errors
    /// A [`Fault`] of Raft.
    pub fn handle_crashed(
        &mut self,
        crashed: &BTreeMap<NodeId, u64>,
        now: Now,
    ) -> Result<(), Fault> {
        let term = self.raw.raft.term;
        self.crash.follow(self.leader().map(|leader| (leader, term)), now.mono_ms);
        if let Some(leader) = self.leader() {
            // Somebody leads: what was suspected is over.
            self.crash.suspicion = None;
            if self.proved_ms(leader, crashed).is_some_and(|proved_ms| proved_ms <= now.mono_ms) {
                self.suspect(leader, false, now);
            }
        }
        let Some(suspicion) = self.crash.suspicion else {
            return Ok(());
        };
        if !suspicion.restarted && !crashed.contains_key(&suspicion.leader) {
            self.crash.suspicion = None;
            return Ok(());
        }
        if now.mono_ms < suspicion.campaign_ms || !self.may_campaign() {
            return Ok(());
        }
        let campaign_ms = now.mono_ms + AGAIN_MS + self.rank_delay_ms(suspicion.leader);
        self.crash.suspicion = Some(Suspicion { campaign_ms, ..suspicion });
        tracing::debug!(leader = suspicion.leader.get(), "the leader has crashed: campaigning");
        self.raw.campaign().map_err(|error| Fault::Raft(error.to_string()))
    }

    /// When [`handle_crashed`](Self::handle_crashed) is to be called at the latest if nothing
    /// happens until then, for it to be in time; some time may pass with nothing to be done.
    #[must_use]
    pub fn crash_due_ms(&self, crashed: &BTreeMap<NodeId, u64>, now_ms: u64) -> Option<u64> {
        let due_ms = match (self.crash.suspicion, self.leader()) {
            (Some(suspicion), None) => Some(suspicion.campaign_ms),
            (_, Some(leader)) => self.proved_ms(leader, crashed),
            (None, None) => None,
        };
        due_ms.filter(|due_ms| *due_ms > now_ms)
    }

    /// From when on the agent's word proves that the leader is gone, if nothing is heard of it
    /// any more.
    fn proved_ms(&self, leader: NodeId, crashed: &BTreeMap<NodeId, u64>) -> Option<u64> {
        let (heard_ms, heartbeat_ms) = (self.crash.heard_ms, self.heartbeat_ms());
        let under_way_ms = UNDER_WAY_HEARTBEATS * heartbeat_ms;
        let is_newer = |refused_ms: &u64| heard_ms <= refused_ms.saturating_add(under_way_ms);
        let silent_ms = SILENT_HEARTBEATS * heartbeat_ms;
        crashed.get(&leader).filter(|at| is_newer(at)).map(|_| heard_ms.saturating_add(silent_ms))
    }

    fn suspect(&mut self, leader: NodeId, restarted: bool, now: Now) {
        if self.is_leader() {
            return;
        }
        tracing::info!(leader = leader.get(), restarted, "the leader has crashed");
        // Raft knows no better way to say it: with a leader in mind it grants nobody a vote.
        self.raw.raft.leader_id = raft::INVALID_ID;
        self.crash.led_by = None;
        let campaign_ms = now.mono_ms + NOTICED_MS + self.rank_delay_ms(leader);
        self.crash.suspicion = Some(Suspicion { leader, restarted, campaign_ms });
    }

    fn heartbeat_ms(&self) -> u64 {
        let ticks = u64::try_from(self.config.heartbeat_ticks).unwrap_or(u64::MAX);
        self.config.tick_ms.saturating_mul(ticks)
    }

    /// The delay of this node: its place among the voters that are left.
    fn rank_delay_ms(&self, leader: NodeId) -> u64 {
        let before = self.conf.voters.iter().filter(|voter| **voter != leader);
        let rank = before.take_while(|voter| **voter != self.config.node).count();
        u64::try_from(rank).unwrap_or(u64::MAX).saturating_mul(RANK_DELAY_MS)
    }

    /// A learner, or a node that is going or can't store, must not ask for votes.
    fn may_campaign(&self) -> bool {
        // One that asks already asks again: who is asked may not have noticed yet.
        matches!(self.raw.raft.state, StateRole::Follower | StateRole::PreCandidate)
            && self.raw.raft.promotable()
            && self.conf.voters.contains(&self.config.node)
            && !self.pace.draining
            && !self.pace.low_space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_start_of_the_same_leader_is_a_proof() {
        let node = |id| NodeId::new(id).unwrap();
        let mut watch = CrashWatch::default();
        for (leader, term, boot, proved) in [
            (1, 3, 5, false),
            (1, 3, 5, false),
            (1, 3, 6, true),
            (2, 4, 9, false),
            (2, 4, 9, false),
            // It leads again, after another: with whatever boot counter it has now.
            (1, 5, 7, false),
            (1, 5, 8, true),
            // It was restarted and leads again, and nobody else was heard meanwhile.
            (1, 6, 8, false),
            (1, 6, 8, false),
        ] {
            let found = watch.heard(node(leader), term, boot, 1);
            assert_eq!(found, proved, "{leader} in {term}, start {boot}");
        }
    }
}
