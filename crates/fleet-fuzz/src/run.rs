//! Runs one target on input after input.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::mutate::{Chance, mutate};
use crate::targets::Target;

/// Inputs that became seeds because they led to something new.
const GROWN_MAX: usize = 4_096;
/// Inputs between two looks at the clock.
const LOOK_EVERY: u64 = 64;

/// What a run did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Inputs tried.
    pub inputs: u64,
    /// Different words that the target said.
    pub words: usize,
    /// Seeds at the end.
    pub seeds: usize,
}

/// An input that a target did not survive.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The target.
    pub target: &'static str,
    /// The input, to be put into its corpus.
    pub input: Vec<u8>,
    /// What it said when it broke.
    pub what: String,
}

/// Where a target's corpus is.
#[must_use]
pub fn corpus_dir(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn seeds_of(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = (target.seeds)();
    let files = fs::read_dir(corpus_dir(target)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.sort();
    seeds.extend(files.iter().filter_map(|path| fs::read(path).ok()));
    if seeds.is_empty() {
        seeds.push(Vec::new());
    }
    seeds
}

fn attempt(target: &Target, input: &[u8]) -> Result<String, Box<Finding>> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let input = input.to_vec();
        Box::new(Finding { target: target.name, input, what: what.unwrap_or_default() })
    })
}

/// Runs a target until the time or the inputs are used up. Every seed is tried first as it is.
///
/// # Errors
/// An input that it did not survive.
pub fn fuzz(
    target: &Target,
    seed: u64,
    time: Duration,
    inputs_max: u64,
) -> Result<Report, Box<Finding>> {
    let mut seeds = seeds_of(target);
    let own = seeds.len();
    let mut chance = Chance::new(seed);
    let mut heard = BTreeSet::new();
    for input in &seeds {
        heard.insert(attempt(target, input)?);
    }
    let began = Instant::now();
    let mut inputs = 0;
    while inputs < inputs_max && (inputs % LOOK_EVERY != 0 || began.elapsed() < time) {
        inputs += 1;
        let input = mutate(&seeds, &mut chance);
        let word = attempt(target, &input)?;
        if seeds.len() < own + GROWN_MAX && heard.insert(word) {
            seeds.push(input);
        }
    }
    Ok(Report { inputs, words: heard.len(), seeds: seeds.len() })
}
