//! Where a message becomes a request, and a request goes to the one who serves it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fleet_consensus::View;
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::request::{self, Action, Incoming, Refused, Request};
use fleet_protocol::{ErrorCode, Failure, Subjects};
use fleet_state::{RequestId, Revision};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::consensus::{Handle, ReadError};
use crate::device::connectors::Connectors;
use crate::device::local::LocalHandle;
use crate::device::{Lookout, ObservedTable};
use crate::metrics::Metrics;
use crate::transport::WaySwitch;

use super::answers::Answers;
use super::aside::Aside;
use super::elsewhere::Elsewhere;
use super::feed::LISTENERS_MAX;
use super::judge::{LEADERLESS_MS_MAX, leaderless_ms};
use super::lanes::{Lane, Lanes, Permit};
use super::mesh::MeshSource;
use super::nats_door::NatsDoor;
use super::request_ids::RequestIds;
use super::snapshots::SnapshotList;
use super::{ControlContext, IntakeState, NodeFacts};
use super::{admin, changes, commands, looks, node, queries};

/// What every lane works with; shared, without a lock.
#[derive(Debug)]
pub(super) struct Desk {
    /// The door over NATS, where there is one.
    pub nats: Option<Arc<NatsDoor>>,
    pub handle: Handle,
    pub facts: NodeFacts,
    /// What is known of devices.
    pub observed: ObservedTable,
    /// What is written here without a majority.
    pub local: LocalHandle,
    pub connectors: Connectors,
    /// What looks along the links of this node.
    pub lookout: Lookout,
    pub snapshots: SnapshotList,
    pub mesh: MeshSource,
    pub metrics: Metrics,
    pub subjects: Subjects,
    pub lanes: Lanes,
    /// Where what grows with the state is looked at.
    pub aside: Aside,
    /// Places of those who listen to events at the local door.
    pub listeners: Arc<Semaphore>,
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

/// A message that was read.
#[derive(Debug)]
pub(super) struct Arrival {
    at: Instant,
    parsed: Result<Request, Refused>,
}

/// A request under way: what its server needs beside the action.
#[derive(Debug)]
pub(super) struct Job {
    pub request_id: RequestId,
    /// Where its answers go.
    pub answers: Answers,
    /// Until when somebody waits.
    pub deadline: Instant,
    pub lane: Arc<Lane>,
    pub permit: Permit,
}

impl Desk {
    pub(super) fn new(context: ControlContext) -> (Self, mpsc::Receiver<WaySwitch>) {
        let ControlContext {
            nats,
            handle,
            node,
            snapshots,
            mesh,
            switches,
            observed,
            local,
            connectors,
            lookout,
            metrics,
        } = context;
        let desk = Self {
            subjects: super::subjects_of(&node),
            nats: nats.map(|connection| Arc::new(NatsDoor::new(connection, metrics.clone()))),
            lanes: Lanes::new(&metrics.in_flight),
            aside: Aside::default(),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            intake: watch::Sender::new(IntakeState::NoLeader),
            takes_commands: AtomicBool::new(false),
            met_leader: AtomicBool::new(false),
            foreign: watch::Sender::new(false),
            elsewhere: watch::Sender::new(None),
            started: Instant::now(),
            request_ids: RequestIds::new(),
            handle,
            facts: node,
            observed,
            local,
            connectors,
            lookout,
            snapshots,
            mesh,
            metrics,
        };
        (desk, switches)
    }

    /// Understands a message, whichever door it came through.
    pub(super) fn understand<'h>(
        &self,
        subject: &str,
        payload: &[u8],
        headers: impl Iterator<Item = (&'h str, &'h str)>,
    ) -> Arrival {
        let at = Instant::now();
        let fallback = self.request_ids.next();
        let incoming = Incoming { subject, payload };
        let parsed = request::parse(&self.subjects, &self.facts.name, incoming, headers, fallback);
        Arrival { at, parsed }
    }

    /// An id for a request that brought none.
    pub(super) fn next_request_id(&self) -> RequestId {
        self.request_ids.next()
    }

    /// Takes a request in. It waits for nothing but room on the way out, so requests of one lane
    /// are taken in, and commands handed over, in the order in which they came.
    pub(super) async fn take(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        arrival: Arrival,
        answers: Answers,
    ) {
        if let Some((action, job)) = self.admit(lane, arrival, answers).await {
            self.assign(action, job).await;
        }
    }

    /// The request as it is to be served, if it is; who sent it was told otherwise.
    pub(super) async fn admit(
        &self,
        lane: &Arc<Lane>,
        arrival: Arrival,
        answers: Answers,
    ) -> Option<(Action, Job)> {
        let permit = lane.admit();
        let request = match arrival.parsed {
            Ok(request) => request,
            Err(Refused { request_id, failure }) => {
                self.refuse(lane, &answers, request_id.as_ref(), &failure).await;
                return None;
            }
        };
        let Some(permit) = permit else {
            let failure = Failure::new(
                ErrorCode::Busy,
                "this agent is working on as many requests of this kind as it may",
            );
            self.refuse(lane, &answers, Some(&request.request_id), &failure).await;
            return None;
        };
        if let Some(failure) = self.closed_for(lane, &answers) {
            self.refuse(lane, &answers, Some(&request.request_id), &failure).await;
            return None;
        }
        let job = Job {
            request_id: request.request_id,
            answers,
            deadline: arrival.at + Duration::from_millis(request.timeout_ms),
            lane: Arc::clone(lane),
            permit,
        };
        Some((request.action, job))
    }

    /// Why a message that comes while its lane is being left is not served: it would only wait here
    /// until its deadline, and another agent may help at once.
    fn closed_for(&self, lane: &Lane, answers: &Answers) -> Option<Failure> {
        let is = |held: &Arc<Lane>| std::ptr::eq(Arc::as_ptr(held), lane);
        let decides = is(&self.lanes.commands) || is(&self.lanes.admin);
        match *self.intake.borrow() {
            IntakeState::Removed if !is(&self.lanes.node) => {
                let message = "this agent was removed from the site and takes no more requests";
                Some(Failure::new(ErrorCode::Stopping, message))
            }
            IntakeState::NoLeader | IntakeState::Reading if decides => {
                Some(read_failure(self.without_leader()))
            }
            // Over NATS another agent takes it; at the local door nobody else hears it.
            IntakeState::Stopped if answers.are_local() => {
                Some(Failure::new(ErrorCode::Stopping, "this agent is stopping"))
            }
            // There is nothing of the site here yet, which is not the same as an empty site.
            IntakeState::NoLeader if answers.are_local() && !is(&self.lanes.node) => {
                let blank = self.handle.view().applied == Revision::NONE;
                blank.then(|| read_failure(ReadError::NoLeader))
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

    /// The lane of a request that came through the local door; over NATS a subscription says it.
    pub(super) fn lane_of(&self, subject: &str) -> &Arc<Lane> {
        let lanes = &self.lanes;
        match self.subjects.area_of(subject) {
            Some("commands") => &lanes.commands,
            Some("admin") => &lanes.admin,
            Some("changes") => &lanes.changes,
            Some("node" | "all") => &lanes.node,
            // What is not understood is refused, and counted where reading is.
            Some(_) | None => &lanes.query,
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
            Action::Look(query) => {
                tokio::spawn(looks::serve(desk, query, job));
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

    async fn refuse(
        &self,
        lane: &Lane,
        answers: &Answers,
        request_id: Option<&RequestId>,
        failure: &Failure,
    ) {
        let (surface, code) = (lane.surface, failure.code.as_str());
        tracing::debug!(surface, code, reason = failure.message, "a request was refused");
        self.metrics.refuse(surface, code);
        lane.note_error(code);
        answers.refusal(reply::failed(request_id, failure)).await;
    }

    /// A view that holds everything committed before now. Who has had no leader for a while says
    /// so at once: waiting would only keep the client from asking somebody else.
    pub(super) async fn linearizable(&self, deadline: Instant) -> Result<Arc<View>, Failure> {
        let still = self.handle.still_ms().is_some();
        if still || leaderless_ms(self) >= LEADERLESS_MS_MAX {
            return Err(read_failure(self.without_leader()));
        }
        self.handle.linearizable(deadline).await.map_err(read_failure)
    }

    /// Why nothing can be decided here.
    fn without_leader(&self) -> ReadError {
        match self.handle.still_ms() {
            Some(_) => ReadError::Still,
            None => ReadError::NoLeader,
        }
    }

    /// Answers a job, if anybody waits for it.
    pub(super) async fn answer(&self, job: &Job, message: ReplyMessage) {
        job.answers.last(message).await;
    }

    /// Answers a job with a failure.
    pub(super) async fn fail(&self, job: &Job, failure: &Failure) {
        self.metrics.refuse(job.lane.surface, failure.code.as_str());
        job.lane.note_error(failure.code.as_str());
        job.answers.refusal(reply::failed(Some(&job.request_id), failure)).await;
    }
}

/// A failed read as it is told to the one who asked.
fn read_failure(error: ReadError) -> Failure {
    let code = match error {
        ReadError::NoLeader | ReadError::Still => ErrorCode::NoLeader,
        // A read changes nothing, so one that ran out of time simply didn't happen.
        ReadError::Deadline | ReadError::Busy => ErrorCode::Busy,
        ReadError::Stopping => ErrorCode::Stopping,
    };
    Failure::new(code, error.to_string())
}
