//! Many writers at once, and a record of what was promised to each.
//!
//! Every writer owns one parameter and counts it upwards, one command at a time, under
//! a request id that says which number it carries. A command without a certain answer
//! is sent again under the same id until it gets one, as the contract tells clients to.
//! So after the load, for every writer: the parameter holds the last number that was
//! acknowledged; no answer was given at two revisions; revisions rise with the numbers.
//!
//! A command that is carried out twice shows. Every one changes its parameter, so the second
//! time is answered with `changed: false`; and all but one of `FREE_EVERY` are sent under the
//! condition that the parameter is as the writer's last command left it. The others are free of
//! it: what repeats one of them late, and answers nobody, sets the parameter back, and the next
//! condition finds that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;

use crate::bare::{Answer, BareClient, Reply};
use crate::door::BareDoor;
use crate::wait;

/// How long a writer tries one command before the load counts as stuck.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Of so many commands of a writer one has no condition.
const FREE_EVERY: u64 = 4;

/// Somebody through whom parameters are written and read.
pub trait Speaker: Clone + Send + Sync + 'static {
    /// A request with headers; `rest` begins after `flotilla.<site>.`.
    fn request_with(
        &self,
        rest: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> impl Future<Output = Answer> + Send;

    /// Reads a parameter until it is answered, linearizable.
    fn read_param(&self, key: &str) -> impl Future<Output = Reply> + Send;
}

impl Speaker for BareClient {
    async fn request_with(&self, rest: &str, headers: &[(&str, &str)], body: String) -> Answer {
        Self::request_with(self, rest, headers, body).await
    }

    async fn read_param(&self, key: &str) -> Reply {
        Self::read_param(self, key).await
    }
}

impl Speaker for BareDoor {
    async fn request_with(&self, rest: &str, headers: &[(&str, &str)], body: String) -> Answer {
        Self::request_with(self, rest, headers, body).await
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

/// One command of a writer, the same however often it is sent.
#[derive(Debug)]
struct Write {
    key: String,
    number: u64,
    request_id: String,
    /// What the revision of the parameter must be.
    condition: Option<u64>,
}

impl Write {
    /// The command of a writer that comes after this one.
    fn after(name: &str, writer: usize, before: Option<&Acknowledged>) -> Self {
        let number = before.map_or(1, |it| it.number + 1);
        Self {
            key: key(name, writer),
            number,
            request_id: format!("{name}:{writer}:{number}"),
            condition: (!number.is_multiple_of(FREE_EVERY))
                .then(|| before.map_or(0, |it| it.revision)),
        }
    }

    async fn send(&self, through: &impl Speaker) -> Answer {
        let condition = self.condition.map(|revision| revision.to_string());
        let mut headers = vec![("Flotilla-Request-Id", &*self.request_id)];
        headers.extend(condition.as_deref().map(|it| ("Flotilla-If-Revision", it)));
        let subject = format!("control.commands.param.set.{}", self.key);
        through.request_with(&subject, &headers, json!(self.number).to_string()).await
    }

    /// The revision in an answer that brings this command to an end.
    ///
    /// # Panics
    /// If it does not say that the command was carried out, for the first time.
    fn ended(&self, reply: &Reply) -> Option<u64> {
        // Busy, no leader, unknown: speaks for this attempt only.
        let revision = reply.revision()?;
        let once = reply.is_ok() && reply.at("/changed") == &json!(true);
        assert!(once, "{self:?} was not carried out, or more than once: {}", reply.0);
        Some(revision)
    }
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
        wait::until_true(&what, COMMAND_LIMIT, || async {
            // Nothing is as it should be any more, and the logs still tell of it.
            assert!(
                !self.writers.iter().any(JoinHandle::is_finished),
                "a writer was answered wrong"
            );
            self.acknowledged() >= wanted
        })
        .await;
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
    while !progress.stop.load(Ordering::Relaxed) {
        let write = Write::after(name, writer, done.last());
        let mut attempts = 0;
        let what = format!("command {} has an answer", write.request_id);
        let revision = wait::until(&what, COMMAND_LIMIT, || {
            attempts += 1;
            attempt(client, &write)
        })
        .await;
        progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        let number = write.number;
        done.push(Acknowledged { number, revision, at: Instant::now(), attempts });
    }
    done
}

/// The revision, if this attempt brought the command to an end.
async fn attempt(client: &impl Speaker, write: &Write) -> Option<u64> {
    match write.send(client).await {
        Answer::Reply(reply) => write.ended(&reply),
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
            let held = (read.at("/item/value"), read.at("/item/revision"));
            assert_eq!(held, (&json!(last.number), &json!(last.revision)), "{key}: {}", read.0);
            self.check_retry(client, writer, commands).await;
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

    /// The last request once more gets the first answer.
    async fn check_retry(&self, client: &impl Speaker, writer: usize, commands: &[Acknowledged]) {
        let Some((last, before)) = commands.split_last() else { return };
        let write = Write::after(&self.name, writer, before.last());
        let again = write.send(client).await.reply();
        assert_eq!(write.ended(&again), Some(last.revision), "{write:?} again: {}", again.0);
    }
}
