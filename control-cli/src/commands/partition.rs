//! `flotilla partition`: what gateways did while no majority could be reached.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Subcommand;
use fleet_protocol::local::{LocalPartBody, LocalWriteBody, NodePartition};
use fleet_state::NodeName;

use super::member;
use crate::{
    output::{Table, lasted, say, tame, time},
    session::Session,
};

/// What was done without a majority
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// The local writes of each gateway, and what became of them
    Report {
        /// Only of this gateway
        #[arg(long, value_name = "NODE")]
        from: Option<NodeName>,
    },
}

pub(crate) async fn run(command: PartitionCommand, session: &Session) -> Result<()> {
    let PartitionCommand::Report { from } = command;
    let client = session.client().await?;
    let told = match from {
        Some(node) => vec![client.node_partition(&node).await?],
        None => {
            // Without a majority nobody can say who the members are; then whoever answers is shown.
            let members = member::known(&client).await.unwrap_or_default();
            let expected: BTreeSet<u64> = members.keys().copied().collect();
            let told = client.all_partition(&expected).await?;
            let silent =
                members.iter().filter(|(node, _)| told.iter().all(|told| told.node != **node));
            for (_, name) in silent {
                say(&format!("{} did not answer: what it did is not shown", tame(name)));
            }
            told
        }
    };
    session.form().print(&told, || table(&told))?;
    for node in &told {
        for note in notes(node) {
            say(&format!("{}: {note}", tame(&node.name)));
        }
    }
    Ok(())
}

fn notes(node: &NodePartition) -> Vec<String> {
    let alone = node.leaderless_ms.map(|ms| format!("no leader is known for {}", lasted(ms)));
    let open = (node.open > 0).then(|| format!("{} local writes are not merged yet", node.open));
    let more = node.more.then(|| "older local writes are left out".to_owned());
    alone.into_iter().chain(open).chain(more).chain(node.trouble.as_deref().map(tame)).collect()
}

fn table(told: &[NodePartition]) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "LOCAL",
        "TIME",
        "DEVICE",
        "WHAT",
        "ACTOR",
        "STAGE",
        "END",
        "COMMITTED",
    ]);
    for (node, write) in told.iter().flat_map(|node| node.writes.iter().map(move |w| (node, w))) {
        for part in &write.parts {
            table.row([
                node.name.clone(),
                write.local.to_string(),
                time(write.wall_ms),
                write.device.clone(),
                what(write, part),
                write.actor.clone().unwrap_or_default(),
                write.stage.clone(),
                part.end.clone().unwrap_or_else(|| "open".to_owned()),
                committed(part),
            ]);
        }
    }
    table
}

fn what(write: &LocalWriteBody, part: &LocalPartBody) -> String {
    match (&part.property, &part.value) {
        (Some(property), Some(value)) => format!("{property}={}", value.0.to_json()),
        _ => format!("{} ({})", write.op, write.action.clone().unwrap_or_default()),
    }
}

/// What the site wanted of it when it was merged.
fn committed(part: &LocalPartBody) -> String {
    let revision = part.revision.map(|revision| format!("r{revision}"));
    let value = part.committed.as_ref().map(|value| value.0.to_json());
    let news = part.revision.is_some_and(|revision| revision > part.known_revision);
    let news = (news && value.is_some()).then(|| "meanwhile".to_owned());
    let parts: Vec<String> = value.into_iter().chain(revision).chain(news).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use fleet_protocol::Json;
    use fleet_state::Value;

    use super::*;

    fn part(known_revision: u64, revision: Option<u64>) -> LocalPartBody {
        LocalPartBody {
            property: Some("level".to_owned()),
            value: Some(Json(Value::from(3_i64))),
            known_revision,
            end: Some("overruled".to_owned()),
            end_wall_ms: Some(1),
            committed: Some(Json(Value::from(5_i64))),
            revision,
        }
    }

    #[test]
    fn what_was_committed_elsewhere_is_told_apart() {
        assert_eq!(committed(&part(7, Some(7))), "5 r7");
        assert_eq!(committed(&part(7, Some(9))), "5 r9 meanwhile");
    }
}
