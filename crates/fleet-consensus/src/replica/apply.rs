//! Committed entries, and snapshots being installed or taken.
//!
//! Applying never fails on data: a refused command is an outcome. It fails when this binary
//! can't read an entry, and then the node stops before the entry; skipping it would make this
//! node's state another one than everybody else's.

use fleet_log::{Disk, HardState, Position};
use fleet_state::{Body, Command, Entry, NodeId, Revision, Role, SnapshotMeta};
use raft::eraftpb::ConfState;

use super::outputs::{AppliedEntry, BuildSnapshot, BuiltSnapshot, Notice};
use super::{Conf, Replica};
use crate::checkpoints::CHECKPOINT_EVERY;
use crate::fault::Fault;
use crate::frame::{
    Class, ConfChange, Credential, EntryPayload, LogEntry, Payload, SnapshotOffer, SnapshotRef,
};
use crate::guard::check_offer;
use crate::log_time::Now;
use crate::raft_storage::{SnapshotPointer, hard_state_from_raft};
use crate::snapshot_store::LoadedSnapshot;
use crate::waiters::CommandEnd;

/// Ticks between a snapshot that could not be written and the next attempt.
const SNAPSHOT_RETRY_TICKS: u64 = 40;

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
                EntryPayload::Empty => self.state.skip(Revision::new(index)),
                EntryPayload::Normal(data) => self.apply_entry(index, &data, now)?,
                EntryPayload::ConfChange(change) => self.apply_conf_change(index, change)?,
            }
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
        if role == Role::Removed && node == self.config.node {
            self.leave();
        }
        Ok(())
    }

    /// This node is out. A leader that has removed itself would go on leading, and raft looks
    /// for its own progress, which is gone: it steps down here and says nothing more.
    fn leave(&mut self) {
        let raft = &mut self.raw.raft;
        let term = raft.term;
        raft.become_follower(term, raft::INVALID_ID);
        raft.msgs.clear();
        self.outputs.notices.push(Notice::Removed);
    }

    /// A configuration in force must be in force after any restart. If all nodes forgot that it
    /// was committed, they would elect under the one before, which may need a node that was
    /// given up for good in the meantime.
    fn make_commit_durable(&mut self, index: u64) -> Result<(), Fault> {
        let log = &mut self.raw.mut_store().log;
        let mut hard = log.hard_state();
        if hard.commit < index {
            hard.commit = index;
            log.set_hard_state(hard)?;
        }
        log.sync()?;
        Ok(())
    }

    fn set_conf(&mut self, conf: ConfState, index: u64) {
        self.conf = Conf::from_raft(&conf);
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

    /// A snapshot file from the leader is complete and durable: raft decides about it.
    pub(super) fn offer_to_raft(&mut self, loaded: LoadedSnapshot) -> Result<(), Fault> {
        let Some(leader) = self.leader() else {
            // The next leader offers its own; this one stays on disk as an older snapshot.
            return Ok(());
        };
        let offer = SnapshotOffer {
            index: loaded.meta.index,
            term: loaded.meta.term,
            voters: loaded.meta.voters.clone(),
            learners: loaded.meta.learners.clone(),
            file: SnapshotRef {
                size_bytes: loaded.file.size_bytes,
                checksum: loaded.file.checksum,
            },
        };
        // What the guard saw was the message; what counts from here on is the file.
        let sound = check_offer(&offer, self.raw.raft.term, self.config.node).is_ok();
        if !sound || offer.index <= self.raw.raft.raft_log.committed {
            self.counters.refuse("snapshot", "needless_or_unsound");
            let done = Payload::SnapshotDone { index: offer.index, ok: sound };
            self.outbox.push((leader, Class::Normal, done));
            return Ok(());
        }
        let mut message = raft::eraftpb::Message::default();
        message.set_msg_type(raft::eraftpb::MessageType::MsgSnapshot);
        message.from = leader.get();
        message.to = self.config.node.get();
        // Committed state is of any term; in this one the leader is known.
        message.term = self.raw.raft.term;
        message.set_snapshot(offer.to_raft());
        self.pace.staged = Some(loaded);
        match self.raw.step(message) {
            Ok(()) | Err(raft::Error::StepPeerNotFound) => Ok(()),
            Err(error) => Err(Fault::Raft(error.to_string())),
        }
    }

    /// Phase 2: the file is durable already; the log is emptied, then the state replaced. A
    /// crash in between finds the file and the old log, or the file and the empty log.
    pub(super) fn install_snapshot(
        &mut self,
        position: Position,
        hard: Option<&raft::eraftpb::HardState>,
        now: Now,
    ) -> Result<(), Fault> {
        let Some(loaded) = self.pace.staged.take() else {
            return Err(Fault::Raft("a snapshot without its file".to_owned()));
        };
        if loaded.meta.index != position.index {
            return Err(Fault::Raft("a snapshot of another index".to_owned()));
        }
        let conf = conf_state(&loaded.meta);
        let store = self.raw.mut_store();
        store.log.reset(position)?;
        let mut state = hard.map_or_else(|| store.log.hard_state(), hard_state_from_raft);
        state.commit = state.commit.max(position.index);
        store.log.set_hard_state(state)?;
        store.log.sync()?;
        store.snapshot = Some(SnapshotPointer { file: loaded.file, conf: conf.clone() });
        self.state = loaded.state;
        self.applied = position;
        self.log_time.heard(self.state.log_time_ms(), self.state.wall_time_ms(), now);
        self.pace.entries_since_snapshot = 0;
        self.pace.bytes_since_snapshot = 0;
        self.pace.applied_at_ms = now.mono_ms;
        self.transfer.store().prune().map_err(Fault::SnapshotIo)?;
        self.set_conf(conf, position.index);
        self.refresh_keyring();
        // Entries that the waiters wait for may lie inside the snapshot: ask again, the
        // dedup table knows the answers.
        self.waiters.mark_all_due();
        self.outputs.notices.push(Notice::SnapshotInstalled { index: position.index });
        if let Some(leader) = self.leader() {
            let done = Payload::SnapshotDone { index: position.index, ok: true };
            self.outbox.push((leader, Class::Normal, done));
        }
        Ok(())
    }

    pub(super) fn begin_snapshot_if_due(&mut self) {
        let due = self.pace.entries_since_snapshot >= self.config.snapshot_entries_here()
            || self.pace.bytes_since_snapshot >= self.config.snapshot_every_bytes
            || self.raw.store().snapshot_wanted.get();
        let rested = self.pace.ticks >= self.pace.build_from_tick;
        if due && rested && !self.pace.building && !self.transfer.is_receiving() {
            self.begin_snapshot();
        }
    }

    pub(super) fn begin_snapshot(&mut self) {
        let store = self.raw.store();
        store.snapshot_wanted.set(false);
        let meta = SnapshotMeta {
            site: self.state.site().clone(),
            uid: self.state.uid(),
            index: self.applied.index,
            term: self.applied.term,
            voters: self.conf.voters.clone(),
            learners: self.conf.learners.clone(),
            wall_time_ms: self.state.wall_time_ms(),
        };
        self.pace.building = true;
        self.pace.entries_since_snapshot = 0;
        self.pace.bytes_since_snapshot = 0;
        self.outputs.build = Some(BuildSnapshot {
            store: self.transfer.store().clone(),
            meta,
            state: self.state.clone(),
        });
    }

    /// A snapshot of this node was written (`None`: it failed, and is tried again later).
    /// Older files go, and the log's part that only they needed.
    ///
    /// # Errors
    /// A [`Fault`] of the disk.
    pub fn handle_snapshot_built(&mut self, built: Option<BuiltSnapshot>) -> Result<(), Fault> {
        self.pace.building = false;
        let Some(built) = built else {
            // Whatever is wrong with the disk, trying at once again makes it worse.
            self.pace.build_from_tick = self.pace.ticks + SNAPSHOT_RETRY_TICKS;
            self.raw.store().snapshot_wanted.set(true);
            return Ok(());
        };
        let newest = self.raw.store().snapshot.as_ref().map_or(0, |s| s.file.index);
        if built.file.index < newest {
            return Ok(());
        }
        self.outputs.notices.push(Notice::SnapshotTaken {
            index: built.file.index,
            size_bytes: built.file.size_bytes,
        });
        let conf = raft_conf(&built.voters, &built.learners);
        let transfer = self.transfer.store();
        transfer.prune().map_err(Fault::SnapshotIo)?;
        let kept = transfer.names().map_err(Fault::SnapshotIo)?;
        let store = self.raw.mut_store();
        store.snapshot = Some(SnapshotPointer { file: built.file, conf });
        // The log reaches back to the older of the kept snapshots: a damaged newest one
        // costs a replay, not the node.
        if let Some((older, _, _)) = kept.last()
            && *older > store.log.start().index
        {
            store.log.compact(*older)?;
        }
        Ok(())
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

pub(super) fn conf_state(meta: &SnapshotMeta) -> ConfState {
    raft_conf(&meta.voters, &meta.learners)
}

fn raft_conf(voters: &[NodeId], learners: &[NodeId]) -> ConfState {
    let mut conf = ConfState::default();
    conf.set_voters(voters.iter().map(|n| n.get()).collect());
    conf.set_learners(learners.iter().map(|n| n.get()).collect());
    conf
}
