//! `flotilla bench`: how fast the site takes writes.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fleet_client::{BenchPlan, run_bench};
use fleet_state::limits::VALUE_BYTES_MAX;

use crate::{
    output::{Form, Table},
    session::Session,
};

/// Write parameters as fast as the site takes them, and print what was measured as JSON
///
/// Each client sends its next write when the last was answered. Every counted write was synced by a
/// majority of the voters before its answer. The parameters are named bench.k0 and so on, and stay.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Writes under way at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// For how long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Size of a value in bytes
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=VALUE_BYTES_MAX as i64))]
    size: u32,
    /// How many parameters are written to
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    keys: u32,
}

pub(crate) async fn run(args: BenchArgs, session: &Session) -> Result<()> {
    let connection = &session.globals.connection;
    let timeout = session.globals.timeout;
    let plan = BenchPlan {
        clients: args.clients as usize,
        duration: Duration::from_secs(args.seconds.into()),
        size_bytes: args.size as usize,
        keys: args.keys as usize,
        timeout,
    };
    let report = run_bench(&connection.config(timeout)?, connection.site.as_ref(), plan).await?;
    // One line of JSON, so that runs can be collected; a table would lose figures.
    match session.form() {
        Form::Yaml => Form::Yaml.print(&report, || Table::new(&[])),
        Form::Table | Form::Json => Form::Json.print_next(&report, String::new),
    }
}
