//! Committed entries, one after the other.
//!
//! Applying never fails on data: a refused command is an outcome. It fails when this binary
//! can't read an entry, and then the node stops before the entry; skipping it would make this
//! node's state another one than everybody else's.

use fleet_log::{Disk, HardState, Position};
use fleet_state::{Body, Command, Entry, NodeId, Revision, Role};
use raft::eraftpb::ConfState;

use super::outputs::{AppliedEntry, Notice};
use super::{Conf, Replica};
use crate::checkpoints::CHECKPOINT_EVERY;
use crate::fault::Fault;
use crate::frame::{Class, ConfChange, Credential, EntryPayload, LogEntry, Payload};
use crate::log_time::Now;
use crate::seeded;
use crate::waiters::CommandEnd;

impl<D: Disk, T> Replica<D, T> {
    pub(super) fn apply_committed(
        &mut self,
        entries: Vec<raft::eraftpb::Entry>,
        now: Now,
    ) -> Result<(), Fault> {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            let entry = LogEntry::from_raft(entry).map_err(|e| Fault::Raft(e.to_string()))?;
            self.pace.entries_since_snapshot += 1;
            match entry.payload {
                EntryPayload::Empty if seeded::on("empty-entry-not-applied") => {}
                EntryPayload::Empty => self.state.skip(Revision::new(index)),
                EntryPayload::Normal(data) => self.apply_entry(index, &data, now)?,
                EntryPayload::ConfChange(change) => self.apply_conf_change(index, change)?,
            }
            self.check_level()?;
            self.applied = Position { index, term };
            self.pace.applied_at_ms = now.mono_ms;
            if index.is_multiple_of(CHECKPOINT_EVERY) {
                self.tell_digest(index)?;
            }
        }
        Ok(())
    }

    /// Every member says what it has at the same index; see `checkpoints.rs`.
    fn tell_digest(&mut self, index: u64) -> Result<(), Fault> {
        let digest = self.state.digests().combined().0;
        for node in self.conf.voters.iter().chain(&self.conf.learners) {
            if *node == self.config.node {
                continue;
            }
            let payload = Payload::Digest { index, digest };
            self.outbox.push((*node, Class::Normal, payload));
        }
        self.checkpoints.mine(index, digest);
        self.compare_digests(index)
    }

    pub(super) fn handle_digest(
        &mut self,
        from: NodeId,
        index: u64,
        digest: [u8; 32],
    ) -> Result<(), Fault> {
        self.checkpoints.theirs(from, index, digest);
        self.compare_digests(index)
    }

    fn compare_digests(&self, index: u64) -> Result<(), Fault> {
        if self.checkpoints.outvoted(index, &self.conf.voters) {
            return Err(Fault::Diverged { index });
        }
        Ok(())
    }

    fn apply_entry(&mut self, index: u64, data: &[u8], now: Now) -> Result<(), Fault> {
        let entry = Entry::decode(data).map_err(|source| Fault::Undecodable { index, source })?;
        if let Body::Proposal(proposal) = &entry.body {
            // What came later can't be decoded; this is for programs that only seem older.
            self.check_reads((self.config.levels.needed)(&proposal.command))?;
        }
        #[cfg(feature = "seeded-bugs")]
        let entry = Self::stamp_anew(entry, now);
        self.pace.bytes_since_snapshot += data.len() as u64;
        self.log_time.heard(entry.log_time_ms, entry.wall_time_ms, now);
        let revision = Revision::new(index);
        let applied = self.state.apply(revision, &entry);
        if let (Some(id), Some(answer)) = (&applied.request_id, &applied.answer) {
            let waited = self.waiters.decide(id, data);
            let ended =
                waited.into_iter().map(|token| (token, CommandEnd::Decided(answer.clone())));
            self.outputs.commands.extend(ended);
        }
        self.outputs.applied.push(AppliedEntry {
            revision,
            request_id: applied.request_id,
            answer: applied.answer,
            changes: applied.changes,
            wall_time_ms: entry.wall_time_ms,
        });
        if let Body::Proposal(proposal) = &entry.body
            && matches!(
                proposal.command,
                Command::Join(_) | Command::Certify { .. } | Command::MemberRemove { .. }
            )
        {
            self.refresh_keyring();
        }
        Ok(())
    }

    fn apply_conf_change(&mut self, index: u64, change: ConfChange) -> Result<(), Fault> {
        self.make_commit_durable(index)?;
        let conf = self
            .raw
            .apply_conf_change(&change.to_raft())
            .map_err(|e| Fault::Raft(e.to_string()))?;
        self.set_conf(conf, index);
        let revision = Revision::new(index);
        let (node, role) = match change {
            ConfChange::AddVoter(node) => (node, Role::Voter),
            ConfChange::AddLearner(node) => (node, Role::Learner),
            ConfChange::Remove(node) => (node, Role::Removed),
        };
        let changes = self.state.apply_role(revision, node, role);
        self.outputs.applied.push(AppliedEntry {
            revision,
            request_id: None,
            answer: None,
            changes,
            wall_time_ms: self.state.wall_time_ms(),
        });
        self.refresh_keyring();
        if node == self.config.node {
            match role {
                Role::Removed => self.leave(),
                Role::Learner if self.is_leader() => self.step_down(),
                Role::Learner | Role::Voter | Role::Joining => {}
            }
        }
        Ok(())
    }

    /// This node is out. A leader that has removed itself would go on leading, and raft looks
    /// for its own progress, which is gone: it steps down here and says nothing more.
    fn leave(&mut self) {
        if seeded::on("removed-leader-goes-on") {
            return;
        }
        self.step_down();
        self.outputs.notices.push(Notice::Removed);
    }

    /// Leads no more. No leader takes its own vote away, but it may inherit the entry that does from
    /// the one before, and commits it.
    fn step_down(&mut self) {
        let raft = &mut self.raw.raft;
        let term = raft.term;
        raft.become_follower(term, raft::INVALID_ID);
        raft.msgs.clear();
    }

    /// A configuration in force must be in force after any restart. If all nodes forgot that it
    /// was committed, they would elect under the one before, which may need a node that was
    /// given up for good in the meantime.
    fn make_commit_durable(&mut self, index: u64) -> Result<(), Fault> {
        if seeded::on("configuration-not-durable") {
            return Ok(());
        }
        let log = &mut self.raw.mut_store().log;
        let mut hard = log.hard_state();
        if hard.commit < index {
            hard.commit = index;
            log.set_hard_state(hard)?;
        }
        log.sync()?;
        Ok(())
    }

    pub(super) fn set_conf(&mut self, conf: ConfState, index: u64) {
        self.conf = Conf::from_raft(&conf);
        self.answered_ms.retain(|node, _| self.conf.contains(*node));
        self.told_levels.retain(|node, _| self.conf.contains(*node));
        self.raw.mut_store().conf = conf;
        self.outputs.notices.push(Notice::Membership {
            voters: self.conf.voters.clone(),
            learners: self.conf.learners.clone(),
            index,
        });
    }

    /// The keys of those, and only those, who are members by record or by configuration.
    /// A member that is to go is heard until the configuration is without it.
    pub(super) fn refresh_keyring(&mut self) {
        for member in self.state.members() {
            if member.id == self.config.node {
                continue;
            }
            if member.role == Role::Removed && !self.conf.contains(member.id) {
                self.frames.remove(member.id);
            } else if let Err(error) = self.frames.upsert(member.id, &member.keys) {
                tracing::warn!(node = member.id.get(), %error, "a member's key was refused");
                self.counters.refuse("keyring", "member_key");
            }
        }
        let own = self.state.member(&self.config.node);
        if let Some((member, signature)) = own.and_then(|m| m.credential.map(|c| (m, c))) {
            self.frames.set_credential(Credential {
                node: member.id,
                name: member.name.clone(),
                keys: member.keys,
                signature,
            });
        }
    }

    /// Makes everything durable that waits for a sync; for the end of a drained node.
    ///
    /// # Errors
    /// A [`Fault`] of the disk.
    pub fn flush(&mut self) -> Result<(), Fault> {
        let log = &mut self.raw.mut_store().log;
        let hard: HardState = log.hard_state();
        log.set_hard_state(hard)?;
        log.mark()?;
        Ok(())
    }
}
