//! The harness itself: a fault that is not injected would let every scenario pass.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this whole file is a test"
)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_tests::bare::{Answer, BareClient, Reply};
use flotilla_tests::load::{Load, Speaker};
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::workplace::Workplace;
use flotilla_tests::{cli, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_and_keeps_its_port_over_a_kill() {
    let workplace = Workplace::new();
    let mut server = NatsServer::start(workplace.path());
    let url = server.url();
    let client = BareClient::connect(&url, "nobody").await;
    assert_eq!(client.request("control.query.site.get", "").await, Answer::NoResponders);

    server.kill();
    wait::until_true("the client notices", LIMIT, || async {
        client.raw().connection_state() != async_nats::connection::State::Connected
    })
    .await;

    server.restart();
    assert_eq!(server.url(), url);
    wait::until_true("the client is back", LIMIT, || async {
        client.request("control.query.site.get", "").await == Answer::NoResponders
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_is_silent_and_a_resumed_one_answers() {
    let workplace = Workplace::new();
    let server = NatsServer::start(workplace.path());
    let options = async_nats::ConnectOptions::new();
    let client = BareClient::connect_with(options, &server.url(), "nobody").await;
    server.pause();
    let soon = Duration::from_millis(300);
    let early = tokio::time::timeout(soon, client.request("control.query.site.get", "")).await;
    assert!(early.is_err(), "a paused server answered: {early:?}");
    server.resume();
    assert_eq!(client.request("control.query.site.get", "").await, Answer::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_reaches_the_server() {
    let workplace = Workplace::new();
    let server = NatsServer::start_with(workplace.path(), "max_payload: 65536\n");
    let client = BareClient::connect(&server.url(), "nobody").await;
    assert_eq!(client.raw().server_info().max_payload, 65_536);
}

#[test]
fn a_command_leaves_its_output_and_its_code() {
    let mut command = Command::new("sh");
    command.args(["-c", "read word; echo got $word; echo talk >&2; exit 3"]);
    let done = cli::run(command, "input\n").expect_code(3);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("got input\n", "talk\n"));
}

/// What a pretended site does wrong, after so many commands that were right.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// The answer is lost, and when the command comes again, it is carried out again.
    Repeats,
    /// It carries the command out again a little later, and tells nobody.
    RepeatsLate,
    /// It says that the command was carried out, which it was not.
    Forgets,
}
const RIGHT: usize = 20;

/// A site with one parameter and one writer, which keeps what it answered.
#[derive(Debug, Clone)]
struct Pretended(Arc<Mutex<Held>>);

#[derive(Debug)]
struct Held {
    wrong: Wrong,
    revision: u64,
    /// The parameter, and its revision.
    item: (Value, u64),
    /// By request id.
    answered: BTreeMap<String, Value>,
    /// What was carried out, and whether it had a condition.
    done: Vec<(Value, bool)>,
}

impl Held {
    fn set(&mut self, value: Value, condition: Option<u64>) -> Value {
        self.revision += 1;
        if condition.is_some_and(|wanted| wanted != self.item.1) {
            let error = json!({"code": "revision_mismatch"});
            return json!({"ok": false, "revision": self.revision, "error": error});
        }
        let changed = self.item.0 != value;
        if changed {
            self.item = (value, self.revision);
        }
        json!({"ok": true, "revision": self.revision, "changed": changed})
    }

    fn take(&mut self, id: &str, value: &Value, condition: Option<u64>) -> Option<Value> {
        if let Some(first) = self.answered.get(id) {
            return Some(first.clone());
        }
        let wrong = if self.done.len() < RIGHT { Wrong::Nothing } else { self.wrong };
        if let (Wrong::RepeatsLate, [.., (late, false), _]) = (wrong, &self.done[..]) {
            self.set(late.clone(), None);
        }
        self.done.push((value.clone(), condition.is_some()));
        if wrong == Wrong::Forgets {
            self.revision += 1;
            return Some(json!({"ok": true, "revision": self.revision, "changed": true}));
        }
        let answer = self.set(value.clone(), condition);
        if wrong == Wrong::Repeats && answer["changed"] == json!(true) {
            return None;
        }
        self.answered.insert(id.to_owned(), answer.clone());
        Some(answer)
    }
}

impl Speaker for Pretended {
    async fn request_with(&self, _: &str, headers: &[(&str, &str)], body: String) -> Answer {
        tokio::task::yield_now().await;
        let header = |name| headers.iter().find(|(held, _)| *held == name).map(|(_, value)| *value);
        let id = header("Flotilla-Request-Id").unwrap();
        let condition = header("Flotilla-If-Revision").map(|text| text.parse().unwrap());
        let taken = self.0.lock().unwrap().take(id, &body.parse().unwrap(), condition);
        taken.map_or(Answer::TimedOut, |answer| Answer::Reply(Reply(answer)))
    }

    async fn read_param(&self, _: &str) -> Reply {
        let (value, revision) = self.0.lock().unwrap().item.clone();
        Reply(json!({"ok": true, "item": {"value": value, "revision": revision}}))
    }
}

/// Whether the judgement over a load at such a site is that all was well.
async fn is_well(wrong: Wrong) -> bool {
    let item = (Value::Null, 0);
    let (answered, done) = (BTreeMap::new(), Vec::new());
    let site = Pretended(Arc::new(Mutex::new(Held { wrong, revision: 0, item, answered, done })));
    let judged = tokio::spawn(async move {
        let load = Load::start_through(std::slice::from_ref(&site), "judged", 1);
        load.await_more(2 * RIGHT).await;
        load.finish().await.check(&site).await;
    });
    judged.await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_finds_out_what_is_lost_and_what_is_done_twice() {
    assert!(is_well(Wrong::Nothing).await);
    for wrong in [Wrong::Repeats, Wrong::RepeatsLate, Wrong::Forgets] {
        assert!(!is_well(wrong).await, "{wrong:?}");
    }
}
