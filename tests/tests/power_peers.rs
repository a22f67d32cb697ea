//! The same power cuts and the same judge for us and for others. The judge must find what is
//! known: JetStream acknowledges what is not on a disk yet, unless it is told otherwise.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use flotilla_tests::guest::counters::{Verdict, burn};
use flotilla_tests::guest::dice::Dice;
use flotilla_tests::guest::peers::{Etcd, JetStream};
use flotilla_tests::guest::row::Row;
use flotilla_tests::guest::site::GuestSite;
use flotilla_tests::guest::wire::on_a_wire;

/// Cuts of all three guests at once, for each system.
fn cuts() -> usize {
    std::env::var("FLOTILLA_POWER_CUTS").map_or(2, |text| text.parse().unwrap())
}

fn tell(name: &str, verdict: &Verdict) {
    println!(
        "{name}: {} cuts of all three guests: {} writes acknowledged, {} of them lost on {} keys{}; \
         {:?}",
        verdict.cuts,
        verdict.acknowledged,
        verdict.writes_lost(),
        verdict.lost.len(),
        if verdict.gone { ", and the store is gone" } else { "" },
        verdict.controls,
    );
}

#[test]
#[ignore = "a minute or two: two cuts, or as many as FLOTILLA_POWER_CUTS says"]
fn flotilla_keeps_what_it_acknowledged() {
    on_a_wire(async |wire| {
        let mut site = GuestSite::start(wire, 3).await;
        let client = site.client.clone();
        let verdict = burn(&mut site.row, &client, &mut Dice::thrown(), cuts()).await;
        tell("flotilla", &verdict);
        assert_eq!(verdict.lost, []);
    });
}

#[test]
#[ignore = "a minute or two: two cuts, or as many as FLOTILLA_POWER_CUTS says"]
fn etcd_keeps_what_it_acknowledged() {
    on_a_wire(async |wire| {
        let mut row = Row::new(wire);
        let Some(etcd) = Etcd::start(&mut row).await else { return };
        let verdict = burn(&mut row, &etcd, &mut Dice::thrown(), cuts()).await;
        tell("etcd", &verdict);
        assert_eq!(verdict.lost, []);
    });
}

#[test]
#[ignore = "a minute or two: two cuts, or as many as FLOTILLA_POWER_CUTS says"]
fn jetstream_by_default_loses_what_it_acknowledged_and_the_judge_finds_it() {
    on_a_wire(async |wire| {
        let mut row = Row::new(wire);
        let jetstream = JetStream::start(&mut row, "").await;
        let verdict = burn(&mut row, &jetstream, &mut Dice::thrown(), cuts()).await;
        tell("jetstream", &verdict);
        assert!(verdict.writes_lost() > 0, "the judge is blind: {verdict:?}");
    });
}

#[test]
#[ignore = "a minute or two: two cuts, or as many as FLOTILLA_POWER_CUTS says"]
fn jetstream_that_syncs_always_keeps_what_it_acknowledged() {
    on_a_wire(async |wire| {
        let mut row = Row::new(wire);
        let jetstream = JetStream::start(&mut row, "sync_interval: always").await;
        let verdict = burn(&mut row, &jetstream, &mut Dice::thrown(), cuts()).await;
        tell("jetstream, sync_interval: always", &verdict);
        assert_eq!(verdict.lost, []);
    });
}
