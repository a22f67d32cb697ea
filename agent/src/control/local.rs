//! The local door, as far as it is control's business: a request in, its answers out.
//!
//! Whoever speaks HTTP, or anything else, on this machine hands a request over here: the
//! operation as it would stand in a subject, the headers, the payload. It goes to the same desk
//! as a NATS message, into the same lanes with the same bounds, and is answered in the same
//! words. What differs is what this agent can't leave to another: nobody else hears the request,
//! so it is refused or answered here, and at once.

use std::sync::Arc;

use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{Action, ErrorCode, Failure, Inbound, NodeRequest};
use tokio::sync::mpsc;

use super::NodeFacts;
use super::answers::{Answers, Said};
use super::desk::{Arrival, Desk, Job};
use super::feed::{EventFeed, Wanted};
use super::local_writes::{self, LocalCommand};
use super::others;

/// Answers that may wait for the client; a stream's next page is made when there is room.
const WAITING_MAX: usize = 1;

/// The way into control for requests of this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalDoor {
    desk: Arc<Desk>,
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct LocalRequest<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Names and values of its headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// Its bytes.
    pub payload: &'a [u8],
}

/// The answers to a request; dropping it tells that nobody waits for them any more.
#[derive(Debug)]
pub struct Replies {
    said: mpsc::Receiver<Said>,
}

impl LocalDoor {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    /// Who this agent is.
    #[must_use]
    pub fn node(&self) -> &NodeFacts {
        &self.desk.facts
    }

    /// Takes one request in. Its answers come by its deadline.
    pub async fn ask(&self, request: LocalRequest<'_>) -> Replies {
        let (answers, said) = mpsc::channel(WAITING_MAX);
        let LocalRequest { subject, headers, payload } = request;
        let desk = &self.desk;
        let headers = headers.iter().copied();
        let answers = Answers::Local(answers);
        match desk.subjects.parse(subject) {
            Ok(Inbound::Node(name, verb)) if name != desk.facts.name => {
                // It is checked as if it were for this node, which understands the same.
                let own = desk.subjects.node(&desk.facts.name, verb);
                let arrival = desk.understand(&own, payload, headers);
                if let Some((request, job)) = self.admit_node(arrival, answers).await {
                    tokio::spawn(others::serve_one(Arc::clone(desk), name, request, job));
                }
            }
            Ok(Inbound::All(_)) => {
                let arrival = desk.understand(subject, payload, headers);
                if let Some((request, job)) = self.admit_node(arrival, answers).await {
                    tokio::spawn(others::serve_all(Arc::clone(desk), request, job));
                }
            }
            Ok(_) | Err(_) => {
                let arrival = desk.understand(subject, payload, headers);
                desk.take(desk.lane_of(subject), arrival, answers).await;
            }
        }
        Replies { said }
    }

    /// Takes a local write in, for who stands at the socket of this machine.
    pub async fn write_locally(&self, command: LocalCommand<'_>) -> ReplyMessage {
        local_writes::take(&self.desk, command).await
    }

    /// What happens from now on; `None` when as many listen as may.
    #[must_use]
    pub fn listen(&self, wanted: Wanted) -> Option<EventFeed> {
        EventFeed::open(&self.desk, wanted)
    }

    async fn admit_node(&self, arrival: Arrival, answers: Answers) -> Option<(NodeRequest, Job)> {
        match self.desk.admit(&self.desk.lanes.node, arrival, answers).await? {
            (Action::Node(request), job) => Some((request, job)),
            // A question to a node is read as nothing else.
            _ => None,
        }
    }

    /// Counts a request that was refused before it came to the desk, and gives the answer.
    #[must_use]
    pub fn refuse(&self, failure: &Failure) -> ReplyMessage {
        self.desk.metrics.refuse("door", failure.code.as_str());
        reply::failed(None, failure)
    }
}

impl Replies {
    /// The next answer; `None` after the last.
    pub async fn next(&mut self) -> Option<Said> {
        self.said.recv().await
    }

    /// What is said when no answer came, which is a defect of ours: nothing is known.
    #[must_use]
    pub fn none() -> ReplyMessage {
        let what = "the agent gave no answer; the request may have been carried out";
        reply::failed(None, &Failure::new(ErrorCode::Unknown, what))
    }
}
