//! The door over NATS: the connection for control, messages on their way in, publications on
//! their way out, never for longer than a bound.
//!
//! Everything that knows of NATS in the taking in of a request is here: the reply subject is
//! checked, headers are read, and the answer finds its way back. What a request means and what
//! becomes of it is the desk's business, which serves the local door in the same way. An agent
//! whose configuration names no NATS server has no such door, and does without.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subject};
use bytes::Bytes;
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{CommandTarget, ErrorCode, Failure, Inbound, Subjects, event, reply_subject};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::nats::{Connection, LinkState};

use super::answers::Answers;
use super::desk::Desk;
use super::lanes::Lane;
use super::outcomes::RefusalBudget;

/// A publication waits so long for room in the client's queue, which is full only while the
/// server is away; then it is dropped, as the server would have.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

/// The way in and out over NATS.
#[derive(Debug)]
pub(super) struct NatsDoor {
    pub client: Client,
    pub connection: watch::Receiver<LinkState>,
    refusals: RefusalBudget,
    metrics: Metrics,
}

impl NatsDoor {
    pub(super) fn new(connection: Connection, metrics: Metrics) -> Self {
        let refusals = RefusalBudget::new(Instant::now());
        Self { client: connection.client, connection: connection.state, refusals, metrics }
    }

    /// Whether the server is there, as far as the client knows.
    pub(super) fn is_connected(&self) -> bool {
        *self.connection.borrow() != LinkState::Disconnected
    }

    /// Takes one message in. It waits for nothing but room in the client's queue, so messages of
    /// one lane are taken in, and commands handed over, in the order in which they came.
    pub(super) async fn receive(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        lane: &Arc<Lane>,
        message: Message,
    ) {
        let subject = message.subject.as_str();
        let answers = match message.reply {
            Some(to) => self.answers(lane, to),
            None => Some(self.unanswered(&desk.subjects, subject)),
        };
        let Some(answers) = answers else { return };
        let arrival = match &message.headers {
            None => desk.understand(subject, &message.payload, std::iter::empty()),
            Some(headers) => desk.understand(subject, &message.payload, each_header(headers)),
        };
        desk.take(lane, arrival, answers).await;
    }

    /// `None` when the message must not be answered to, and so not be served either: whoever sends
    /// it wants the agent to publish something somewhere with the agent's rights.
    fn answers(self: &Arc<Self>, lane: &Lane, to: Subject) -> Option<Answers> {
        match reply_subject::check(to.as_str()) {
            Ok(()) => Some(Answers::Nats { door: Arc::clone(self), to }),
            Err(error) => {
                self.metrics.refuse(lane.surface, "reply_subject");
                tracing::debug!(surface = lane.surface, reply = to.as_str(), %error, "refused");
                None
            }
        }
    }

    /// Where the outcome of a message goes that names no reply subject. A command whose subject
    /// can't be read has no outcome subject either: it is counted, and that is all.
    fn unanswered(self: &Arc<Self>, subjects: &Subjects, subject: &str) -> Answers {
        match subjects.parse(subject) {
            Ok(Inbound::Command(target)) => {
                let to = Subject::from(subjects.outcome_event(&target));
                Answers::Event { door: Arc::clone(self), to, target }
            }
            Ok(_) | Err(_) => Answers::Nobody,
        }
    }

    /// Whether one more refusal may be told as an event; one that may not is counted.
    pub(super) fn may_tell_refusal(&self) -> bool {
        let may = self.refusals.spend(Instant::now());
        if !may {
            self.metrics.refuse("outcome", "too_many");
        }
        may
    }

    /// Tells what became of a command whose sender waits for no reply.
    pub(super) async fn tell_outcome(
        &self,
        to: &Subject,
        target: &CommandTarget,
        message: &ReplyMessage,
    ) {
        let payload = event::outcome(target, message);
        self.publish(to.clone(), ReplyMessage { headers: Vec::new(), payload }).await;
    }

    /// Sends a reply to a subject that was checked before.
    pub(super) async fn reply(&self, to: &Subject, message: ReplyMessage) {
        let size = message.payload.len();
        if size > self.client.max_payload() {
            let limit = self.client.max_payload();
            let failure = Failure::new(
                ErrorCode::TooLarge,
                format!("the answer has {size} bytes and the NATS server takes {limit}"),
            )
            .with_hint("Ask for fewer items at a time.");
            return self.publish(to.clone(), reply::failed(None, &failure)).await;
        }
        self.publish(to.clone(), message).await;
    }

    /// Publishes a message.
    pub(super) async fn publish(&self, to: Subject, message: ReplyMessage) {
        let payload = Bytes::from(message.payload);
        let published = if message.headers.is_empty() {
            tokio::time::timeout(PUBLISH_WAIT, self.client.publish(to, payload)).await
        } else {
            let mut headers = HeaderMap::new();
            for (name, value) in message.headers {
                headers.insert(name, value.as_str());
            }
            let sent = self.client.publish_with_headers(to, headers, payload);
            tokio::time::timeout(PUBLISH_WAIT, sent).await
        };
        match published {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.metrics.refuse("outbox", "not_published");
                tracing::debug!(%error, "a message could not be published");
            }
            Err(_) => self.metrics.refuse("outbox", "queue_full"),
        }
    }
}

fn each_header(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    })
}
