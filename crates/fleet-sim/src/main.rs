//! Replays or hunts seeds: `fleet-sim --seed N [--seeds COUNT] [-v]`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use fleet_sim::{Report, run_seed};

const USAGE: &str = "usage: fleet-sim [--seed N] [--seeds COUNT] [--twice] [-v]

  --seed N       the first seed (default 0)
  --seeds COUNT  how many, one after the other (default 1)
  --twice        run each seed twice and compare what happened
  -v             print every event but frames";

/// A way to convergence that is worth a look.
const SLOW_TICKS: u64 = 600;

struct Options {
    seed: u64,
    seeds: u64,
    twice: bool,
    live: bool,
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(options) => options,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let mut total = Total::default();
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        match run(seed, &options) {
            Ok(report) => {
                if report.calm_ticks > SLOW_TICKS {
                    println!("seed {seed} converged after {} ticks", report.calm_ticks);
                }
                total.add(&report);
            }
            Err(failure) => {
                eprintln!("{failure}");
                total.failed.push(seed);
            }
        }
    }
    total.print(began.elapsed().as_secs_f64());
    if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(seed: u64, options: &Options) -> Result<Report, String> {
    let report = run_seed(seed, options.live).map_err(|failure| failure.to_string())?;
    if options.twice {
        let again = run_seed(seed, false).map_err(|failure| failure.to_string())?;
        if again.trace_hash != report.trace_hash {
            return Err(format!("seed {seed} went another way the second time"));
        }
    }
    Ok(report)
}

fn parse() -> Result<Options, String> {
    let mut options = Options { seed: 0, seeds: 1, twice: false, live: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{arg} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {value:?}"))
        };
        match arg.as_str() {
            "--seed" => options.seed = number()?,
            "--seeds" => options.seeds = number()?,
            "--twice" => options.twice = true,
            "-v" => options.live = true,
            _ => return Err(format!("{arg:?} is no option")),
        }
    }
    Ok(options)
}

#[derive(Default)]
struct Total {
    runs: u64,
    steps: u64,
    simulated_ms: u64,
    decided: u64,
    read: u64,
    calm_ticks_max: u64,
    snapshots: (u64, u64),
    disk_faults: u64,
    fired: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.steps += report.steps;
        self.simulated_ms += report.simulated_ms;
        self.decided += report.clients.decided;
        self.read += report.clients.read;
        self.calm_ticks_max = self.calm_ticks_max.max(report.calm_ticks);
        self.disk_faults += report.counts.0;
        self.snapshots.0 += report.counts.1;
        self.snapshots.1 += report.counts.2;
        for (fault, count) in &report.fired {
            *self.fired.entry(fault.as_str()).or_default() += count;
        }
    }

    fn print(&self, seconds: f64) {
        let runs = self.runs + self.failed.len() as u64;
        println!("{runs} seeds in {seconds:.1} s, {} failed {:?}", self.failed.len(), self.failed);
        println!(
            "{:.1} seeds/s, {:.0} steps/s",
            runs as f64 / seconds,
            self.steps as f64 / seconds
        );
        println!("simulated over real time: {:.0}", self.simulated_ms as f64 / 1e3 / seconds);
        println!("writes decided {}, reads {}", self.decided, self.read);
        println!("snapshots taken {}, installed {}", self.snapshots.0, self.snapshots.1);
        println!("longest way from calm to convergence: {} ticks", self.calm_ticks_max);
        println!("faults: {:?}, at the disk {}", self.fired, self.disk_faults);
    }
}
