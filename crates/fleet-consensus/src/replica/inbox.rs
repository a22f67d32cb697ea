//! What frames from other members lead to.
//!
//! A frame is opened (sender known, seal right, not a repeat) before its content is looked
//! at; a Raft message then passes the guard before raft sees it. What is refused on the way
//! is counted and has no effect.

use fleet_log::Disk;
use fleet_state::{NodeId, Proposal};

use super::outputs::Notice;
use super::{Queued, Replica};
use crate::fault::Fault;
use crate::frame::{
    Class, MessageKind, Path, Payload, RaftMessage, RefuseReason, Refused, SnapshotOffer,
};
use crate::guard::{GuardView, Objection};
use crate::log_time::Now;
use crate::snapshot_store::SnapshotFile;
use crate::transfer::{Chunk, Received, Want};

impl<D: Disk, T> Replica<D, T> {
    /// A frame arrived over `path`.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or proof that this node lost acknowledged entries.
    pub fn handle_frame(&mut self, frame: &[u8], path: Path, now: Now) -> Result<(), Fault> {
        match self.frames.open(frame, path, now.mono_ms) {
            Ok(None) => Ok(()),
            Ok(Some(opened)) => {
                self.counters.frames_received += 1;
                // No longer than members times ways, which is what can be in it.
                if !self.heard.contains(&(opened.from, path)) {
                    self.heard.push((opened.from, path));
                }
                self.handle_payload(opened.from, opened.payload, now)
            }
            Err(Refused::RolledBack) => Err(Fault::RolledBack { boot: self.boot }),
            Err(refused) => {
                self.counters.refuse("frame", refused.as_str());
                Ok(())
            }
        }
    }

    fn handle_payload(&mut self, from: NodeId, payload: Payload, now: Now) -> Result<(), Fault> {
        match payload {
            Payload::Raft(messages) => {
                for message in messages {
                    self.handle_raft(from, message, now)?;
                }
            }
            Payload::Propose(proposals) => {
                for encoded in proposals {
                    self.handle_relayed(from, encoded);
                }
            }
            Payload::ProposeRefused { request_ids, reason, leader: _ } => {
                self.handle_refused(&request_ids, reason)
            }
            Payload::ReadWant { ids } => {
                if self.is_leader() {
                    self.reads.add_remote(from, ids);
                }
            }
            Payload::ReadGrant { ids, index } => self.reads.granted(from, &ids, index),
            // The reads ask again by themselves.
            Payload::ReadRefused { .. } => {}
            Payload::SnapshotWant { id, offset, len } => {
                let len = u64::from(len);
                let want = Want { id, offset, len };
                for chunk in self.transfer.serve(from, &want, now.mono_ms) {
                    self.outbox.push((from, Class::Bulk, chunk));
                }
            }
            Payload::SnapshotChunk { id, offset, bytes, .. } => {
                self.handle_chunk(from, &Chunk { id, offset, bytes }, now)?
            }
            Payload::SnapshotDone { ok, .. } => {
                if self.transfer.done(from) {
                    self.report_snapshot(from, ok);
                }
            }
            Payload::SiteKeyWant => self.handle_site_key_want(from),
            Payload::SiteKeyGrant { key } => self.handle_site_key(&key),
            Payload::Digest { index, digest } => self.handle_digest(from, index, digest)?,
            Payload::TransferWant { to } => {
                if let Err(refused) = self.handle_transfer(to) {
                    tracing::debug!(%refused, from = from.get(), "a handover was asked for");
                }
            }
            Payload::Hello { .. } => {}
        }
        Ok(())
    }

    fn handle_raft(&mut self, from: NodeId, message: RaftMessage, now: Now) -> Result<(), Fault> {
        match self.check(from, &message, now) {
            Ok(()) => {}
            Err(Objection::Refused(refusal)) => {
                tracing::debug!(
                    from = from.get(),
                    kind = message.kind.as_str(),
                    reason = refusal.as_str(),
                    "a raft message was refused"
                );
                self.counters.refuse("guard", refusal.as_str());
                if let MessageKind::Snapshot(offer) = &message.kind {
                    // The sender waits for an end; a newer snapshot may do better.
                    let done = Payload::SnapshotDone { index: offer.index, ok: false };
                    self.outbox.push((from, Class::Normal, done));
                }
                return Ok(());
            }
            Err(Objection::Quarantine(lost)) => return Err(Fault::LostLog(lost)),
        }
        if let MessageKind::Snapshot(offer) = &message.kind {
            return self.handle_offer(from, message.term, offer, now);
        }
        match self.raw.step(message.into_raft()) {
            Ok(()) => Ok(()),
            // An answer from a member that left the configuration meanwhile.
            Err(raft::Error::StepPeerNotFound) => {
                self.counters.refuse("raft", "not_in_configuration");
                Ok(())
            }
            Err(error) => Err(Fault::Raft(error.to_string())),
        }
    }

    fn check(&mut self, from: NodeId, message: &RaftMessage, now: Now) -> Result<(), Objection> {
        let role = self.role();
        let raft = &self.raw.raft;
        let matched = raft.prs().get(message.from.get()).map(|p| p.matched);
        let view = GuardView {
            me: self.config.node,
            term: raft.term,
            leader: NodeId::new(raft.leader_id),
            role,
            last_index: raft.raft_log.last_index(),
            voters: &self.conf.voters,
            learners: &self.conf.learners,
            matched: matched.filter(|_| raft.state == raft::StateRole::Leader),
        };
        self.guard.check(message, from, &view, now.mono_ms)
    }

    /// The leader would have this node start over from a snapshot. Raft hears of it when the
    /// file is here; until then the leader's heartbeats go on as usual.
    fn handle_offer(
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
            let done = Payload::SnapshotDone { index: offer.index, ok: true };
            self.outbox.push((from, Class::Normal, done));
            return Ok(());
        }
        let target = SnapshotFile {
            index: offer.index,
            term: offer.term,
            name: String::new(),
            size_bytes: offer.file.size_bytes,
            checksum: offer.file.checksum,
        };
        self.outputs.notices.push(Notice::SnapshotOffered {
            index: offer.index,
            size_bytes: offer.file.size_bytes,
            from,
        });
        self.transfer.accept(from, target, now.mono_ms).map_err(Fault::SnapshotIo)?;
        self.ask_for_snapshot(now);
        Ok(())
    }

    pub(super) fn ask_for_snapshot(&mut self, now: Now) {
        if let Some((from, want)) = self.transfer.take_want(now.mono_ms) {
            self.outbox.push((from, Class::Normal, want));
        }
    }

    fn handle_chunk(&mut self, from: NodeId, chunk: &Chunk, now: Now) -> Result<(), Fault> {
        let received =
            self.transfer.receive(from, chunk, now.mono_ms).map_err(Fault::SnapshotIo)?;
        match received {
            Received::Ignored => self.counters.refuse("snapshot", "chunk_out_of_place"),
            Received::Partly => self.ask_for_snapshot(now),
            Received::Refused => {
                self.counters.refuse("snapshot", "not_as_promised");
                let done = Payload::SnapshotDone { index: chunk.id.index, ok: false };
                self.outbox.push((from, Class::Normal, done));
            }
            Received::Complete(loaded) => self.offer_to_raft(*loaded)?,
        }
        Ok(())
    }

    pub(super) fn report_snapshot(&mut self, node: NodeId, ok: bool) {
        let status = if ok { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(node.get(), status);
    }

    /// Another member hands a command on to its leader.
    fn handle_relayed(&mut self, from: NodeId, encoded: bytes::Bytes) {
        let proposal = match Proposal::decode(&encoded) {
            Ok(proposal) => proposal,
            Err(_) => {
                self.counters.refuse("relay", "malformed");
                return;
            }
        };
        if proposal.validate().is_err() {
            self.counters.refuse("relay", "invalid");
            return;
        }
        if !self.is_leader() || self.pace.draining {
            let refused = Payload::ProposeRefused {
                request_ids: vec![proposal.request_id],
                reason: RefuseReason::NotLeader,
                leader: self.leader(),
            };
            self.outbox.push((from, Class::Normal, refused));
            return;
        }
        self.proposals.push(Queued { id: proposal.request_id, encoded, from: Some(from) });
    }

    fn handle_refused(&mut self, ids: &[fleet_state::RequestId], reason: RefuseReason) {
        for id in ids {
            match reason {
                RefuseReason::Busy | RefuseReason::Malformed => {
                    let why = "the leader has too much uncommitted; retry shortly";
                    let ended = self.waiters.refuse(id, why);
                    self.outputs.commands.extend(ended);
                }
                // It goes on to the next leader, or again after a while.
                RefuseReason::NotLeader => self.counters.refuse("relay", "not_leader"),
            }
        }
    }
}
