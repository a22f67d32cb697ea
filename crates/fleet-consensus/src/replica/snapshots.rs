//! Snapshots: received and installed, offered and sent, taken, and the log cut behind them.
//!
//! Nothing that a snapshot needs of the disk is a fault but the log itself: what can't be
//! written or received now is tried again after a rest, and costs this node nothing but a
//! longer log. A snapshot that turns out unusable at a receiver is never offered again.
//!
//! The log is cut at the older of the two newest snapshots at most, so that a damaged newest
//! one costs a replay, not the node. As long as it is not too large it also keeps what members
//! that are a little behind still need; see `ReplicaConfig::log_trailing_entries`.

use fleet_log::{Disk, Position};
use fleet_state::{NodeId, SnapshotMeta};
use raft::ProgressState;
use raft::eraftpb::ConfState;

use super::Replica;
use super::outputs::{BuildSnapshot, BuiltSnapshot, Notice};
use crate::config::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_RETRY_DOUBLINGS_MAX, SNAPSHOT_RETRY_TICKS, SNAPSHOT_WINDOW_BYTES,
};
use crate::fault::Fault;
use crate::frame::{Class, Payload, SnapshotEnd, SnapshotOffer, SnapshotRef};
use crate::guard::check_offer;
use crate::log_time::Now;
use crate::raft_storage::{SnapshotPointer, hard_state_from_raft};
use crate::seeded;
use crate::snapshot_store::{LoadedSnapshot, ReceiveError, SnapshotFile};
use crate::transfer::{Accepted, Chunk, Received, Want};

/// Receiving.
impl<D: Disk, T> Replica<D, T> {
    /// The leader would have this node start over from a snapshot. Raft hears of it when the
    /// file is here; until then the leader's heartbeats go on as usual.
    pub(super) fn handle_offer(
        &mut self,
        from: NodeId,
        term: u64,
        offer: &SnapshotOffer,
        now: Now,
    ) -> Result<(), Fault> {
        if term < self.raw.raft.term {
            return Ok(());
        }
        if term > self.raw.raft.term || self.leader() != Some(from) {
            // A heartbeat makes the sender known as the leader first; it offers again.
            let mut beat = raft::eraftpb::Message::default();
            beat.set_msg_type(raft::eraftpb::MessageType::MsgHeartbeat);
            beat.from = from.get();
            beat.to = self.config.node.get();
            beat.term = term;
            self.raw.step(beat).map_err(|e| Fault::Raft(e.to_string()))?;
        }
        if offer.index <= self.raw.raft.raft_log.committed {
            self.tell_snapshot_end(from, offer.index, SnapshotEnd::Installed);
            return Ok(());
        }
        let target = SnapshotFile {
            index: offer.index,
            term: offer.term,
            name: String::new(),
            size_bytes: offer.file.size_bytes,
            checksum: offer.file.checksum,
        };
        match self.transfer.accept(from, target, now.mono_ms) {
            Accepted::Receiving => {
                let (index, size_bytes) = (offer.index, offer.file.size_bytes);
                self.outputs.notices.push(Notice::SnapshotOffered { index, size_bytes, from });
                self.ask_for_snapshot(now);
            }
            // The leader offers it again when it hears nothing.
            Accepted::Resting => self.counters.refuse("snapshot", "resting"),
            Accepted::Failed(error) => {
                self.snapshot_not_received(from, offer.index, ReceiveError::Io(error))?;
            }
        }
        Ok(())
    }

    pub(super) fn ask_for_snapshot(&mut self, now: Now) {
        while let Some((from, want)) = self.transfer.take_want(now.mono_ms) {
            self.outbox.push((from, Class::Normal, want));
        }
    }

    pub(super) fn handle_chunk(
        &mut self,
        from: NodeId,
        chunk: &Chunk,
        now: Now,
    ) -> Result<(), Fault> {
        match self.transfer.receive(from, chunk, now.mono_ms) {
            Received::Ignored => self.counters.refuse("snapshot", "chunk_out_of_place"),
            Received::Partly => self.ask_for_snapshot(now),
            Received::Failed(error) => self.snapshot_not_received(from, chunk.id.index, error)?,
            Received::Complete(loaded) => self.offer_to_raft(*loaded)?,
        }
        Ok(())
    }

    /// One that is whole, of the leader, and beyond this program would be fetched again and again.
    fn snapshot_not_received(
        &mut self,
        from: NodeId,
        index: u64,
        error: ReceiveError,
    ) -> Result<(), Fault> {
        tracing::warn!(from = from.get(), index, %error, "a snapshot was not received");
        let (reason, end) = match &error {
            ReceiveError::Io(_) => ("disk", SnapshotEnd::Declined),
            ReceiveError::NotAsPromised(_) => ("not_as_promised", SnapshotEnd::Unusable),
            ReceiveError::BeyondVersion(_) => ("beyond_version", SnapshotEnd::Declined),
            ReceiveError::Foreign { .. } => ("foreign", SnapshotEnd::Declined),
        };
        self.counters.refuse("snapshot", reason);
        self.tell_snapshot_end(from, index, end);
        match error {
            ReceiveError::BeyondVersion(source) if self.leader() == Some(from) => {
                Err(Fault::BeyondVersion { index, source })
            }
            ReceiveError::BeyondVersion(_)
            | ReceiveError::Io(_)
            | ReceiveError::NotAsPromised(_)
            | ReceiveError::Foreign { .. } => Ok(()),
        }
    }

    pub(super) fn tell_snapshot_end(&mut self, to: NodeId, index: u64, end: SnapshotEnd) {
        self.outbox.push((to, Class::Normal, Payload::SnapshotDone { index, end }));
    }

    /// A snapshot file from the leader is complete and durable: raft decides about it.
    fn offer_to_raft(&mut self, loaded: LoadedSnapshot) -> Result<(), Fault> {
        let Some(leader) = self.leader() else {
            // The next leader offers its own; this one stays on disk as an older snapshot.
            return Ok(());
        };
        let index = loaded.meta.index;
        let offer = SnapshotOffer {
            index,
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
        if !sound || index <= self.raw.raft.raft_log.committed {
            self.counters.refuse("snapshot", "needless_or_unsound");
            let end = if sound { SnapshotEnd::Installed } else { SnapshotEnd::Declined };
            self.tell_snapshot_end(leader, index, end);
            return Ok(());
        }
        let mut message = raft::eraftpb::Message::default();
        message.set_msg_type(raft::eraftpb::MessageType::MsgSnapshot);
        message.from = leader.get();
        message.to = self.config.node.get();
        // Committed state is of any term; in this one the leader is known.
        message.term = self.raw.raft.term;
        message.set_snapshot(offer.to_raft());
        match self.raw.step(message) {
            Ok(()) | Err(raft::Error::StepPeerNotFound) => {}
            Err(error) => return Err(Fault::Raft(error.to_string())),
        }
        if self.raw.snap().is_some() {
            self.pace.staged = Some(loaded);
        } else {
            // The log holds the same and was only told that it is committed.
            self.tell_snapshot_end(leader, index, SnapshotEnd::Installed);
        }
        Ok(())
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
        if !seeded::on("log-not-reset-at-install") {
            store.log.reset(position)?;
        }
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
        self.prune_snapshots();
        self.set_conf(conf, position.index);
        self.check_level()?;
        self.refresh_keyring();
        // Entries that the waiters wait for may lie inside the snapshot: ask again, the
        // dedup table knows the answers.
        self.waiters.mark_all_due();
        self.outputs.notices.push(Notice::SnapshotInstalled { index: position.index });
        if let Some(leader) = self.leader() {
            self.tell_snapshot_end(leader, position.index, SnapshotEnd::Installed);
        }
        Ok(())
    }
}

/// Sending.
impl<D: Disk, T> Replica<D, T> {
    pub(super) fn handle_want(&mut self, from: NodeId, want: &Want, now: Now) {
        // Two windows at a time, of what was offered: a question costs reading, and memory until
        // the answer has left. Small ones cost no less.
        let cost = |bytes: u64| bytes.next_multiple_of(SNAPSHOT_CHUNK_BYTES);
        let leaves = self.outbox.iter().filter_map(|(to, _, payload)| {
            let Payload::SnapshotChunk { bytes, .. } = payload else { return None };
            (*to == from).then_some(cost(bytes.len() as u64))
        });
        let costs = leaves.sum::<u64>().saturating_add(cost(want.len));
        let is_too_much = costs > SNAPSHOT_WINDOW_BYTES;
        if is_too_much || !self.transfer.is_offered(from, want.id.index) {
            let reason = if is_too_much { "asked_too_much" } else { "not_offered" };
            self.counters.refuse("snapshot", reason);
            return;
        }
        let served = self.transfer.serve(from, want, now.mono_ms);
        for chunk in served.chunks {
            self.outbox.push((from, Class::Bulk, chunk));
        }
        if !served.failed {
            return;
        }
        self.counters.refuse("snapshot", "file_gone");
        let offered = self.raw.store().snapshot.as_ref().is_some_and(|pointer| {
            pointer.file.term == want.id.term && pointer.file.checksum == want.id.checksum
        });
        if offered {
            self.distrust_snapshot(want.id.index);
        }
        if self.transfer.done(from, want.id.index) {
            self.report_snapshot(from, false);
        }
    }

    /// The receiver says how it ended. Only the end of what it is being sent counts.
    pub(super) fn handle_snapshot_end(&mut self, from: NodeId, index: u64, end: SnapshotEnd) {
        if !self.transfer.done(from, index) {
            return;
        }
        if end == SnapshotEnd::Unusable {
            self.distrust_snapshot(index);
        }
        self.report_snapshot(from, end == SnapshotEnd::Installed);
    }

    /// The file is not what this node wrote or installed: another one takes its place.
    fn distrust_snapshot(&mut self, index: u64) {
        let store = self.raw.mut_store();
        if store.snapshot.as_ref().is_none_or(|pointer| pointer.file.index != index) {
            return;
        }
        tracing::warn!(index, "the newest snapshot of this node is unusable; another is taken");
        store.snapshot = None;
        store.snapshot_wanted.set(true);
        self.counters.refuse("snapshot", "unusable");
        // No receiver can make this node write snapshots without a pause.
        self.pace.build_from_tick = self.pace.ticks + SNAPSHOT_RETRY_TICKS;
    }

    pub(super) fn report_snapshot(&mut self, node: NodeId, ok: bool) {
        let status = if ok { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(node.get(), status);
    }
}

/// Taking, and what is given up for it.
impl<D: Disk, T> Replica<D, T> {
    pub(super) fn begin_snapshot_if_due(&mut self) {
        let wanted = &self.raw.store().snapshot_wanted;
        if !self.is_leader() {
            wanted.set(false);
        }
        let due = self.pace.entries_since_snapshot >= self.config.snapshot_entries_here()
            || self.pace.bytes_since_snapshot >= self.config.snapshot_every_bytes
            || self.pace.build_failures > 0
            || wanted.get();
        let rested = self.pace.ticks >= self.pace.build_from_tick;
        if due && rested && !self.pace.building && !self.transfer.is_receiving() {
            self.begin_snapshot();
        }
    }

    pub(super) fn begin_snapshot(&mut self) {
        let meta = SnapshotMeta {
            site: self.state.site().clone(),
            uid: self.state.uid(),
            index: self.applied.index,
            term: self.applied.term,
            voters: self.conf.voters.clone(),
            learners: if seeded::on("snapshot-without-learners") {
                Vec::new()
            } else {
                self.conf.learners.clone()
            },
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
    /// Older files go, and the log's part that nobody needs.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub fn handle_snapshot_built(&mut self, built: Option<BuiltSnapshot>) -> Result<(), Fault> {
        self.pace.building = false;
        let Some(built) = built else {
            // Whatever is wrong with the disk, trying at once again makes it worse.
            let doublings = self.pace.build_failures.min(SNAPSHOT_RETRY_DOUBLINGS_MAX);
            self.pace.build_from_tick = self.pace.ticks + (SNAPSHOT_RETRY_TICKS << doublings);
            self.pace.build_failures = self.pace.build_failures.saturating_add(1);
            return Ok(());
        };
        self.pace.build_failures = 0;
        let newest = self.raw.store().snapshot.as_ref().map_or(0, |s| s.file.index);
        if built.file.index < newest {
            return Ok(());
        }
        self.outputs.notices.push(Notice::SnapshotTaken {
            index: built.file.index,
            size_bytes: built.file.size_bytes,
        });
        let conf = raft_conf(&built.voters, &built.learners);
        let store = self.raw.mut_store();
        store.snapshot = Some(SnapshotPointer { file: built.file, conf });
        // Raft asks again where this one does not serve.
        store.snapshot_wanted.set(false);
        self.prune_snapshots();
        self.compact_log()
    }

    /// Older files go. One that can't be removed now is removed with the next snapshot.
    fn prune_snapshots(&mut self) {
        let mut needed = self.transfer.being_sent();
        needed.extend(self.raw.store().snapshot.as_ref().map(|pointer| pointer.file.index));
        if let Err(error) = self.transfer.store().prune(&needed) {
            tracing::warn!(%error, "older snapshots could not be removed");
            self.counters.refuse("snapshot", "not_removed");
        }
    }

    fn compact_log(&mut self) -> Result<(), Fault> {
        let older = match self.transfer.store().older_index() {
            Ok(older) => older.unwrap_or(0),
            Err(error) => {
                tracing::warn!(%error, "the snapshots can't be listed; the log is not cut");
                return Ok(());
            }
        };
        let log = &self.raw.store().log;
        // A received snapshot that was not installed may be ahead of the log.
        let mut through = older.min(self.applied.index);
        if log.bytes_on_disk() <= self.config.log_bytes_max {
            let trailing = log.last_index().saturating_sub(self.config.trailing_entries());
            through = through.min(trailing).min(self.slowest_active());
        }
        if seeded::on("log-cut-beyond-snapshot") {
            through = self.applied.index;
        }
        if through > log.start().index && !seeded::on("log-never-compacted") {
            self.raw.mut_store().log.compact(through)?;
        }
        Ok(())
    }

    /// As leader: up to where every member that was heard of late has the log, or is being
    /// sent it. Raft's own mark of activity is taken back at each quorum check.
    fn slowest_active(&self) -> u64 {
        if !self.is_leader() {
            return u64::MAX;
        }
        let lately_ms = self.config.election_ticks_max as u64 * self.config.tick_ms;
        let is_active = |id: u64| {
            let heard_ms = NodeId::new(id).and_then(|node| self.frames.heard_ms(node));
            heard_ms.is_some_and(|ms| self.pace.last_tick_ms.saturating_sub(ms) <= lately_ms)
        };
        let others = self.raw.raft.prs().iter();
        others
            .filter(|(id, _)| **id != self.config.node.get() && is_active(**id))
            .map(|(_, progress)| match progress.state {
                ProgressState::Snapshot => progress.matched.max(progress.pending_snapshot),
                ProgressState::Probe | ProgressState::Replicate => progress.matched,
            })
            .min()
            .unwrap_or(u64::MAX)
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
