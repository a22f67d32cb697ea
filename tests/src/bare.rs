//! A NATS client that knows nothing of Flotilla but its subjects.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use bytes::Bytes;
use serde_json::Value;

use crate::wait;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long a request waits for its reply, longer than an agent's own deadline (4 s).
pub const REQUEST_LIMIT: Duration = Duration::from_secs(6);

/// How long a read may be tried: an election and a few lost requests.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(20);

/// How long a client waits that would rather ask again.
const HASTY_LIMIT: Duration = Duration::from_secs(1);

/// A connection, for one site.
#[derive(Debug, Clone)]
pub struct BareClient {
    client: Client,
    site: String,
    limit: Duration,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An agent replied.
    Reply(Reply),
    /// The server says that nobody listens.
    NoResponders,
    /// Nothing came in time: it may have happened or not.
    TimedOut,
    /// The server does not let this user publish there, or the connection is down.
    Failed(String),
}

/// The JSON object of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply(pub Value);

impl Reply {
    /// Whether the command was accepted or the query answered.
    pub fn is_ok(&self) -> bool {
        self.0.get("ok").and_then(Value::as_bool) == Some(true)
    }

    /// The revision, if the reply carries one: then it speaks for the request id for ever.
    pub fn revision(&self) -> Option<u64> {
        self.0.get("revision").and_then(Value::as_u64)
    }

    /// The error code of a reply that is not ok.
    pub fn code(&self) -> Option<&str> {
        self.0.get("error")?.get("code")?.as_str()
    }

    /// A member of the reply by its JSON pointer, such as `/error/hint`.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }
}

impl Answer {
    /// Whether an agent replied, and that it was done.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Reply(reply) if reply.is_ok())
    }

    /// The reply.
    ///
    /// # Panics
    /// If there was none.
    pub fn reply(self) -> Reply {
        match self {
            Self::Reply(reply) => reply,
            other => panic!("a reply was expected, not {other:?}"),
        }
    }

    /// The reply, which must say ok.
    ///
    /// # Panics
    /// If it does not.
    pub fn accepted(self) -> Reply {
        let reply = self.reply();
        assert!(reply.is_ok(), "an accepted command was expected: {}", reply.0);
        reply
    }

    /// Checks that the command was refused with this code.
    ///
    /// # Panics
    /// If it was not.
    pub fn refused(self, code: &str) -> Reply {
        let reply = self.reply();
        assert_eq!(reply.code(), Some(code), "the whole reply: {}", reply.0);
        reply
    }
}

impl BareClient {
    /// Connects without credentials.
    pub async fn connect(url: &str, site: &str) -> Self {
        Self::connect_with(async_nats::ConnectOptions::new(), url, site).await
    }

    /// Connects with options of one's own, which may hold credentials.
    pub async fn connect_with(options: async_nats::ConnectOptions, url: &str, site: &str) -> Self {
        let options = options.request_timeout(Some(REQUEST_LIMIT)).retry_on_initial_connect();
        // As long as a server is restarted, coming back soon matters more than sparing it.
        let options = options.reconnect_delay_callback(|_| Duration::from_millis(50));
        let client =
            options.connect(url).await.expect("the first connection is made in the background");
        wait::until_true("the bare client is connected", CONNECT_LIMIT, || async {
            client.connection_state() == async_nats::connection::State::Connected
        })
        .await;
        Self { client, site: site.to_owned(), limit: REQUEST_LIMIT }
    }

    /// The same connection for somebody in a hurry: a request whose agent died is given up
    /// after a second, so that it can be sent again.
    #[must_use]
    pub fn hasty(&self) -> Self {
        Self { limit: HASTY_LIMIT, ..self.clone() }
    }

    /// A subject of this site; `rest` begins after `flotilla.<site>.`.
    pub fn subject(&self, rest: &str) -> String {
        format!("flotilla.{}.{rest}", self.site)
    }

    /// The library's client, for what this type has no word for.
    pub fn raw(&self) -> &Client {
        &self.client
    }

    /// A request without headers.
    pub async fn request(&self, rest: &str, body: impl Into<Bytes>) -> Answer {
        self.request_with(rest, &[], body).await
    }

    /// A request with headers.
    pub async fn request_with(
        &self,
        rest: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let mut request = Request::new().payload(body.into()).timeout(Some(self.limit));
        if !headers.is_empty() {
            request = request.headers(map);
        }
        match self.client.send_request(self.subject(rest), request).await {
            Ok(message) => match serde_json::from_slice(&message.payload) {
                Ok(json) => Answer::Reply(Reply(json)),
                Err(error) => Answer::Failed(format!("a reply that is no JSON: {error}")),
            },
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => Answer::NoResponders,
                RequestErrorKind::TimedOut => Answer::TimedOut,
                _ => Answer::Failed(error.to_string()),
            },
        }
    }

    /// Sets a parameter under a request id of the caller's.
    pub async fn set_param(&self, key: &str, value: &Value, request_id: &str) -> Answer {
        let headers = [("Flotilla-Request-Id", request_id)];
        self.request_with(&format!("control.commands.param.set.{key}"), &headers, value.to_string())
            .await
    }

    /// Reads a parameter until it is answered, linearizable.
    ///
    /// # Panics
    /// If there is no answer within `READ_LIMIT`.
    pub async fn read_param(&self, key: &str) -> Reply {
        let client = self.hasty();
        wait::until(&format!("{key} can be read"), READ_LIMIT, || async {
            match client.param(key).await {
                Answer::Reply(reply) if reply.is_ok() => Some(reply),
                _ => None,
            }
        })
        .await
    }

    /// Reads a parameter once, linearizable.
    pub async fn param(&self, key: &str) -> Answer {
        self.request(&format!("control.query.param.get.{key}"), Bytes::new()).await
    }

    /// Waits until the server has taken everything that was sent so far, such as a
    /// subscription: flushing only hands it to the network.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn settle(&self) {
        let nobody = self.client.new_inbox();
        let answer = self.client.request(nobody, Bytes::new()).await;
        let kind = answer.err().map(|error| error.kind());
        assert_eq!(kind, Some(RequestErrorKind::NoResponders), "the server is there");
    }

    /// Publishes without waiting for anything, and flushes.
    pub async fn publish(&self, rest: &str, body: impl Into<Bytes>) {
        self.client.publish(self.subject(rest), body.into()).await.expect("the client takes it");
        self.client.flush().await.expect("the server is there");
    }
}
