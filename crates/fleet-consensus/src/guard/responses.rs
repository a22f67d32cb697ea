//! Answers. The term is at least this node's own; one above it says that the sender has moved on, and this node will.

use crate::frame::{
    AppendResponse, BallotAnswer, Beat, RaftMessage,
    limits::{INDEX_MAX, READ_CONTEXT_BYTES_MAX},
};
use crate::seeded;
use crate::status::NodeRole;

use super::{GuardView, Objection, Refusal};

/// Answers come from nodes that were asked, and only members are.
fn check_asked(message: &RaftMessage, view: &GuardView<'_>) -> Result<(), Objection> {
    if view.is_member(message.from) { Ok(()) } else { Err(Refusal::NotInConfiguration.into()) }
}

/// Whether the answer will be read by a leader, in the term that it leads in.
fn is_for_leader(message: &RaftMessage, view: &GuardView<'_>) -> bool {
    view.role == NodeRole::Leader && message.term == view.term
}

pub(super) fn check_append_response(
    message: &RaftMessage,
    response: &AppendResponse,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_asked(message, view)?;
    if !is_for_leader(message, view) {
        return Ok(());
    }
    let mut highest = response.index.max(response.commit);
    if let Some(reject) = response.reject {
        highest = highest.max(reject.hint).max(reject.request_snapshot);
        if reject.log_term > message.term {
            return Err(Refusal::ImpossibleLog.into());
        }
    }
    // A leader has everything that a follower of its term can have acknowledged or rejected. Beyond that, `raft` would
    // count entries as replicated that nobody has.
    if highest > view.last_index {
        return Err(Refusal::BeyondLog.into());
    }
    // A late rejection would set `next` at or below what is known to be equal (raft-rs#557): by its index, or by its
    // hint, for a follower never falls behind what it acknowledged. One that asks for a snapshot is a new question.
    let matched = view.matched.unwrap_or(0);
    let stale = response.reject.is_some_and(|reject| {
        reject.request_snapshot == 0 && (response.index <= matched || reject.hint < matched)
    });
    if stale && !seeded::on("late-reject-accepted") {
        Err(Refusal::StaleReject.into())
    } else {
        Ok(())
    }
}

pub(super) fn check_heartbeat_response(
    message: &RaftMessage,
    beat: &Beat,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_asked(message, view)?;
    if beat.context.len() > READ_CONTEXT_BYTES_MAX {
        return Err(Refusal::TooLarge.into());
    }
    if is_for_leader(message, view) && beat.commit > view.last_index {
        return Err(Refusal::BeyondLog.into());
    }
    Ok(())
}

pub(super) fn check_vote_response(
    message: &RaftMessage,
    answer: &BallotAnswer,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_voter_answer(message, answer, view)?;
    // A vote is given in the term that was asked for, and this node is at least there.
    if !answer.reject && message.term != view.term {
        return Err(Refusal::StaleAnswer.into());
    }
    Ok(())
}

/// A pre-vote is asked, and given, for the term after this node's own. A node that asks now would have `raft` count one
/// that was given for any other term as well.
pub(super) fn check_pre_vote_response(
    message: &RaftMessage,
    answer: &BallotAnswer,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_voter_answer(message, answer, view)?;
    let asks = view.role == NodeRole::PreCandidate;
    if asks && !answer.reject && message.term != view.term.saturating_add(1) {
        return Err(Refusal::StaleAnswer.into());
    }
    Ok(())
}

fn check_voter_answer(
    message: &RaftMessage,
    answer: &BallotAnswer,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    if !view.is_voter(message.from) {
        return Err(Refusal::NotInConfiguration.into());
    }
    if answer.commit > INDEX_MAX || answer.commit_term > message.term {
        return Err(Refusal::ImpossibleLog.into());
    }
    Ok(())
}
