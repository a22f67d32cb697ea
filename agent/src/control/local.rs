//! The local door, as far as it is control's business: a request in, its answers out.
//!
//! Whoever speaks HTTP, or anything else, on this machine hands a request over here: the
//! operation as it would stand in a subject, the headers, the payload. It goes to the same desk
//! as a NATS message, into the same lanes with the same bounds, and is answered in the same
//! words. What differs is what this agent can't leave to another: nobody else hears the request,
//! so it is refused or answered here, and at once.

use std::sync::Arc;

use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{ErrorCode, Failure};
use tokio::sync::mpsc;

use super::NodeFacts;
use super::answers::{Answers, Said};
use super::desk::Desk;

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
        let arrival = self.desk.understand(subject, payload, headers.iter().copied());
        let lane = Arc::clone(self.desk.lane_of(subject));
        self.desk.take(&lane, arrival, Answers::Local(answers)).await;
        Replies { said }
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
