//! A closed-loop load of parameter writes, and what it measured.
//!
//! Every client sends its next write when the last was answered. Clients share a few connections, so
//! that the measuring costs little on a machine that also runs the site. Every write is a command
//! like any other: with a request id, sent again when nothing comes back, counted as done only when
//! it is committed.

mod histogram;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fleet_protocol::CommandTarget;
use fleet_state::{ParamKey, SiteName};
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::{Client, ClientError, CommandOptions, ConnectConfig, Outcome, leader_way::Places};
use histogram::Histogram;

/// Connections that all clients share.
const CONNECTIONS_MAX: usize = 4;
/// Pause of a client that found nobody.
const PAUSE: Duration = Duration::from_millis(10);

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchPlan {
    /// How many writes are under way at once.
    pub clients: usize,
    /// For how long.
    pub duration: Duration,
    /// Size of a written value in bytes, as JSON.
    pub size_bytes: usize,
    /// How many parameters are written to, in turn.
    pub keys: usize,
    /// How long one write may take.
    pub timeout: Duration,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// Writes under way at once.
    pub clients: usize,
    /// How long it ran.
    pub seconds: f64,
    /// Size of a written value.
    pub size_bytes: usize,
    /// Writes that were committed.
    pub ops: u64,
    /// Committed writes in a second.
    pub ops_per_s: f64,
    /// Half of the writes took at most this long.
    pub p50_ms: f64,
    /// All but one in a hundred took at most this long.
    pub p99_ms: f64,
    /// The slowest committed write.
    pub max_ms: f64,
    /// Writes that were refused or that nobody took.
    pub errors: u64,
    /// Writes whose outcome is not known.
    pub unknown: u64,
    /// The longest time in which no write was committed.
    pub longest_gap_ms: f64,
    /// When that time began, from the beginning of the load.
    pub longest_gap_at_s: f64,
    /// The last error that was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What all clients count together.
#[derive(Debug)]
struct Tally {
    started: Instant,
    successes: Mutex<Successes>,
}

/// When writes were committed.
#[derive(Debug, Default)]
struct Successes {
    last_us: u64,
    /// The longest time without any, and when it began.
    longest_gap: (u64, u64),
}

impl Successes {
    fn note(&mut self, now_us: u64) {
        let gap_us = now_us.saturating_sub(self.last_us);
        if gap_us > self.longest_gap.0 {
            self.longest_gap = (gap_us, self.last_us);
        }
        self.last_us = self.last_us.max(now_us);
    }
}

impl Tally {
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn succeeded(&self) {
        let mut successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        successes.note(self.now_us());
    }
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    latencies: Histogram,
    errors: u64,
    unknown: u64,
    last_error: Option<String>,
}

/// Runs a load against a site.
///
/// # Errors
/// When the site cannot be reached at the start.
pub async fn run_bench(
    config: &ConnectConfig,
    site: Option<&SiteName>,
    plan: BenchPlan,
) -> Result<BenchReport, ClientError> {
    let mut clients = Vec::new();
    let mut known = site.cloned();
    for _ in 0..plan.clients.clamp(1, CONNECTIONS_MAX) {
        let client = Client::connect(config, known.as_ref()).await?.with_timeout(plan.timeout);
        known = Some(client.site().clone());
        clients.push(client);
    }
    let targets = (0..plan.clients).zip(clients.iter().cycle()).map(|(number, client)| {
        let places = keys(number, &plan)
            .map(|key| Places::of(&client.subjects, &CommandTarget::ParamSet(key)))
            .collect();
        SiteTarget { client: client.clone(), places }
    });
    run_load(targets.collect(), plan).await
}

/// Runs a load against targets, one closed loop on each.
///
/// # Errors
/// When a loop failed itself.
pub async fn run_load<T: BenchTarget>(
    targets: Vec<T>,
    plan: BenchPlan,
) -> Result<BenchReport, ClientError> {
    let tally = Arc::new(Tally { started: Instant::now(), successes: Mutex::default() });
    let mut writers = JoinSet::new();
    for (number, target) in targets.into_iter().enumerate() {
        let writer = Writer { target, number, plan, tally: Arc::clone(&tally) };
        writers.spawn(writer.run());
    }
    let mut all = Seen::default();
    while let Some(seen) = writers.join_next().await {
        let seen = seen.map_err(|error| ClientError::Local(format!("a writer failed: {error}")))?;
        all.latencies.merge(&seen.latencies);
        all.errors = all.errors.saturating_add(seen.errors);
        all.unknown = all.unknown.saturating_add(seen.unknown);
        all.last_error = seen.last_error.or(all.last_error);
    }
    Ok(report(&plan, &tally, all))
}

/// The keys of one writer: every `clients`-th of all, so that writers share none while there are enough.
fn keys(number: usize, plan: &BenchPlan) -> impl Iterator<Item = ParamKey> {
    let (clients, keys) = (plan.clients.max(1), plan.keys.max(1));
    let own = (number % keys..keys).step_by(clients);
    own.filter_map(|key| format!("bench.k{key}").parse().ok())
}

/// Something that takes writes: a site, or a peer that it is compared with.
pub trait BenchTarget: Send + 'static {
    /// One write; it has ended when this returns. `count` counts the writes of this target.
    fn write(&self, count: usize, value: Bytes) -> impl Future<Output = WriteEnd> + Send;
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteEnd {
    /// It is durable on a majority.
    Done,
    /// Nobody can say.
    Unknown(String),
    /// It was not done.
    Refused(String),
}

/// One client's writes to the parameters that are its own.
struct SiteTarget {
    client: Client,
    places: Vec<Places>,
}

impl BenchTarget for SiteTarget {
    async fn write(&self, count: usize, value: Bytes) -> WriteEnd {
        let Some(places) = self.places.get(count % self.places.len().max(1)) else {
            return WriteEnd::Refused("there are no parameters to write to".to_owned());
        };
        match self.client.send_command(places, value, &CommandOptions::default()).await {
            Ok(Outcome::Committed(_)) => WriteEnd::Done,
            Ok(Outcome::Unknown(unknown)) => WriteEnd::Unknown(unknown.why),
            Ok(Outcome::Rejected(failed)) => WriteEnd::Refused(failed.error.message),
            Err(error) => WriteEnd::Refused(error.to_string()),
        }
    }
}

struct Writer<T> {
    target: T,
    number: usize,
    plan: BenchPlan,
    tally: Arc<Tally>,
}

impl<T: BenchTarget> Writer<T> {
    async fn run(self) -> Seen {
        let mut seen = Seen::default();
        let end = self.tally.started + self.plan.duration;
        for count in 0.. {
            let began = Instant::now();
            if began >= end {
                break;
            }
            match self.target.write(count, self.value(count)).await {
                // What is answered after the end would stretch the measured time.
                WriteEnd::Done if Instant::now() <= end => {
                    seen.latencies.record(began.elapsed());
                    self.tally.succeeded();
                }
                WriteEnd::Done => {}
                WriteEnd::Unknown(why) => {
                    seen.unknown = seen.unknown.saturating_add(1);
                    seen.last_error = Some(why);
                }
                WriteEnd::Refused(why) => {
                    seen.errors = seen.errors.saturating_add(1);
                    seen.last_error = Some(why);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        seen
    }

    /// A JSON text of the wanted size that differs from write to write.
    fn value(&self, count: usize) -> Bytes {
        let mark = format!("{}.{count}.", self.number);
        let fill = self.plan.size_bytes.saturating_sub(mark.len().saturating_add(2));
        let mut text =
            String::with_capacity(self.plan.size_bytes.max(mark.len().saturating_add(2)));
        text.push('"');
        text.push_str(&mark);
        text.extend(std::iter::repeat_n('x', fill));
        text.push('"');
        text.into()
    }
}

fn report(plan: &BenchPlan, tally: &Tally, all: Seen) -> BenchReport {
    let seconds = plan.duration.as_secs_f64();
    let end_us = u64::try_from(plan.duration.as_micros()).unwrap_or(u64::MAX);
    // The end ends a gap as well.
    let mut successes = tally.successes.lock().unwrap_or_else(PoisonError::into_inner);
    successes.note(end_us);
    let (gap_us, gap_at_us) = successes.longest_gap;
    let ops = all.latencies.count();
    BenchReport {
        clients: plan.clients,
        seconds,
        size_bytes: plan.size_bytes,
        ops,
        ops_per_s: rounded(ops as f64 / seconds.max(f64::MIN_POSITIVE)),
        p50_ms: milliseconds(all.latencies.at(0.50)),
        p99_ms: milliseconds(all.latencies.at(0.99)),
        max_ms: milliseconds(all.latencies.max()),
        errors: all.errors,
        unknown: all.unknown,
        longest_gap_ms: milliseconds(gap_us),
        longest_gap_at_s: rounded(gap_at_us as f64 / 1e6),
        last_error: all.last_error,
    }
}

fn milliseconds(us: u64) -> f64 {
    rounded(us as f64 / 1_000.0)
}

fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(clients: usize, keys: usize) -> BenchPlan {
        let second = Duration::from_secs(1);
        BenchPlan { clients, duration: second, size_bytes: 128, keys, timeout: second }
    }

    #[test]
    fn writers_share_keys_only_when_there_are_too_few() {
        let all = |plan: BenchPlan| -> Vec<Vec<String>> {
            (0..plan.clients)
                .map(|number| keys(number, &plan).map(|key| key.to_string()).collect())
                .collect()
        };
        let many = all(plan(3, 8));
        assert_eq!(many.concat().len(), 8);
        assert_eq!(many[1], ["bench.k1", "bench.k4", "bench.k7"]);
        let few = all(plan(3, 1));
        assert!(few.iter().all(|keys| keys == &["bench.k0"]));
    }

    #[test]
    fn gaps_are_seen_at_the_end_too() {
        let plan = plan(1, 1);
        let mut successes = Successes::default();
        for now_us in [1_000, 300_000, 299_000, 400_000] {
            successes.note(now_us);
        }
        assert_eq!(successes.longest_gap, (299_000, 1_000));
        let tally = Tally { started: Instant::now(), successes: Mutex::new(successes) };
        let mut seen = Seen::default();
        seen.latencies.record(Duration::from_micros(700));
        let report = report(&plan, &tally, seen);
        assert_eq!((report.longest_gap_ms, report.longest_gap_at_s), (600.0, 0.4));
        assert_eq!((report.ops, report.ops_per_s, report.max_ms), (1, 1.0, 0.7));
    }
}
