//! `flotilla device`: what should be.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_protocol::{
    Area, CommandTarget, Noun, QueryTarget, query::Page, query::PageRequest, record::DeviceBody,
};
use fleet_state::{DeviceId, Entity, LinkId, Object, Value};

use super::listed;
use crate::{
    exit::Stop,
    file,
    output::{Table, time},
    session::Session,
    value,
    write::{HandOverArgs, Order, WriteArgs},
};

/// Devices and their desired states
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device known, or change its description; its desired state stays
    Register(RegisterArgs),
    /// List devices
    Ls(ListArgs),
    /// Show one device
    Get {
        /// The device
        id: DeviceId,
    },
    /// Change some of a device's desired state
    Set(SetArgs),
    /// Put a whole desired state in place of the old one
    Replace(SetArgs),
    /// Forget devices
    Rm {
        /// The devices
        #[arg(required = true, value_name = "ID")]
        ids: Vec<DeviceId>,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The device
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    id: Option<DeviceId>,
    /// The link that carries it
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    link: Option<LinkId>,
    /// Where it is on its link
    #[arg(long, conflicts_with = "file")]
    address: Option<String>,
    /// What people call it
    #[arg(long, conflicts_with = "file")]
    name: Option<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", conflicts_with = "file")]
    labels: Vec<String>,
    /// What its desired state may look like: JSON, or @FILE
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    model: Option<String>,
    /// A list of devices in YAML or JSON; - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
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
        DeviceCommand::Ls(args) => list(args, session).await,
        DeviceCommand::Get { id } => get(id, session).await,
        DeviceCommand::Set(args) => {
            let orders = args.orders(CommandTarget::DeviceUpdate)?;
            args.write.write().send_all(session, orders).await
        }
        DeviceCommand::Replace(args) => {
            let orders = args.orders(CommandTarget::DeviceReplace)?;
            args.write.write().send_all(session, orders).await
        }
        DeviceCommand::Rm { ids, write } => {
            let order = |id| Order { target: CommandTarget::DeviceDelete(id), payload: Vec::new() };
            write.send_all(session, ids.into_iter().map(order).collect()).await
        }
    }
}

impl RegisterArgs {
    fn orders(&self) -> Result<Vec<Order>, Stop> {
        let order = |id: DeviceId, body: &Object| Order {
            target: CommandTarget::DeviceRegister(id),
            payload: body.to_json().into_bytes(),
        };
        match (&self.id, &self.file) {
            (Some(id), _) => Ok(vec![order(id.clone(), &self.body()?)]),
            (None, Some(file)) => file::objects(file)?
                .into_iter()
                .enumerate()
                .map(|(at, mut item)| {
                    let id = listed::take_id(file, at, &mut item, "id")?;
                    Ok(order(id, &item))
                })
                .collect(),
            (None, None) => Err(Stop::usage("give the id of a device, or a list with -f")),
        }
    }

    fn body(&self) -> Result<Object, Stop> {
        let mut body = Object::new();
        let texts = [("address", &self.address), ("name", &self.name)];
        for (key, text) in texts {
            if let Some(text) = text {
                body.insert(key, text.as_str());
            }
        }
        if let Some(link) = &self.link {
            body.insert("link", link.as_str());
        }
        if !self.labels.is_empty() {
            body.insert("labels", Value::Map(listed::labels(&self.labels)?));
        }
        if let Some(model) = &self.model {
            let model = match model.strip_prefix('@') {
                Some(path) => file::read(path.as_ref())?,
                None => value::guess(model)?,
            };
            body.insert("model", model);
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
            (None, Some(file)) => file::objects(file)?
                .into_iter()
                .enumerate()
                .map(|(at, mut item)| {
                    let id = listed::take_id(file, at, &mut item, "id")?;
                    let desired = listed::take(file, at, &mut item, "desired")?;
                    let desired = desired.as_map().ok_or_else(|| {
                        let what = format!("desired is {} and not an object", desired.kind());
                        listed::wrong(file, at, &what)
                    })?;
                    Ok(order(id, desired))
                })
                .collect(),
            (None, None) => Err(Stop::usage("give a device and what should be, or a list with -f")),
        }
    }
}

async fn get(id: DeviceId, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::Get(Entity::Device(id));
    let found = client.get::<DeviceBody>(&target, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    let device = found.item;
    session.form().print(&device, || {
        let labels: Vec<String> =
            device.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Table::facts([
            ("id", device.id.clone()),
            ("name", device.name.clone()),
            ("link", device.link.clone().unwrap_or_default()),
            ("address", device.address.clone()),
            ("labels", labels.join(" ")),
            ("desired", device.desired.0.to_json()),
            ("desired revision", device.desired_revision.to_string()),
            ("revision", device.revision.to_string()),
            ("changed", time(device.changed_wall_ms)),
        ])
    })
}

async fn list(args: ListArgs, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::List { noun: Noun::Device, area: args.area };
    let labels = listed::label_filter(&args.labels)?;
    let page = PageRequest { labels, ..listed::whole_page() };
    let found: Page<DeviceBody> = client.list(&target, page, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    session.form().print(&found.items, || {
        let mut table = Table::new(&["ID", "NAME", "LINK", "REVISION", "DESIRED"]);
        for device in &found.items {
            table.row([
                device.id.clone(),
                device.name.clone(),
                device.link.clone().unwrap_or_default(),
                device.revision.to_string(),
                device.desired.0.to_json(),
            ]);
        }
        table
    })
}
