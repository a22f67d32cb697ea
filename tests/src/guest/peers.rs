//! etcd and JetStream on guests, and ourselves, as stores of numbers.
//!
//! Each is spoken to as its own documentation says, without a client library of its own: etcd
//! by JSON over HTTP, a key-value bucket of JetStream by requests to its subjects.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::bare::{Answer, BareClient};
use crate::door::BareDoor;
use crate::guest::counters::Store;
use crate::guest::machine::DISK;
use crate::guest::row::Row;
use crate::guest::wire::address;
use crate::{not_run, programs, wait};

const NODES: usize = 3;
const READY_LIMIT: Duration = Duration::from_secs(120);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Servers that say for so long that there is no bucket have lost it.
const GONE_LIMIT: Duration = Duration::from_secs(20);
const BUCKET: &str = "fire";

/// A site of ours: a number is a parameter.
impl Store for BareClient {
    async fn put(&self, key: &str, number: u64) -> bool {
        // The same command however often it is sent.
        let request_id = format!("{key}:{number}");
        let client = self.hasty();
        match client.set_param(&format!("fire.{key}"), &json!(number), &request_id).await {
            Answer::Reply(reply) => reply.is_ok(),
            Answer::NoResponders | Answer::TimedOut | Answer::Failed(_) => false,
        }
    }

    async fn get(&self, key: &str) -> Option<u64> {
        match self.hasty().param(&format!("fire.{key}")).await {
            Answer::Reply(reply) if reply.is_ok() => reply.at("/item/value").as_u64(),
            Answer::Reply(reply) if reply.code() == Some("not_found") => Some(0),
            _ => None,
        }
    }
}

/// Three etcd, with the settings that they have by themselves.
#[derive(Debug, Clone)]
pub struct Etcd {
    doors: Vec<BareDoor>,
    turn: Arc<AtomicUsize>,
}

impl Etcd {
    /// Starts them on guests; `None` if there is no etcd, which is said.
    pub async fn start(row: &mut Row) -> Option<Self> {
        let Some(program) = programs::etcd() else {
            not_run::say("there is no etcd: run deploy/counterparts/fetch-from-debian.py");
            return None;
        };
        let url = |number: usize, port: u16| format!("http://{}:{port}", address(number));
        let members = (1..=NODES).map(|number| format!("e{number}={}", url(number, 2380)));
        let members: Vec<String> = members.collect();
        for number in 1..=NODES {
            let (client, peer) = (url(number, 2379), url(number, 2380));
            let line = format!(
                "{} --name e{number} --data-dir {DISK}/etcd --initial-cluster {} \
                 --listen-client-urls {client} --advertise-client-urls {client} \
                 --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --log-level error",
                program.display(),
                members.join(","),
            );
            row.add(&format!("e{number}"), &line);
        }
        let door = |number| BareDoor::on(&format!("{}:2379", address(number))).within(ANSWER_LIMIT);
        let etcd = Self { doors: (1..=NODES).map(door).collect(), turn: Arc::default() };
        wait::until_true("etcd takes a write", READY_LIMIT, || etcd.put("ready", 1)).await;
        Some(etcd)
    }

    /// One call at one of them, in turn.
    async fn call(&self, path: &str, body: Value) -> Option<Value> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let door = self.doors.get(turn % self.doors.len())?;
        let response = door.send("POST", path, &[], body.to_string().as_bytes()).await.ok()?;
        let reply: Value = serde_json::from_slice(&response.body).ok()?;
        (response.status == 200 && reply.get("header").is_some()).then_some(reply)
    }
}

impl Store for Etcd {
    async fn put(&self, key: &str, number: u64) -> bool {
        let body = json!({"key": BASE64.encode(key), "value": BASE64.encode(number.to_string())});
        self.call("/v3/kv/put", body).await.is_some()
    }

    async fn get(&self, key: &str) -> Option<u64> {
        let reply = self.call("/v3/kv/range", json!({"key": BASE64.encode(key)})).await?;
        match reply.pointer("/kvs/0/value") {
            None => Some(0),
            Some(value) => number_in(value),
        }
    }
}

/// Three nats-servers with JetStream, and a bucket of three replicas.
#[derive(Debug, Clone)]
pub struct JetStream {
    client: async_nats::Client,
}

impl JetStream {
    /// Starts them on guests. `settings` stand in the section `jetstream`.
    pub async fn start(row: &mut Row, settings: &str) -> Self {
        let program = programs::nats_server();
        let routes = (1..=NODES).map(|number| format!("nats://{}:6222", address(number)));
        let routes: Vec<String> = routes.collect();
        for number in 1..=NODES {
            let here = address(number);
            let config = format!(
                "server_name: js{number}\nlisten: \"{here}:4222\"\n\
                 jetstream {{ store_dir: \"{DISK}/js\"\n{settings} }}\n\
                 cluster {{ name: fire, listen: \"{here}:6222\", routes: [{}] }}\n",
                routes.join(", "),
            );
            let path = row.workplace().join(&format!("js{number}.conf"));
            std::fs::write(&path, config).expect("the workplace is writable");
            let line = format!("{} -c {}", program.display(), path.display());
            row.add(&format!("js{number}"), &line);
        }
        let urls: Vec<String> =
            (1..=NODES).map(|number| format!("nats://{}:4222", address(number))).collect();
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let options = options.request_timeout(Some(ANSWER_LIMIT));
        let options = options.reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = options.connect(urls).await.expect("connected in the background");
        let js = Self { client };
        wait::until_true("there is a bucket", READY_LIMIT, || js.make_bucket()).await;
        js
    }

    async fn make_bucket(&self) -> bool {
        let stream = json!({
            "name": format!("KV_{BUCKET}"), "subjects": [format!("$KV.{BUCKET}.>")],
            "num_replicas": NODES, "storage": "file", "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": true, "deny_delete": true, "discard": "new", "allow_direct": true,
        });
        let subject = format!("$JS.API.STREAM.CREATE.KV_{BUCKET}");
        let made = self.call(&subject, stream.to_string()).await;
        made.is_some_and(|reply| reply.get("error").is_none())
    }

    async fn call(&self, subject: &str, body: String) -> Option<Value> {
        let reply = self.client.request(subject.to_owned(), body.into()).await.ok()?;
        serde_json::from_slice(&reply.payload).ok()
    }
}

impl Store for JetStream {
    async fn put(&self, key: &str, number: u64) -> bool {
        let reply = self.call(&format!("$KV.{BUCKET}.{key}"), number.to_string()).await;
        reply.is_some_and(|reply| reply.get("error").is_none() && reply.get("seq").is_some())
    }

    async fn get(&self, key: &str) -> Option<u64> {
        let body = json!({"last_by_subj": format!("$KV.{BUCKET}.{key}")}).to_string();
        let reply = self.call(&format!("$JS.API.STREAM.MSG.GET.KV_{BUCKET}"), body).await?;
        match reply.pointer("/error/code").and_then(Value::as_u64) {
            Some(404) => Some(0),
            Some(_) => None,
            None => number_in(reply.pointer("/message/data")?),
        }
    }

    async fn await_recovered(&self) -> bool {
        let missing_since = Mutex::new(None);
        wait::until("the bucket is back, or gone for good", READY_LIMIT, || async {
            let info =
                self.call(&format!("$JS.API.STREAM.INFO.KV_{BUCKET}"), String::new()).await?;
            if is_whole(&info) {
                return Some(true);
            }
            // Only the servers' leader says that, and it may not have heard of it yet.
            let missing = info.pointer("/error/code").and_then(Value::as_u64) == Some(404);
            let mut since = missing_since.lock().expect("nobody panics while holding it");
            let since =
                if missing { *since.get_or_insert_with(Instant::now) } else { return None };
            (since.elapsed() > GONE_LIMIT).then_some(false)
        })
        .await
    }
}

/// Whether a stream has a leader and everybody has what the leader has.
fn is_whole(info: &Value) -> bool {
    let replicas = info.pointer("/cluster/replicas").and_then(Value::as_array);
    let current = |replica: &Value| replica.get("current") == Some(&Value::Bool(true));
    info.pointer("/cluster/leader").is_some()
        && replicas.is_some_and(|all| all.len() == NODES - 1 && all.iter().all(current))
}

/// A number that is written as text, in base64.
fn number_in(value: &Value) -> Option<u64> {
    let text = BASE64.decode(value.as_str()?).ok()?;
    String::from_utf8(text).ok()?.parse().ok()
}
