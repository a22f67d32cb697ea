//! The connection to a broker, in either version of the protocol.
//!
//! One [`Wire`] is one connection: when it is lost it is over, and the agent decides whether to
//! connect again. So nothing is kept for later, nothing is sent twice by a client library, and
//! the session at the broker ends with the connection (clean start, no expiry): what was
//! published while nobody listened is not replayed.
//!
//! A task polls the client library and passes on what arrives through a bounded queue; when that
//! is full the socket is not read, which slows a flood down at the broker. [`Delivery`] tells
//! what became of one message: handed to the network (QoS 0), taken by the broker (QoS 1), or
//! why not.

mod v4;
mod v5;

use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::device::connector::{CloseReason, ConnectError};

use super::credentials::{Certificates, Login};
use super::link::{Broker, Version};
use super::wiring::Outgoing;

/// Bytes of a packet: a bridge's list of devices is the longest thing that anybody says. A broker
/// of MQTT 5 is told; to one of 3.1.1 a longer packet ends the connection.
const PACKET_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Packets that were received and not yet looked at. Each may be as long as the longest; what is
/// beyond waits with the broker.
const RECEIVED_MAX: usize = 16;
/// Messages that wait to be sent.
const SENDING_MAX: usize = 512;
/// Messages that the broker has not acknowledged.
const UNACKNOWLEDGED_MAX: u16 = 256;
/// Topics in one subscription packet.
const TOPICS_PER_PACKET: usize = 64;
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a goodbye may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum WireEvent {
    /// A message.
    Message(Message),
    /// It is over. Nothing comes after this.
    Closed(CloseReason),
}

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its topic.
    pub(crate) topic: String,
    /// What it says.
    pub(crate) payload: bytes::Bytes,
    /// The broker kept it.
    pub(crate) retained: bool,
}

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Undelivered {
    /// The broker took it, and nobody has subscribed to its topic.
    #[error("nobody listens on the device's command topic")]
    NobodyListens,
    /// The broker refused it.
    #[error("the broker refused it: {0}")]
    Refused(String),
    /// The connection ended before the broker said anything.
    #[error("the connection to the broker was lost before it confirmed")]
    Lost,
    /// Too much is waiting already; it has not left.
    #[error("too many messages are waiting for the broker")]
    Busy,
}

/// What is known about the broker before connecting.
pub(crate) struct Opening {
    /// Where it is.
    pub(crate) broker: Broker,
    /// Who this link is to the broker: the same for every owner, so that the broker ends the
    /// session of the one before.
    pub(crate) client_id: String,
    /// How it logs in.
    pub(crate) login: Option<Login>,
    /// What TLS is made with.
    pub(crate) certificates: Certificates,
}

/// A connection.
pub(crate) struct Wire {
    client: Client,
    reader: JoinHandle<()>,
}

/// The half that sends; there may be several.
#[derive(Clone)]
pub(crate) enum Client {
    /// 3.1.1.
    V4(rumqttc_v4::AsyncClient),
    /// 5.
    V5(rumqttc_v5::AsyncClient),
}

/// What becomes of one message.
pub(crate) enum Delivery {
    /// Over 3.1.1.
    V4(rumqttc_v4::PublishNotice),
    /// Over 5.
    V5(rumqttc_v5::PublishNotice),
}

impl Wire {
    /// Connects, and waits until the broker has said yes.
    ///
    /// # Errors
    /// What the broker or the network said, and what to do.
    pub(crate) async fn open(
        opening: Opening,
    ) -> Result<(Self, mpsc::Receiver<WireEvent>), ConnectError> {
        let where_to = format!("{}:{}", opening.broker.host, opening.broker.port);
        let (sender, receiver) = mpsc::channel(RECEIVED_MAX);
        let connecting = async {
            match opening.broker.version {
                Version::V4 => v4::open(&opening, sender).await.map(|(c, r)| (Client::V4(c), r)),
                Version::V5 => v5::open(&opening, sender).await.map(|(c, r)| (Client::V5(c), r)),
            }
        };
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok((client, reader))) => Ok((Self { client, reader }, receiver)),
            Ok(Err(problem)) => Err(ConnectError::new(format!("{where_to}: {problem}"))),
            Err(_) => Err(ConnectError::new(format!(
                "{where_to}: no answer within {} s; is this an MQTT broker?",
                CONNECT_WITHIN.as_secs()
            ))),
        }
    }

    /// The half that sends.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Says goodbye; afterwards nothing leaves.
    pub(crate) async fn close(mut self) {
        let said = match &self.client {
            Client::V4(client) => client.try_disconnect_now().is_ok(),
            Client::V5(client) => client.try_disconnect_now().is_ok(),
        };
        if said {
            let _late = timeout(GOODBYE_WITHIN, &mut self.reader).await;
        }
    }
}

impl Client {
    /// Whether messages can carry a time after which nobody is to get them.
    pub(crate) fn has_expiry(&self) -> bool {
        matches!(self, Client::V5(_))
    }

    /// Hands a message to the connection. Never retained.
    ///
    /// # Errors
    /// It has not left and will not.
    pub(crate) fn publish(
        &self,
        message: &Outgoing,
        expiry_s: Option<u32>,
    ) -> Result<Delivery, Undelivered> {
        match self {
            Client::V4(client) => v4::publish(client, message).map(Delivery::V4),
            Client::V5(client) => v5::publish(client, message, expiry_s).map(Delivery::V5),
        }
    }

    /// Subscribes, and waits until the broker has answered for every topic; gives those that it
    /// refuses. One that it refuses costs the others nothing.
    ///
    /// # Errors
    /// Why it has not answered.
    pub(crate) async fn subscribe(&self, topics: &[String]) -> Result<Vec<String>, String> {
        let mut refused = Vec::new();
        for some in topics.chunks(TOPICS_PER_PACKET) {
            if self.are_granted(some).await? {
                continue;
            }
            for topic in some {
                if !self.are_granted(std::slice::from_ref(topic)).await? {
                    refused.push(topic.clone());
                }
            }
        }
        Ok(refused)
    }

    async fn are_granted(&self, topics: &[String]) -> Result<bool, String> {
        match self {
            Client::V4(client) => v4::subscribe(client, topics).await,
            Client::V5(client) => v5::subscribe(client, topics).await,
        }
    }

    /// Ends subscriptions. Not waited for: what still comes is not wired any more.
    pub(crate) fn unsubscribe(&self, topics: &[String]) {
        for topic in topics {
            let _what_still_comes_is_ignored = match self {
                Client::V4(client) => client.try_unsubscribe(topic.as_str()).is_ok(),
                Client::V5(client) => client.try_unsubscribe(topic.as_str()).is_ok(),
            };
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Delivery {
    /// Waits for what becomes of it.
    ///
    /// # Errors
    /// Why it was not delivered, as far as that is known.
    pub(crate) async fn wait(self) -> Result<(), Undelivered> {
        match self {
            Delivery::V4(notice) => v4::delivered(notice).await,
            Delivery::V5(notice) => v5::delivered(notice).await,
        }
    }
}

/// The form in which an IPv6 address takes a port.
fn with_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
