//! `flotilla`: the operator's command line.
//!
//! One file per noun under `commands/`; what they share is beside this file: the options
//! ([`session`]) and the connection ([`connect`]), reading the command line ([`usage`]), sending and reporting ([`mod@write`]), reading lists ([`mod@file`]) and words
//! ([`value`]), printing ([`output`]). Data goes to standard output, talk to standard error. This file
//! only decides the exit code, by the list in [`exit`].

mod cli;
mod commands;
mod connect;
mod dev;
mod exit;
mod file;
mod output;
mod session;
mod usage;
mod value;
mod write;

use std::process::ExitCode;

// The mistakes that the simulator makes on purpose must never run a site.
const _: () = assert!(!fleet_state::seeded::COMPILED, "the CLI is built without seeded-bugs");

fn main() -> ExitCode {
    let cli = match usage::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be listening, which is no reason to end in another way.
            let _ = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(exit::Exit::Usage.code());
            return ExitCode::from(code);
        }
    };
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                output::say(&format!("error: the system gives no threads: {error}"));
                return ExitCode::from(exit::Exit::Failed.code());
            }
        };
    let Err(error) = runtime.block_on(cli.run()) else { return ExitCode::SUCCESS };
    // A reader that went away, as in `flotilla device ls | head`, is no failure.
    let Some(stop) = exit::stop_of(error) else { return ExitCode::SUCCESS };
    if !stop.message.is_empty() {
        output::say(&format!("error: {}", stop.message));
    }
    if let Some(hint) = &stop.hint {
        output::say(hint);
    }
    ExitCode::from(stop.exit.code())
}
