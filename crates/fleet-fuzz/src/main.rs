//! `fleet-fuzz [TARGET]... [--seconds N] [--seed N]`: feeds the named targets, or all.

use std::process::ExitCode;
use std::time::Duration;

use fleet_fuzz::{TARGETS, Target, fuzz};

fn main() -> ExitCode {
    match feed(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn feed(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut seconds, mut seed) = (60, 0);
    let mut names = Vec::new();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{arg} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {value:?}"))
        };
        match arg.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            _ => names.push(arg),
        }
    }
    let known = |name: &String| TARGETS.iter().any(|target| target.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        return Err(format!("no target is called {unknown:?}; there are {}", all.join(", ")));
    }
    let chosen = |target: &&Target| names.is_empty() || names.iter().any(|n| n == target.name);
    for target in TARGETS.iter().filter(chosen) {
        let report =
            fuzz(target, seed, Duration::from_secs(seconds), u64::MAX).map_err(|finding| {
                format!("{}: {}\ninput: {:?}", finding.target, finding.what, finding.input)
            })?;
        println!(
            "{:14} {:>10} inputs, {:>4} answers, {:>4} seeds",
            target.name, report.inputs, report.words, report.seeds
        );
    }
    Ok(())
}
