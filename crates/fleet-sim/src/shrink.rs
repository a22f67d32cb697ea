//! Looks for a smaller run in which the same invariant fails.
//!
//! A seed that fails chose a dozen things, most of which have nothing to do with the failure.
//! One after the other is taken away or made smaller, and what still fails is kept, until nothing
//! more can go. Another choice shifts all chances that come after it; a smaller run is therefore
//! tried under a few salts before it is given up.

use crate::random::Random;
use crate::run::{Failure, run_swarm};
use crate::swarm::Swarm;

/// Chances that a smaller run gets.
const SALTS: u64 = 6;
/// Runs at most.
const RUNS_MAX: u64 = 2_000;

/// What each choice is when it is as small as it gets. The order is that of the attempts: what
/// shortens all later attempts comes first.
const SMALLEST: &[(&str, &str)] = &[
    ("safety_ms", "500"),
    ("workload.operations_max", "5"),
    ("workload.clients", "1"),
    ("nodes", "1"),
    ("voters", "1"),
    ("strikes_max", "0"),
    ("links", "0"),
    ("devices_per_link", "1"),
    ("drift_max", "0"),
    ("ways", "1"),
    ("second_way.late", "0"),
    ("second_way.loss", "0"),
    ("second_way.duplicated", "0"),
    ("second_way.replayed", "0"),
    ("second_way.corrupted", "0"),
    ("second_way.refused", "0"),
    ("second_way.in_order", "true"),
    ("second_way.delay_max_ms", "4"),
    ("second_way.delay_min_ms", "1"),
    ("network.loss", "0"),
    ("network.duplicated", "0"),
    ("network.replayed", "0"),
    ("network.corrupted", "0"),
    ("network.refused", "0"),
    ("network.in_order", "true"),
    ("network.delay_max_ms", "4"),
    ("network.delay_min_ms", "1"),
    ("workload.reads", "0"),
    ("workload.keys", "1"),
    ("workload.value_bytes_max", "1"),
    ("workload.think_ms_max", "10"),
    ("snapshot_build_ms_max", "1"),
    ("snapshot_every_entries", "400"),
    ("uncommitted_bytes_max", "16777216"),
    ("cache_bytes", "65536"),
    ("frame_bytes_max", "1048576"),
    ("fault_gap_ms_max", "400"),
];

/// A failing run that can't be made smaller.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What it chooses.
    pub swarm: Swarm,
    /// How it fails.
    pub failure: Box<Failure>,
    /// How many runs it took.
    pub runs: u64,
}

struct Search {
    seed: u64,
    best: Swarm,
    failure: Box<Failure>,
    runs: u64,
}

/// Makes the failing run of a seed smaller.
#[must_use]
pub fn shrink(seed: u64, swarm: Swarm, failure: Box<Failure>) -> Shrunk {
    let mut search = Search { seed, best: swarm, failure, runs: 0 };
    while search.pass() && search.runs < RUNS_MAX {}
    Shrunk { swarm: search.best, failure: search.failure, runs: search.runs }
}

impl Search {
    /// Tries everything once. Says whether anything became smaller.
    fn pass(&mut self) -> bool {
        let mut smaller = false;
        for at in (0..self.best.faults.len()).rev() {
            let mut swarm = self.best.clone();
            swarm.faults.remove(at);
            smaller |= self.attempt(&swarm);
        }
        for (name, smallest) in SMALLEST {
            let mut swarm = self.best.clone();
            let now = field(&swarm, name);
            if now == *smallest || swarm.set(name, smallest).is_err() {
                continue;
            }
            smaller |= self.attempt(&swarm) || self.attempt_half(name, &now, smallest);
        }
        smaller
    }

    /// Half of the way to the smallest value.
    fn attempt_half(&mut self, name: &str, now: &str, smallest: &str) -> bool {
        let (Ok(now), Ok(smallest)) = (now.parse::<u64>(), smallest.parse::<u64>()) else {
            return false;
        };
        // What counts without end begins with what happens in a short run.
        let half = now.min(64_000).midpoint(smallest);
        let mut swarm = self.best.clone();
        half != now && swarm.set(name, &half.to_string()).is_ok() && self.attempt(&swarm)
    }

    fn attempt(&mut self, swarm: &Swarm) -> bool {
        for salt in 0..SALTS {
            if self.runs >= RUNS_MAX {
                return false;
            }
            self.runs += 1;
            let swarm = Swarm { salt, ..swarm.clone() };
            if let Err(failure) = run_swarm(self.seed, swarm.clone(), false)
                && failure.violation.invariant == self.failure.violation.invariant
            {
                (self.best, self.failure) = (swarm, failure);
                return true;
            }
        }
        false
    }
}

fn field(swarm: &Swarm, name: &str) -> String {
    let found = swarm.fields().into_iter().find(|(field, _)| *field == name);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// The options that make a seed choose like this.
#[must_use]
pub fn options(seed: u64, swarm: &Swarm) -> String {
    let drawn = Swarm::draw(&mut Random::new(!seed));
    let differences = swarm.differences(&drawn);
    differences.iter().map(|(name, value)| format!(" --with {name}={value}")).collect()
}
