//! Five gateways, a nats-server, clients at all doors, and a nemesis that draws from a seed.
//!
//! `make chaos` runs it for long; `make test-all` for a minute. The report goes to the file that
//! `FLOTILLA_CHAOS_REPORT` names, and to standard error.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::chaos::clients::Clients;
use flotilla_tests::chaos::nemesis::{Nemesis, WITH_SMALL_DISK};
use flotilla_tests::chaos::random::Random;
use flotilla_tests::chaos::report::{Report, missing};
use flotilla_tests::disk::SmallDisk;
use flotilla_tests::hall::{Hall, HallPlan};
use flotilla_tests::wait;

const GATEWAYS: usize = 5;
const CLIENTS: usize = 8;
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

/// Between faults the site must get on.
async fn await_progress(clients: &Clients, done: u64) {
    let wanted = clients.recorder.counts().done + done;
    wait::until_true("writes are done again", PROGRESS_LIMIT, || async {
        clients.recorder.counts().done >= wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute at least: chaos"]
async fn nothing_that_was_answered_is_untrue_whatever_breaks() {
    let (seed, seconds) = (number("FLOTILLA_CHAOS_SEED", 1), number("FLOTILLA_CHAOS_SECONDS", 60));
    let mut random = Random::new(seed);
    let Some((mut hall, disk)) = whole_hall().await else { return };
    let mut nemesis = Nemesis::new(random.branch(), &mut hall, disk).await;
    let clients = Clients::start(&hall.doors(), "chaos", CLIENTS, &mut random);
    await_progress(&clients, 50).await;
    let begun = Instant::now();
    // Every fault at least once, however short it is to be.
    while begun.elapsed() < Duration::from_secs(seconds) || !missing(&nemesis.drawn).is_empty() {
        nemesis.strike(&mut hall).await;
        await_progress(&clients, 20).await;
    }
    let took = begun.elapsed();

    // Calm: everything that was answered is judged, with what is there in the end.
    let leader = hall.await_leader().await;
    let recorder = clients.finish(&hall.door(leader)).await;
    hall.await_equal_digests().await;
    hall.check_leaders();
    let report = Report {
        seed,
        took,
        drawn: nemesis.drawn,
        verdict: recorder.judge(),
        terms: hall.leaders().len(),
        digests: "equal".to_owned(),
    };
    let text = report.text();
    eprintln!("{text}");
    if let Some(path) = std::env::var_os("FLOTILLA_CHAOS_REPORT") {
        std::fs::write(path, &text).unwrap();
    }
    assert!(report.verdict.violations.is_empty(), "{:?}", report.verdict.violations);
    assert_eq!(missing(&report.drawn), [], "these have not fired");
    assert!(report.verdict.explained > 100, "too little was judged");
}
