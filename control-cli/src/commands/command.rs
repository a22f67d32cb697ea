//! `flotilla command`: what became of commands.

use anyhow::Result;
use clap::Subcommand;
use fleet_client::{Client, Followed, News};
use fleet_protocol::{
    Area, CommandTarget, Consistency, Noun, QueryTarget,
    limits::PAGE_ITEMS_MAX,
    query::{Item, Page, PageRequest},
    record::CommandBody,
};
use fleet_state::{RequestId, Revision, Stage};

use super::listed;
use crate::{
    exit::{Exit, Stop},
    output::{Table, say, tame},
    session::Session,
    write::{Order, WriteArgs},
};

/// Commands that are remembered, and how far they got
#[derive(Debug, Subcommand)]
pub(crate) enum CommandCommand {
    /// List commands, the newest first
    Ls {
        /// Only about what lies in this area, as in hall2
        area: Option<Area>,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ITEMS_MAX)))]
        limit: u32,
    },
    /// Show one command
    Get {
        /// Its request id
        request_id: RequestId,
    },
    /// Take back a command that was not handed to its device yet
    Cancel {
        /// Its request id
        command: RequestId,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Follow a command until nothing more can come of it
    Watch {
        /// Its request id
        request_id: RequestId,
    },
}

pub(crate) async fn run(command: CommandCommand, session: &Session) -> Result<()> {
    match command {
        CommandCommand::Ls { area, limit } => list(area, limit, session).await,
        CommandCommand::Get { request_id } => {
            let found: CommandBody = listed::one(session, QueryTarget::Command(request_id)).await?;
            session.form().print(&found, || facts(&found))
        }
        CommandCommand::Cancel { command, write } => {
            let target = CommandTarget::CommandCancel(command);
            write.send(session, Order { target, payload: Vec::new() }).await
        }
        CommandCommand::Watch { request_id } => watch(request_id, session).await,
    }
}

fn facts(command: &CommandBody) -> Table {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut facts = vec![
        ("request id", command.request_id.clone()),
        ("command", command.op.clone()),
        ("about", about(command)),
        ("revision", command.revision.to_string()),
        ("outcome", text(&command.code.clone().or(Some(command.outcome.clone())))),
        ("stage", text(&command.stage)),
        ("detail", text(&command.detail)),
        ("action", text(&command.action)),
        ("args", command.args.as_ref().map(|args| args.0.to_json()).unwrap_or_default()),
        ("node", command.node.map(|node| node.to_string()).unwrap_or_default()),
        ("epoch", command.epoch.map(|epoch| epoch.to_string()).unwrap_or_default()),
    ];
    facts.retain(|(_, text)| !text.is_empty());
    Table::facts(facts)
}

fn about(command: &CommandBody) -> String {
    let noun = command.noun.as_deref().unwrap_or_default();
    command.id.as_ref().map(|id| format!("{noun} {id}")).unwrap_or_default()
}

async fn list(area: Option<Area>, limit: u32, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::List { noun: Noun::Command, area };
    let page = PageRequest { limit, ..PageRequest::default() };
    let found: Page<CommandBody> = client.page(&target, &page, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    session.form().print(&found.items, || {
        let mut table =
            Table::new(&["REVISION", "COMMAND", "ABOUT", "OUTCOME", "STAGE", "REQUEST ID"]);
        for command in &found.items {
            table.row([
                command.revision.to_string(),
                command.op.clone(),
                about(command),
                command.code.clone().unwrap_or_else(|| command.outcome.clone()),
                command.stage.clone().unwrap_or_default(),
                command.request_id.clone(),
            ]);
        }
        table
    })
}

async fn watch(id: RequestId, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::Command(id);
    let mut found = read(&client, &target).await?;
    let mut follower =
        client.follow(Revision::new(found.revision), Followed { noun: None, area: None });
    loop {
        let command = &found.item;
        session.form().print_next(command, || line(command))?;
        let Some(stage) = command.stage.as_deref() else { return Ok(()) };
        if let Some(end) = Stage::from_name(stage).and_then(|stage| ended(stage, command)) {
            return end.map_err(Into::into);
        }
        found = next(&client, &target, &mut follower, &found.item).await?;
    }
}

async fn read(client: &Client, target: &QueryTarget) -> Result<Item<CommandBody>> {
    Ok(client.get(target, Consistency::Linearizable).await?)
}

/// Waits until the command is not as it was.
async fn next(
    client: &Client,
    target: &QueryTarget,
    follower: &mut fleet_client::Follower,
    before: &CommandBody,
) -> Result<Item<CommandBody>> {
    loop {
        match follower.next().await? {
            News::Change(change)
                if matches!(change.noun.as_str(), "watermarks" | "invocation" | "device") => {}
            News::Change(_) => continue,
            News::StartedOver | News::Back => {}
            News::Waiting(why) => {
                say(&format!("waiting: {}", tame(&why)));
                continue;
            }
        }
        let found = read(client, target).await?;
        if found.item != *before {
            return Ok(found);
        }
    }
}

fn line(command: &CommandBody) -> String {
    let detail = command.detail.as_ref().filter(|detail| !detail.is_empty());
    let detail = detail.map(|detail| format!(" ({})", tame(detail))).unwrap_or_default();
    let stage = command.stage.as_deref().unwrap_or(&command.outcome);
    format!("r{} {} {}: {stage}{detail}", command.revision, command.op, about(command))
}

/// What a stage after which nothing comes means to who waited for it.
fn ended(stage: Stage, command: &CommandBody) -> Option<Result<(), Stop>> {
    let stop = |exit, text: String| Some(Err(Stop::new(exit, text)));
    match stage {
        Stage::Verified => Some(Ok(())),
        Stage::Unknown => stop(Exit::Unknown, "nobody can say whether the device acted".to_owned()),
        // The device's protocol may be able to tell no more of a one-shot; of a wish that says why.
        Stage::Sent | Stage::Acknowledged
            if command.action.is_some() || command.detail.is_some() =>
        {
            Some(Ok(()))
        }
        Stage::Committed | Stage::Dispatching | Stage::Sent | Stage::Acknowledged => None,
        Stage::Failed | Stage::Expired | Stage::Cancelled | Stage::Superseded => {
            stop(Exit::StageNotReached, format!("the command ended {}", stage.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_its_exit_code() {
        let command = CommandBody { action: Some("open".to_owned()), ..CommandBody::default() };
        let exit = |stage| ended(stage, &command).map(|end| end.map_err(|stop| stop.exit));
        assert_eq!(exit(Stage::Verified), Some(Ok(())));
        assert_eq!(exit(Stage::Acknowledged), Some(Ok(())));
        assert_eq!(exit(Stage::Unknown), Some(Err(Exit::Unknown)));
        assert_eq!(exit(Stage::Expired), Some(Err(Exit::StageNotReached)));
        assert_eq!(exit(Stage::Dispatching), None);
        assert!(ended(Stage::Acknowledged, &CommandBody::default()).is_none());
        // A wish of which nobody hears what becomes of it.
        let detail = Some("nobody hears what becomes of it".to_owned());
        let write_only = CommandBody { detail, ..CommandBody::default() };
        assert!(matches!(ended(Stage::Sent, &write_only), Some(Ok(()))));
        assert!(ended(Stage::Committed, &write_only).is_none());
    }

    #[test]
    fn a_command_is_one_line() {
        let command = CommandBody {
            op: "device.invoke".to_owned(),
            noun: Some("device".to_owned()),
            id: Some("hall.door".to_owned()),
            revision: 7,
            stage: Some("failed".to_owned()),
            detail: Some("no\u{1b} answer".to_owned()),
            ..CommandBody::default()
        };
        let line = line(&command);
        assert!(line.starts_with("r7 device.invoke device hall.door: failed (no"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}
