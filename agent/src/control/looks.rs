//! Looking along links: any agent is asked, the owner of the link answers.

use std::sync::Arc;

use fleet_consensus::View;
use fleet_protocol::look::{self, LookQuery, Looked, NodeLook};
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{Consistency, ErrorCode, Failure, NodeRequest, Noun};
use fleet_state::{LinkId, NodeId, NodeName};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::device::LookPage;

use super::desk::{Desk, Job};
use super::{others, queries};

/// What a question between agents holds at most, whichever way it takes.
const ANSWER_BYTES_MAX: usize = 192 * 1024;

/// Answers one query.
pub(super) async fn serve(desk: Arc<Desk>, query: LookQuery, job: Job) {
    match answer(&desk, query, &job).await {
        Ok(message) => {
            desk.metrics.queries.inc();
            desk.answer(&job, message).await;
        }
        Err(failure) => desk.fail(&job, &failure).await,
    }
}

async fn answer(desk: &Desk, query: LookQuery, job: &Job) -> Result<ReplyMessage, Failure> {
    let LookQuery { request, consistency } = query;
    let view = match consistency {
        Consistency::Stale => desk.handle.view(),
        Consistency::Linearizable => desk.linearizable(job.deadline).await?,
    };
    let mark = queries::mark(desk, &view, consistency);
    let (owner, name) = owner(&view, &request.link)?;
    let left = job.deadline.saturating_duration_since(Instant::now());
    let asked = NodeLook {
        request,
        within_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
        size_bytes_max: queries::page_bytes_max(job).min(ANSWER_BYTES_MAX),
    };
    let looked = if owner == desk.facts.id {
        desk.lookout.look(&asked).await?
    } else {
        elsewhere(desk, (owner, &name), asked, job).await?
    };
    Ok(look::answer(&job.request_id, mark, &looked))
}

/// The node that stands where the link is.
fn owner(view: &View, id: &LinkId) -> Result<(NodeId, NodeName), Failure> {
    let link = view.state.link(id).ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("link {id} does not exist")).about(Noun::Link)
    })?;
    let owner = link.owner.and_then(|owner| view.state.member(&owner));
    let owner = owner.ok_or_else(|| {
        let what = format!("link {id} has no owner that could look");
        Failure::new(ErrorCode::Unreachable, what)
            .with_hint(format!("See where it may be: flotilla link get {id}."))
    })?;
    Ok((owner.id, owner.name.clone()))
}

async fn elsewhere(
    desk: &Desk,
    (owner, name): (NodeId, &NodeName),
    asked: NodeLook,
    job: &Job,
) -> Result<LookPage, Failure> {
    let request = NodeRequest::Look(asked);
    let told = others::ask(desk, Some(owner), name, &request, job.deadline).await;
    let told = told.ok_or_else(|| {
        let what = format!("the link's owner, {name}, gave no answer");
        Failure::new(ErrorCode::Unreachable, what)
    })?;
    match reply::read_item::<Looked<Box<RawValue>>>(&told.payload) {
        Ok(Ok(looked)) => Ok(looked),
        Ok(Err(failed)) => {
            let code = failed.error.code().unwrap_or(ErrorCode::Internal);
            Err(Failure::new(code, failed.error.message).with_hint(failed.error.hint))
        }
        Err(error) => Err(Failure::new(ErrorCode::Internal, format!("{name}: {error}"))),
    }
}
