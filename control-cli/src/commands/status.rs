//! `flotilla status`: the site and its nodes at a glance.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use fleet_client::{Client, ClientError};
use fleet_protocol::{
    Consistency, NodeStatus, QueryTarget, node::ROLE_REMOVED, query::Item, record::SiteBody,
};
use serde::Serialize;

use super::member;
use crate::{
    exit::{self, Exit, Stop},
    output::{Table, put, say, tame},
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
}

/// A node that answers.
#[derive(Debug, Serialize)]
struct Node {
    #[serde(flatten)]
    status: NodeStatus,
    /// Whether the site counts it among its members; unknown while nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<bool>,
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
    let nodes = client.all_status(&expected).await?;
    if nodes.is_empty()
        && let Some(error) = &leaderless
    {
        let stop = Stop { hint: None, ..exit::stop_of_client(error) };
        return Err(stop.with_hint("See on the gateways whether the agents run.").into());
    }
    let nodes: Vec<Node> = nodes.into_iter().map(|status| Node::of(status, &expected)).collect();
    if let Some(seen) = seen.as_ref().filter(|seen| seen.site.age_ms.is_some()) {
        say_age(&seen.site);
    }
    let status = Status { site: seen.map(|seen| seen.site.item), nodes };
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
    fn of(status: NodeStatus, members: &BTreeSet<u64>) -> Self {
        let listed = (!members.is_empty()).then(|| members.contains(&status.node));
        // A stale list may still hold a node that knows that it was removed.
        let member = if status.role == ROLE_REMOVED { Some(false) } else { listed };
        Self { status, member }
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
            "{silent} of the {} members do not answer; see who they are with: flotilla member ls",
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
    put(&nodes(&status.nodes).to_string())
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

fn nodes(nodes: &[Node]) -> Table {
    let mut table = Table::new(&[
        "NODE", "NAME", "ROLE", "APPLIED", "COMMIT", "UPTIME", "STORAGE", "INTAKE", "VERSION",
    ]);
    for node in nodes {
        let role =
            if node.is_stranger() { ROLE_REMOVED } else { node.status.role.as_str() }.to_owned();
        let node = &node.status;
        table.row([
            node.node.to_string(),
            node.name.clone(),
            role,
            node.applied.to_string(),
            node.commit.to_string(),
            uptime(node.uptime_ms),
            size(node.storage_bytes),
            if node.intake { "yes" } else { "no" }.to_owned(),
            node.version.clone(),
        ]);
    }
    table
}

fn uptime(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
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
    fn times_and_sizes() {
        let times = [(999, "0s"), (61_000, "1m1s"), (3_661_000, "1h1m"), (90_000_000, "1d1h")];
        for (ms, expected) in times {
            assert_eq!(uptime(ms), expected);
        }
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
