//! The agent of one gateway. Everything is in the library; this decides the exit code.

use std::process::ExitCode;

use clap::Parser as _;
use flotilla_agent::cli::Cli;
use flotilla_agent::commands;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread for everything but the consensus loop, which has its own. An agent waits for
    // sockets and its disk, not for its processor: with more threads, what a message costs is
    // their waking each other, and on the two cores of a gateway writes are a third fewer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(commands::carry_out(cli));
            // A task that hangs must not keep a drained process alive.
            runtime.shutdown_timeout(std::time::Duration::from_millis(200));
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flotilla-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
