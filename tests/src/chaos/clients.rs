//! Clients: half of them at the doors of all gateways, half with nothing but NATS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fleet_judge::{Heard, Wanted};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::bare::{Answer, BareClient, Reply};
use crate::chaos::random::Random;
use crate::chaos::recorder::{Begun, Recorder};
use crate::door::BareDoor;
use crate::wait;

/// Keys that are used at a time.
const KEYS: usize = 6;
/// Operations after which others are used: a judge of histories looks at the beginning of each.
const OPERATIONS_PER_KEY: u64 = 60;
/// How long one attempt waits.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(1_500);
const ATTEMPT_TIMEOUT: &str = "1s";
/// Attempts before a client gives up without knowing.
const ATTEMPTS_MAX: usize = 12;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(60);

/// Running clients.
#[derive(Debug)]
pub struct Clients {
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
    used: Arc<AtomicU64>,
}

/// How a client reaches the site.
#[derive(Debug, Clone)]
pub enum Way {
    /// Each attempt goes to another of these doors.
    Doors(Vec<BareDoor>),
    /// Over a connection of its own to the NATS server; who answers is up to the site.
    Nats(BareClient),
}

#[derive(Debug)]
struct Client {
    way: Way,
    random: Random,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    used: Arc<AtomicU64>,
    name: String,
    /// The key that it saw last, and its revision.
    seen: Option<(String, u64)>,
}

/// What an attempt brought.
enum Attempt {
    Decided(Heard, u64),
    Saw(Option<(u64, u64)>, Option<u64>),
    Nothing,
}

impl Clients {
    /// Starts one client for each way. `name` is a token that no others of this site have.
    pub fn start(ways: Vec<Way>, name: &str, recorder: Arc<Recorder>, random: &mut Random) -> Self {
        let (stop, used) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let running = ways.into_iter().enumerate().map(|(number, way)| {
            let client = Client {
                way: way.in_a_hurry(),
                random: random.branch(),
                recorder: Arc::clone(&recorder),
                stop: Arc::clone(&stop),
                used: Arc::clone(&used),
                name: format!("{name}:{number}"),
                seen: None,
            };
            tokio::spawn(client.run())
        });
        let running = running.collect();
        Self { recorder, stop, running, used }
    }

    /// Lets each end what it is at.
    ///
    /// # Panics
    /// If a client has panicked.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.running.drain(..) {
            client.await.expect("a client ends without a panic");
        }
    }

    /// Reads at a door what is there now of every key that was used.
    ///
    /// # Panics
    /// If one is not answered.
    pub async fn read_all(&self, door: &BareDoor) {
        let generations = self.used.load(Ordering::Relaxed) / generation_operations();
        for generation in 0..=generations {
            for number in 0..KEYS {
                let key = key(generation, number);
                let begun = self.recorder.begin("last", &key, |_| Wanted::Read);
                let (saw, applied) = wait::until("a last read is answered", LAST_LIMIT, || async {
                    match seen(ask_for(door, &key).await) {
                        Attempt::Saw(saw, applied) => Some((saw, applied)),
                        Attempt::Decided(..) | Attempt::Nothing => None,
                    }
                })
                .await;
                self.recorder.saw(begun, saw, applied);
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl Way {
    fn in_a_hurry(self) -> Self {
        match self {
            Self::Doors(doors) => {
                let doors = doors.into_iter().map(|door| door.within(ATTEMPT_LIMIT));
                Self::Doors(doors.collect())
            }
            Self::Nats(client) => Self::Nats(client.hasty()),
        }
    }
}

/// A site that is left in peace answers within this.
const LAST_LIMIT: Duration = Duration::from_secs(20);

fn generation_operations() -> u64 {
    OPERATIONS_PER_KEY * KEYS as u64
}

fn key(generation: u64, number: usize) -> String {
    format!("chaos.g{generation}.k{number}")
}

impl Client {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let used = self.used.fetch_add(1, Ordering::Relaxed);
            let key = key(used / generation_operations(), self.random.below(KEYS));
            match self.random.below(100) {
                0..40 => self.read(&key).await,
                40..75 => self.set(&key, None).await,
                75..90 => {
                    let held = self.seen.as_ref().filter(|(seen, _)| *seen == key);
                    let expected = held.map_or(0, |(_, revision)| *revision);
                    self.set(&key, Some(expected)).await;
                }
                _ => self.delete(&key).await,
            }
        }
    }

    async fn read(&mut self, key: &str) {
        let begun = self.recorder.begin(&self.name, key, |_| Wanted::Read);
        for _ in 0..ATTEMPTS_MAX {
            let headers = [("Flotilla-Timeout", ATTEMPT_TIMEOUT)];
            let answer = self.ask(&format!("control.query.param.get.{key}"), &headers, "").await;
            if let Attempt::Saw(saw, applied) = seen(answer) {
                if let Some((_, revision)) = saw {
                    self.seen = Some((key.to_owned(), revision));
                }
                self.note_way();
                return self.recorder.saw(begun, saw, applied);
            }
            self.rest(&begun).await;
        }
        self.recorder.given_up(begun);
    }

    async fn set(&mut self, key: &str, expected: Option<u64>) {
        let begun = self.recorder.begin(&self.name, key, |value| Wanted::Set { value, expected });
        let value = json!(begun.id).to_string();
        self.decide(begun, &format!("control.commands.param.set.{key}"), &value, expected).await;
    }

    async fn delete(&mut self, key: &str) {
        let begun = self.recorder.begin(&self.name, key, |_| Wanted::Delete);
        self.decide(begun, &format!("control.commands.param.delete.{key}"), "", None).await;
    }

    /// Sends a command, under one request id, until it is decided or the client gives up.
    async fn decide(&mut self, begun: Begun, command: &str, body: &str, expected: Option<u64>) {
        let id = format!("{}:{}", self.name, begun.id);
        let expected = expected.map(|revision| revision.to_string());
        let mut headers =
            vec![("Flotilla-Request-Id", &*id), ("Flotilla-Timeout", ATTEMPT_TIMEOUT)];
        headers.extend(expected.as_deref().map(|revision| ("Flotilla-If-Revision", revision)));
        for _ in 0..ATTEMPTS_MAX {
            let answer = self.ask(command, &headers, body).await;
            if let Attempt::Decided(heard, revision) = decided(answer) {
                self.note_way();
                return self.recorder.decided(begun, heard, revision);
            }
            self.rest(&begun).await;
        }
        self.recorder.given_up(begun);
    }

    /// One attempt. That nobody listens, or that nothing came in time, is no answer: with NATS
    /// as with a door, it may still happen.
    async fn ask(&mut self, rest: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        match &self.way {
            Way::Doors(doors) => {
                let door = &doors[self.random.below(doors.len())];
                door.request_with(rest, headers, body).await
            }
            Way::Nats(client) => client.request_with(rest, headers, body.to_owned()).await,
        }
    }

    fn note_way(&self) {
        if matches!(self.way, Way::Nats(_)) {
            self.recorder.was_over_nats();
        }
    }

    async fn rest(&self, begun: &Begun) {
        self.recorder.unanswered(begun);
        wait::stays_true("it is not over yet", PAUSE, || async { true }).await;
    }
}

async fn ask_for(door: &BareDoor, key: &str) -> Answer {
    let headers = [("Flotilla-Timeout", ATTEMPT_TIMEOUT)];
    door.request_with(&format!("control.query.param.get.{key}"), &headers, "").await
}

/// What a read saw.
fn seen(answer: Answer) -> Attempt {
    let Answer::Reply(reply) = answer else { return Attempt::Nothing };
    if reply.code() == Some("not_found") {
        return Attempt::Saw(None, reply.revision());
    }
    let item = (reply.at("/item/value").as_u64(), reply.at("/item/revision").as_u64());
    match item {
        (Some(value), Some(revision)) if reply.is_ok() => {
            Attempt::Saw(Some((value, revision)), reply.revision())
        }
        _ => Attempt::Nothing,
    }
}

/// What an answer says for ever; one without a revision speaks for its attempt only.
fn decided(answer: Answer) -> Attempt {
    let Answer::Reply(Reply(reply)) = answer else { return Attempt::Nothing };
    let reply = Reply(reply);
    let Some(revision) = reply.revision() else { return Attempt::Nothing };
    let heard = match (reply.is_ok(), reply.code()) {
        (true, _) if reply.at("/changed") == &json!(true) => Heard::Done(revision),
        (true, _) => Heard::Unchanged,
        (false, Some("revision_mismatch")) => Heard::Mismatch,
        (false, Some("not_found")) => Heard::NotFound,
        (false, other) => panic!("no client asked for {other:?}: {}", reply.0),
    };
    Attempt::Decided(heard, revision)
}
