//! The command line: what can be typed.

use anyhow::Result;
use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    commands::{
        batch::{self, BatchCommand},
        bench::{self, BenchArgs},
        command::{self, CommandCommand},
        dev::{self, DevArgs},
        device::{self, DeviceCommand},
        leader::{self, LeaderCommand},
        link::{self, LinkCommand},
        member::{self, MemberCommand},
        mesh::{self, MeshCommand},
        param::{self, ParamCommand},
        partition::{self, PartitionCommand},
        snapshot::{self, SnapshotCommand},
        status,
        token::{self, TokenCommand},
        watch::{self, WatchArgs},
    },
    exit::{Exit, Stop},
    output::{Form, put, say},
    session::{Globals, Session},
    usage,
};

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 precondition, 5 unavailable, 6 denied, 7 partly,
8 rejected, 9 unknown (the request id is printed for the retry), 10 committed but the awaited stage was
not reached, 130 interrupted.";

/// Command a Flotilla site: what its devices and parameters should be
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, after_help = AFTER_HELP, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Site(SiteCommand),
    Dev(DevArgs),
    /// Print what a shell needs to complete commands
    ///
    /// For bash, in ~/.bashrc: source <(flotilla completion bash)
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// What is asked of a site.
#[derive(Debug, Subcommand)]
enum SiteCommand {
    /// The site and its nodes at a glance
    Status,
    #[command(subcommand)]
    Device(DeviceCommand),
    #[command(subcommand)]
    Param(ParamCommand),
    #[command(subcommand)]
    Link(LinkCommand),
    #[command(subcommand)]
    Command(CommandCommand),
    #[command(subcommand)]
    Batch(BatchCommand),
    Watch(WatchArgs),
    #[command(subcommand)]
    Member(MemberCommand),
    #[command(subcommand)]
    Mesh(MeshCommand),
    #[command(subcommand)]
    Partition(PartitionCommand),
    #[command(subcommand)]
    Token(TokenCommand),
    #[command(subcommand)]
    Leader(LeaderCommand),
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    Bench(BenchArgs),
}

impl Cli {
    /// Runs what was typed.
    pub(crate) async fn run(self) -> Result<()> {
        let command = match self.command {
            // It minds Ctrl-C itself: there are processes to be ended in order.
            Command::Dev(args) => return dev::run(args, self.globals.connection.site).await,
            Command::Completion { shell } => return print_completion(shell),
            Command::Site(command) => command,
        };
        let session = Session::new(self.globals);
        let is_graph = matches!(command, SiteCommand::Mesh(MeshCommand::Graph));
        if session.form() == Form::Dot && !is_graph {
            return Err(Stop::usage("-o dot is for a graph: flotilla mesh graph -o dot").into());
        }
        tokio::select! {
            done = run(command, &session) => done,
            signal = tokio::signal::ctrl_c() => {
                signal?;
                if let Some(note) = session.on_interrupt() {
                    say(&note);
                }
                Err(Stop::said(Exit::Interrupted).into())
            }
        }
    }
}

fn print_completion(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut usage::command(), "flotilla", &mut script);
    put(&String::from_utf8_lossy(&script))
}

async fn run(command: SiteCommand, session: &Session) -> Result<()> {
    match command {
        SiteCommand::Status => status::run(session).await,
        SiteCommand::Device(command) => device::run(command, session).await,
        SiteCommand::Param(command) => param::run(command, session).await,
        SiteCommand::Link(command) => link::run(command, session).await,
        SiteCommand::Command(command) => command::run(command, session).await,
        SiteCommand::Batch(command) => batch::run(command, session).await,
        SiteCommand::Watch(args) => watch::run(args, session).await,
        SiteCommand::Member(command) => member::run(command, session).await,
        SiteCommand::Mesh(command) => mesh::run(command, session).await,
        SiteCommand::Partition(command) => partition::run(command, session).await,
        SiteCommand::Token(command) => token::run(command, session).await,
        SiteCommand::Leader(command) => leader::run(command, session).await,
        SiteCommand::Snapshot(command) => snapshot::run(command, session).await,
        SiteCommand::Bench(args) => bench::run(args, session).await,
    }
}

#[cfg(test)]
mod tests;
