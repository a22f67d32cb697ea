//! `flotilla link`: what devices hang on.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_protocol::{
    Area, CommandTarget, Noun, QueryTarget,
    query::{Page, PageRequest},
    record::{LinkBody, PlacementBody},
};
use fleet_state::{Entity, LinkId, NodeName, Object, Value};

use super::listed;
use crate::{
    exit::Stop,
    file,
    output::{Table, time},
    session::Session,
    write::{Order, WriteArgs},
};

/// Links: brokers, controllers and buses that carry devices
#[derive(Debug, Subcommand)]
pub(crate) enum LinkCommand {
    /// Make a link known, or change how it is reached
    Register(Box<RegisterArgs>),
    /// List links
    Ls {
        /// Only what lies in this area, as in hall2
        area: Option<Area>,
        /// Only with this label; may be given several times
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// Show one link
    Get {
        /// The link
        id: LinkId,
    },
    /// Forget links that no device uses
    Rm {
        /// The links
        #[arg(required = true, value_name = "ID")]
        ids: Vec<LinkId>,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The link
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    id: Option<LinkId>,
    /// The connector that speaks its protocol
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    connector: Option<String>,
    /// Where it is, as its connector writes it
    #[arg(long, conflicts_with = "file")]
    address: Option<String>,
    /// The node it is wired to
    #[arg(long, value_name = "NODE", conflicts_with_all = ["file", "any"])]
    on: Option<NodeName>,
    /// Any node with this label may serve it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "file")]
    any: Vec<String>,
    /// What people call it
    #[arg(long, conflicts_with = "file")]
    name: Option<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", conflicts_with = "file")]
    labels: Vec<String>,
    /// A list of links in YAML or JSON; - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) async fn run(command: LinkCommand, session: &Session) -> Result<()> {
    match command {
        LinkCommand::Register(args) => {
            let orders = args.orders()?;
            args.write.send_all(session, orders).await
        }
        LinkCommand::Ls { area, labels } => list(area, &labels, session).await,
        LinkCommand::Get { id } => get(id, session).await,
        LinkCommand::Rm { ids, write } => {
            let order = |id| Order { target: CommandTarget::LinkDelete(id), payload: Vec::new() };
            write.send_all(session, ids.into_iter().map(order).collect()).await
        }
    }
}

impl RegisterArgs {
    fn orders(&self) -> Result<Vec<Order>, Stop> {
        let order = |id: LinkId, body: &Object| Order {
            target: CommandTarget::LinkRegister(id),
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
            (None, None) => Err(Stop::usage("give the id of a link, or a list with -f")),
        }
    }

    fn body(&self) -> Result<Object, Stop> {
        let mut body = Object::new();
        let texts =
            [("connector", &self.connector), ("address", &self.address), ("name", &self.name)];
        for (key, text) in texts {
            if let Some(text) = text {
                body.insert(key, text.as_str());
            }
        }
        let mut placement = Object::new();
        match &self.on {
            Some(node) => placement.insert("on", node.as_str()),
            None => placement.insert("any", Value::Map(listed::labels(&self.any)?)),
        };
        body.insert("placement", Value::Map(placement));
        if !self.labels.is_empty() {
            body.insert("labels", Value::Map(listed::labels(&self.labels)?));
        }
        Ok(body)
    }
}

fn place(placement: &PlacementBody) -> String {
    match placement {
        PlacementBody::On(node) => format!("on {node}"),
        PlacementBody::Any(labels) if labels.is_empty() => "any".to_owned(),
        PlacementBody::Any(labels) => {
            let labels: Vec<String> =
                labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("any with {}", labels.join(" "))
        }
    }
}

async fn get(id: LinkId, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::Get(Entity::Link(id));
    let found = client.get::<LinkBody>(&target, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    let link = found.item;
    session.form().print(&link, || {
        Table::facts([
            ("id", link.id.clone()),
            ("name", link.name.clone()),
            ("connector", link.connector.clone()),
            ("address", link.address.clone()),
            ("placement", place(&link.placement)),
            ("revision", link.revision.to_string()),
            ("changed", time(link.changed_wall_ms)),
        ])
    })
}

async fn list(area: Option<Area>, labels: &[String], session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::List { noun: Noun::Link, area };
    let page = PageRequest { labels: listed::label_filter(labels)?, ..listed::whole_page() };
    let found: Page<LinkBody> = client.list(&target, page, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    session.form().print(&found.items, || {
        let mut table = Table::new(&["ID", "CONNECTOR", "ADDRESS", "PLACEMENT", "REVISION"]);
        for link in &found.items {
            table.row([
                link.id.clone(),
                link.connector.clone(),
                link.address.clone(),
                place(&link.placement),
                link.revision.to_string(),
            ]);
        }
        table
    })
}
