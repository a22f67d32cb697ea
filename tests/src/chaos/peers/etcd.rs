//! Three etcd, with the settings that they have by themselves, spoken to by JSON over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleet_judge::Heard;
use serde_json::{Value, json};

use crate::chaos::peers::registers::{Answered, Registers};
use crate::chaos::peers::trio::Trio;
use crate::door::BareDoor;
use crate::lan::machine::Machine;
use crate::{not_run, programs};

const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);

/// One client of all three, which asks them in turn.
#[derive(Debug, Clone)]
pub struct Etcd {
    doors: Vec<BareDoor>,
    turn: Arc<AtomicUsize>,
}

impl Etcd {
    /// Starts the servers; `None` where there is no etcd or no network, which is said.
    pub fn start() -> Option<(Trio, Self)> {
        let Some(program) = programs::etcd() else {
            not_run::say("there is no etcd: run deploy/counterparts/fetch-from-debian.py");
            return None;
        };
        let (mut trio, machines) = Trio::lay()?;
        let url = |at: &Machine, port: u16| format!("http://{}:{port}", at.address());
        let all: Vec<String> =
            machines.iter().map(|it| format!("{}={}", it.name(), url(it, 2380))).collect();
        let mut doors = Vec::new();
        for machine in machines {
            let (client, peer) = (url(&machine, 2379), url(&machine, 2380));
            let data = trio.folder().join(machine.name()).display().to_string();
            let arguments = [
                ["--name", machine.name()],
                ["--data-dir", &data],
                ["--initial-cluster", &all.join(",")],
                ["--listen-client-urls", &client],
                ["--advertise-client-urls", &client],
                ["--listen-peer-urls", &peer],
                ["--initial-advertise-peer-urls", &peer],
                ["--log-level", "error"],
            ];
            let arguments = arguments.concat().into_iter().map(str::to_owned).collect();
            doors.push(BareDoor::on(&format!("{}:2379", machine.address())).within(ANSWER_LIMIT));
            trio.add(machine, &program, arguments);
        }
        Some((trio, Self { doors, turn: Arc::default() }))
    }

    async fn call(&self, path: &str, body: Value) -> Result<Value, Answered> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let door = &self.doors[turn % self.doors.len()];
        let response = door.send("POST", path, &[], body.to_string().as_bytes()).await;
        let response = response.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Answered::Refused,
            _ => Answered::Nothing,
        })?;
        let reply: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        // With an error, such as a change of leaders, it may have happened or not.
        let is_answer = response.status == 200 && reply.get("header").is_some();
        if is_answer { Ok(reply) } else { Err(Answered::Nothing) }
    }
}

impl Registers for Etcd {
    async fn set(&self, key: &str, value: u64, expected: Option<u64>) -> Answered {
        let key = BASE64.encode(key);
        let put = json!({ "key": key, "value": BASE64.encode(value.to_string()) });
        let answer = match expected {
            None => self.call("/v3/kv/put", put).await,
            Some(revision) => {
                let holds = json!({
                    "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision,
                });
                let body = json!({ "compare": [holds], "success": [{ "request_put": put }] });
                self.call("/v3/kv/txn", body).await
            }
        };
        let reply = match answer {
            Ok(reply) => reply,
            Err(why) => return why,
        };
        if expected.is_some() && reply.get("succeeded") != Some(&json!(true)) {
            // It gets no place in the order.
            return Answered::Heard(Heard::Mismatch, None);
        }
        let revision = number(&reply["header"]["revision"]);
        revision.map_or(Answered::Nothing, |it| Answered::Heard(Heard::Done(it), Some(it)))
    }

    async fn get(&self, key: &str) -> Answered {
        let body = json!({ "key": BASE64.encode(key) });
        let reply = match self.call("/v3/kv/range", body).await {
            Ok(reply) => reply,
            Err(why) => return why,
        };
        let looked = number(&reply["header"]["revision"]);
        let Some(found) = reply.pointer("/kvs/0") else {
            return Answered::Heard(Heard::Saw(None), looked);
        };
        let text = found["value"].as_str().and_then(|text| BASE64.decode(text).ok());
        let value = text.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        match (value, number(&found["mod_revision"])) {
            (Some(value), Some(revision)) => {
                Answered::Heard(Heard::Saw(Some((value, revision))), looked)
            }
            _ => panic!("etcd holds what nobody wrote: {reply}"),
        }
    }
}

/// Large numbers are written as text.
fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}
