//! `flotilla status`: the site and its nodes at a glance.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use fleet_client::{Client, ClientError};
use fleet_protocol::{
    Consistency, NodeStatus, QueryTarget,
    mesh::{NodeMesh, PeerSeen},
    node::ROLE_REMOVED,
    query::Item,
    record::SiteBody,
};
use serde::Serialize;

use super::{member, mesh};
use crate::{
    exit::{self, Exit, Stop},
    output::{Table, lasted, put, say, tame},
    session::Session,
};

/// How long a leader is waited for: an election passes in less.
const LEADER_WAIT: Duration = Duration::from_millis(1_500);
/// How long a stale answer is waited for; any agent has one at once.
const STALE_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
struct Status {
    site: Option<SiteBody>,
    nodes: Vec<Node>,
    /// Members that do not answer, as another node sees them.
    silent: Vec<PeerSeen>,
}

/// The members that a view holds and that did not answer.
fn silent(nodes: &[Node], view: Option<&NodeMesh>) -> Vec<PeerSeen> {
    let unanswered = |peer: &&PeerSeen| nodes.iter().all(|node| node.status.node != peer.node);
    view.into_iter().flat_map(|view| &view.peers).filter(unanswered).cloned().collect()
}

/// A node that answers.
#[derive(Debug, Serialize)]
struct Node {
    #[serde(flatten)]
    status: NodeStatus,
    /// Whether the site counts it among its members; unknown while nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<bool>,
    /// What another node sees of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<PeerSeen>,
    #[serde(skip)]
    is_viewer: bool,
}

/// The site as it was read.
struct Seen {
    site: Item<SiteBody>,
    /// Its members' node ids.
    members: BTreeSet<u64>,
}

pub(crate) async fn run(session: &Session) -> Result<()> {
    let client = session.client().await?;
    let (seen, leaderless) = see(&client, session.consistency()).await?;
    let expected = seen.as_ref().map(|seen| seen.members.clone()).unwrap_or_default();
    let (nodes, views) = tokio::join!(client.all_status(&expected), client.all_mesh(&expected));
    let nodes = nodes?;
    // Who may not ask for presence still gets the rest.
    let views = views.unwrap_or_default();
    if nodes.is_empty()
        && let Some(error) = &leaderless
    {
        let stop = Stop { hint: None, ..exit::stop_of_client(error) };
        return Err(stop.with_hint("See on the gateways whether the agents run.").into());
    }
    let view = mesh::best_view(&views);
    let nodes: Vec<Node> =
        nodes.into_iter().map(|status| Node::of(status, &expected, view)).collect();
    let silent = silent(&nodes, view);
    if let Some(seen) = seen.as_ref().filter(|seen| seen.site.age_ms.is_some()) {
        say_age(&seen.site);
    }
    let status = Status { site: seen.map(|seen| seen.site.item), nodes, silent };
    print(session, &status)?;
    say_troubles(&status, &expected);
    match leaderless {
        None => Ok(()),
        Some(_) => Err(Stop::new(
            Exit::Unavailable,
            "the site has no leader, so nothing can be changed or read for certain",
        )
        .with_hint("More than half of the voters must be up and reach each other.")
        .into()),
    }
}

/// What the site says of itself, and why that is not for certain, if it isn't. Nothing at all when
/// no agent answers queries.
async fn see(
    client: &Client,
    consistency: Consistency,
) -> Result<(Option<Seen>, Option<ClientError>)> {
    let patient = client.clone().with_timeout(client.timeout().min(LEADER_WAIT));
    let certain = match seen(&patient, consistency).await {
        Ok(seen) => return Ok((Some(seen), None)),
        // Without a leader the nodes can still say how they are.
        Err(error @ ClientError::Unavailable(_)) => error,
        Err(error) => return Err(error.into()),
    };
    let hasty = client.clone().with_timeout(client.timeout().min(STALE_WAIT));
    Ok((seen(&hasty, Consistency::Stale).await.ok(), Some(certain)))
}

async fn seen(client: &Client, consistency: Consistency) -> Result<Seen, ClientError> {
    let site = client.get::<SiteBody>(&QueryTarget::Site, consistency).await?;
    let members = member::members(client, consistency).await?.items;
    Ok(Seen { site, members: members.iter().map(|member| member.node).collect() })
}

fn say_age(site: &Item<SiteBody>) {
    let age = site.age_ms.map_or_else(String::new, |ms| format!(", {ms} ms old"));
    say(&format!("stale: as of revision {}{age}", site.revision));
}

impl Node {
    /// `members` is empty when nobody could say who they are.
    fn of(status: NodeStatus, members: &BTreeSet<u64>, view: Option<&NodeMesh>) -> Self {
        let listed = (!members.is_empty()).then(|| members.contains(&status.node));
        // A stale list may still hold a node that knows that it was removed.
        let member = if status.role == ROLE_REMOVED { Some(false) } else { listed };
        let (presence, is_viewer) = mesh::presence_of(view, status.node);
        Self { presence: presence.cloned(), is_viewer, status, member }
    }

    fn is_stranger(&self) -> bool {
        self.member == Some(false)
    }
}

fn say_troubles(status: &Status, members: &BTreeSet<u64>) {
    for node in &status.nodes {
        let name = tame(&node.status.name);
        for trouble in &node.status.troubles {
            say(&format!("{name}: {}", tame(trouble)));
        }
        if node.is_stranger() && node.status.role != ROLE_REMOVED {
            say(&format!(
                "{name} (node {}): it is no member any more and has not heard so; stop it, or clear its data directory and join anew",
                node.status.node
            ));
        }
    }
    let answering = |member: &&u64| status.nodes.iter().any(|node| node.status.node == **member);
    let silent = members.len().saturating_sub(members.iter().filter(answering).count());
    if silent > 0 {
        say(&format!(
            "{silent} of the {} members do not answer; see what the others know of them: flotilla mesh peers",
            members.len()
        ));
    }
}

fn print(session: &Session, status: &Status) -> Result<()> {
    if session.form() != crate::output::Form::Table {
        return session.form().print(status, || Table::new(&[]));
    }
    if let Some(site) = &status.site {
        put(&facts(site, &status.nodes).to_string())?;
        put("\n")?;
    }
    put(&nodes(&status.nodes, &status.silent).to_string())
}

fn facts(site: &SiteBody, nodes: &[Node]) -> Table {
    let leader = site.leader.map_or_else(
        || "none".to_owned(),
        |leader| {
            let found = nodes.iter().find(|node| node.status.node == leader);
            let name = found.map(|node| node.status.name.as_str());
            format!("{} (node {leader}), term {}", name.unwrap_or("?"), site.term)
        },
    );
    Table::facts([
        ("site", format!("{} {}", site.site, site.uid)),
        ("leader", leader),
        (
            "voters",
            format!("{} of {} wanted, {} members", site.voters, site.voters_wanted, site.members),
        ),
        (
            "holds",
            format!("{} devices, {} parameters, {} links", site.devices, site.params, site.links),
        ),
    ])
}

fn nodes(nodes: &[Node], silent: &[PeerSeen]) -> Table {
    let mut table = Table::new(&[
        "NODE", "NAME", "ROLE", "STATE", "WAYS", "RTT", "LAG", "APPLIED", "UPTIME", "STORAGE",
        "INTAKE", "VERSION",
    ]);
    for node in nodes {
        let [state, ways, rtt, lag] = mesh::columns(node.presence.as_ref(), node.is_viewer);
        let role =
            if node.is_stranger() { ROLE_REMOVED } else { node.status.role.as_str() }.to_owned();
        let node = &node.status;
        table.row([
            node.node.to_string(),
            node.name.clone(),
            role,
            state,
            ways,
            rtt,
            lag,
            node.applied.to_string(),
            lasted(node.uptime_ms),
            size(node.storage_bytes),
            if node.intake { "yes" } else { "no" }.to_owned(),
            node.version.clone(),
        ]);
    }
    for peer in silent {
        let [state, ways, rtt, lag] = mesh::columns(Some(peer), false);
        let told = peer.told.as_ref();
        let unknown = || "-".to_owned();
        table.row([
            peer.node.to_string(),
            peer.name.clone(),
            told.map_or_else(unknown, |told| told.role.clone()),
            state,
            ways,
            rtt,
            lag,
            told.map_or_else(unknown, |told| told.applied.to_string()),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
        ]);
    }
    table
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut name = "B";
    for unit in UNITS {
        if amount < 1_024.0 {
            break;
        }
        amount /= 1_024.0;
        name = unit;
    }
    if name == "B" { format!("{bytes} B") } else { format!("{amount:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let sizes = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (17 << 20, "17.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ];
        for (bytes, expected) in sizes {
            assert_eq!(size(bytes), expected);
        }
    }
}
