//! `flotilla bench`: how fast the site takes writes.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use fleet_client::{BenchPlan, Client, CommandOptions, Outcome, run_bench};
use fleet_protocol::{
    CommandTarget, Consistency, Noun, QueryTarget, query::Page, record::ParamBody,
};
use fleet_state::limits::{BATCH_ITEMS_MAX, VALUE_BYTES_MAX};
use serde_json::json;

use super::listed;
use crate::{
    connect,
    output::{Form, Table, say},
    session::Session,
};

/// Where the parameters of a run are, and nobody else's.
const AREA: &str = "bench";
/// What their last token begins with.
const KEY_PREFIX: &str = "bench.k";

/// Write parameters as fast as the site takes them, and print what was measured as JSON
///
/// Each client sends its next write when the last was answered. Every counted write was synced by a
/// majority of the voters before its answer. The parameters are named bench.k0 and so on; they are deleted afterwards.
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
    /// Leave the parameters there
    #[arg(long)]
    keep: bool,
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
    // The way that this one takes is taken by all of them.
    let (client, config) = connect::connect(connection, timeout).await?;
    let report = run_bench(&config, Some(client.site()), plan).await?;
    if !args.keep
        && let Err(error) = clean(&client).await
    {
        say(&format!("note: the parameters below {KEY_PREFIX} could not all be deleted: {error}"));
    }
    // One line of JSON, so that runs can be collected; a table would lose figures.
    match session.form() {
        Form::Yaml => Form::Yaml.print(&report, || Table::new(&[])),
        Form::Table | Form::Json | Form::Dot => Form::Json.print_next(&report, String::new),
    }
}

/// Deletes what a run has written. Each step is one entry of the log.
async fn clean(client: &Client) -> Result<()> {
    let target = QueryTarget::List { noun: Noun::Param, area: Some(AREA.parse()?) };
    let consistency = Consistency::Linearizable;
    let found: Page<ParamBody> = client.list(&target, listed::whole_page(), consistency).await?;
    let written: Vec<&str> =
        found.items.iter().map(|param| param.key.as_str()).filter(|key| is_ours(key)).collect();
    for keys in written.chunks(BATCH_ITEMS_MAX) {
        let items: Vec<_> =
            keys.iter().map(|key| json!({"op": "param.delete", "id": key})).collect();
        let payload = serde_json::to_vec(&items)?;
        match client.command(&CommandTarget::Batch, payload, &CommandOptions::default()).await? {
            Outcome::Committed(_) => {}
            Outcome::Rejected(failed) => bail!("{}", failed.error.message),
            Outcome::Unknown(unknown) => bail!("{}", unknown.why),
        }
    }
    Ok(())
}

/// Whether a run names its parameters like this.
fn is_ours(key: &str) -> bool {
    let number = key.strip_prefix(KEY_PREFIX);
    number.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_run_writes_is_deleted() {
        for ours in ["bench.k0", "bench.k99999"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["bench.k", "bench.kitchen", "bench.k1.a", "bench", "benches.k1", "a.bench.k1"]
        {
            assert!(!is_ours(other), "{other}");
        }
    }
}
