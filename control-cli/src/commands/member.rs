//! `flotilla member`: the gateways of the site.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use fleet_client::{Client, ClientError};
use fleet_protocol::{
    AdminOp, Consistency, Noun, QueryTarget, mesh::PeerSeen, query::Page, record::MemberBody,
};
use fleet_state::{NodeId, Object, Value};
use serde::Serialize;

use super::{listed, mesh};
use crate::{
    exit::{Exit, Stop},
    output::Table,
    session::Session,
    value,
    write::RetryArgs,
};

/// Members of the site
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List members
    Ls,
    /// Show one member
    Get {
        /// Its name or node id
        node: String,
    },
    /// Let a standby become a voter
    Promote {
        /// Its name or node id
        node: String,
        #[command(flatten)]
        retry: RetryArgs,
    },
    /// Let a member have no links that another node could
    Drain {
        /// Its name or node id
        node: String,
        #[command(flatten)]
        retry: RetryArgs,
    },
    /// Let a member have links again
    Resume {
        /// Its name or node id
        node: String,
        #[command(flatten)]
        retry: RetryArgs,
    },
    /// Give a member labels, by which links choose where they may be served
    Label {
        /// Its name or node id
        node: String,
        /// hall=2 sets a label, hall- takes it away
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
        #[command(flatten)]
        retry: RetryArgs,
    },
    /// Remove a member for ever; a gateway that comes back joins anew
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name or node id
        node: String,
        #[command(flatten)]
        retry: RetryArgs,
    },
    /// Say how many voters the site wants
    Voters {
        /// 1, 3, 5 or 7
        voters: u8,
        #[command(flatten)]
        retry: RetryArgs,
    },
}

/// The members that the answering agent knows, by node id; needs no majority.
pub(super) async fn known(client: &Client) -> Result<BTreeMap<u64, String>, ClientError> {
    let target = QueryTarget::List { noun: Noun::Member, area: None };
    let page: Page<MemberBody> =
        client.list(&target, listed::whole_page(), Consistency::Stale).await?;
    let live = page.items.into_iter().filter(|member| member.role != "removed");
    Ok(live.map(|member| (member.node, member.name)).collect())
}

pub(crate) async fn run(command: MemberCommand, session: &Session) -> Result<()> {
    let client = session.client().await?;
    match command {
        MemberCommand::Ls => list(session, &client).await,
        MemberCommand::Get { node } => get(session, &client, &node).await,
        MemberCommand::Promote { node, retry } => {
            let change = Change { node, op: AdminOp::MemberPromote, retry };
            change.send(session, &client, body).await
        }
        MemberCommand::Drain { node, retry } => {
            let change = Change { node, op: AdminOp::MemberDrain, retry };
            change.send(session, &client, body).await
        }
        MemberCommand::Resume { node, retry } => {
            let change = Change { node, op: AdminOp::MemberResume, retry };
            change.send(session, &client, body).await
        }
        MemberCommand::Label { node, labels, retry } => {
            let patch = listed::label_patch(&labels)?;
            let labelled = |id: NodeId| {
                let mut body = Object::new();
                body.insert("node", id.get());
                body.insert("labels", Value::Map(patch));
                body.to_json()
            };
            let change = Change { node, op: AdminOp::MemberLabel, retry };
            change.send(session, &client, labelled).await
        }
        MemberCommand::Remove { node, retry } => {
            let change = Change { node, op: AdminOp::MemberRemove, retry };
            change.send(session, &client, body).await
        }
        MemberCommand::Voters { voters, retry } => {
            let payload = format!("{{\"voters\":{voters}}}");
            retry.admin(session, &client, AdminOp::VotersSet, ("voters".to_owned(), payload)).await
        }
    }
}

fn body(node: NodeId) -> String {
    format!("{{\"node\":{node}}}")
}

/// A change of one member.
struct Change {
    /// As it was named.
    node: String,
    op: AdminOp,
    retry: RetryArgs,
}

impl Change {
    /// Finds the member, and sends.
    async fn send(
        self,
        session: &Session,
        client: &Client,
        body: impl FnOnce(NodeId) -> String,
    ) -> Result<()> {
        let Self { node, op, retry } = self;
        let gone = retry.is_again().then(|| node.parse().ok().and_then(NodeId::new)).flatten();
        let id = match (find(client, &node).await, gone) {
            (Ok(id), _) => id,
            // What was sent before may have been done, and then the member is gone; the site still
            // knows the answer.
            (Err(_), Some(id)) => id,
            (Err(error), None) => return Err(error),
        };
        let done = retry.admin(session, client, op, (node, body(id))).await;
        done.map_err(|error| with_node_id(error, id))
    }
}

/// An unknown end says by which id the member is found when its name is gone.
fn with_node_id(error: anyhow::Error, id: NodeId) -> anyhow::Error {
    match error.downcast::<Stop>() {
        Ok(stop) if stop.exit == Exit::Unknown => {
            let hint = stop.hint.clone().unwrap_or_default();
            let by_id = format!("{hint} Name the member by its node id then, {id}.");
            stop.with_hint(by_id.trim_start()).into()
        }
        Ok(stop) => stop.into(),
        Err(error) => error,
    }
}

/// The member of this name or id. A name may look like a number, so names are looked at first.
pub(crate) async fn find(client: &Client, node: &str) -> Result<NodeId> {
    let members = members(client, Consistency::Linearizable).await?.items;
    let id = one_of(&members, node)?.node;
    NodeId::new(id).ok_or_else(|| Stop::new(Exit::Failed, "a member has no node id").into())
}

pub(crate) fn one_of<'a>(members: &'a [MemberBody], node: &str) -> Result<&'a MemberBody, Stop> {
    let named = members.iter().find(|member| member.name == node);
    let found = named.or_else(|| members.iter().find(|member| member.node.to_string() == node));
    found.ok_or_else(|| {
        let known: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        Stop::new(Exit::NotFound, format!("the site has no member \"{}\"", value::shown(node)))
            .with_hint(format!("Its members are {}.", known.join(", ")))
    })
}

async fn get(session: &Session, client: &Client, node: &str) -> Result<()> {
    let found = members(client, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    let member = one_of(&found.items, node)?;
    session.form().print(member, || {
        Table::facts([
            ("name", member.name.clone()),
            ("node", member.node.to_string()),
            ("role", member.role.clone()),
            ("labels", listed::shown_labels(&member.labels)),
            ("note", note(member).to_owned()),
            ("feature level", member.feature_level.to_string()),
            ("joined", member.joined.to_string()),
            ("revision", member.revision.to_string()),
            ("sign key", member.sign_key.clone()),
            ("exchange key", member.exchange_key.clone()),
        ])
    })
}

/// What is about to happen to it.
fn note(member: &MemberBody) -> &'static str {
    match member {
        MemberBody { leaving: true, .. } => "leaving",
        MemberBody { wanted_voter: true, role, .. } if role != "voter" => "to become a voter",
        MemberBody { draining: true, .. } => "drained",
        _ => "",
    }
}

/// All members.
pub(crate) async fn members(
    client: &Client,
    consistency: Consistency,
) -> Result<Page<MemberBody>, ClientError> {
    let target = QueryTarget::List { noun: Noun::Member, area: None };
    client.list(&target, listed::whole_page(), consistency).await
}

async fn list(session: &Session, client: &Client) -> Result<()> {
    let found = members(client, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    // Who can't be asked for presence, or is not allowed to, still gets the list.
    let views = mesh::views(client).await.unwrap_or_default();
    let view = mesh::best_view(&views);
    let listed: Vec<Listed<'_>> = found
        .items
        .iter()
        .map(|member| {
            let (presence, is_viewer) = mesh::presence_of(view, member.node);
            Listed { member, is_viewer, presence }
        })
        .collect();
    session.form().print(&listed, || {
        let mut table =
            Table::new(&["NODE", "NAME", "ROLE", "STATE", "WAYS", "RTT", "LAG", "JOINED", "NOTE"]);
        for Listed { member, is_viewer, presence } in &listed {
            let [state, ways, rtt, lag] = mesh::columns(*presence, *is_viewer);
            table.row([
                member.node.to_string(),
                member.name.clone(),
                member.role.clone(),
                state,
                ways,
                rtt,
                lag,
                member.joined.to_string(),
                note(member).to_owned(),
            ]);
        }
        table
    })
}

/// A member, and what one node sees of it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    member: &'a MemberBody,
    #[serde(skip)]
    is_viewer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'a PeerSeen>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_the_end_of_names_the_member_by_its_id() {
        let id = NodeId::new(7).unwrap();
        let hint = |exit| {
            let stop = Stop::new(exit, "m").with_hint("Send it again with --request-id r.");
            with_node_id(stop.into(), id).downcast::<Stop>().unwrap().hint.unwrap()
        };
        assert!(
            hint(Exit::Unknown)
                .ends_with("--request-id r. Name the member by its node id then, 7.")
        );
        assert_eq!(hint(Exit::Unavailable), "Send it again with --request-id r.");
    }
}
