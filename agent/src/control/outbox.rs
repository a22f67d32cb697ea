//! Publishing answers and events, never for longer than a bound.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Subject};
use bytes::Bytes;
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{ErrorCode, Failure};

use crate::metrics::Metrics;

/// A publication waits so long for room in the client's queue, which is full only while the
/// server is away; then it is dropped, as the server would have.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

/// The way out.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    client: Client,
    metrics: Metrics,
}

impl Outbox {
    pub(super) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
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
