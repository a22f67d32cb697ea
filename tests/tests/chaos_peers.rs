//! The clients, the kind of faults and the judges of our own chaos, pointed at etcd and JetStream.
//!
//! A judge that never finds anything in others may be blind, and one that finds fault with etcd is
//! wrong. What is found goes to standard error, and beside the report that `FLOTILLA_CHAOS_REPORT`
//! names, if it names one: chaos-1.etcd.txt, and what clients asked and heard as JSON lines.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_tests::chaos::attempt::attempt;
use flotilla_tests::chaos::peers::clients::Clients;
use flotilla_tests::chaos::peers::etcd::Etcd;
use flotilla_tests::chaos::peers::harm::break_for;
use flotilla_tests::chaos::peers::jetstream::{self, JetStream, Reads};
use flotilla_tests::chaos::peers::registers::{Answered, Registers};
use flotilla_tests::chaos::peers::trio::Trio;
use flotilla_tests::chaos::random::Random;
use flotilla_tests::chaos::recorder::{Recorder, Verdict};
use flotilla_tests::chaos::terminal::Terminal;
use flotilla_tests::wait;

const CLIENTS: usize = 8;
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Each of the three systems gets its part of the time.
const PART: u64 = 3;
/// Fewer answers show nothing.
const ANSWERED_MIN: u64 = 100;
/// Of a hundred answers of etcd so many must have been judged at least.
const JUDGED_PERCENT_MIN: u64 = 95;

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().expect("it is a number") }
}

/// What came of it.
struct Run {
    verdict: Verdict,
    faults: Vec<String>,
    /// Parts of the run that have failed, and why.
    failed: Vec<String>,
}

impl Run {
    fn text(&self, system: &str, seed: u64) -> String {
        let (verdict, counts) = (&self.verdict, &self.verdict.counts);
        let mut text = format!("{system}, seed {seed}, {} faults\n\n", self.faults.len());
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "  {what:<44} {value}");
        };
        line("operations begun", counts.begun.to_string());
        line("writes done", counts.done.to_string());
        line("writes decided against", counts.declined.to_string());
        line("reads answered", counts.read.to_string());
        line("reached nobody", counts.refused.to_string());
        line("ended unknown", counts.unknown.to_string());
        line("longest time in which nothing ended", format!("{:?}", counts.longest_gap));
        line("answers judged", format!("{} of {}", verdict.judged, counts.answered()));
        text.push('\n');
        for told in &self.faults {
            let _ = writeln!(text, "  {told}");
        }
        text.push_str("\nverdict\n");
        for failed in &self.failed {
            let _ = writeln!(text, "  FAILED {failed}");
        }
        for violation in &verdict.violations {
            let _ = writeln!(text, "  VIOLATED {violation}");
        }
        if verdict.violations.is_empty() {
            let _ = writeln!(text, "  what was judged has an explanation");
        }
        text
    }
}

/// Breaks a system for its part of the time; `stores` are one for each client and one for the end.
async fn burn<S: Registers>(
    system: &str,
    mut trio: Trio,
    terminal: &Terminal,
    mut stores: Vec<S>,
) -> Run {
    let (seed, seconds) = (number("FLOTILLA_CHAOS_SEED", 1), number("FLOTILLA_CHAOS_SECONDS", 60));
    let mut random = Random::new(seed);
    let chosen = std::env::var_os("FLOTILLA_CHAOS_REPORT").map(PathBuf::from);
    let chosen = chosen.unwrap_or_else(|| trio.folder().join("report.txt"));
    let path = chosen.with_extension(format!("{system}.txt"));
    let recorder = Arc::new(Recorder::telling(&path.with_extension("history.jsonl")));
    let last = stores.pop().unwrap();
    let mut clients = Clients::start(terminal, stores, &recorder, &mut random);
    let span = Duration::from_secs(seconds / PART);
    let broken = break_for(span, &mut trio, &recorder, &mut random);
    let broken = attempt("the faults", broken).await;
    let mut looked = vec![attempt("the clients", clients.stop()).await];
    if broken.is_ok() {
        let reads = clients.read_all(terminal, last, Arc::clone(&recorder));
        looked.push(attempt("the last reads", reads).await);
    }
    let mut failed: Vec<String> = looked.into_iter().filter_map(Result::err).collect();
    let faults = broken.unwrap_or_else(|why| {
        failed.push(why);
        Vec::new()
    });
    let run = Run { verdict: recorder.judge(), faults, failed };
    let text = run.text(system, seed);
    eprintln!("{text}");
    std::fs::write(&path, text).unwrap();
    run
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute at least: chaos"]
async fn etcd_has_an_explanation_for_every_answer() {
    let Some((mut trio, etcd)) = Etcd::start() else { return };
    let terminal = Terminal::on(&trio.lan.add("clients"));
    let first = etcd.clone();
    let ready = async move {
        wait::until_true("etcd takes a write", READY_LIMIT, || async {
            matches!(first.set("ready", 1, None).await, Answered::Heard(..))
        })
        .await;
    };
    terminal.run(ready).await;
    let run = burn("etcd", trio, &terminal, vec![etcd; CLIENTS + 1]).await;
    assert_eq!((run.failed, run.verdict.violations.as_slice()), (Vec::new(), [].as_slice()));
    assert!(run.verdict.judged > ANSWERED_MIN, "{:?}", run.verdict);
    assert!(run.verdict.judged_percent() >= JUDGED_PERCENT_MIN, "{:?}", run.verdict);
}

/// What is found with JetStream is printed, and held against nobody: this asserts only that
/// something was looked at.
async fn burn_jetstream(system: &str, reads: Reads) {
    let Some((mut trio, urls)) = jetstream::start() else { return };
    let terminal = Terminal::on(&trio.lan.add("clients"));
    let connected = async move {
        let mut stores = Vec::new();
        for _ in 0..=CLIENTS {
            stores.push(JetStream::connect(urls.clone(), reads).await);
        }
        let first = &stores[0];
        wait::until_true("there is a bucket", READY_LIMIT, || first.make_bucket()).await;
        stores
    };
    let stores = terminal.run(connected).await;
    let run = burn(system, trio, &terminal, stores).await;
    assert!(run.verdict.counts.answered() > ANSWERED_MIN, "{:?}", run.verdict);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute at least: chaos"]
async fn jetstream_is_told_how_it_does_as_its_clients_read() {
    burn_jetstream("jetstream", Reads::Direct).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute at least: chaos"]
async fn jetstream_is_told_how_it_does_when_the_leader_is_asked() {
    burn_jetstream("jetstream-leader", Reads::Leader).await;
}
