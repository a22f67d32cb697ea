//! A bounded number of seeds in every test run, and every seed that ever found something.
//!
//! Each shard runs a few seeds in any case and more while its time lasts. A failure prints the
//! command line that replays it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleet_sim::{Fault, Report, run_seed};

/// Time for one shard.
const SHARD_TIME: Duration = Duration::from_secs(12);
/// Seeds of one shard at most.
const SHARD_SEEDS: u64 = 60;
/// Seeds of one shard at least, however slow the machine.
const SHARD_SEEDS_MIN: u64 = 6;

fn run(seed: u64) -> Report {
    run_seed(seed, false).unwrap_or_else(|failure| panic!("{failure}"))
}

fn shard(first: u64) {
    let began = Instant::now();
    let mut fired: BTreeMap<Fault, u64> = BTreeMap::new();
    let mut runs = 0;
    for seed in first..first + SHARD_SEEDS {
        let report = run(seed);
        runs += 1;
        for (fault, count) in report.fired {
            *fired.entry(fault).or_default() += count;
        }
        if runs >= SHARD_SEEDS_MIN && began.elapsed() > SHARD_TIME {
            break;
        }
    }
    println!("{runs} seeds from {first}: {fired:?}");
    assert!(fired.len() >= Fault::ALL.len() / 4, "too few kinds of faults: {fired:?}");
}

#[test]
fn seeds_of_shard_1() {
    shard(0);
}

#[test]
fn seeds_of_shard_2() {
    shard(1_000);
}

#[test]
fn seeds_of_shard_3() {
    shard(2_000);
}

#[test]
fn seeds_of_shard_4() {
    shard(3_000);
}

#[test]
fn the_same_seed_goes_the_same_way() {
    for seed in [3, 8, 17] {
        let (one, other) = (run(seed), run(seed));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.steps, other.steps, "seed {seed}");
    }
}

#[test]
fn different_seeds_go_different_ways() {
    assert_ne!(run(3).trace_hash, run(4).trace_hash);
}

/// Seeds that found something, with what it was. What a seed chooses changes with the swarm, so
/// what can be said in a few lines is also a scenario or a unit test.
const FOUND: &[(u64, &str)] = &[
    (1, "a new leader's empty entry did not count as applied in the state"),
    (8, "a joiner of a quiet site never got a snapshot that knew it"),
    (207, "a leader without the site key asked nobody for it, and no joiner was certified"),
    (233, "a snapshot that could not be written was tried again at once, without end"),
    (263, "a planned split never had its turn, where much had not happened yet"),
    (1_042, "under clocks that were put back, answers were forgotten without a trace"),
    (1_108, "a lost offer of a snapshot was repeated after ten seconds only"),
    (1_171, "the count of entries since the last snapshot began anew with each restart"),
    (10_161, "the leader with the slow clock forgot answers without a trace"),
    (10_363, "a disk that filled up at the end of a snapshot made the compressor panic"),
    (
        20_044,
        "a wish that was given up, and that marks had passed over, was enforced after its time",
    ),
    (1_000_467, "a former leader's judgement of leases was relayed to the new one, who took it"),
    (4_001_174, "a leader that had inherited the end of its own vote led on without one"),
    (5_001_042, "who could have recognised an old copy was upgraded before it had spoken"),
    (1_000_000, "a claimed wish came back without its time limit, and was handed over after it"),
    (4_003_085, "a chosen fault found no moment in which it could happen"),
    (8_001_310, "windows that were sent again and again passed a bound that knew no windows"),
    (8_007_394, "a window of small frames passed a bound that knew no size of frames"),
];

#[test]
fn seeds_that_found_something_pass() {
    for (seed, what) in FOUND {
        if let Err(failure) = run_seed(*seed, false) {
            panic!("{failure}\nformerly: {what}");
        }
    }
}
