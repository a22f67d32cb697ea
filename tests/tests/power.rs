//! Gateways that lose power under load, for real: each agent runs on a guest kernel, and what
//! it had not synced is gone with the guest.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::guest::controls::Controls;
use flotilla_tests::guest::dice::Dice;
use flotilla_tests::guest::site::{GuestSite, WHOLE_LIMIT};
use flotilla_tests::guest::wire::{Wire, on_a_wire};
use flotilla_tests::load::{History, Load};
use flotilla_tests::wait;

const GUESTS: usize = 3;
const WRITERS: usize = 4;
/// Marks on a guest's console, from early to late, at which it may lose power again.
const MARKS: &[&str] = &["guest: the disk is mounted", "starting site=", "role, leader or term"];

/// What one cut does.
struct Cut {
    number: usize,
    which: Vec<usize>,
    with_server: bool,
    /// Power goes again as soon as this stands on the consoles.
    again_at: Option<&'static str>,
    /// So many commands are acknowledged before it.
    after: usize,
}

impl Cut {
    fn drawn(dice: &mut Dice, number: usize) -> Self {
        // All at once is the hardest, so the first is always one of these.
        let which = match dice.between(0, 9) {
            0 | 1 if number > 1 => dice.choose(1, GUESTS),
            2 | 3 if number > 1 => dice.choose(2, GUESTS),
            _ => (0..GUESTS).collect(),
        };
        let again = dice.chance(40).then(|| MARKS[dice.between(0, MARKS.len() - 1)]);
        Self {
            number,
            which,
            with_server: dice.chance(25),
            again_at: again,
            after: dice.between(10, 200),
        }
    }
}

struct Report {
    controls: Controls,
    cuts: usize,
    histories: Vec<History>,
}

async fn strike(site: &mut GuestSite, cut: &Cut, report: &mut Report) {
    let load = Load::start(&site.client, &format!("cut{}", cut.number), WRITERS);
    load.await_more(cut.after).await;
    let before = boots(site).await;
    site.row.cut(&cut.which).await;
    report.cuts += cut.which.len();
    if cut.with_server {
        site.nats.kill();
        site.nats.restart();
    }
    if cut.which.len() == 1 {
        // Two of three are a majority: nobody waits for the third.
        load.await_more(50).await;
    }
    let dark = Instant::now();
    site.row.boot(&cut.which, &mut report.controls).await;
    if let Some(mark) = cut.again_at {
        site.row.await_said(&cut.which, mark).await;
        site.row.cut(&cut.which).await;
        report.cuts += cut.which.len();
        site.row.boot(&cut.which, &mut report.controls).await;
    }
    site.await_whole().await;
    let back = dark.elapsed();
    let after = boots(site).await;
    for at in &cut.which {
        assert!(after[*at] > before[*at], "{} was not started again", site.row.guests[*at].name);
    }
    load.await_more(20).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    tell(cut, &history, back, report);
    report.histories.push(history);
}

/// How often each agent was started, by its own word. All must answer, so that none that is silent
/// is taken for one that was started.
async fn boots(site: &GuestSite) -> Vec<u64> {
    let mut boots = Vec::new();
    for (at, guest) in site.row.guests.iter().enumerate() {
        let what = format!("{} says how often it was started", guest.name);
        let status = wait::until(&what, WHOLE_LIMIT, || site.status(at)).await;
        boots.push(status.boot());
    }
    boots
}

fn tell(cut: &Cut, history: &History, back: Duration, report: &Report) {
    let names: Vec<String> = cut.which.iter().map(|at| format!("n{}", at + 1)).collect();
    println!(
        "cut {}: {}{}{} after {} commands; whole again after {:.1} s; {} acknowledged, all there; \
         careless programs have lost {} numbers so far",
        cut.number,
        names.join(" "),
        if cut.with_server { ", the nats-server" } else { "" },
        cut.again_at.map_or_else(String::new, |mark| format!(", again at {mark:?}")),
        cut.after,
        back.as_secs_f64(),
        history.count(),
        report.controls.careless_lost,
    );
}

async fn lose_power(wire: Wire, cuts: usize) {
    let mut dice = Dice::thrown();
    let mut site = GuestSite::start(wire, GUESTS).await;
    let mut report = Report { controls: Controls::default(), cuts: 0, histories: Vec::new() };
    for number in 1..=cuts {
        let cut = Cut::drawn(&mut dice, number);
        strike(&mut site, &cut, &mut report).await;
    }
    // Also what was promised before earlier cuts is there after the last one.
    for history in &report.histories {
        history.check(&site.client).await;
    }
    site.await_equal_digests().await;
    report.controls.assert_power_was_cut();
    let count: usize = report.histories.iter().map(History::count).sum();
    println!(
        "{} cuts of power of {} guests: {count} commands acknowledged, none lost, none twice, equal \
         digests; {:?}",
        cuts, report.cuts, report.controls,
    );
}

#[test]
#[ignore = "a minute or two: two cuts, or as many as FLOTILLA_POWER_CUTS says"]
fn gateways_that_lose_power_under_load_keep_every_promise() {
    let cuts = std::env::var("FLOTILLA_POWER_CUTS").map_or(2, |text| text.parse().unwrap());
    on_a_wire(|wire| lose_power(wire, cuts));
}
