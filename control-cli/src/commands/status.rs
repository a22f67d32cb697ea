//! `flotilla status`: the site and its nodes at a glance.

use anyhow::Result;
use fleet_client::ClientError;
use fleet_protocol::{NodeStatus, QueryTarget, record::SiteBody};
use serde::Serialize;

use crate::{
    exit::{Exit, Stop},
    output::{Table, put, say},
    session::Session,
};

#[derive(Debug, Serialize)]
struct Status {
    site: Option<SiteBody>,
    nodes: Vec<NodeStatus>,
}

pub(crate) async fn run(session: &Session) -> Result<()> {
    let client = session.client().await?;
    let site = match client.get::<SiteBody>(&QueryTarget::Site, session.consistency()).await {
        Ok(found) => {
            session.say_age(found.revision, found.age_ms);
            Ok(found.item)
        }
        // Without a leader the nodes can still say how they are.
        Err(error @ ClientError::Unavailable(_)) => Err(error),
        Err(error) => return Err(error.into()),
    };
    let expected = site.as_ref().map_or(usize::MAX, |site| site.members);
    let nodes = client.all_status(expected).await?;
    if nodes.is_empty()
        && let Err(error) = site
    {
        return Err(error.into());
    }
    let silent = site.as_ref().map_or(0, |site| site.members.saturating_sub(nodes.len()));
    let status = Status { site: site.ok(), nodes };
    print(session, &status)?;
    for node in &status.nodes {
        for trouble in &node.troubles {
            say(&format!("{}: {}", crate::output::cell(&node.name), crate::output::cell(trouble)));
        }
    }
    if silent > 0 {
        say(&format!("{silent} of the members do not answer; see them with: flotilla member ls"));
    }
    if status.site.is_none() {
        let stop = Stop::new(
            Exit::Unavailable,
            "the site has no leader, so nothing can be changed or read for certain",
        );
        return Err(stop
            .with_hint("More than half of the voters must be up and reach each other.")
            .into());
    }
    Ok(())
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

fn facts(site: &SiteBody, nodes: &[NodeStatus]) -> Table {
    let leader = site.leader.map_or_else(
        || "none".to_owned(),
        |leader| {
            let name = nodes.iter().find(|node| node.node == leader).map(|node| node.name.as_str());
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

fn nodes(nodes: &[NodeStatus]) -> Table {
    let mut table = Table::new(&[
        "NODE", "NAME", "ROLE", "APPLIED", "COMMIT", "UPTIME", "STORAGE", "INTAKE", "VERSION",
    ]);
    for node in nodes {
        table.row([
            node.node.to_string(),
            node.name.clone(),
            node.role.clone(),
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
