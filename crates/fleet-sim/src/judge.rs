//! The judge is judged: mistakes are made on purpose, one at a time, and must be found.
//!
//! An invariant that never failed proves nothing; it may be blind. Each [`Bug`] of the catalogue
//! is a switch in the pure crates, compiled only under the feature `seeded-bugs`. A hunt switches
//! one on and runs seeds until an invariant fails. A bug that is not found means that faults or
//! invariants are too weak, and they are made stronger until it is.
//!
//! `make judge` prints the table; a few quick hunts are part of `make test`.

mod catalogue;

pub use catalogue::{BUGS, Bug};

#[cfg(feature = "seeded-bugs")]
use crate::{random::Random, swarm::Swarm};

/// What a hunt found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Seeds that were run.
    pub seeds: u64,
    /// The invariant that failed at the last of them, if one did.
    pub invariant: Option<&'static str>,
    /// What it said.
    pub what: String,
    /// Seeds that failed, and fail without the mistake: no findings, but defects.
    pub guilty: Vec<u64>,
}

/// What says only that a run was worth nothing is no finding.
#[cfg(feature = "seeded-bugs")]
const NO_FINDINGS: &[&str] = &["planned faults happen", "progress"];

/// Runs seeds from `first` on, with one mistake switched on, until it is found. `with` is chosen
/// otherwise than the seeds and the catalogue do. A seed that fails without the mistake as well has
/// not found it.
///
/// # Panics
/// Nothing of a run is called like something that is to be chosen.
#[cfg(feature = "seeded-bugs")]
#[must_use]
pub fn hunt(bug: &Bug, first: u64, seeds_max: u64, with: &[(String, String)]) -> Verdict {
    let run = |seed: u64, mistake: &'static str| {
        let mut swarm = Swarm::draw(&mut Random::new(!seed));
        let chosen = bug.with.iter().copied();
        for (name, value) in chosen.chain(with.iter().map(|(n, v)| (n.as_str(), v.as_str()))) {
            swarm.set(name, value).unwrap_or_else(|why| panic!("{why}"));
        }
        fleet_consensus::seeded::choose(mistake);
        let ran = crate::run_swarm(seed, swarm, false);
        fleet_consensus::seeded::choose("");
        ran.err().map(|failure| failure.violation).filter(|v| !NO_FINDINGS.contains(&v.invariant))
    };
    let mut verdict =
        Verdict { seeds: 0, invariant: None, what: String::new(), guilty: Vec::new() };
    for seed in first..first.saturating_add(seeds_max) {
        verdict.seeds += 1;
        let Some(violation) = run(seed, bug.name) else { continue };
        if run(seed, "").is_some() {
            verdict.guilty.push(seed);
            continue;
        }
        verdict.invariant = Some(violation.invariant);
        verdict.what = violation.what;
        break;
    }
    verdict
}

/// The middle of several hunts' lengths; a hunt that found nothing counts as endless.
#[must_use]
pub fn median(verdicts: &[Verdict]) -> Option<u64> {
    let mut seeds: Vec<u64> = verdicts
        .iter()
        .map(|verdict| if verdict.invariant.is_some() { verdict.seeds } else { u64::MAX })
        .collect();
    seeds.sort_unstable();
    seeds.get(seeds.len() / 2).copied().filter(|seeds| *seeds != u64::MAX)
}
