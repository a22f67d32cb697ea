//! What is done at ticks: raft's clock, retries and deadlines, and, as leader, the upkeep of
//! membership and of log time.

use fleet_log::Disk;
use fleet_state::credential::credential_message;
use fleet_state::{Body, Command, Entry, NodeId, Proposal, RequestId, Role};

use ed25519_dalek::{Signer, SigningKey};

use super::Replica;
use super::outputs::Notice;
use crate::config::{
    CATCH_UP_TICKS_MAX, LEAVE_AGAIN_TICKS, LEAVE_DOUBLINGS_MAX, SNAPSHOT_SILENCE_MS,
};
use crate::fault::Fault;
use crate::frame::{Class, ConfChange, EntryPayload, LogEntry, Payload};
use crate::log_time::Now;
use crate::membership::{MemberFacts, MembershipStep, next_step};
use crate::seeded;
use crate::status::NodeRole;

/// Ticks between two looks at membership.
const MEMBERSHIP_EVERY_TICKS: u64 = 4;
/// Least time between two time ticks of a leader.
const TIME_TICK_EVERY_MS: u64 = 1_000;
/// A receiver of a snapshot is not silent before so many ticks.
const SILENCE_TICKS: u64 = 4;
/// A log without a new entry for this long is idle.
const MARK_AFTER_MS: u64 = 1_000;
/// Time between two questions for the leader's log time, and while none was answered.
const LOG_TIME_ASK_MS: u64 = 1_000;
const LOG_TIME_ASK_SOON_MS: u64 = 100;
/// Least time between two requests for the site key.
const SITE_KEY_ASK_EVERY_MS: u64 = 250;

impl<D: Disk, T> Replica<D, T> {
    /// Time has passed. Call it by [`Replica::next_tick_ms`]; after a pause at most two ticks are made up for,
    /// or a burst would depose a healthy leader. Returns whether a tick was due.
    ///
    /// # Errors
    /// A [`Fault`]; the replica must not be used again.
    pub fn handle_tick(&mut self, now: Now) -> Result<bool, Fault> {
        let elapsed_ms = now.mono_ms.saturating_sub(self.pace.last_tick_ms);
        let due = elapsed_ms / self.config.tick_ms;
        if due == 0 {
            return Ok(false);
        }
        self.pace.last_tick_ms = if due > CATCH_UP_TICKS_MAX {
            now.mono_ms
        } else {
            self.pace.last_tick_ms + due * self.config.tick_ms
        };
        for _ in 0..due.min(CATCH_UP_TICKS_MAX) {
            self.tick_raft();
        }
        self.retry_and_expire(now);
        self.tend_transfers(now);
        self.ask_for_site_key(now);
        self.ask_for_log_time(now);
        self.mark_idle_log(now)?;
        if self.is_leader() && self.raw.raft.commit_to_current_term() {
            self.tend_time(now)?;
            if self.pace.ticks >= self.pace.membership_from_tick {
                self.pace.membership_from_tick = self.pace.ticks + MEMBERSHIP_EVERY_TICKS;
                self.leave_if_low();
                self.tend_levels(now)?;
                self.tend_membership(now)?;
            }
        }
        Ok(true)
    }

    fn retry_and_expire(&mut self, now: Now) {
        let (me, leader, term) = (self.config.node, self.leader(), self.raw.raft.term);
        self.waiters.mark_due(me, leader, term, now.mono_ms);
        self.reads.retry(self.is_leader(), leader, now.mono_ms);
        self.outputs.commands.extend(self.waiters.expire(now.mono_ms));
        self.outputs.reads.extend(self.reads.expire(leader.is_some(), now.mono_ms));
    }

    fn tend_transfers(&mut self, now: Now) {
        // Receivers speak at their ticks.
        let silence_ms = SNAPSHOT_SILENCE_MS.max(SILENCE_TICKS * self.config.tick_ms);
        for node in self.transfer.take_stalled(silence_ms, now.mono_ms) {
            self.report_snapshot(node, false);
        }
        for node in std::mem::take(&mut self.pace.failed_offers) {
            self.report_snapshot(node, false);
        }
        let commit = self.raw.raft.raft_log.committed;
        self.transfer.give_up_if_needless(commit, now.mono_ms);
        self.ask_for_snapshot(now);
    }

    /// An idle log gets a mark behind its last batch, once: damage to that batch is then told
    /// from a torn write.
    fn mark_idle_log(&mut self, now: Now) -> Result<(), Fault> {
        let idle = now.mono_ms.saturating_sub(self.pace.last_append_ms) >= MARK_AFTER_MS;
        let last = self.raw.raft.raft_log.last_index();
        if idle && self.pace.marked_at != last {
            self.pace.marked_at = last;
            self.raw.mut_store().log.mark()?;
        }
        Ok(())
    }

    /// A voter holds the site key, so that any leader can certify joiners. It asks all other
    /// voters: the leader itself may be the one that lacks it.
    fn ask_for_site_key(&mut self, now: Now) {
        let me = self.config.node;
        if self.site_key.is_some() || !self.is_voter(me) {
            return;
        }
        let asked = now.mono_ms.saturating_sub(self.pace.last_site_key_ask_ms);
        if asked >= SITE_KEY_ASK_EVERY_MS {
            self.pace.last_site_key_ask_ms = now.mono_ms;
            let others = self.conf.voters.iter().filter(|voter| **voter != me);
            self.outbox.extend(others.map(|to| (*to, Class::Normal, Payload::SiteKeyWant)));
        }
    }

    pub(super) fn handle_site_key_want(&mut self, from: NodeId) {
        if !self.is_voter(from) {
            self.counters.refuse("site_key", "not_a_voter");
            return;
        }
        if let Some(key) = &self.site_key {
            let grant = Payload::SiteKeyGrant { key: key.to_bytes() };
            self.outbox.push((from, Class::Normal, grant));
        }
    }

    pub(super) fn handle_site_key(&mut self, seed: &[u8; 32]) {
        let key = SigningKey::from_bytes(seed);
        if key.verifying_key().to_bytes() != *self.state.site_public_key() {
            self.counters.refuse("site_key", "wrong_key");
            return;
        }
        if self.site_key.is_none() && self.is_voter(self.config.node) {
            self.outputs.site_key = Some(*seed);
            self.site_key = Some(key);
        }
    }

    fn is_voter(&self, node: NodeId) -> bool {
        self.conf.voters.contains(&node)
    }

    /// A leader without space lets another lead, if there is one. If leadership comes back
    /// before there is space, the others may be no better off, so this node stays for a while;
    /// or it was elected by chance, and they are, so it does not stay for good.
    fn leave_if_low(&mut self) {
        let leaves = self.pace.low_space && self.pace.ticks >= self.pace.leave_from_tick;
        if leaves && self.raw.raft.lead_transferee.is_none() {
            let _nobody_else = self.handle_transfer(None);
        }
    }

    /// This node does not lead any more. Without space, the next time it stays longer.
    fn note_left(&mut self) {
        if self.pace.low_space {
            let doublings = self.pace.left_for_space.min(LEAVE_DOUBLINGS_MAX);
            self.pace.leave_from_tick = self.pace.ticks + (LEAVE_AGAIN_TICKS << doublings);
            self.pace.left_for_space = self.pace.left_for_space.saturating_add(1);
        }
    }

    /// How old the newest entry is, only the leader can tell; a leader to come must know.
    fn ask_for_log_time(&mut self, now: Now) {
        let Some(leader) = self.leader().filter(|leader| *leader != self.config.node) else {
            return;
        };
        let told = self.log_time.is_bounded(self.raw.raft.term);
        let every_ms = if told { LOG_TIME_ASK_MS } else { LOG_TIME_ASK_SOON_MS };
        if now.mono_ms.saturating_sub(self.pace.last_log_time_ask_ms) < every_ms {
            return;
        }
        self.pace.last_log_time_ask_ms = now.mono_ms;
        let want =
            Payload::LogTimeWant { asked_ms: now.mono_ms, feature_level: self.config.levels.reads };
        self.outbox.push((leader, Class::Normal, want));
    }

    /// A leader that didn't know how late it is tells nobody before the log has heard of that: or
    /// who leads next would take the time from it, and let live what should have ended.
    pub(super) fn may_tell_log_time(&mut self, now: Now) -> Result<bool, Fault> {
        let leads = self.is_leader() && self.raw.raft.commit_to_current_term();
        Ok(leads && self.vouch_for_time(now)? && self.applied.index >= self.pace.time_lost_at)
    }

    /// The term of the newest entry that isn't this leader's.
    fn term_before(&self) -> u64 {
        let log = &self.raw.raft.raft_log;
        let terms = (0..=log.last_index()).rev().map_while(|index| log.term(index).ok());
        let mut older = terms.skip_while(|term| *term == self.raw.raft.term);
        older.next().unwrap_or(0)
    }

    /// A time tick is proposed only when a deadline in the state has passed.
    fn tend_time(&mut self, now: Now) -> Result<(), Fault> {
        let due = self
            .state
            .next_deadline_log_ms()
            .is_some_and(|deadline_ms| deadline_ms <= self.log_time.peek(now));
        let waited = now.mono_ms.saturating_sub(self.pace.last_time_tick_ms);
        if !due || waited < TIME_TICK_EVERY_MS {
            return Ok(());
        }
        self.pace.last_time_tick_ms = now.mono_ms;
        self.propose_body(Body::TimeTick, now)
    }

    fn tend_membership(&mut self, now: Now) -> Result<(), Fault> {
        // One change at a time, and none before the one before it is applied.
        let pending = self.raw.raft.has_pending_conf() || self.raw.raft.lead_transferee.is_some();
        if pending {
            return Ok(());
        }
        let mut facts = self.member_facts();
        if self.site_key.is_none() {
            // Who can't be certified yet must not keep the others from becoming voters.
            facts.retain(|m| m.certified || m.is_voter || m.is_learner);
        }
        let wanted = usize::from(self.state.voters_wanted());
        let last = self.raw.raft.raft_log.last_index();
        match next_step(self.config.node, &facts, wanted, last) {
            None => Ok(()),
            Some(MembershipStep::Certify(node)) => self.certify(node, now),
            Some(MembershipStep::AddLearner(node)) => {
                self.propose_change(ConfChange::AddLearner(node))
            }
            Some(MembershipStep::Promote(node)) => self.propose_change(ConfChange::AddVoter(node)),
            Some(MembershipStep::Demote(node)) => self.propose_change(ConfChange::AddLearner(node)),
            Some(MembershipStep::Remove(node)) => self.propose_change(ConfChange::Remove(node)),
            Some(MembershipStep::HandOver(heir)) => {
                self.raw.transfer_leader(heir.get());
                Ok(())
            }
        }
    }

    fn certify(&mut self, node: NodeId, now: Now) -> Result<(), Fault> {
        let (Some(key), Some(member)) = (&self.site_key, self.state.member(&node)) else {
            return Ok(());
        };
        let message = credential_message(self.state.uid(), node, &member.name, &member.keys);
        let credential = key.sign(&message).to_bytes();
        // The request id names the deed, so that a new leader's repetition is told from it.
        let id = format!("certify.{}.{}", node.get(), self.raw.raft.term);
        let Ok(request_id) = id.parse::<RequestId>() else {
            return Ok(());
        };
        let proposal = Proposal {
            request_id,
            if_revision: None,
            actor: None,
            command: Command::Certify { node, credential },
        };
        self.propose_body(Body::Proposal(proposal), now)
    }

    /// Before anything that bears a time: a leader that can't tell how late it is says so in the log. Whatever waits
    /// for a device with a time limit ends with it, for nobody knows that there is time left. `false` when raft
    /// didn't take it, and then nothing may be proposed that bears a time.
    pub(super) fn vouch_for_time(&mut self, now: Now) -> Result<bool, Fault> {
        let vouched = self.log_time.is_bounded(self.raw.raft.term);
        if vouched
            || self.log_time.is_bounded(self.term_before())
            || seeded::on("log-time-as-heard")
        {
            return Ok(true);
        }
        let before = self.log_time;
        let log_time_ms = self.log_time.stamp(now, self.raw.raft.term);
        let entry = Entry { log_time_ms, wall_time_ms: now.wall_ms, body: Body::TimeLost };
        let data = entry.encode().into();
        match self.step_proposal(vec![raft::eraftpb::Entry { data, ..Default::default() }]) {
            Ok(()) => {
                self.pace.time_lost_at = self.raw.raft.raft_log.last_index();
                Ok(true)
            }
            Err(raft::Error::ProposalDropped) => {
                self.log_time = before;
                Ok(false)
            }
            Err(error) => Err(Fault::Raft(error.to_string())),
        }
    }

    pub(super) fn propose_body(&mut self, body: Body, now: Now) -> Result<(), Fault> {
        if !self.vouch_for_time(now)? {
            return Ok(());
        }
        let log_time_ms = self.log_time.stamp(now, self.raw.raft.term);
        let entry = Entry { log_time_ms, wall_time_ms: now.wall_ms, body };
        self.step_own(raft::eraftpb::Entry { data: entry.encode().into(), ..Default::default() })
    }

    pub(super) fn propose_change(&mut self, change: ConfChange) -> Result<(), Fault> {
        let entry = LogEntry { index: 0, term: 0, payload: EntryPayload::ConfChange(change) };
        self.step_own(entry.into_raft())
    }

    /// Proposes an entry of the leader's own. What raft declines is tried again at a later tick.
    fn step_own(&mut self, entry: raft::eraftpb::Entry) -> Result<(), Fault> {
        match self.step_proposal(vec![entry]) {
            Ok(()) | Err(raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(Fault::Raft(error.to_string())),
        }
    }

    /// Every member that still counts, as record, configuration and raft's progress show it.
    pub(super) fn member_facts(&self) -> Vec<MemberFacts> {
        let me = self.config.node;
        self.state
            .members()
            .map(|member| {
                let id = member.id.get();
                let progress = self.raw.raft.prs().get(id);
                let is_voter = self.conf.voters.contains(&member.id);
                let is_learner = self.conf.learners.contains(&member.id);
                MemberFacts {
                    node: member.id,
                    role: member.role,
                    leaving: member.leaving || member.role == Role::Removed,
                    certified: member.credential.is_some(),
                    reads_enough: self.reads_enough(member.id),
                    wanted_voter: member.wanted_voter,
                    is_voter,
                    is_learner,
                    active: member.id == me || progress.is_some() && self.is_active(member.id),
                    matched: progress.map_or(0, |p| p.matched),
                }
            })
            .collect()
    }

    /// Notes a change of role, leader or term, once.
    pub(super) fn note_role(&mut self, now: Now) {
        let (role, leader, term) = (self.role(), self.leader(), self.raw.raft.term);
        if leader.is_some() {
            self.pace.leaderless_since_ms = None;
        } else if self.pace.leaderless_since_ms.is_none() {
            self.pace.leaderless_since_ms = Some(now.mono_ms);
        }
        let before = (self.pace.last_role, self.pace.last_leader, self.pace.last_term);
        if before == (Some(role), leader, term) {
            return;
        }
        if self.pace.last_role == Some(NodeRole::Leader) && role != NodeRole::Leader {
            self.note_left();
        }
        let led = leader != self.pace.last_leader || term != self.pace.last_term;
        (self.pace.last_role, self.pace.last_leader, self.pace.last_term) =
            (Some(role), leader, term);
        if led {
            self.told_levels.clear();
            self.pace.level_told_at = 0;
        }
        if led && role == NodeRole::Leader {
            self.leases.begin(now.mono_ms);
        } else if role != NodeRole::Leader {
            self.leases.end();
            self.pace.time_lost_at = 0;
        }
        if led {
            // A new leader: what waits is handed to it at once, not at the next tick.
            let me = self.config.node;
            self.waiters.mark_due(me, leader, term, now.mono_ms);
            self.reads.retry(self.is_leader(), leader, now.mono_ms);
        }
        self.outputs.notices.push(Notice::Role { role, term, leader });
    }
}
