//! What needs more than a line of the mistakes made on purpose; see `seeded.rs`.

use bytes::Bytes;
use fleet_log::Disk;
use fleet_state::{Entry, Revision};
use raft::StateRole;

use super::{Queued, Replica};
use crate::frame::{MessageKind, RaftMessage};
use crate::log_time::Now;
use crate::seeded;
use crate::waiters::CommandEnd;

impl<D: Disk, T> Replica<D, T> {
    /// Commits what too few have, or what a majority has of an earlier term.
    pub(super) fn commit_wrongly(&mut self) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        let voters = self.conf.voters.iter();
        let mut matched: Vec<u64> = voters
            .filter_map(|voter| self.raw.raft.prs().get(voter.get()).map(|p| p.matched))
            .collect();
        matched.sort_unstable_by(|one, other| other.cmp(one));
        let quorum = match matched.len() {
            len if seeded::on("quorum-of-half") => len.div_euclid(2),
            len if seeded::on("earlier-term-committed-by-count") => len.div_euclid(2) + 1,
            _ => return,
        };
        let log = &mut self.raw.raft.raft_log;
        let index = quorum.checked_sub(1).and_then(|at| matched.get(at)).copied().unwrap_or(0);
        if index > log.committed && index <= log.last_index() {
            log.commit_to(index);
        }
    }

    /// Answers as if what was appended here could not be lost any more.
    pub(super) fn answer_when_appended(&mut self, batch: &[Queued]) {
        if !seeded::on("answered-when-appended") {
            return;
        }
        let first = self.raw.raft.raft_log.last_index() + 1 - batch.len() as u64;
        let mut state = self.state.clone();
        for (index, queued) in (first..).zip(batch) {
            let data: Bytes = Entry::encode_with(0, 0, &queued.encoded).into();
            let Ok(entry) = Entry::decode(&data) else {
                continue;
            };
            let applied = state.apply(Revision::new(index), &entry);
            let Some(answer) = applied.answer else {
                continue;
            };
            let waited = self.waiters.decide(&queued.id, &data);
            let ended = waited.into_iter();
            let ended = ended.map(|token| (token, CommandEnd::Decided(answer.clone())));
            self.outputs.commands.extend(ended);
        }
    }

    /// Lets the clock of this node into the state.
    pub(super) fn stamp_anew(mut entry: Entry, now: Now) -> Entry {
        if seeded::on("wall-clock-in-apply") {
            entry.wall_time_ms = now.wall_ms;
        }
        entry
    }

    /// Makes a message that the guard let pass say what its sender did not.
    pub(super) fn misread(&mut self, mut message: RaftMessage) -> RaftMessage {
        let raft = &mut self.raw.raft;
        match &mut message.kind {
            MessageKind::VoteResponse(answer) if seeded::on("refusal-counts-as-vote") => {
                answer.reject = false;
            }
            MessageKind::Vote(ballot) | MessageKind::PreVote(ballot)
                if seeded::on("vote-for-a-shorter-log") =>
            {
                ballot.index = raft.raft_log.last_index();
                ballot.log_term = raft.raft_log.last_term();
            }
            MessageKind::Vote(_) if seeded::on("two-votes-in-a-term") => {
                if message.term == raft.term && raft.state == StateRole::Follower {
                    raft.vote = raft::INVALID_ID;
                    raft.leader_id = raft::INVALID_ID;
                }
            }
            MessageKind::AppendResponse(_) if seeded::on("answers-of-old-terms-counted") => {
                message.term = message.term.max(raft.term);
            }
            MessageKind::Append(_) | MessageKind::Heartbeat(_)
                if seeded::on("leaders-of-old-terms-obeyed") =>
            {
                message.term = message.term.max(raft.term);
            }
            MessageKind::Append(_)
            | MessageKind::AppendResponse(_)
            | MessageKind::Heartbeat(_)
            | MessageKind::HeartbeatResponse(_)
            | MessageKind::Vote(_)
            | MessageKind::VoteResponse(_)
            | MessageKind::PreVote(_)
            | MessageKind::PreVoteResponse(_)
            | MessageKind::Snapshot(_)
            | MessageKind::TimeoutNow => {}
        }
        message
    }
}
