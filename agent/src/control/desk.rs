//! Where a message becomes a request, and a request goes to the one who serves it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subject};
use fleet_consensus::View;
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::request::{self, Action, Incoming, Refused, Request};
use fleet_protocol::{ErrorCode, Failure, Subjects, reply_subject};
use fleet_state::RequestId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::consensus::{Handle, ReadError};
use crate::metrics::Metrics;
use crate::nats::LinkState;

use super::elsewhere::Elsewhere;
use super::judge::{LEADERLESS_MS_MAX, leaderless_ms};
use super::lanes::{Lane, Lanes, Permit};
use super::outbox::Outbox;
use super::request_ids::RequestIds;
use super::snapshots::SnapshotList;
use super::{ControlContext, IntakeState, NodeFacts};
use super::{admin, changes, commands, node, queries};

/// What every lane works with; shared, without a lock.
#[derive(Debug)]
pub(super) struct Desk {
    pub client: Client,
    pub connection: watch::Receiver<LinkState>,
    pub handle: Handle,
    pub facts: NodeFacts,
    pub snapshots: SnapshotList,
    pub metrics: Metrics,
    pub subjects: Subjects,
    pub outbox: Outbox,
    pub lanes: Lanes,
    pub intake: watch::Sender<IntakeState>,
    /// Whether the lane of commands is open; told in status.
    pub takes_commands: AtomicBool,
    /// Whether a leader was known since the start.
    pub met_leader: AtomicBool,
    /// Whether another site was heard of under the same name.
    pub foreign: watch::Sender<bool>,
    /// A leader that this node only hears of.
    pub elsewhere: watch::Sender<Option<Elsewhere>>,
    pub started: Instant,
    request_ids: RequestIds,
}

/// A request under way: what its server needs beside the action.
#[derive(Debug)]
pub(super) struct Job {
    pub request_id: RequestId,
    /// Where the answer goes; checked.
    pub reply_to: Option<Subject>,
    /// Until when somebody waits.
    pub deadline: Instant,
    pub lane: Arc<Lane>,
    pub permit: Permit,
}

impl Desk {
    pub(super) fn new(context: ControlContext) -> Self {
        let ControlContext { client, connection, handle, node, snapshots, metrics } = context;
        Self {
            subjects: super::subjects_of(&node),
            outbox: Outbox::new(client.clone(), metrics.clone()),
            lanes: Lanes::new(),
            intake: watch::Sender::new(IntakeState::NoLeader),
            takes_commands: AtomicBool::new(false),
            met_leader: AtomicBool::new(false),
            foreign: watch::Sender::new(false),
            elsewhere: watch::Sender::new(None),
            started: Instant::now(),
            request_ids: RequestIds::new(),
            client,
            connection,
            handle,
            facts: node,
            snapshots,
            metrics,
        }
    }

    /// Takes one message in. It waits for nothing but room in the client's queue, so messages of
    /// one lane are taken in, and commands handed over, in the order in which they came.
    pub(super) async fn receive(self: &Arc<Self>, lane: &Arc<Lane>, message: Message) {
        let now = Instant::now();
        let Some(reply_to) = self.checked_reply(lane, message.reply.clone()) else { return };
        let permit = lane.admit();
        let request = match self.parse(&message) {
            Ok(request) => request,
            Err(Refused { request_id, failure }) => {
                tracing::debug!(
                    surface = lane.surface,
                    code = failure.code.as_str(),
                    subject = message.subject.as_str(),
                    reason = failure.message,
                    "a message was refused"
                );
                return self.refuse(lane, reply_to.as_ref(), request_id.as_ref(), &failure).await;
            }
        };
        let Some(permit) = permit else {
            let failure = Failure::new(
                ErrorCode::Busy,
                "this agent is working on as many requests of this kind as it may",
            );
            return self.refuse(lane, reply_to.as_ref(), Some(&request.request_id), &failure).await;
        };
        if let Some(failure) = self.closed_for(lane) {
            return self.refuse(lane, reply_to.as_ref(), Some(&request.request_id), &failure).await;
        }
        let job = Job {
            request_id: request.request_id,
            reply_to,
            deadline: now + Duration::from_millis(request.timeout_ms),
            lane: Arc::clone(lane),
            permit,
        };
        self.assign(request.action, job).await;
    }

    /// Why a message that comes while its lane is being left is not served: it would only wait here
    /// until its deadline, and another agent may help at once.
    fn closed_for(&self, lane: &Lane) -> Option<Failure> {
        let decided = [&self.lanes.commands, &self.lanes.admin];
        let decides = decided.iter().any(|held| std::ptr::eq(Arc::as_ptr(held), lane));
        match *self.intake.borrow() {
            IntakeState::Removed if !std::ptr::eq(Arc::as_ptr(&self.lanes.node), lane) => {
                let message = "this agent was removed from the site and takes no more requests";
                Some(Failure::new(ErrorCode::Stopping, message))
            }
            IntakeState::NoLeader | IntakeState::Reading if decides => {
                Some(read_failure(ReadError::NoLeader))
            }
            // An agent that stops decides what it still takes in.
            IntakeState::NoLeader
            | IntakeState::Reading
            | IntakeState::Removed
            | IntakeState::Serving
            | IntakeState::ForeignSite
            | IntakeState::Stopped => None,
        }
    }

    /// Commands are handed over here and now; the rest gets a task, since it may take its time.
    async fn assign(self: &Arc<Self>, action: Action, job: Job) {
        let desk = Arc::clone(self);
        match action {
            Action::Command(command) => commands::hand_over(desk, command, job).await,
            Action::Query(query) => {
                tokio::spawn(queries::serve(desk, query, job));
            }
            Action::Changes(request) => {
                tokio::spawn(changes::serve(desk, request, job));
            }
            Action::Admin(request) => {
                tokio::spawn(admin::serve(desk, request, job));
            }
            Action::Node(request) => {
                tokio::spawn(node::serve(desk, request, job));
            }
        }
    }

    fn parse(&self, message: &Message) -> Result<Request, Refused> {
        let incoming = Incoming { subject: message.subject.as_str(), payload: &message.payload };
        let fallback = self.request_ids.next();
        let name = &self.facts.name;
        match &message.headers {
            None => request::parse(&self.subjects, name, incoming, std::iter::empty(), fallback),
            Some(headers) => {
                request::parse(&self.subjects, name, incoming, each_header(headers), fallback)
            }
        }
    }

    /// `None` when the message must not be answered to, and so not be served either: whoever sends
    /// it wants the agent to publish something somewhere with the agent's rights.
    fn checked_reply(&self, lane: &Lane, reply: Option<Subject>) -> Option<Option<Subject>> {
        match reply {
            None => Some(None),
            Some(reply) => match reply_subject::check(reply.as_str()) {
                Ok(()) => Some(Some(reply)),
                Err(error) => {
                    self.metrics.refuse(lane.surface, "reply_subject");
                    tracing::debug!(surface = lane.surface, reply = reply.as_str(), %error, "refused");
                    None
                }
            },
        }
    }

    async fn refuse(
        &self,
        lane: &Lane,
        reply_to: Option<&Subject>,
        request_id: Option<&RequestId>,
        failure: &Failure,
    ) {
        self.metrics.refuse(lane.surface, failure.code.as_str());
        lane.note_error(failure.code.as_str());
        if let Some(to) = reply_to {
            self.outbox.reply(to, reply::failed(request_id, failure)).await;
        }
    }

    /// A view that holds everything committed before now. Who has had no leader for a while says
    /// so at once: waiting would only keep the client from asking somebody else.
    pub(super) async fn linearizable(&self, deadline: Instant) -> Result<Arc<View>, Failure> {
        if leaderless_ms(self) >= LEADERLESS_MS_MAX {
            return Err(read_failure(ReadError::NoLeader));
        }
        self.handle.linearizable(deadline).await.map_err(read_failure)
    }

    /// Answers a job, if anybody waits for it.
    pub(super) async fn answer(&self, job: &Job, message: ReplyMessage) {
        if let Some(to) = &job.reply_to {
            self.outbox.reply(to, message).await;
        }
    }

    /// Answers a job with a failure.
    pub(super) async fn fail(&self, job: &Job, failure: &Failure) {
        self.metrics.refuse(job.lane.surface, failure.code.as_str());
        job.lane.note_error(failure.code.as_str());
        self.answer(job, reply::failed(Some(&job.request_id), failure)).await;
    }
}

fn each_header(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    })
}

/// A failed read as it is told to the one who asked.
fn read_failure(error: ReadError) -> Failure {
    let code = match error {
        ReadError::NoLeader => ErrorCode::NoLeader,
        // A read changes nothing, so one that ran out of time simply didn't happen.
        ReadError::Deadline | ReadError::Busy => ErrorCode::Busy,
        ReadError::Stopping => ErrorCode::Stopping,
    };
    Failure::new(code, error.to_string())
}
