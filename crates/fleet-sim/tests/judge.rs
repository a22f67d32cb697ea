//! Mistakes made on purpose must be found.
//!
//! This needs the feature `seeded-bugs`: `make judge` and `make test` build it. The quick ones are
//! found within a few seeds; all of them take minutes.

#![cfg(feature = "seeded-bugs")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use fleet_sim::judge::{BUGS, hunt};
use fleet_sim::run_seed;

/// Found within these seeds, each by an invariant of another kind.
const QUICK: &[&str] = &[
    "answered-when-appended",
    "answers-not-in-snapshot",
    "log-not-reset-at-install",
    "precondition-ignored",
    "repeat-carried-out-again",
    "restart-applied-above-snapshot",
    "sync-forgotten",
    "two-votes-in-a-term",
    "wall-clock-in-apply",
];
const QUICK_SEEDS: u64 = 60;
const FIRST: u64 = 1_000_000;
/// Seeds for each of all mistakes.
const SEEDS: u64 = 4_000;

#[test]
fn quick_mistakes_are_found() {
    let mut missed = Vec::new();
    for name in QUICK {
        let bug = BUGS.iter().find(|bug| bug.name == *name).unwrap();
        let verdict = hunt(bug, FIRST, QUICK_SEEDS, &[]);
        assert_eq!(verdict.guilty, [], "{name}: these fail without a mistake");
        match verdict.invariant {
            Some(invariant) => println!("{name}: {invariant} after {}", verdict.seeds),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "nothing found {missed:?}");
}

#[test]
fn without_a_mistake_the_same_seeds_pass() {
    for seed in FIRST..FIRST + 5 {
        run_seed(seed, false).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
#[ignore = "takes many minutes"]
fn every_mistake_is_found() {
    let verdicts: Vec<_> = BUGS.iter().map(|bug| (bug, hunt(bug, FIRST, SEEDS, &[]))).collect();
    let missed = verdicts.iter().filter(|(_, verdict)| verdict.invariant.is_none());
    let missed: Vec<&str> = missed.map(|(bug, _)| bug.name).collect();
    assert!(missed.is_empty(), "nothing found {missed:?}");
    let guilty: Vec<_> = verdicts.iter().flat_map(|(_, verdict)| &verdict.guilty).collect();
    assert!(guilty.is_empty(), "these fail without a mistake: {guilty:?}");
}
