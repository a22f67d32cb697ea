//! Replays or hunts seeds, and judges the judge; `fleet-sim --help` says how.

mod command;

use std::process::ExitCode;

/// A simulated site makes and drops small things all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let outcome = match args.peek().map(String::as_str) {
        Some("judge") => {
            args.next();
            command::judge(args)
        }
        Some("history") => {
            args.next();
            command::history(args)
        }
        Some("--help" | "-h") => {
            println!("{}", command::USAGE);
            Ok(true)
        }
        _ => command::seeds(args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}\n{}", command::USAGE);
            ExitCode::from(2)
        }
    }
}
