//! What frames from other members lead to.
//!
//! A frame is opened (sender known, seal right, not a repeat) before its content is looked
//! at; a Raft message then passes the guard before raft sees it. What is refused on the way
//! is counted and has no effect.

use fleet_log::Disk;
use fleet_state::{NodeId, Proposal};

use super::{Origin, Queued, Replica};
use crate::fault::Fault;
use crate::frame::{
    Class, MessageKind, Path, Payload, RaftMessage, RefuseReason, Refused, SnapshotEnd,
};
use crate::guard::{GuardView, Objection};
use crate::log_time::Now;
use crate::seeded;
use crate::transfer::{Chunk, Want};

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
                // No longer than members times ways, classes and what is unheard.
                if !self.heard.contains(&(opened.from, opened.arrival)) {
                    self.heard.push((opened.from, opened.arrival));
                }
                self.watch_leader(opened.from, opened.boot, now);
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
                if self.is_leader() && !self.leases.is_seized(from, now.mono_ms) {
                    self.leases.heard(from, now.mono_ms);
                    self.reads.add_remote(from, ids);
                }
            }
            Payload::ReadGrant { ids, index } => self.reads.granted(from, &ids, index),
            // The reads ask again by themselves.
            Payload::ReadRefused { .. } => {}
            Payload::SnapshotWant { id, offset, len } => {
                let len = u64::from(len);
                self.handle_want(from, &Want { id, offset, len }, now);
            }
            Payload::SnapshotChunk { id, offset, bytes, .. } => {
                self.handle_chunk(from, &Chunk { id, offset, bytes }, now)?
            }
            Payload::SnapshotDone { index, end } => self.handle_snapshot_end(from, index, end),
            Payload::SiteKeyWant => self.handle_site_key_want(from),
            Payload::SiteKeyGrant { key } => self.handle_site_key(&key),
            Payload::Digest { index, digest } => self.handle_digest(from, index, digest)?,
            Payload::TransferWant { to } => {
                if let Err(refused) = self.handle_transfer(to) {
                    tracing::debug!(%refused, from = from.get(), "a handover was asked for");
                }
            }
            Payload::Observed { bytes } => self.outputs.observed.push((from, bytes)),
            Payload::LogTimeWant { asked_ms, feature_level } => {
                self.note_level(from, feature_level);
                if self.may_tell_log_time(now)? {
                    let log_ms = self.log_time.peek(now);
                    let told = Payload::LogTimeTold { asked_ms, log_ms };
                    self.outbox.push((from, Class::Normal, told));
                }
            }
            Payload::LogTimeTold { asked_ms, log_ms } => {
                if self.leader() == Some(from) {
                    self.log_time.told(log_ms, asked_ms, self.raw.raft.term, now);
                }
            }
            Payload::Hello { .. } => {}
        }
        Ok(())
    }

    fn handle_raft(&mut self, from: NodeId, message: RaftMessage, now: Now) -> Result<(), Fault> {
        match self.check(from, &message, now) {
            Ok(()) => {}
            Err(_) if seeded::on("guard-off") => {}
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
                    self.tell_snapshot_end(from, offer.index, SnapshotEnd::Declined);
                }
                return Ok(());
            }
            Err(Objection::Quarantine(lost)) => return Err(Fault::LostLog(lost)),
        }
        #[cfg(feature = "seeded-bugs")]
        let message = self.misread(message);
        if let MessageKind::Snapshot(offer) = &message.kind {
            return self.handle_offer(from, message.term, offer, now);
        }
        let answers = matches!(
            message.kind,
            MessageKind::AppendResponse(_) | MessageKind::HeartbeatResponse(_)
        );
        if answers && self.is_leader() && message.term == self.raw.raft.term {
            self.answered_ms.insert(from, now.mono_ms);
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
        // Who relays has a state with the level that this needs; a leader that has not come there yet
        // is asked again, and one that never does has not taken anything in.
        let unfit = !self.all_read(&proposal.command);
        if unfit {
            self.counters.refuse("relay", "level");
        }
        if !self.is_leader() || self.pace.draining || unfit {
            let refused = Payload::ProposeRefused {
                request_ids: vec![proposal.request_id],
                reason: RefuseReason::NotLeader,
                leader: self.leader(),
            };
            self.outbox.push((from, Class::Normal, refused));
            return;
        }
        self.proposals.push(Queued {
            id: proposal.request_id,
            encoded,
            origin: Origin::Relayed(from),
        });
    }

    fn handle_refused(&mut self, ids: &[fleet_state::RequestId], reason: RefuseReason) {
        for id in ids {
            match reason {
                RefuseReason::Busy | RefuseReason::Malformed | RefuseReason::LowSpace => {
                    self.outputs.commands.extend(self.waiters.refuse(id, reason.why()));
                }
                // It goes on to the next leader, or again after a while.
                RefuseReason::NotLeader => self.counters.refuse("relay", "not_leader"),
            }
        }
    }
}
