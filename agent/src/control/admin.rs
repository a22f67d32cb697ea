//! Administration that isn't a command of the log: leadership and snapshots.
//!
//! Members, tokens and the number of voters are changed by commands like any other; they take
//! the way of [`super::commands`].

use std::sync::Arc;

use fleet_protocol::admin::{AdminRequest, LeaderTransferred, SnapshotFacts, Snapshots};
use fleet_protocol::{ErrorCode, Failure, Noun, reply};
use fleet_state::NodeId;

use crate::consensus::AdminError;

use super::desk::{Desk, Job};
use super::snapshots::SnapshotFile;

/// Carries one request out and answers.
pub(super) async fn serve(desk: Arc<Desk>, request: AdminRequest, job: Job) {
    let done = match request {
        AdminRequest::LeaderTransfer { to } => transfer(&desk, to, &job).await,
        AdminRequest::SnapshotTake => take(&desk, &job).await,
        AdminRequest::SnapshotInfo => info(&desk, &job).await,
    };
    match done {
        Ok(message) => desk.answer(&job, message).await,
        Err(failure) => desk.fail(&job, &failure).await,
    }
}

type Answered = Result<reply::ReplyMessage, Failure>;

async fn transfer(desk: &Desk, to: Option<NodeId>, job: &Job) -> Answered {
    if let Some(to) = to {
        check_target(desk, to)?;
    }
    let leader = desk
        .handle
        .transfer_leader(to, job.deadline)
        .await
        .map_err(|error| admin_failure(desk, &error))?;
    Ok(reply::item(&job.request_id, &LeaderTransferred { leader: leader.get() }))
}

/// Only a voter can lead; who names another one is told so.
fn check_target(desk: &Desk, to: NodeId) -> Result<(), Failure> {
    let view = desk.handle.view();
    if view.standing.voters.contains(&to) {
        return Ok(());
    }
    Err(match view.state.member(&to) {
        None => Failure::new(ErrorCode::NotFound, format!("no member has the node id {to}"))
            .about(Noun::Member),
        Some(member) => Failure::new(
            ErrorCode::Denied,
            format!("{} ({to}) does not vote, and only a voter can lead", member.name),
        )
        .with_hint("Promote it first: flotilla member promote."),
    })
}

async fn take(desk: &Desk, job: &Job) -> Answered {
    // The snapshot holds everything that was committed before it was asked for.
    desk.linearizable(job.deadline).await?;
    let taken = desk
        .handle
        .take_snapshot(job.deadline)
        .await
        .map_err(|error| admin_failure(desk, &error))?;
    let facts =
        SnapshotFacts { index: taken.index, term: taken.term, size_bytes: taken.size_bytes };
    Ok(listing(desk, job, vec![facts]))
}

async fn info(desk: &Desk, job: &Job) -> Answered {
    let snapshots = desk.snapshots.all().await.map_err(|error| {
        tracing::warn!(%error, "the snapshots could not be listed");
        Failure::new(ErrorCode::Internal, format!("the snapshots could not be listed: {error}"))
    })?;
    let facts = |snapshot: SnapshotFile| SnapshotFacts {
        index: snapshot.index,
        term: snapshot.term,
        size_bytes: snapshot.size_bytes,
    };
    Ok(listing(desk, job, snapshots.into_iter().map(facts).collect()))
}

fn listing(desk: &Desk, job: &Job, snapshots: Vec<SnapshotFacts>) -> reply::ReplyMessage {
    reply::item(&job.request_id, &Snapshots { node: desk.facts.name.to_string(), snapshots })
}

fn admin_failure(desk: &Desk, error: &AdminError) -> Failure {
    match error {
        AdminError::NotLeader(leader) => {
            let view = desk.handle.view();
            let name = leader
                .or(view.standing.leader)
                .and_then(|leader| view.state.member(&leader))
                .map_or("not known".to_owned(), |member| member.name.to_string());
            Failure::new(
                ErrorCode::NoLeader,
                format!("{} does not lead any more; the leader is {name}", desk.facts.name),
            )
        }
        AdminError::NoLeader => Failure::new(ErrorCode::NoLeader, error.to_string()),
        AdminError::NoHeir(why) => Failure::new(ErrorCode::NoHeir, why.clone()),
        AdminError::Busy(why) => Failure::new(ErrorCode::Busy, *why),
        // Another agent may have what this one lacks, so it may be sent again.
        AdminError::Failed(why) => Failure::new(ErrorCode::Internal, why.clone()),
        AdminError::Deadline => Failure::new(
            ErrorCode::Unknown,
            "it had not happened when the deadline passed; it may still happen",
        )
        .with_hint("Look at the present state: flotilla status."),
        AdminError::Stopping => Failure::new(ErrorCode::Stopping, error.to_string()),
    }
}
