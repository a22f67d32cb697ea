//! Questions to other nodes, for whoever stands at this agent's own door.
//!
//! Over NATS a question to one node, or to all, goes to its subject and needs nobody in between. At
//! the door of one agent it is passed on: over the mesh where the other is connected, else over
//! NATS. Answers come back as they were given. And what other agents pass on is answered here.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Request;
use fleet_protocol::node::{SNAPSHOT_INDEX_HEADER, SNAPSHOT_OFFSET_HEADER, SNAPSHOT_SIZE_HEADER};
use fleet_protocol::reply::{ReplyMessage, SERVICE_ERROR_CODE_HEADER, SERVICE_ERROR_HEADER};
use fleet_protocol::{ErrorCode, Failure, NodeRequest, NodeVerb, Noun};
use fleet_state::{Member, NodeId, NodeName, Role};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::mesh::{Question, Told};

use super::answers::{Answers, Said};
use super::desk::{Desk, Job};

/// How long another node may take; what is asked is answered from memory or by one read.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// Nodes that are asked at a time.
const ASKED_MAX: usize = 16;
/// The headers that an answer may have.
const HEADERS: [&str; 5] = [
    SNAPSHOT_INDEX_HEADER,
    SNAPSHOT_OFFSET_HEADER,
    SNAPSHOT_SIZE_HEADER,
    SERVICE_ERROR_HEADER,
    SERVICE_ERROR_CODE_HEADER,
];

/// Passes a question on to one node.
pub(super) async fn serve_one(desk: Arc<Desk>, name: NodeName, request: NodeRequest, job: Job) {
    let node = live_members(&desk).into_iter().find(|(_, held)| *held == name);
    let until = job.deadline.min(Instant::now() + answer_wait(&request));
    let answer = ask(&desk, node.as_ref().map(|(id, _)| *id), &name, &request, until).await;
    match (answer, node) {
        (Some(message), _) => desk.answer(&job, message).await,
        (None, Some(_)) => {
            let what = format!("node {name} can't be reached, neither over the mesh nor over NATS");
            desk.fail(&job, &Failure::new(ErrorCode::Unreachable, what)).await;
        }
        (None, None) => {
            let what = format!("no member is called {name}");
            desk.fail(&job, &Failure::new(ErrorCode::NotFound, what).about(Noun::Member)).await;
        }
    }
}

/// Passes a question on to all nodes; each answer is a page of its own, this node's the first.
pub(super) async fn serve_all(desk: Arc<Desk>, request: NodeRequest, job: Job) {
    if let Some(mine) = answer(&desk, request.verb(), &request.to_payload()).await {
        job.answers.page(mine).await;
    }
    let members = live_members(&desk).into_iter().filter(|(node, _)| *node != desk.facts.id);
    let asked = futures_util::stream::iter(members).map(|(node, name)| {
        let (desk, request) = (&desk, &request);
        let until = job.deadline.min(Instant::now() + answer_wait(request));
        async move { ask(desk, Some(node), &name, request, until).await }
    });
    let mut told = std::pin::pin!(asked.buffer_unordered(ASKED_MAX));
    loop {
        tokio::select! {
            told = told.next() => match told {
                Some(Some(message)) => {
                    if !job.answers.page(message).await { return }
                }
                Some(None) => {}
                None => return,
            },
            () = job.answers.gone() => return,
        }
    }
}

fn live_members(desk: &Desk) -> Vec<(NodeId, NodeName)> {
    let view = desk.handle.view();
    let live = |member: &&Arc<Member>| member.role != Role::Removed;
    view.state.members().filter(live).map(|member| (member.id, member.name.clone())).collect()
}

/// How long a node may take for its answer.
fn answer_wait(request: &NodeRequest) -> Duration {
    match request {
        NodeRequest::Look(look) => Duration::from_millis(look.within_ms),
        NodeRequest::Status
        | NodeRequest::SnapshotChunk { .. }
        | NodeRequest::Mesh
        | NodeRequest::Partition
        | NodeRequest::Ping { .. } => ANSWER_WAIT,
    }
}

/// Asks another node; `None` when it gives no answer.
pub(super) async fn ask(
    desk: &Desk,
    node: Option<NodeId>,
    name: &NodeName,
    request: &NodeRequest,
    until: Instant,
) -> Option<ReplyMessage> {
    if let (Some(node), Some(mesh)) = (node, &desk.mesh.mesh) {
        let payload = request.to_payload().into();
        let question = Question { verb: request.verb().as_str().to_owned(), payload };
        // A connection that has just died still looks like one: NATS gets its time, too.
        let mesh_until = if desk.nats.as_ref().is_some_and(|nats| nats.is_connected()) {
            halfway(Instant::now(), until)
        } else {
            until
        };
        if let Ok(Ok(told)) = timeout_at(mesh_until, mesh.ask(node, &question)).await {
            return Some(message_of(told));
        }
    }
    let nats = desk.nats.as_ref().filter(|nats| nats.is_connected())?;
    let asked = Request::new().payload(request.to_payload().into()).timeout(None);
    let sent = nats.client.send_request(desk.subjects.node(name, request.verb()), asked);
    let message = timeout_at(until, sent).await.ok()?.ok()?;
    let headers = message.headers.unwrap_or_default();
    let held = |name: &&'static str| Some((*name, headers.get(*name)?.as_str().to_owned()));
    Some(ReplyMessage {
        headers: HEADERS.iter().filter_map(held).collect(),
        payload: message.payload.to_vec(),
    })
}

fn halfway(now: Instant, until: Instant) -> Instant {
    now + until.saturating_duration_since(now) / 2
}

fn message_of(told: Told) -> ReplyMessage {
    let Told { mut headers, payload } = told;
    let held = |name: &&'static str| headers.remove_entry(*name).map(|(_, value)| (*name, value));
    ReplyMessage { headers: HEADERS.iter().filter_map(held).collect(), payload: payload.to_vec() }
}

/// Answers what other nodes pass on over the mesh, as long as the process lives.
pub(super) async fn answer_mesh(desk: Arc<Desk>) {
    let Some(mesh) = desk.mesh.mesh.clone() else { return std::future::pending().await };
    let answering = mesh.answer(move |question| {
        let desk = Arc::clone(&desk);
        async move { told(&desk, question).await }
    });
    match answering {
        Ok(answering) => answering.await,
        Err(error) => tracing::warn!(%error, "questions of other nodes are not answered"),
    }
    // The swarm has ended; the process is ending.
    std::future::pending().await
}

async fn told(desk: &Arc<Desk>, question: Question) -> Option<Told> {
    let verb = NodeVerb::from_name(&question.verb)?;
    let message = answer(desk, verb, &question.payload).await?;
    let headers =
        message.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Some(Told { headers, payload: message.payload.into() })
}

/// This node's own answer, through the desk and its bounds like any other.
async fn answer(desk: &Arc<Desk>, verb: NodeVerb, payload: &[u8]) -> Option<ReplyMessage> {
    let (answers, mut said) = mpsc::channel(1);
    let subject = desk.subjects.node(&desk.facts.name, verb);
    let arrival = desk.understand(&subject, payload, std::iter::empty());
    desk.take(&desk.lanes.node, arrival, Answers::Local(answers)).await;
    match said.recv().await? {
        Said::Last(message) | Said::Page(message) => Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_leaves_time_for_the_other() {
        let now = Instant::now();
        let later = Duration::from_secs(3);
        assert_eq!(halfway(now, now + later), now + later / 2);
        assert_eq!(halfway(now + later, now), now + later, "it was late already");
    }
}
