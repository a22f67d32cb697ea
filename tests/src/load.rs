//! Many writers at once, and a record of what was promised to each.
//!
//! Every writer owns one parameter and counts it upwards, one command at a time, under
//! a request id that says which number it carries. A command without a certain answer
//! is sent again under the same id until it gets one, as the contract tells clients to.
//! So after the load, for every writer: the parameter holds the last number that was
//! acknowledged; no answer was given at two revisions; revisions rise with the numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::bare::{Answer, BareClient, Reply};
use crate::door::BareDoor;
use crate::wait;

/// How long a writer tries one command before the load counts as stuck.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Somebody through whom parameters are written and read.
pub trait Speaker: Clone + Send + Sync + 'static {
    /// Sets a parameter under a request id of the caller's.
    fn set_param(
        &self,
        key: &str,
        value: &Value,
        request_id: &str,
    ) -> impl Future<Output = Answer> + Send;

    /// Reads a parameter until it is answered, linearizable.
    fn read_param(&self, key: &str) -> impl Future<Output = Reply> + Send;
}

impl Speaker for BareClient {
    async fn set_param(&self, key: &str, value: &Value, request_id: &str) -> Answer {
        Self::set_param(self, key, value, request_id).await
    }

    async fn read_param(&self, key: &str) -> Reply {
        Self::read_param(self, key).await
    }
}

impl Speaker for BareDoor {
    async fn set_param(&self, key: &str, value: &Value, request_id: &str) -> Answer {
        Self::set_param(self, key, value, request_id).await
    }

    async fn read_param(&self, key: &str) -> Reply {
        Self::read_param(self, key).await
    }
}

/// The values that fill a log.
const POURED_BYTES: usize = 30_000;
const POURED_AT_ONCE: usize = 16;

/// One command that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    /// The number that it wrote.
    pub number: u64,
    /// The revision in its answer.
    pub revision: u64,
    /// When the answer came.
    pub at: Instant,
    /// How many times it had to be sent.
    pub attempts: u32,
}

/// Running writers.
#[derive(Debug)]
pub struct Load {
    name: String,
    progress: Arc<Progress>,
    writers: Vec<JoinHandle<Vec<Acknowledged>>>,
}

#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
}

/// What was acknowledged, by writer.
#[derive(Debug)]
pub struct History {
    name: String,
    /// One list per writer, in the order of its commands.
    pub writers: Vec<Vec<Acknowledged>>,
}

impl Load {
    /// Starts so many writers. `name` is a token that no other load of this site has.
    pub fn start(client: &BareClient, name: &str, writers: usize) -> Self {
        Self::start_through(&[client.hasty()], name, writers)
    }

    /// Starts so many writers, each through one of the speakers, in turn.
    pub fn start_through<S: Speaker>(speakers: &[S], name: &str, writers: usize) -> Self {
        let progress = Arc::new(Progress::default());
        let writers = (0..writers)
            .zip(speakers.iter().cycle())
            .map(|(writer, client)| {
                let (client, progress) = (client.clone(), Arc::clone(&progress));
                let name = name.to_owned();
                tokio::spawn(async move { write(&client, &name, writer, &progress).await })
            })
            .collect();
        Self { name: name.to_owned(), progress, writers }
    }

    /// How many commands were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.progress.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more commands were acknowledged.
    pub async fn await_more(&self, commands: usize) {
        let wanted = self.acknowledged() + commands;
        let what = format!("{commands} more commands are acknowledged");
        wait::until_true(&what, COMMAND_LIMIT, || async { self.acknowledged() >= wanted }).await;
    }

    /// Lets every writer finish the command it is at, and collects the record.
    pub async fn finish(self) -> History {
        self.progress.stop.store(true, Ordering::Relaxed);
        let mut writers = Vec::new();
        for writer in self.writers {
            writers.push(writer.await.expect("a writer ends without a panic"));
        }
        History { name: self.name, writers }
    }
}

/// Sixteen large values at once, about half a megabyte; how they end does not matter. Thirty
/// rounds fill a segment of the log and begin the next.
pub async fn pour(client: &BareClient, round: u64) {
    let client = client.hasty();
    let value = json!("x".repeat(POURED_BYTES));
    let writes = (0..POURED_AT_ONCE).map(|at| {
        let (client, value) = (client.clone(), value.clone());
        async move {
            let (key, id) = (format!("poured.k{at}"), format!("pour-{round}-{at}"));
            let _ = client.set_param(&key, &value, &id).await;
        }
    });
    futures_util::future::join_all(writes).await;
}

async fn write(
    client: &impl Speaker,
    name: &str,
    writer: usize,
    progress: &Progress,
) -> Vec<Acknowledged> {
    let mut done: Vec<Acknowledged> = Vec::new();
    let key = key(name, writer);
    while !progress.stop.load(Ordering::Relaxed) {
        let number = done.len() as u64 + 1;
        let request_id = format!("{name}:{writer}:{number}");
        let mut attempts = 0;
        let what = format!("command {request_id} has an answer");
        let revision = wait::until(&what, COMMAND_LIMIT, || {
            attempts += 1;
            attempt(client, &key, number, &request_id)
        })
        .await;
        progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        done.push(Acknowledged { number, revision, at: Instant::now(), attempts });
    }
    done
}

/// The revision, if this attempt brought the command to an end.
async fn attempt(client: &impl Speaker, key: &str, number: u64, request_id: &str) -> Option<u64> {
    match client.set_param(key, &json!(number), request_id).await {
        Answer::Reply(reply) => match reply.revision() {
            Some(revision) => {
                assert!(reply.is_ok(), "{request_id} was rejected: {}", reply.0);
                Some(revision)
            }
            // Busy, no leader, unknown: speaks for this attempt only.
            None => None,
        },
        Answer::NoResponders | Answer::TimedOut | Answer::Failed(_) => None,
    }
}

fn key(name: &str, writer: usize) -> String {
    format!("load.{name}.w{writer}")
}

impl History {
    /// How many commands were acknowledged.
    pub fn count(&self) -> usize {
        self.writers.iter().map(Vec::len).sum()
    }

    /// The longest time in which nobody got an answer.
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<Instant> = self.writers.iter().flatten().map(|it| it.at).collect();
        times.sort();
        let next = times.iter().skip(1);
        times.iter().zip(next).map(|(before, after)| *after - *before).max().unwrap_or_default()
    }

    /// Checks every promise against the site as it is now.
    ///
    /// # Panics
    /// If an acknowledged command was lost, doubled, or answered differently.
    pub async fn check(&self, client: &impl Speaker) {
        let mut by_revision: BTreeMap<u64, String> = BTreeMap::new();
        for (writer, commands) in self.writers.iter().enumerate() {
            self.check_order(writer, commands, &mut by_revision);
            let Some(last) = commands.last() else {
                continue;
            };
            let key = key(&self.name, writer);
            let read = client.read_param(&key).await;
            assert_eq!(read.at("/item/value"), &json!(last.number), "{key}: {}", read.0);
            self.check_retry(client, writer, last).await;
        }
    }

    fn check_order(
        &self,
        writer: usize,
        commands: &[Acknowledged],
        by_revision: &mut BTreeMap<u64, String>,
    ) {
        let mut before = 0;
        for command in commands {
            let name = format!("{}:{writer}:{}", self.name, command.number);
            assert!(command.revision > before, "{name} at {} after {before}", command.revision);
            before = command.revision;
            if let Some(other) = by_revision.insert(command.revision, name.clone()) {
                panic!("{name} and {other} were both answered with revision {before}");
            }
        }
    }

    /// The same request once more gets the first answer.
    async fn check_retry(&self, client: &impl Speaker, writer: usize, last: &Acknowledged) {
        let request_id = format!("{}:{writer}:{}", self.name, last.number);
        let value: Value = json!(last.number);
        let again =
            client.set_param(&key(&self.name, writer), &value, &request_id).await.accepted();
        assert_eq!(again.revision(), Some(last.revision), "{request_id} retried: {}", again.0);
    }
}
