//! Commands: handed to the consensus loop in the order of their arrival, answered when decided.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::request::CommandRequest;
use fleet_protocol::{CommandTarget, ErrorCode, Failure, Stage, event};
use fleet_state::{Answer, Command, NodeId, Outcome};

use crate::consensus::Submitted;
use crate::metrics::CommandCounters;

use super::desk::{Desk, Job};

/// Hands a command over; its answer is awaited in a task of its own.
///
/// The first poll of `submit` puts the command into the loop's queue. It is done here, before the
/// next message is looked at, so two commands of one client keep their order on this agent.
pub(super) async fn hand_over(desk: Arc<Desk>, request: CommandRequest, job: Job) {
    let CommandRequest { proposal, target, .. } = request;
    let joins = matches!(proposal.command, Command::Join(_));
    let mut submitted = {
        let desk = Arc::clone(&desk);
        let deadline = job.deadline;
        Box::pin(async move { desk.handle.submit(proposal, deadline).await })
    };
    match poll_fn(|cx| Poll::Ready(submitted.as_mut().poll(cx))).await {
        Poll::Ready(end) => finish(&desk, end, target.as_ref(), &job).await,
        Poll::Pending => {
            tokio::spawn(async move {
                let end = submitted.await;
                if let (true, Some(node)) = (joins, joined(&end)) {
                    certified(&desk, node, &job).await;
                }
                finish(&desk, end, target.as_ref(), &job).await;
            });
        }
    }
}

/// Answers, or tells the outcome as an event when nobody waits for it.
async fn finish(desk: &Desk, end: Submitted, target: Option<&CommandTarget>, job: &Job) {
    desk.metrics.command_seconds.observe(job.permit.elapsed().as_secs_f64());
    let (message, error) = message_of(&end, job, &desk.metrics.commands);
    if let Some(code) = error {
        job.lane.note_error(code.as_str());
    }
    match (&job.reply_to, target) {
        (Some(to), _) => desk.outbox.reply(to, message).await,
        (None, Some(target)) => {
            let payload = event::outcome(target, &message);
            let subject = desk.subjects.outcome_event(target);
            let message = ReplyMessage { headers: Vec::new(), payload };
            desk.outbox.publish(subject.into(), message).await;
        }
        (None, None) => {}
    }
}

/// The reply to an end, counted.
fn message_of(
    end: &Submitted,
    job: &Job,
    counters: &CommandCounters,
) -> (ReplyMessage, Option<ErrorCode>) {
    let (counter, failure) = match end {
        Submitted::Decided(answer) => return decided(answer, job, counters),
        Submitted::Busy { why } => (&counters.busy, Failure::new(ErrorCode::Busy, *why)),
        Submitted::NoLeader => (
            &counters.no_leader,
            Failure::new(ErrorCode::NoLeader, "no leader was known until the deadline"),
        ),
        Submitted::Unknown => (
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

fn decided(
    answer: &Answer,
    job: &Job,
    counters: &CommandCounters,
) -> (ReplyMessage, Option<ErrorCode>) {
    let (counter, error) = match &answer.outcome {
        Outcome::Accepted(_) => (&counters.accepted, None),
        Outcome::Unchanged => (&counters.unchanged, None),
        Outcome::Rejected(rejection) => (&counters.rejected, Some(rejection.code.into())),
    };
    counter.inc();
    // What lies beyond the commit is told by the owner of the device's link; as long as none
    // drives it, a command gets as far as `committed`, and that is what the reply says.
    (reply::answered(&job.request_id, answer, Stage::Committed), error)
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
