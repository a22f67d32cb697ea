//! Five gateways, a nats-server, clients at all doors and at NATS, and a nemesis that draws from a seed.
//!
//! `make chaos` runs it for long; `make test-all` for a minute. The report goes to the file that
//! `FLOTILLA_CHAOS_REPORT` names, or into the folder of the test, and to standard error; what
//! clients asked and heard goes beside it, as JSON lines. Both are also there when the run has failed.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_tests::chaos::attempt::attempt;
use flotilla_tests::chaos::clients::{Clients, Way};
use flotilla_tests::chaos::nemesis::{Nemesis, WITH_SMALL_DISK};
use flotilla_tests::chaos::random::Random;
use flotilla_tests::chaos::recorder::Recorder;
use flotilla_tests::chaos::report::{Report, missing};
use flotilla_tests::chaos::terminal::Terminal;
use flotilla_tests::disk::SmallDisk;
use flotilla_tests::hall::{Hall, HallPlan, SITE};
use flotilla_tests::wait;
use serde_json::json;

const GATEWAYS: usize = 5;
/// Half of them are at the doors, half at NATS.
const CLIENTS: usize = 8;
/// The machine on which the latter are.
const TERMINAL: &str = "clients";
/// The reserve, what must be free beyond it, and some segments of the log.
const DISK_MEGABYTES: u32 = 224;
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().expect("it is a number") }
}

async fn whole_hall() -> Option<(Hall, Option<SmallDisk>)> {
    let mut hall = Hall::prepare(HallPlan::of(GATEWAYS))?;
    let place = hall.workplace().join(&format!("n{}", WITH_SMALL_DISK + 1));
    let disk = SmallDisk::mount(&place, DISK_MEGABYTES);
    hall.found().await;
    for _ in 1..GATEWAYS {
        hall.add().await;
    }
    hall.await_voters(GATEWAYS).await;
    hall.await_meshed().await;
    Some((hall, disk))
}

async fn ways(hall: &mut Hall, terminal: &Terminal) -> Vec<Way> {
    let url = hall.nats().url();
    let mut ways = Vec::new();
    for _ in 0..CLIENTS / 2 {
        ways.push(Way::Doors(hall.doors()));
        ways.push(Way::Nats(terminal.connect(&url, SITE).await));
    }
    ways
}

/// Between faults the site must get on.
async fn await_progress(recorder: &Recorder, done: u64) {
    let wanted = recorder.counts().done + done;
    wait::until_true("writes are done again", PROGRESS_LIMIT, || async {
        recorder.counts().done >= wanted
    })
    .await;
}

/// Every fault at least once, however short it is to be.
async fn strikes(nemesis: &mut Nemesis, hall: &mut Hall, recorder: &Recorder, span: Duration) {
    let begun = Instant::now();
    await_progress(recorder, 50).await;
    while begun.elapsed() < span || !missing(&nemesis.drawn).is_empty() {
        let told = nemesis.drawn.len();
        nemesis.strike(hall).await;
        for drawn in &nemesis.drawn[told..] {
            let became = format!("{:?}", drawn.became);
            recorder.tell(json!({ "fault": drawn.fault.name(), "became": became }));
        }
        await_progress(recorder, 20).await;
    }
}

/// Everything that can be looked at when all faults are over.
async fn calm(hall: &Hall, clients: &Clients) -> Vec<Result<(), String>> {
    let reads = attempt("the last reads", async {
        let leader = hall.await_leader().await;
        clients.read_all(&hall.door(leader)).await;
    });
    vec![reads.await, attempt("the states of all agents", hall.await_equal_digests()).await]
}

/// What agents must never have logged. A log is as long as the run.
fn check_panics(hall: &Hall) {
    for agent in &hall.agents {
        let log = agent.log();
        let panic = log.lines().find(|line| line.contains("panicked at"));
        assert!(panic.is_none(), "{}: {panic:?}", agent.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute at least: chaos"]
async fn nothing_that_was_answered_is_untrue_whatever_breaks() {
    let (seed, seconds) = (number("FLOTILLA_CHAOS_SEED", 1), number("FLOTILLA_CHAOS_SECONDS", 60));
    let mut random = Random::new(seed);
    let Some((mut hall, disk)) = whole_hall().await else { return };
    let terminal = Terminal::on(&hall.lan.add(TERMINAL));
    let mut nemesis = Nemesis::new(random.branch(), &mut hall, disk).await;
    let chosen = std::env::var_os("FLOTILLA_CHAOS_REPORT").map(PathBuf::from);
    let path = chosen.unwrap_or_else(|| hall.workplace().join("report.txt"));
    let recorder = Arc::new(Recorder::telling(&path.with_extension("history.jsonl")));
    let ways = ways(&mut hall, &terminal).await;
    let mut clients = Clients::start(ways, "chaos", Arc::clone(&recorder), &mut random);

    let span = Duration::from_secs(seconds);
    let begun = Instant::now();
    let struck = attempt("the strikes", strikes(&mut nemesis, &mut hall, &recorder, span)).await;
    let took = begun.elapsed();
    let is_calm = struck.is_ok();
    let mut looked = vec![struck, attempt("the clients", clients.stop()).await];
    if is_calm {
        looked.extend(calm(&hall, &clients).await);
    }
    looked.push(attempt("the leaders of all terms", async { hall.check_leaders() }).await);
    looked.push(attempt("the logs of all agents", async { check_panics(&hall) }).await);
    let report = Report {
        seed,
        took,
        drawn: nemesis.drawn,
        verdict: recorder.judge(),
        terms: hall.leaders().len(),
        resident_most: nemesis.resident_most,
        failed: looked.into_iter().filter_map(Result::err).collect(),
    };
    let text = report.text();
    eprintln!("{text}");
    std::fs::write(&path, &text).unwrap();
    assert!(report.wrong().is_empty(), "{:#?}", report.wrong());
}
