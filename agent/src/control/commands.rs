//! Commands: handed to the consensus loop in the order of their arrival, answered when decided.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use fleet_protocol::reply::{self, Beside, ReplyMessage};
use fleet_protocol::request::CommandRequest;
use fleet_protocol::{CommandTarget, ErrorCode, Failure, Noun, WaitFor};
use fleet_state::{
    Answer, Command, FleetState, NodeId, Outcome, Proposal, Rejection, Revision, Stage,
};

use crate::consensus::Submitted;
use crate::metrics::CommandCounters;

use super::checks;
use super::desk::{Desk, Job};
use super::stages::OnItsWay;

/// What a command is about, kept for its answer.
struct About {
    target: Option<CommandTarget>,
    noun: Option<Noun>,
    wait: WaitFor,
}

/// Hands a command over; its answer is awaited in a task of its own.
///
/// The first poll of `submit` puts the command into the loop's queue. It is done here, before the
/// next message is looked at, so two commands of one client keep their order on this agent.
pub(super) async fn hand_over(desk: Arc<Desk>, request: CommandRequest, job: Job) {
    let CommandRequest { proposal, target, noun, wait } = request;
    let about = About { target, noun, wait };
    if let Err(failure) =
        checks::check(&desk.connectors, &desk.handle.view().state, &proposal.command)
    {
        return desk.fail(&job, &failure).await;
    }
    if matches!(proposal.command, Command::Join(_)) {
        tokio::spawn(join(desk, proposal, about, job));
        return;
    }
    let mut submitted = {
        let desk = Arc::clone(&desk);
        let deadline = job.deadline;
        Box::pin(async move { desk.handle.submit(proposal, deadline).await })
    };
    match poll_fn(|cx| Poll::Ready(submitted.as_mut().poll(cx))).await {
        Poll::Ready(end) if about.wait == WaitFor::Committed => {
            finish(&desk, end, &about, &job).await;
        }
        Poll::Ready(end) => {
            tokio::spawn(async move { finish(&desk, end, &about, &job).await });
        }
        Poll::Pending => {
            tokio::spawn(async move {
                let end = submitted.await;
                finish(&desk, end, &about, &job).await;
            });
        }
    }
}

/// Lets a node join. Anybody may ask, so what would be refused is refused before it costs the log
/// an entry and the memory of request ids a place.
async fn join(desk: Arc<Desk>, proposal: Proposal, about: About, job: Job) {
    let view = match desk.linearizable(job.deadline).await {
        Ok(view) => view,
        Err(failure) => return desk.fail(&job, &failure).await,
    };
    if let Command::Join(request) = &proposal.command
        && let Some(Rejection { code, message }) =
            view.state.join_refusal(&proposal.request_id, request)
    {
        return desk.fail(&job, &Failure::new(code.into(), message)).await;
    }
    let end = desk.handle.submit(proposal, job.deadline).await;
    if let Some(node) = joined(&end) {
        certified(&desk, node, &job).await;
    }
    finish(&desk, end, &about, &job).await;
}

/// Answers; where nobody waits for it, that is an event.
async fn finish(desk: &Desk, end: Submitted, about: &About, job: &Job) {
    desk.metrics.command_seconds.observe(job.permit.elapsed().as_secs_f64());
    let (message, error) = match &end {
        Submitted::Decided(answer) => decided(desk, answer, about, job).await,
        Submitted::Busy { .. } | Submitted::NoLeader | Submitted::Unknown | Submitted::Stopping => {
            undecided(&end, job, &desk.metrics.commands)
        }
    };
    if let Some(code) = error {
        job.lane.note_error(code.as_str());
    }
    match end {
        Submitted::Decided(_) | Submitted::Unknown => desk.answer(job, message).await,
        // The log has not seen it.
        Submitted::Busy { .. } | Submitted::NoLeader | Submitted::Stopping => {
            job.answers.refusal(message).await;
        }
    }
}

/// The reply to an end that the log knows nothing of, counted.
fn undecided(
    end: &Submitted,
    job: &Job,
    counters: &CommandCounters,
) -> (ReplyMessage, Option<ErrorCode>) {
    let (counter, failure) = match end {
        Submitted::Busy { why } => (&counters.busy, Failure::new(ErrorCode::Busy, *why)),
        Submitted::NoLeader => (
            &counters.no_leader,
            Failure::new(ErrorCode::NoLeader, "no leader was known until the deadline"),
        ),
        Submitted::Unknown | Submitted::Decided(_) => (
            &counters.unknown,
            Failure::new(
                ErrorCode::Unknown,
                "the deadline passed before the site had decided; it may still take effect",
            ),
        ),
        Submitted::Stopping => {
            (&counters.stopping, Failure::new(ErrorCode::Stopping, "this agent is stopping"))
        }
    };
    counter.inc();
    (reply::failed(Some(&job.request_id), &failure), Some(failure.code))
}

/// The reply to what the log decided, counted.
async fn decided(
    desk: &Desk,
    answer: &Answer,
    about: &About,
    job: &Job,
) -> (ReplyMessage, Option<ErrorCode>) {
    let counters = &desk.metrics.commands;
    let (counter, error) = match &answer.outcome {
        Outcome::Accepted(_) => (&counters.accepted, None),
        Outcome::Unchanged => (&counters.unchanged, None),
        Outcome::Rejected(rejection) => (&counters.rejected, Some(rejection.code.into())),
    };
    counter.inc();
    let thing_revision = thing_revision(&desk.handle.view().state, answer, about.target.as_ref());
    let (stage, detail) = on_its_way(desk, answer, about, job).await;
    let beside = Beside { stage, detail, thing_revision, noun: about.noun };
    (reply::answered(&job.request_id, answer, beside), error)
}

/// How far a command got that was decided, after waiting as its sender wants.
async fn on_its_way(
    desk: &Desk,
    answer: &Answer,
    about: &About,
    job: &Job,
) -> (Stage, Option<String>) {
    let accepted = matches!(answer.outcome, Outcome::Accepted(_));
    let target = about.target.as_ref().filter(|_| accepted && about.wait != WaitFor::Committed);
    let way = target.and_then(|target| OnItsWay::of(target, &job.request_id, answer.revision));
    match way {
        Some(way) => way.reached(desk, about.wait, job.deadline).await,
        None => (Stage::Committed, None),
    }
}

/// The revision that the thing of a command had when it was answered.
///
/// The view is at least as new as the answer. Where the thing has changed again since, it is not
/// told: a condition on that revision would pass over a change that nobody has seen.
fn thing_revision(
    state: &FleetState,
    answer: &Answer,
    target: Option<&CommandTarget>,
) -> Option<Revision> {
    let target = target.filter(|target| target.leaves_thing())?;
    match &answer.outcome {
        Outcome::Accepted(_) => Some(answer.revision),
        Outcome::Unchanged => {
            let held = state.record(&target.entity()?)?.revision();
            (held <= answer.revision).then_some(held)
        }
        Outcome::Rejected(_) => None,
    }
}

/// The node id given to a joiner.
fn joined(end: &Submitted) -> Option<NodeId> {
    match end {
        Submitted::Decided(Answer { outcome: Outcome::Accepted(accepted), .. }) => accepted.node,
        Submitted::Decided(_)
        | Submitted::Busy { .. }
        | Submitted::NoLeader
        | Submitted::Unknown
        | Submitted::Stopping => None,
    }
}

/// A joiner can do nothing without its credential, which the leader adds a moment later: its
/// answer waits for that, at most until its deadline.
async fn certified(desk: &Desk, node: NodeId, job: &Job) {
    let mut views = desk.handle.watch_view();
    let has_credential = views.wait_for(|view| {
        view.state.member(&node).is_some_and(|member| member.credential.is_some())
    });
    if tokio::time::timeout_at(job.deadline, has_credential).await.is_err() {
        tracing::warn!(node = node.get(), "a joiner has no credential yet; is the site key here?");
    }
}
