//! `flotilla device`: what should be.

mod import;
mod local;
mod scan;
mod show;
mod stop;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_protocol::{Area, CommandTarget};
use fleet_state::{DeviceId, LinkId, Mode, Object};

use super::listed;
use crate::{
    exit::Stop,
    session::Session,
    value,
    write::{HandOverArgs, Order, WriteArgs},
};

/// Devices and their desired states
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device known, or change its description; its desired state stays
    Register(Box<RegisterArgs>),
    /// Register the devices that a bridge or a broker knows; shows first what would change
    Import(import::ImportArgs),
    /// Ask which units of a bus are there; registers nothing
    Scan(scan::ScanArgs),
    /// List devices
    Ls(ListArgs),
    /// Show one device
    Get {
        /// The device
        id: DeviceId,
    },
    /// Change some of a device's desired state
    Set(LocallyArgs),
    /// Put a whole desired state in place of the old one
    Replace(SetArgs),
    /// Say whether devices are written to
    Mode {
        /// observe: never; manual: when somebody wants something; auto: as their policy says
        #[arg(value_parser = mode)]
        mode: Mode,
        #[command(flatten)]
        each: EachArgs,
    },
    /// Write nothing to devices, whatever their mode
    Hold {
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        each: EachArgs,
    },
    /// End the hold of devices
    Release(EachArgs),
    /// Ask a device to do something once
    Invoke {
        /// The device
        id: DeviceId,
        /// What it is to do
        action: String,
        /// With what: key=value, or one JSON object
        #[arg(value_name = "KEY=VALUE")]
        args: Vec<String>,
        #[command(flatten)]
        write: HandOverArgs,
    },
    /// Bring a device to a standstill by the action that its policy names, then put it on hold
    Stop(stop::StopArgs),
    /// Forget devices
    Rm(EachArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LocallyArgs {
    #[command(flatten)]
    set: SetArgs,
    /// Without a majority: write it at this gateway, to a device that is wired to it
    #[arg(long, conflicts_with_all = ["file"])]
    local: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EachArgs {
    /// The devices
    #[arg(required = true, value_name = "ID")]
    ids: Vec<DeviceId>,
    #[command(flatten)]
    write: WriteArgs,
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
        let modes = Mode::ALL.map(Mode::as_str).join(", ");
        format!("the modes are {modes}; the mode stands before the devices")
    })
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The device
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    id: Option<DeviceId>,
    /// The link that carries it
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    link: Option<LinkId>,
    /// What its desired state may look like: JSON, or @FILE
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    model: Option<String>,
    /// How its owner treats it: JSON, or @FILE
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    policy: Option<String>,
    #[command(flatten)]
    described: listed::DescribedArgs,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only what lies in this area, as in hall2
    area: Option<Area>,
    /// Only with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Only devices that are known not to be as desired
    #[arg(long)]
    drift: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The device
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    id: Option<DeviceId>,
    /// What should be: key=value, or one JSON object
    #[arg(value_name = "KEY=VALUE", conflicts_with = "file")]
    values: Vec<String>,
    /// A list of {id, desired} in YAML or JSON; - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    write: HandOverArgs,
}

pub(crate) async fn run(command: DeviceCommand, session: &Session) -> Result<()> {
    match command {
        DeviceCommand::Register(args) => {
            let orders = args.orders()?;
            args.write.send_all(session, orders).await
        }
        DeviceCommand::Import(args) => import::run(args, session).await,
        DeviceCommand::Scan(args) => scan::run(args, session).await,
        DeviceCommand::Ls(args) => show::list(args, session).await,
        DeviceCommand::Get { id } => show::get(id, session).await,
        DeviceCommand::Set(LocallyArgs { set, local: true }) => {
            local::set(session, set.id.as_ref(), &set.values, &set.write.write()).await
        }
        DeviceCommand::Set(LocallyArgs { set, local: false }) => {
            let orders = set.orders(CommandTarget::DeviceUpdate)?;
            set.write.write().send_all(session, orders).await
        }
        DeviceCommand::Stop(args) => stop::run(args, session).await,
        DeviceCommand::Replace(args) => {
            let orders = args.orders(CommandTarget::DeviceReplace)?;
            args.write.write().send_all(session, orders).await
        }
        DeviceCommand::Mode { mode, each } => {
            let payload = format!("\"{}\"", mode.as_str());
            each.send(session, CommandTarget::DeviceMode, &payload).await
        }
        DeviceCommand::Hold { reason, each } => {
            let mut body = Object::new();
            body.insert("reason", reason);
            each.send(session, CommandTarget::DeviceHold, &body.to_json()).await
        }
        DeviceCommand::Release(each) => each.send(session, CommandTarget::DeviceRelease, "").await,
        DeviceCommand::Invoke { id, action, args, write } => {
            let mut body = Object::new();
            body.insert("action", action);
            body.insert("args", value::object(&args)?);
            let payload = body.to_json().into_bytes();
            let order = Order { target: CommandTarget::DeviceInvoke(id), payload };
            write.write().send(session, order).await
        }
        DeviceCommand::Rm(each) => each.send(session, CommandTarget::DeviceDelete, "").await,
    }
}

impl EachArgs {
    /// Sends the same to each of them.
    async fn send(
        self,
        session: &Session,
        target: fn(DeviceId) -> CommandTarget,
        payload: &str,
    ) -> Result<()> {
        let order = |id| Order { target: target(id), payload: payload.as_bytes().to_vec() };
        self.write.send_all(session, self.ids.into_iter().map(order).collect()).await
    }
}

impl RegisterArgs {
    fn orders(&self) -> Result<Vec<Order>, Stop> {
        self.described.orders(self.id.as_ref(), CommandTarget::DeviceRegister, || self.body())
    }

    fn body(&self) -> Result<Object, Stop> {
        let mut body = Object::new();
        if let Some(link) = &self.link {
            body.insert("link", link.as_str());
        }
        for (key, text) in [("model", &self.model), ("policy", &self.policy)] {
            if let Some(text) = text {
                body.insert(key, listed::json_or_file(text)?);
            }
        }
        Ok(body)
    }
}

impl SetArgs {
    fn orders(&self, target: fn(DeviceId) -> CommandTarget) -> Result<Vec<Order>, Stop> {
        let order = |id: DeviceId, desired: &Object| Order {
            target: target(id),
            payload: desired.to_json().into_bytes(),
        };
        match (&self.id, &self.file) {
            (Some(_), _) if self.values.is_empty() => Err(Stop::usage("nothing to set")
                .with_hint("Say what it should be, as in: on=true level=3.")),
            (Some(id), _) => Ok(vec![order(id.clone(), &value::object(&self.values)?)]),
            (None, Some(file)) => listed::from_file(file, |at, mut item| {
                let id = listed::take_id(file, at, &mut item, "id")?;
                let desired = listed::take(file, at, &mut item, "desired")?;
                let desired = desired.as_map().ok_or_else(|| {
                    let what = format!("desired is {} and not an object", desired.kind());
                    listed::wrong(file, at, &what)
                })?;
                Ok(order(id, desired))
            }),
            (None, None) => Err(Stop::usage("give a device and what should be, or a list with -f")),
        }
    }
}
