//! `flotilla link`: what devices hang on.

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_protocol::{
    Area, CommandTarget, Noun, QueryTarget,
    query::PageRequest,
    record::{LinkBody, PlacementBody},
};
use fleet_state::{Entity, LinkId, NodeName, Object, Value};

use super::listed;
use crate::{
    exit::Stop,
    output::{Table, tame, time},
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
    /// Ask the owner of a link to let go of it
    Move {
        /// The link
        id: LinkId,
        /// The node that is to have it; else whichever is best
        #[arg(long, value_name = "NODE")]
        to: Option<NodeName>,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Write nothing to the devices of links
    Pause(EachArgs),
    /// Write to the devices of links again
    Resume(EachArgs),
    /// Forget links that no device uses
    Rm(EachArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EachArgs {
    /// The links
    #[arg(required = true, value_name = "ID")]
    ids: Vec<LinkId>,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The link
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    id: Option<LinkId>,
    /// The connector that speaks its protocol
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    connector: Option<String>,
    /// The node it is wired to
    #[arg(long, value_name = "NODE", conflicts_with_all = ["file", "any"])]
    on: Option<NodeName>,
    /// Any node with this label may serve it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "file")]
    any: Vec<String>,
    #[command(flatten)]
    described: listed::DescribedArgs,
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
        LinkCommand::Move { id, to, write } => {
            let mut body = Object::new();
            if let Some(to) = to {
                body.insert("to", to.as_str());
            }
            let payload = body.to_json().into_bytes();
            write.send(session, Order { target: CommandTarget::LinkMove(id), payload }).await
        }
        LinkCommand::Pause(args) => args.send(session, CommandTarget::LinkPause).await,
        LinkCommand::Resume(args) => args.send(session, CommandTarget::LinkResume).await,
        LinkCommand::Rm(args) => args.send(session, CommandTarget::LinkDelete).await,
    }
}

impl EachArgs {
    async fn send(self, session: &Session, target: fn(LinkId) -> CommandTarget) -> Result<()> {
        listed::send_each(&self.write, session, self.ids, target).await
    }
}

impl RegisterArgs {
    fn orders(&self) -> Result<Vec<Order>, Stop> {
        self.described.orders(self.id.as_ref(), CommandTarget::LinkRegister, || self.body())
    }

    fn body(&self) -> Result<Object, Stop> {
        let mut body = Object::new();
        if let Some(connector) = &self.connector {
            body.insert("connector", connector.as_str());
        }
        let mut placement = Object::new();
        match &self.on {
            Some(node) => placement.insert("on", node.as_str()),
            None => placement.insert("any", Value::Map(listed::labels(&self.any)?)),
        };
        body.insert("placement", Value::Map(placement));
        Ok(body)
    }
}

fn place(placement: &PlacementBody) -> String {
    match placement {
        PlacementBody::On(node) => format!("on {node}"),
        PlacementBody::Any(labels) if labels.is_empty() => "any".to_owned(),
        PlacementBody::Any(labels) => format!("any with {}", listed::shown_labels(labels)),
    }
}

/// Who owns it, and what is about to become of that.
fn owner(link: &LinkBody) -> String {
    let node = |node: Option<u64>| node.map_or("nobody".to_owned(), |node| format!("node {node}"));
    match (link.releasing, link.wanted) {
        (_, Some(wanted)) => format!("{}, moving to node {wanted}", node(link.owner)),
        (true, None) => format!("{}, letting go", node(link.owner)),
        (false, None) => node(link.owner),
    }
}

/// A text of what its owner says of it.
fn told(link: &LinkBody, key: &str) -> Option<String> {
    let observed = link.observed.as_ref()?.0.as_map()?;
    observed.get(key).and_then(Value::as_text).map(tame)
}

/// Whether it is connected, as its owner says.
fn state(link: &LinkBody) -> String {
    told(link, "state").unwrap_or_else(|| "unknown".to_owned())
}

/// When it is tried again.
fn next_try(link: &LinkBody) -> String {
    let observed = link.observed.as_ref().and_then(|observed| observed.0.as_map());
    let at_ms = observed.and_then(|observed| match observed.get("next_try_wall_ms") {
        Some(Value::U64(at_ms)) => Some(*at_ms),
        Some(Value::I64(at_ms)) => u64::try_from(*at_ms).ok(),
        Some(_) | None => None,
    });
    at_ms.map_or_else(|| "-".to_owned(), time)
}

async fn get(id: LinkId, session: &Session) -> Result<()> {
    let link: LinkBody = listed::one(session, QueryTarget::Get(Entity::Link(id))).await?;
    session.form().print(&link, || {
        Table::facts([
            ("id", link.id.clone()),
            ("name", link.name.clone()),
            ("connector", link.connector.clone()),
            ("address", link.address.clone()),
            ("placement", place(&link.placement)),
            ("labels", listed::shown_labels(&link.labels)),
            ("settings", link.settings.0.to_json()),
            ("owner", owner(&link)),
            ("state", state(&link)),
            ("detail", told(&link, "detail").unwrap_or_else(|| "-".to_owned())),
            ("next try", next_try(&link)),
            ("epoch", link.epoch.to_string()),
            ("writing", if link.paused { "paused" } else { "on" }.to_owned()),
            ("revision", link.revision.to_string()),
            ("changed", time(link.changed_wall_ms)),
        ])
    })
}

async fn list(area: Option<Area>, labels: &[String], session: &Session) -> Result<()> {
    let target = QueryTarget::List { noun: Noun::Link, area };
    let page = PageRequest { labels: listed::label_filter(labels)?, ..listed::whole_page() };
    let found: Vec<LinkBody> = listed::all(session, target, page).await?;
    session.form().print(&found, || {
        let mut table = Table::new(&[
            "ID",
            "CONNECTOR",
            "ADDRESS",
            "PLACEMENT",
            "OWNER",
            "EPOCH",
            "WRITING",
            "STATE",
        ]);
        for link in &found {
            table.row([
                link.id.clone(),
                link.connector.clone(),
                link.address.clone(),
                place(&link.placement),
                owner(link),
                link.epoch.to_string(),
                if link.paused { "paused" } else { "on" }.to_owned(),
                state(link),
            ]);
        }
        table
    })
}
