//! Three nats-servers with JetStream and a key-value bucket of three replicas, with the settings
//! that they have by themselves, spoken to by requests to the bucket's subjects.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, Message, Request, RequestErrorKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleet_judge::Heard;
use serde_json::{Value, json};

use crate::chaos::peers::registers::{Answered, Registers};
use crate::chaos::peers::trio::{SERVERS, Trio};
use crate::programs;

const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);
const BUCKET: &str = "fire";
/// How the servers call a version that is not the expected one.
const WRONG_VERSION: [u64; 2] = [10_071, 10_164];
const NOT_FOUND: u16 = 404;

/// Who answers reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Any replica, as the clients of a bucket ask by themselves.
    Direct,
    /// The leader of the bucket's stream.
    Leader,
}

/// One client of all three.
#[derive(Debug, Clone)]
pub struct JetStream {
    client: Client,
    reads: Reads,
}

/// Starts the servers; gives their addresses too. `None` where there is no network, which is said.
pub fn start() -> Option<(Trio, Vec<String>)> {
    let (mut trio, machines) = Trio::lay()?;
    let routes = machines.iter().map(|it| format!("nats://{}:6222", it.address()));
    let routes = routes.collect::<Vec<_>>().join(", ");
    let urls = machines.iter().map(|it| format!("nats://{}:4222", it.address())).collect();
    for machine in machines {
        let (here, name) = (machine.address(), machine.name());
        let store = trio.folder().join(name);
        let config = format!(
            "server_name: {name}\nlisten: \"{here}:4222\"\n\
             jetstream {{ store_dir: \"{}\" }}\n\
             cluster {{ name: fire, listen: \"{here}:6222\", routes: [{routes}] }}\n",
            store.display(),
        );
        let path = trio.folder().join(format!("{name}.conf"));
        std::fs::write(&path, config).expect("the workplace is writable");
        let arguments = vec!["-c".to_owned(), path.display().to_string()];
        trio.add(machine, &programs::nats_server(), arguments);
    }
    Some((trio, urls))
}

impl JetStream {
    /// A connection to one of them, or to the next when that is gone.
    ///
    /// # Panics
    /// If the addresses are none.
    pub async fn connect(urls: Vec<String>, reads: Reads) -> Self {
        let options = ConnectOptions::new().retry_on_initial_connect();
        let options = options.request_timeout(Some(ANSWER_LIMIT));
        let options = options.reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = options.connect(urls).await.expect("connected in the background");
        Self { client, reads }
    }

    /// Makes the bucket; whether it is there.
    pub async fn make_bucket(&self) -> bool {
        let stream = json!({
            "name": format!("KV_{BUCKET}"), "subjects": [format!("$KV.{BUCKET}.>")],
            "num_replicas": SERVERS, "storage": "file", "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": true, "deny_delete": true, "discard": "new",
            "allow_direct": self.reads == Reads::Direct,
        });
        let subject = format!("$JS.API.STREAM.CREATE.KV_{BUCKET}");
        let made = self.call(subject, HeaderMap::new(), stream.to_string()).await;
        made.is_ok_and(|reply| json_of(&reply).is_some_and(|it| it.get("error").is_none()))
    }

    async fn call(
        &self,
        subject: String,
        headers: HeaderMap,
        body: String,
    ) -> Result<Message, Answered> {
        let mut request = Request::new().payload(body.into()).timeout(Some(ANSWER_LIMIT));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        self.client.send_request(subject, request).await.map_err(|error| match error.kind() {
            // The server has given it to nobody.
            RequestErrorKind::NoResponders => Answered::Refused,
            _ => Answered::Nothing,
        })
    }

    async fn get_directly(&self, key: &str) -> Result<Answered, Answered> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{key}");
        let reply = self.call(subject, HeaderMap::new(), String::new()).await?;
        if let Some(status) = reply.status {
            let is_empty = status.as_u16() == NOT_FOUND;
            return Ok(if is_empty { saw(None) } else { Answered::Nothing });
        }
        let headers = reply.headers.as_ref().ok_or(Answered::Nothing)?;
        let version = headers.get("Nats-Sequence").and_then(|it| it.as_str().parse().ok());
        let value = std::str::from_utf8(&reply.payload).ok().and_then(|it| it.parse().ok());
        Ok(saw(Some(value.zip(version).ok_or(Answered::Nothing)?)))
    }

    async fn get_of_leader(&self, key: &str) -> Result<Answered, Answered> {
        let body = json!({ "last_by_subj": format!("$KV.{BUCKET}.{key}") }).to_string();
        let subject = format!("$JS.API.STREAM.MSG.GET.KV_{BUCKET}");
        let reply = json_of(&self.call(subject, HeaderMap::new(), body).await?);
        let reply = reply.ok_or(Answered::Nothing)?;
        if let Some(error) = reply.get("error") {
            let is_empty = error["code"] == NOT_FOUND;
            return Ok(if is_empty { saw(None) } else { Answered::Nothing });
        }
        let message = &reply["message"];
        let text = message["data"].as_str().and_then(|text| BASE64.decode(text).ok());
        let value = text.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        Ok(saw(Some(value.zip(message["seq"].as_u64()).ok_or(Answered::Nothing)?)))
    }
}

impl Registers for JetStream {
    async fn set(&self, key: &str, value: u64, expected: Option<u64>) -> Answered {
        let mut headers = HeaderMap::new();
        if let Some(version) = expected {
            headers.append("Nats-Expected-Last-Subject-Sequence", version.to_string());
        }
        let subject = format!("$KV.{BUCKET}.{key}");
        let reply = match self.call(subject, headers, value.to_string()).await {
            Ok(reply) => json_of(&reply).unwrap_or_default(),
            Err(why) => return why,
        };
        let error = reply.pointer("/error/err_code").and_then(Value::as_u64);
        match (error, reply.get("seq").and_then(Value::as_u64)) {
            (Some(code), _) if WRONG_VERSION.contains(&code) => {
                Answered::Heard(Heard::Mismatch, None)
            }
            (None, Some(version)) => Answered::Heard(Heard::Done(version), Some(version)),
            _ => Answered::Nothing,
        }
    }

    async fn get(&self, key: &str) -> Answered {
        let answer = match self.reads {
            Reads::Direct => self.get_directly(key).await,
            Reads::Leader => self.get_of_leader(key).await,
        };
        answer.unwrap_or_else(|why| why)
    }
}

/// It doesn't say what it had seen of the stream.
fn saw(found: Option<(u64, u64)>) -> Answered {
    Answered::Heard(Heard::Saw(found), None)
}

fn json_of(message: &Message) -> Option<Value> {
    serde_json::from_slice(&message.payload).ok()
}
