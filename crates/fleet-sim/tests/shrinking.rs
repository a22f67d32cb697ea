//! A run that fails says all that it takes to see it again, and a smaller one that fails alike is found.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use fleet_sim::random::Random;
use fleet_sim::shrink::shrink;
use fleet_sim::{Fault, Swarm, run_swarm};

const SEED: u64 = 31;

/// What the seed chooses but for these.
fn drawn(with: &[(&str, &str)]) -> Swarm {
    let mut swarm = Swarm::draw(&mut Random::new(!SEED));
    for (name, value) in with {
        swarm.set(name, value).unwrap();
    }
    swarm
}

/// With one way only, the server that carries it for all can't be taken away.
fn impossible() -> Swarm {
    drawn(&[
        ("nodes", "3"),
        ("ways", "1"),
        ("faults", "kill,server_down,pause"),
        ("safety_ms", "1000"),
        ("workload.operations_max", "40"),
    ])
}

/// The options in what a failure says, as the command line takes them.
fn options_in(text: &str) -> Vec<(String, String)> {
    let replay = text.lines().find(|line| line.starts_with("replay: ")).unwrap();
    let parts = replay.split(" --with ").skip(1);
    let pairs = parts.map(|part| part.trim_end_matches(" -v").split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_failure_tells_all_that_it_takes_to_see_it_again() {
    let failure = run_swarm(SEED, impossible(), false).unwrap_err();
    assert_eq!(failure.violation.invariant, "planned faults happen");
    let text = failure.to_string();
    for part in [
        &format!("seed {SEED} failed at step {} ({} ms)", failure.step, failure.at_ms),
        "planned faults happen: server_down",
        "node 1, last events:",
        "node 3, last events:",
        &format!("--seed {SEED} "),
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let options = options_in(&text);
    let options: Vec<(&str, &str)> = options.iter().map(|(a, b)| (&**a, &**b)).collect();
    let again = run_swarm(SEED, drawn(&options), false).unwrap_err();
    assert_eq!(again.to_string(), text);
}

#[test]
fn a_smaller_run_fails_alike() {
    let before = impossible();
    let failure = run_swarm(SEED, before.clone(), false).unwrap_err();
    let shrunk = shrink(SEED, before.clone(), failure.clone());
    assert_eq!(shrunk.failure.violation, failure.violation);
    assert_eq!(shrunk.swarm.faults, [Fault::ServerDown]);
    assert!(shrunk.swarm.nodes < before.nodes && shrunk.failure.step < failure.step);
    let again = run_swarm(SEED, shrunk.swarm, false).unwrap_err();
    assert_eq!(again.to_string(), shrunk.failure.to_string());
}
