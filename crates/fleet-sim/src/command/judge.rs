//! Makes mistakes on purpose and prints what finds them.

use fleet_sim::judge::{BUGS, Bug};

use super::{number, value};

/// Seeds between the first ones of two rounds.
#[cfg(feature = "seeded-bugs")]
const ROUND_STRIDE: u64 = 100_000;

struct Options {
    bugs: Vec<Bug>,
    seeds: u64,
    rounds: u64,
    first: u64,
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
    use fleet_sim::judge::{Verdict, hunt, median};
    // Many mistakes end in a panic of a replica, which is a finding like any other.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let mut worst = 0;
    println!("| mistake | found by | after seeds (median of {}) |", options.rounds);
    println!("|---|---|---|");
    for bug in &options.bugs {
        let rounds = (0..options.rounds).map(|round| options.first + round * ROUND_STRIDE);
        let verdicts: Vec<Verdict> =
            rounds.map(|first| hunt(bug, first, options.seeds, &options.with)).collect();
        let mut invariants: Vec<&str> = verdicts.iter().filter_map(|v| v.invariant).collect();
        invariants.sort_unstable();
        invariants.dedup();
        let found = median(&verdicts);
        let after = found.map_or("not found".to_owned(), |seeds| seeds.to_string());
        println!("| {} | {} | {after} |", bug.name, invariants.join(", "));
        match found {
            Some(seeds) => worst = worst.max(seeds),
            None => missed.push(bug.name),
        }
    }
    println!("\n{} mistakes, not found {missed:?}, longest hunt {worst} seeds", options.bugs.len());
    Ok(missed.is_empty())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        bugs: BUGS.to_vec(),
        seeds: 2_000,
        rounds: 1,
        first: 1_000_000,
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
            "--rounds" => options.rounds = number(&mut args, &arg)?.max(1),
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
