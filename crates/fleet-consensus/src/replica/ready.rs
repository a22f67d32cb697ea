//! Raft's ready, phase by phase, and the turn around it.
//!
//! The order is the safety of the node:
//!
//! 1. a leader's messages may leave before its own disk has the entries;
//! 2. a snapshot replaces state and log;
//! 3. entries, then hard state, are appended;
//! 4. confirmed reads;
//! 5. committed entries are applied: this disk had them before this ready;
//! 6. one sync makes durable what was appended;
//! 7. only now leaves what promises durability: votes, append responses; raft is told, and the
//!    next ready holds what the durable entries made possible (commit, messages, entries).
//!
//! Between 5 and 6 whoever drives the replica may tell what was applied, so that an answer does
//! not wait for the sync of entries that came after it ([`Replica::poll_to_sync`]).
//!
//! Between taking a ready and telling raft nothing may be stepped or proposed; what a failed
//! send has to say is kept until after.

use std::collections::{BTreeMap, BTreeSet};

use fleet_log::{Disk, LogEntry as DiskEntry, Position};
use fleet_state::{Entry, NodeId};
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::wire::Wire;
use super::{Origin, Queued, Replica};
use crate::config::{
    PROPOSALS_PER_STEP_MAX, PROPOSED_BYTES_PER_ROUND_MAX, PROPOSED_BYTES_PER_STEP_MAX,
    READY_ROUNDS_MAX,
};
use crate::fault::Fault;
use crate::frame::limits::READS_MAX;
use crate::frame::{
    Class, LogEntry, MessageKind, Payload, RaftMessage, RefuseReason, Route, pack_messages,
    pack_proposals,
};
use crate::log_time::Now;
use crate::raft_storage::hard_state_from_raft;
use crate::seeded;
use crate::waiters::Due;

/// What a ready has for after its sync.
pub(super) struct Unsynced {
    number: u64,
    messages: Vec<Message>,
}

impl<D: Disk, T> Replica<D, T> {
    /// Carries out what the inputs since the last call made due.
    ///
    /// # Errors
    /// A [`Fault`]; the replica must not be used again.
    pub fn poll(&mut self, now: Now, wire: &mut impl Wire) -> Result<(), Fault> {
        for _ in 0..READY_ROUNDS_MAX {
            if !self.poll_to_sync(now, wire)? {
                break;
            }
        }
        Ok(())
    }

    /// As [`Replica::poll`], but returns `true` as soon as something waits for the disk. What has
    /// been put out until then can be told meanwhile; then call again, and the wait is done first.
    ///
    /// # Errors
    /// A [`Fault`]; the replica must not be used again.
    pub fn poll_to_sync(&mut self, now: Now, wire: &mut impl Wire) -> Result<bool, Fault> {
        for (from, arrival) in self.heard.drain(..) {
            wire.heard(from, arrival, now.mono_ms);
        }
        self.sync_unsynced(now, wire)?;
        for _ in 0..READY_ROUNDS_MAX {
            self.note_role(now);
            self.hand_on_waiters(now);
            self.propose_queued(now)?;
            self.begin_reads(now);
            self.flush_outbox(now, wire);
            #[cfg(feature = "seeded-bugs")]
            self.commit_wrongly();
            if !self.raw.has_ready() || self.unsynced.is_some() {
                break;
            }
            self.process_ready(now, wire)?;
        }
        self.note_role(now);
        let hasty = seeded::on("read-answered-before-apply");
        let ready = self.reads.take_ready(if hasty { u64::MAX - 1 } else { self.applied.index });
        let ended = ready.into_iter().map(|t| (t, crate::reads::ReadEnd::Ready));
        self.outputs.reads.extend(ended);
        self.begin_snapshot_if_due();
        self.flush_outbox(now, wire);
        let left = wire.take_left();
        if !left.is_empty() {
            self.send_again(&left);
            self.hand_on_waiters(now);
            self.flush_outbox(now, wire);
        }
        Ok(self.unsynced.is_some())
    }

    /// What was sent to these members lately is probably lost, and nobody waits until that shows:
    /// commands go to the leader once more, and raft asks what a follower has.
    fn send_again(&mut self, to: &[NodeId]) {
        for node in to {
            self.waiters.relayed_in_vain(*node);
            self.raw.report_unreachable(node.get());
        }
    }

    /// Whether [`Replica::poll`] has more to do at once.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.unsynced.is_some() || self.raw.has_ready() || !self.proposals.is_empty()
    }

    fn process_ready(&mut self, now: Now, wire: &mut impl Wire) -> Result<(), Fault> {
        let mut ready = self.raw.ready();
        // 1.
        let messages = ready.take_messages();
        let mut unreachable = self.send_raft(messages, now, wire);
        // 2.
        if !ready.snapshot().is_empty() {
            let metadata = ready.snapshot().get_metadata();
            let position = Position { index: metadata.index, term: metadata.term };
            self.install_snapshot(position, ready.hs(), now)?;
        }
        // 3.
        self.append(&mut ready, now)?;
        if seeded::on("answer-before-persist") {
            let messages = ready.take_persisted_messages();
            unreachable.extend(self.send_raft(messages, now, wire));
        }
        // 4.
        for state in ready.take_read_states() {
            self.read_confirmed(&state);
        }
        // 5.
        let committed = ready.take_committed_entries();
        self.apply_committed(committed, now)?;
        let unsynced =
            Unsynced { number: ready.number(), messages: ready.take_persisted_messages() };
        let (must_sync, has_snapshot) = (ready.must_sync(), !ready.snapshot().is_empty());
        self.raw.advance_append_async(ready);
        if must_sync {
            self.unsynced = Some(unsynced);
        } else {
            unreachable.extend(self.persisted(unsynced, now, wire));
        }
        self.report_unreachable(&unreachable);
        if has_snapshot {
            // Raft takes what is in a snapshot for applied, and that only once it is durable.
            self.sync_unsynced(now, wire)?;
        }
        self.raw.advance_apply();
        Ok(())
    }

    /// 6. and 7., if a ready waits for it.
    fn sync_unsynced(&mut self, now: Now, wire: &mut impl Wire) -> Result<(), Fault> {
        let Some(unsynced) = self.unsynced.take() else {
            return Ok(());
        };
        self.raw.mut_store().log.sync()?;
        self.counters.syncs += 1;
        let unreachable = self.persisted(unsynced, now, wire);
        self.report_unreachable(&unreachable);
        Ok(())
    }

    /// A ready is durable, or holds nothing that has to be.
    fn persisted(
        &mut self,
        unsynced: Unsynced,
        now: Now,
        wire: &mut impl Wire,
    ) -> BTreeSet<NodeId> {
        let unreachable = self.send_raft(unsynced.messages, now, wire);
        self.raw.on_persist_ready(unsynced.number);
        unreachable
    }

    fn report_unreachable(&mut self, nodes: &BTreeSet<NodeId>) {
        for node in nodes {
            self.raw.report_unreachable(node.get());
        }
    }

    fn append(&mut self, ready: &mut raft::Ready, now: Now) -> Result<(), Fault> {
        let entries = ready.take_entries();
        let mut batch = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = LogEntry::from_raft(entry).map_err(|e| Fault::Raft(e.to_string()))?;
            let (index, term) = (entry.index, entry.term);
            let (kind, data) = entry.into_disk();
            batch.push(DiskEntry { index, term, kind, data });
        }
        let log = &mut self.raw.mut_store().log;
        if !batch.is_empty() {
            log.append(&batch)?;
        }
        if let Some(hard) = ready.hs() {
            // A commit index alone goes to disk with the next sync: a restart applies from the
            // snapshot anyway.
            log.set_hard_state(hard_state_from_raft(hard))?;
        }
        self.counters.entries_appended += batch.len() as u64;
        if !batch.is_empty() {
            self.pace.last_append_ms = now.mono_ms;
        }
        Ok(())
    }

    fn send_raft(
        &mut self,
        messages: Vec<Message>,
        now: Now,
        wire: &mut impl Wire,
    ) -> BTreeSet<NodeId> {
        let mut unreachable = BTreeSet::new();
        // What is urgent goes by itself, by every way that works; it also proves the ways.
        let mut by_lane: BTreeMap<(NodeId, bool), Vec<RaftMessage>> = BTreeMap::new();
        for message in messages {
            let urgent = is_urgent(message.get_msg_type());
            let message = match RaftMessage::from_raft(message) {
                Ok(message) => message,
                Err(error) => {
                    tracing::trace!(%error, "raft made a message that never leaves a node");
                    self.counters.refuse("raft_out", "local_type");
                    continue;
                }
            };
            if !self.pace.acks.is_news(&message, now.mono_ms) {
                continue;
            }
            if let MessageKind::Snapshot(offer) = &message.kind {
                self.transfer.offered(message.to, offer.index, now.mono_ms);
            }
            by_lane.entry((message.to, !urgent)).or_default().push(message);
        }
        for ((to, patient), messages) in by_lane {
            let class = if patient { Class::Normal } else { Class::Urgent };
            let has_snapshot = messages.iter().any(|m| matches!(m.kind, MessageKind::Snapshot(_)));
            let sent = pack_messages(messages)
                .iter()
                .all(|payload| self.send(to, class, payload, now, wire));
            if !sent {
                unreachable.insert(to);
                if has_snapshot && self.transfer.unsent(to) {
                    self.pace.failed_offers.push(to);
                }
            }
        }
        unreachable
    }

    /// Seals a payload and hands it to the ways that work; `false` when none took it.
    pub(super) fn send(
        &mut self,
        to: NodeId,
        class: Class,
        payload: &Payload,
        now: Now,
        wire: &mut impl Wire,
    ) -> bool {
        let mut sent = false;
        for route in wire.routes(to, class, now.mono_ms).iter() {
            sent |= self.send_by(route, payload, now, wire);
        }
        if !sent {
            self.counters.frames_unsent += 1;
        }
        sent
    }

    fn send_by(&mut self, route: Route, payload: &Payload, now: Now, wire: &mut impl Wire) -> bool {
        let frames = match self.frames.seal(route, payload, now.mono_ms) {
            Ok(frames) => frames,
            Err(error) => {
                tracing::debug!(%error, to = route.to.get(), "a frame could not be sealed");
                self.counters.refuse("frame_out", "unsealable");
                return false;
            }
        };
        for frame in frames {
            if !wire.send(route, frame) {
                return false;
            }
            self.counters.frames_sent += 1;
        }
        true
    }

    pub(super) fn flush_outbox(&mut self, now: Now, wire: &mut impl Wire) {
        for node in self.frames.take_greetings(now.mono_ms) {
            let hello = Payload::Hello { boot: self.boot, applied: self.applied.index };
            if !self.send(node, Class::Urgent, &hello, now, wire) {
                self.frames.greeting_failed(node);
            }
        }
        for (to, class, payload) in std::mem::take(&mut self.outbox) {
            self.send(to, class, &payload, now, wire);
        }
    }

    /// Due commands of this node go to Raft, or to the leader in frames.
    fn hand_on_waiters(&mut self, now: Now) {
        let Some(leader) = self.leader() else {
            return;
        };
        let me = self.config.node;
        let due = self.waiters.take_due(me, leader, self.raw.raft.term, now.mono_ms);
        if leader == me {
            let own = |due: Due| Queued {
                id: due.id,
                encoded: due.encoded,
                origin: Origin::Own { copy: due.copy },
            };
            self.proposals.extend(due.into_iter().map(own));
            return;
        }
        let encoded: Vec<_> = due.into_iter().map(|due| due.encoded).collect();
        self.counters.relayed += encoded.len() as u64;
        for batch in pack_proposals(encoded) {
            self.outbox.push((leader, Class::Normal, batch));
        }
    }

    /// Hands to Raft what one round takes; the rest follows in the next. All entries of a round
    /// go to the log as one batch, which has a limit, and Raft itself sets none to the first
    /// step after everything is committed.
    fn propose_queued(&mut self, now: Now) -> Result<(), Fault> {
        let mut round_bytes = 0;
        while !self.proposals.is_empty() && round_bytes < PROPOSED_BYTES_PER_ROUND_MAX {
            let (count, bytes) = step_of(&self.proposals);
            round_bytes += bytes;
            let rest = self.proposals.split_off(count);
            let batch = std::mem::replace(&mut self.proposals, rest);
            self.propose(batch, now)?;
        }
        Ok(())
    }

    fn propose(&mut self, batch: Vec<Queued>, now: Now) -> Result<(), Fault> {
        if self.raw.raft.state != StateRole::Leader || self.raw.raft.lead_transferee.is_some() {
            self.decline(batch, RefuseReason::NotLeader);
            return Ok(());
        }
        if self.pace.low_space {
            self.decline(batch, RefuseReason::LowSpace);
            return Ok(());
        }
        if !self.vouch_for_time(now)? {
            self.decline(batch, RefuseReason::Busy);
            return Ok(());
        }
        let stamp_ms = self.log_time.stamp(now, self.raw.raft.term);
        let entries: Vec<raft::eraftpb::Entry> = batch
            .iter()
            .map(|queued| raft::eraftpb::Entry {
                data: Entry::encode_with(stamp_ms, now.wall_ms, &queued.encoded).into(),
                ..Default::default()
            })
            .collect();
        match self.step_proposal(entries) {
            Ok(()) => {
                #[cfg(feature = "seeded-bugs")]
                self.answer_when_appended(&batch);
                Ok(())
            }
            Err(raft::Error::ProposalDropped) => {
                self.decline(batch, RefuseReason::Busy);
                Ok(())
            }
            Err(error) => Err(Fault::Raft(error.to_string())),
        }
    }

    /// Appends entries as leader: one step, so one message per follower for all of them.
    pub(super) fn step_proposal(
        &mut self,
        entries: Vec<raft::eraftpb::Entry>,
    ) -> Result<(), raft::Error> {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.node.get();
        message.set_entries(entries.into());
        self.raw.raft.step(message)
    }

    /// Raft did not take these. Own ones wait or end as busy; relayed ones are told.
    fn decline(&mut self, batch: Vec<Queued>, reason: RefuseReason) {
        let mut relayed: BTreeMap<NodeId, Vec<fleet_state::RequestId>> = BTreeMap::new();
        for queued in batch {
            match queued.origin {
                Origin::Relayed(from) => relayed.entry(from).or_default().push(queued.id),
                Origin::Own { copy } if reason == RefuseReason::NotLeader => {
                    self.waiters.not_taken(&queued.id, copy);
                }
                Origin::Own { copy } => {
                    let ended = self.waiters.refuse_copy(&queued.id, copy, reason.why());
                    self.outputs.commands.extend(ended);
                }
            }
        }
        let leader = self.leader();
        for (to, ids) in relayed {
            let refused = Payload::ProposeRefused { request_ids: ids, reason, leader };
            self.outbox.push((to, Class::Normal, refused));
        }
    }

    fn begin_reads(&mut self, now: Now) {
        if self.is_leader() {
            if !self.raw.raft.commit_to_current_term() {
                // What the leader before it committed may be beyond what is known here to be so.
                if seeded::on("read-before-own-commit")
                    && let Some(id) = self.reads.begin_round(now.mono_ms)
                {
                    self.confirm_read(id, self.raw.raft.raft_log.committed);
                }
                return;
            }
            if let Some(id) = self.reads.begin_round(now.mono_ms) {
                if seeded::on("read-without-majority") {
                    return self.confirm_read(id, self.raw.raft.raft_log.committed);
                }
                self.raw.read_index(id.to_be_bytes().to_vec());
            }
            return;
        }
        if let Some(leader) = self.leader() {
            let ids = self.reads.take_to_ask(leader, now.mono_ms);
            for ids in ids.chunks(READS_MAX) {
                let want = Payload::ReadWant { ids: ids.to_vec() };
                self.outbox.push((leader, Class::Urgent, want));
            }
        }
    }

    fn read_confirmed(&mut self, state: &raft::ReadState) {
        let Ok(context) = <[u8; 8]>::try_from(state.request_ctx.as_slice()) else {
            return;
        };
        self.confirm_read(u64::from_be_bytes(context), state.index);
    }

    fn confirm_read(&mut self, id: u64, index: u64) {
        for grant in self.reads.round_confirmed(id, index) {
            let payload = Payload::ReadGrant { ids: grant.ids, index: grant.index };
            self.outbox.push((grant.to, Class::Urgent, payload));
        }
    }
}

/// How many proposals from the front go to Raft in one step, at least one, and their bytes.
fn step_of(queue: &[Queued]) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for queued in queue.iter().take(PROPOSALS_PER_STEP_MAX) {
        let with_it = bytes + queued.encoded.len();
        if count > 0 && with_it > PROPOSED_BYTES_PER_STEP_MAX {
            break;
        }
        (count, bytes) = (count + 1, with_it);
    }
    (count, bytes)
}

/// Small messages that elections and leases live by; they must not queue behind entries.
fn is_urgent(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgTimeoutNow
    )
}
