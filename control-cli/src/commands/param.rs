//! `flotilla param`: values that are not one device's.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_protocol::{Area, CommandTarget, Noun, QueryTarget, record::ParamBody};
use fleet_state::{Entity, ParamKey};

use super::listed;
use crate::{
    exit::Stop,
    output::{Table, time},
    session::Session,
    value,
    write::{Order, WriteArgs},
};

/// Parameters
#[derive(Debug, Subcommand)]
pub(crate) enum ParamCommand {
    /// List parameters
    Ls {
        /// Only what lies in this area, as in hall2
        area: Option<Area>,
    },
    /// Show one parameter
    Get {
        /// The parameter
        key: ParamKey,
    },
    /// Set a parameter
    Set(SetArgs),
    /// Forget parameters
    Rm {
        /// The parameters
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<ParamKey>,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The parameter
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    key: Option<ParamKey>,
    /// Its value: JSON, or else a text
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    value: Option<String>,
    /// A list of {key, value} in YAML or JSON; - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) async fn run(command: ParamCommand, session: &Session) -> Result<()> {
    match command {
        ParamCommand::Ls { area } => list(area, session).await,
        ParamCommand::Get { key } => get(key, session).await,
        ParamCommand::Set(args) => {
            let orders = args.orders()?;
            args.write.send_all(session, orders).await
        }
        ParamCommand::Rm { keys, write } => {
            listed::send_each(&write, session, keys, CommandTarget::ParamDelete).await
        }
    }
}

impl SetArgs {
    fn orders(&self) -> Result<Vec<Order>, Stop> {
        let order = |key: ParamKey, value: fleet_state::Value| Order {
            target: CommandTarget::ParamSet(key),
            payload: value.to_json().into_bytes(),
        };
        match (&self.key, &self.value, &self.file) {
            (Some(key), Some(value), _) => Ok(vec![order(key.clone(), value::guess(value)?)]),
            (_, _, Some(file)) => listed::from_file(file, |at, mut item| {
                let key = listed::take_id(file, at, &mut item, "key")?;
                Ok(order(key, listed::take(file, at, &mut item, "value")?))
            }),
            _ => Err(Stop::usage("give a key and a value, or a list with -f")),
        }
    }
}

async fn get(key: ParamKey, session: &Session) -> Result<()> {
    let param: ParamBody = listed::one(session, QueryTarget::Get(Entity::Param(key))).await?;
    session.form().print(&param, || {
        Table::facts([
            ("key", param.key.clone()),
            ("value", param.value.0.to_json()),
            ("revision", param.revision.to_string()),
            ("changed", time(param.changed_wall_ms)),
        ])
    })
}

async fn list(area: Option<Area>, session: &Session) -> Result<()> {
    let target = QueryTarget::List { noun: Noun::Param, area };
    let found: Vec<ParamBody> = listed::all(session, target, listed::whole_page()).await?;
    session.form().print(&found, || {
        let mut table = Table::new(&["KEY", "REVISION", "VALUE"]);
        for param in &found {
            table.row([param.key.clone(), param.revision.to_string(), param.value.0.to_json()]);
        }
        table
    })
}
