//! `flotilla leader`: who decides the order of things at the moment.

use anyhow::Result;
use clap::Subcommand;
use fleet_protocol::{Consistency, QueryTarget, record::SiteBody};
use serde::Serialize;

use super::member;
use crate::{
    exit::{Exit, Stop},
    output::Table,
    session::Session,
};

/// The leader
#[derive(Debug, Subcommand)]
pub(crate) enum LeaderCommand {
    /// Show which member leads
    Show,
    /// Hand the leadership to another voter
    Transfer {
        /// Its name or node id [default: whichever is best]
        node: Option<String>,
    },
}

#[derive(Debug, Serialize)]
struct Leader {
    node: u64,
    name: String,
    term: u64,
}

pub(crate) async fn run(command: LeaderCommand, session: &Session) -> Result<()> {
    let client = session.client().await?;
    if let LeaderCommand::Transfer { node } = command {
        let to = match node {
            Some(node) => Some(member::find(&client, &node).await?),
            None => None,
        };
        client.transfer_leader(to).await?;
    }
    let site = client.get::<SiteBody>(&QueryTarget::Site, session.consistency()).await?.item;
    let members = member::members(&client, Consistency::Stale).await?.items;
    let node = site
        .leader
        .ok_or_else(|| Stop::new(Exit::Unavailable, "the site has no leader at the moment"))?;
    let name = members.iter().find(|member| member.node == node).map(|member| member.name.clone());
    let leader = Leader { node, name: name.unwrap_or_default(), term: site.term };
    session.form().print(&leader, || {
        Table::facts([
            ("leader", leader.name.clone()),
            ("node", leader.node.to_string()),
            ("term", leader.term.to_string()),
        ])
    })
}
