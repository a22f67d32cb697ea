//! Where the answers to one request go: to a reply subject, to whoever waits at the local door, or
//! into an event.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use fleet_protocol::CommandTarget;
use fleet_protocol::limits::{PAGE_BYTES_MAX, PAGE_ENVELOPE_BYTES};
use fleet_protocol::reply::ReplyMessage;
use tokio::sync::mpsc;

use super::nats_door::NatsDoor;

/// What an answer at the local door may hold: what would fit into any NATS message of ours.
const LOCAL_ANSWER_BYTES_MAX: usize = PAGE_BYTES_MAX + PAGE_ENVELOPE_BYTES;
/// An answer waits so long for a slow client at the local door; then the client is given up.
const LOCAL_WAIT: Duration = Duration::from_secs(3);

/// One answer on its way to the local door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The only or the last one.
    Last(ReplyMessage),
    /// A page of a stream; more follow.
    Page(ReplyMessage),
}

/// Where the answers to one request go.
#[derive(Debug)]
pub(super) enum Answers {
    /// Nowhere: the message came without a reply subject, and is no command.
    Nobody,
    /// To whoever listens to outcomes: the command came without a reply subject.
    Event { door: Arc<NatsDoor>, to: Subject, target: CommandTarget },
    /// To a reply subject, which was checked.
    Nats { door: Arc<NatsDoor>, to: Subject },
    /// To whoever waits at this agent's own door.
    Local(mpsc::Sender<Said>),
}

impl Answers {
    /// Gives the only or the last answer.
    pub(super) async fn last(&self, message: ReplyMessage) {
        self.say(Said::Last(message)).await;
    }

    /// Gives the answer to a request that was refused before the log saw it. As an event it is told
    /// only while there are not too many.
    pub(super) async fn refusal(&self, message: ReplyMessage) {
        if let Self::Event { door, .. } = self
            && !door.may_tell_refusal()
        {
            return;
        }
        self.last(message).await;
    }

    /// Gives a page of a stream. False when it is certain that nobody takes it: the client is gone,
    /// or does not read.
    pub(super) async fn page(&self, message: ReplyMessage) -> bool {
        self.say(Said::Page(message)).await
    }

    async fn say(&self, said: Said) -> bool {
        match self {
            Self::Nobody => {}
            Self::Event { door, to, target } => match said {
                Said::Last(message) | Said::Page(message) => {
                    door.tell_outcome(to, target, &message).await;
                }
            },
            Self::Nats { door, to } => match said {
                Said::Last(message) | Said::Page(message) => door.reply(to, message).await,
            },
            Self::Local(client) => return client.send_timeout(said, LOCAL_WAIT).await.is_ok(),
        }
        true
    }

    /// Whether somebody waits.
    pub(super) fn are_awaited(&self) -> bool {
        matches!(self, Self::Nats { .. } | Self::Local(_))
    }

    /// Whether they go to this agent's own door.
    pub(super) fn are_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Returns once it is certain that nobody listens any more; over NATS that is never certain.
    pub(super) async fn gone(&self) {
        match self {
            Self::Local(client) => client.closed().await,
            Self::Nobody | Self::Event { .. } | Self::Nats { .. } => std::future::pending().await,
        }
    }

    /// The largest payload of one answer.
    pub(super) fn payload_bytes_max(&self) -> usize {
        match self {
            Self::Event { door, .. } | Self::Nats { door, .. } => door.client.max_payload(),
            Self::Nobody | Self::Local(_) => LOCAL_ANSWER_BYTES_MAX,
        }
    }
}
