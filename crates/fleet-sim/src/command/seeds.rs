//! Runs seeds, as many at a time as there are processors.

use std::time::Instant;

use fleet_sim::random::Random;
use fleet_sim::shrink::shrink;
use fleet_sim::{Failure, Report, Swarm, run_swarm};

use super::total::Total;
use super::{count, many, number, value};

/// A way to convergence that is worth a look.
const SLOW_TICKS: u64 = 600;

struct Options {
    seed: u64,
    seeds: usize,
    /// At a time.
    jobs: usize,
    twice: bool,
    live: bool,
    shrink: bool,
    with: Vec<(String, String)>,
}

/// Says whether all of them passed.
///
/// # Errors
/// An option that isn't one.
pub(crate) fn seeds(args: impl Iterator<Item = String>) -> Result<bool, String> {
    let options = parse(args)?;
    let began = Instant::now();
    let mut total = Total::default();
    // What one does depends on its seed alone, whatever runs beside it.
    let seed_of = |one: usize| options.seed.saturating_add(one as u64);
    let run = |one| run(seed_of(one), &options);
    many::each(options.seeds, options.jobs, run, |one, ran| match ran {
        Ok(report) => {
            if report.calm_ticks > SLOW_TICKS {
                println!("seed {} converged after {} ticks", seed_of(one), report.calm_ticks);
            }
            total.add(&report);
        }
        Err(failure) => {
            eprintln!("{failure}");
            total.failed.push(seed_of(one));
        }
    });
    total.print(began.elapsed().as_secs_f64(), options.jobs);
    Ok(total.failed.is_empty())
}

fn run(seed: u64, options: &Options) -> Result<Report, String> {
    let swarm = swarm_of(seed, options)?;
    let ran = run_swarm(seed, swarm.clone(), options.live);
    let report = ran.map_err(|failure| told(seed, &swarm, failure, options))?;
    if options.twice {
        let again = run_swarm(seed, swarm, false).map_err(|failure| failure.to_string())?;
        if again.trace_hash != report.trace_hash {
            return Err(format!("seed {seed} went another way the second time"));
        }
    }
    Ok(report)
}

/// What the seed chooses, and what the command line would rather have.
fn swarm_of(seed: u64, options: &Options) -> Result<Swarm, String> {
    let mut swarm = Swarm::draw(&mut Random::new(!seed));
    for (name, value) in &options.with {
        swarm.set(name, value)?;
    }
    Ok(swarm)
}

fn told(seed: u64, swarm: &Swarm, failure: Box<Failure>, options: &Options) -> String {
    let failed = failure.to_string();
    if !options.shrink {
        return failed;
    }
    eprintln!("{failed}\n\nlooking for a smaller run that fails like this ...");
    let shrunk = shrink(seed, swarm.clone(), failure);
    format!("{}\nsmallest of {} runs", shrunk.failure, shrunk.runs)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seed: 0,
        seeds: 1,
        jobs: many::processors(),
        twice: false,
        live: false,
        shrink: false,
        with: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => options.seed = number(&mut args, &arg)?,
            "--seeds" => options.seeds = count(&mut args, &arg)?,
            "--jobs" => options.jobs = count(&mut args, &arg)?.max(1),
            "--twice" => options.twice = true,
            "--shrink" => options.shrink = true,
            "--with" => {
                let with = value(&mut args, &arg)?;
                let (name, value) = with.split_once('=').ok_or("--with needs name=value")?;
                options.with.push((name.to_owned(), value.to_owned()));
            }
            "-v" => options.live = true,
            _ => return Err(format!("{arg:?} is no option")),
        }
    }
    // Events of several at once would be nobody's.
    if options.live {
        options.jobs = 1;
    }
    options.jobs = options.jobs.min(options.seeds.max(1));
    Ok(options)
}
