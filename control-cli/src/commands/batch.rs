//! `flotilla batch`: several commands in one step, all of them or none.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use fleet_protocol::CommandTarget;

use crate::{
    file,
    session::Session,
    write::{Order, WriteArgs},
};

/// Several commands in one step: all of them or none
#[derive(Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Apply a list of {op, id, body, if_revision}, as in: - {op: param.set, id: a.b, body: 1}
    Apply {
        /// The list in YAML or JSON; - for standard input
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        write: WriteArgs,
    },
}

pub(crate) async fn run(command: BatchCommand, session: &Session) -> Result<()> {
    let BatchCommand::Apply { file, write } = command;
    let payload = file::read(&file)?.to_json().into_bytes();
    write.send(session, Order { target: CommandTarget::Batch, payload }).await
}
