//! The command line of `flotilla-agent`.
//!
//! Every setting of the configuration can be given as a flag by `--set section.key=value`; the
//! few that everybody needs have flags of their own, which mean the same.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use fleet_state::limits::TOKEN_USES_MAX;
use fleet_state::{NodeName, SiteName};

const AFTER_HELP: &str = "\
Exit codes: 0 it stopped because it was told to, or the task was done; 1 it could not start or
go on, and the last line on standard error is the reason; 2 the command line is not as it should
be; 101 it panicked, and the log says where. A second signal ends a drain at once, with 1.";

/// The agent of one gateway of a Flotilla site.
#[derive(Debug, Parser)]
#[command(name = "flotilla-agent", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new site with this gateway as its first voter, and print a join token.
    Init(Init),
    /// Join a site with a token, and run the agent.
    Join(Join),
    /// Run the agent of a gateway that belongs to a site.
    Run(Run),
    /// Make a new site from a snapshot of another one.
    Restore(Restore),
    /// Look at a data directory while no agent runs on it.
    #[command(subcommand)]
    Store(Store),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Where the configuration comes from.
#[derive(Args, Debug, Default)]
pub struct Settings {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "FLOTILLA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory of this gateway (`node.data_dir`).
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A NATS server; may be given several times (`nats.urls`).
    #[arg(long, value_name = "URL")]
    pub nats: Vec<String>,
    /// Do without NATS: the mesh carries everything (`nats.enabled=false`).
    #[arg(long, conflicts_with = "nats")]
    pub no_nats: bool,
    /// Any other setting, for example `--set raft.tick_ms=50`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Arguments of `init`.
#[derive(Args, Debug)]
pub struct Init {
    /// Name of the site: a-z, 0-9, `_`, `-`; at most 32 characters.
    #[arg(long)]
    pub site: SiteName,
    /// Name of this gateway (`node.name`); default: the machine's name.
    #[arg(long)]
    pub name: Option<NodeName>,
    /// How many gateways vote once enough have joined: 1, 3, 5 or 7.
    #[arg(long, default_value_t = 5)]
    pub voters: u8,
    /// How many gateways may join with the printed token: 1 to 64.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(TOKEN_USES_MAX)))]
    pub token_uses: u32,
    /// How long the printed token is valid, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub token_hours: u64,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub settings: Settings,
}

/// Arguments of `join`.
#[derive(Args, Debug)]
pub struct Join {
    /// The join token; `-` reads it from standard input, so that it stays out of the process list.
    pub token: String,
    /// Name of this gateway (`node.name`); default: the machine's name.
    #[arg(long)]
    pub name: Option<NodeName>,
    /// Join only; the agent is started later with `run`.
    #[arg(long)]
    pub only: bool,
    /// How long to try, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout_s: u64,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub settings: Settings,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub settings: Settings,
}

/// Arguments of `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// The snapshot file, as `flotilla snapshot save` wrote it.
    pub file: PathBuf,
    /// Name of the new site.
    #[arg(long)]
    pub site: SiteName,
    /// Name of this gateway (`node.name`); default: the machine's name.
    #[arg(long)]
    pub name: Option<NodeName>,
    /// How many gateways vote once enough have joined: 1, 3, 5 or 7.
    #[arg(long, default_value_t = 5)]
    pub voters: u8,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do with a data directory.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Read everything and say what is damaged; changes nothing.
    Check(Run),
    /// Print the log, an entry a line; changes nothing.
    Dump(Run),
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is valid.
    Check(Run),
    /// Print the effective configuration and where each value comes from.
    Show(Run),
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, for example raft.tick_ms=50".to_owned()),
    }
}

impl Settings {
    /// The flags as pairs of key and value, weakest first.
    #[must_use]
    pub fn flags(&self, name: Option<&NodeName>) -> Vec<(String, String)> {
        let mut flags = self.set.clone();
        if let Some(dir) = &self.data_dir {
            let dir = dir.to_string_lossy().into_owned();
            flags.push(("node.data_dir".to_owned(), dir));
        }
        if !self.nats.is_empty() {
            flags.push(("nats.urls".to_owned(), self.nats.join(",")));
        }
        if self.no_nats {
            flags.push(("nats.enabled".to_owned(), "false".to_owned()));
        }
        if let Some(name) = name {
            flags.push(("node.name".to_owned(), name.to_string()));
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_their_own_win_over_set() {
        let cli = Cli::try_parse_from([
            "flotilla-agent",
            "run",
            "--set",
            "node.data_dir=/a",
            "--data-dir",
            "/b",
            "--nats",
            "nats://127.0.0.1:1",
            "--nats",
            "nats://127.0.0.1:2",
        ])
        .expect("parses");
        let Command::Run(run) = cli.command else {
            panic!("run was asked for");
        };
        let flags = run.settings.flags(None);
        assert_eq!(flags[0].1, "/a");
        assert_eq!(flags[1], ("node.data_dir".to_owned(), "/b".to_owned()));
        assert_eq!(flags[2].1, "nats://127.0.0.1:1,nats://127.0.0.1:2");
    }

    #[test]
    fn bad_arguments_are_refused() {
        for arguments in [
            &["init"][..],
            &["init", "--site", "Home"],
            &["init", "--site", "a.b"],
            &["init", "--site", "home", "--token-hours", "0"],
            &["join"],
            &["run", "--set", "no-equals"],
            &["run", "--set", "=x"],
        ] {
            let all = std::iter::once(&"flotilla-agent").chain(arguments);
            assert!(Cli::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
