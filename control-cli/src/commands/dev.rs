//! `flotilla dev`: a local site for trying things out.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_protocol::duration;
use fleet_state::SiteName;

use crate::dev;

/// Start a whole site on this machine: a nats-server and agents, all real.
///
/// It waits until the site is whole, says how to talk to it, prints what happens, and stops
/// everything on Ctrl-C.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    command: Option<DevCommand>,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Stop a site that was started with --data.
    Stop {
        /// The folder it was started with.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

#[derive(Debug, Args)]
struct StartArgs {
    /// How many agents [default: 3, or as many as there were]
    #[arg(long, value_name = "N")]
    agents: Option<u8>,
    /// How many of them vote [default: all, or one less to make it odd]
    #[arg(long, value_name = "N")]
    voters: Option<u8>,
    /// Keep the site's files here, and go on with them at the next start
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Return once the site is whole, and leave it running
    #[arg(long, requires = "data")]
    detach: bool,
    /// Do without NATS: the agents know each other over their mesh, and are commanded at their doors
    #[arg(long)]
    no_nats: bool,
    /// The nats-server to start [default: the one on PATH, or the fetched one]
    #[arg(long, value_name = "FILE", env = "FLOTILLA_NATS_SERVER")]
    nats_server: Option<PathBuf>,
    /// The agent to start [default: the one beside this program, or on PATH]
    #[arg(long, value_name = "FILE")]
    agent_bin: Option<PathBuf>,
    /// How long the start may take as a whole; then everything is stopped again
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = start_timeout)]
    start_timeout: Duration,
}

/// Shortest and longest time for a start.
const START_MS_MIN: u64 = 1_000;
const START_MS_MAX: u64 = 60 * 60 * 1_000;

fn start_timeout(text: &str) -> Result<Duration, String> {
    duration::parse_ms(text, START_MS_MIN, START_MS_MAX)
        .map(Duration::from_millis)
        .map_err(|error| error.to_string())
}

/// Runs the command; `site` is what `--site` or its variable says.
pub(crate) async fn run(args: DevArgs, site: Option<SiteName>) -> Result<()> {
    if let Some(DevCommand::Stop { data }) = args.command {
        return dev::stop(&data).await;
    }
    let StartArgs { agents, voters, data, detach, no_nats, nats_server, agent_bin, start_timeout } =
        args.start;
    let wanted = dev::Wanted { site, agents, voters };
    let within = start_timeout;
    dev::start(dev::Start { wanted, data, detach, no_nats, nats_server, agent_bin, within }).await
}
