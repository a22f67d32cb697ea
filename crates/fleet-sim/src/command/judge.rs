//! Makes mistakes on purpose and prints what finds them.

use fleet_sim::judge::{BUGS, Bug};

use super::{count, many, number, value};

/// Seeds between the first ones of two rounds.
#[cfg(feature = "seeded-bugs")]
const ROUND_STRIDE: u64 = 100_000;

struct Options {
    bugs: Vec<Bug>,
    seeds: u64,
    rounds: usize,
    first: u64,
    /// Hunts at a time.
    jobs: usize,
    /// What is chosen otherwise than the seeds do.
    with: Vec<(String, String)>,
}

/// Says whether every mistake was found.
///
/// # Errors
/// An option that isn't one, or a build without mistakes.
pub(crate) fn judge(args: impl Iterator<Item = String>) -> Result<bool, String> {
    let options = parse(args)?;
    hunt_all(&options)
}

#[cfg(not(feature = "seeded-bugs"))]
fn hunt_all(_options: &Options) -> Result<bool, String> {
    Err("this build can make no mistakes; build it with --features seeded-bugs".to_owned())
}

#[cfg(feature = "seeded-bugs")]
fn hunt_all(options: &Options) -> Result<bool, String> {
    use fleet_sim::judge::{Verdict, hunt};
    // Many mistakes end in a panic of a replica, which is a finding like any other.
    std::panic::set_hook(Box::new(|_| {}));
    let Options { bugs, rounds, .. } = options;
    println!("| mistake | found by | after seeds (median of {rounds}) |\n|---|---|---|");
    let mut tally = Tally::default();
    let mut waiting: Vec<Vec<Verdict>> = vec![Vec::new(); bugs.len()];
    let mut told = 0;
    let bug_of = |one: usize| one / rounds;
    let hunts = bugs.len().saturating_mul(*rounds);
    let work = |one: usize| {
        let first = options.first + (one % rounds) as u64 * ROUND_STRIDE;
        hunt(&bugs[bug_of(one)], first, options.seeds, &options.with)
    };
    many::each(hunts, options.jobs, work, |one, verdict| {
        waiting[bug_of(one)].push(verdict);
        // In the order of the catalogue, whichever is found first.
        while let Some(verdicts) = waiting.get(told).filter(|v| v.len() == *rounds) {
            tally.tell(bugs[told].name, verdicts);
            told += 1;
        }
    });
    let Tally { missed, guilty, longest } = tally;
    println!("\n{} mistakes, not found {missed:?}, longest hunt {longest} seeds", bugs.len());
    println!("seeds that fail without any mistake: {guilty:?}");
    Ok(missed.is_empty() && guilty.is_empty())
}

/// What all hunts together came to.
#[cfg(feature = "seeded-bugs")]
#[derive(Default)]
struct Tally {
    missed: Vec<&'static str>,
    /// Seeds that fail without a mistake as well, and so say nothing of one.
    guilty: std::collections::BTreeSet<u64>,
    longest: u64,
}

#[cfg(feature = "seeded-bugs")]
impl Tally {
    fn tell(&mut self, name: &'static str, verdicts: &[fleet_sim::judge::Verdict]) {
        let mut invariants: Vec<&str> = verdicts.iter().filter_map(|v| v.invariant).collect();
        invariants.sort_unstable();
        invariants.dedup();
        let found = fleet_sim::judge::median(verdicts);
        let after = found.map_or("not found".to_owned(), |seeds| seeds.to_string());
        println!("| {name} | {} | {after} |", invariants.join(", "));
        self.guilty.extend(verdicts.iter().flat_map(|verdict| &verdict.guilty));
        match found {
            Some(seeds) => self.longest = self.longest.max(seeds),
            None => self.missed.push(name),
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        bugs: BUGS.to_vec(),
        seeds: 2_000,
        rounds: 1,
        first: 1_000_000,
        jobs: many::processors(),
        with: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bug" => {
                let name = value(&mut args, &arg)?;
                options.bugs.retain(|bug| bug.name.starts_with(&name));
                if options.bugs.is_empty() {
                    return Err(format!("no mistake has a name that begins with {name:?}"));
                }
            }
            "--seeds" => options.seeds = number(&mut args, &arg)?,
            "--jobs" => options.jobs = count(&mut args, &arg)?.max(1),
            "--rounds" => options.rounds = count(&mut args, &arg)?.max(1),
            "--with" => {
                let choice = value(&mut args, &arg)?;
                let (name, chosen) = choice.split_once('=').ok_or("--with needs NAME=VALUE")?;
                options.with.push((name.to_owned(), chosen.to_owned()));
            }
            "--seed" => options.first = number(&mut args, &arg)?,
            _ => return Err(format!("{arg:?} is no option")),
        }
    }
    Ok(options)
}
