//! `flotilla device import`: the devices that a bridge knows, or that announce themselves.
//!
//! What would change is shown before anything is, and a second run finds nothing to do. A new
//! device starts in observe; of one that is known nothing is touched but its name, its model and
//! what its connector is told. Nothing is deleted, and a device that somebody registered by hand
//! is left alone.

mod diff;
mod ids;

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Result;
use clap::Args;
use fleet_client::{Client, ClientError, CommandOptions, Outcome};
use fleet_protocol::{
    Area, CommandTarget, Noun, QueryTarget,
    look::{CandidateBody, Look, LookRequest, Looked, Source},
    record::DeviceBody,
};
use fleet_state::{LinkId, Revision};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use crate::{
    commands::listed,
    exit::{self, Exit, Stop},
    output::{Table, say, tame},
    session::Session,
};
use diff::{Change, State};

/// Registrations that are under way at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Who tells of devices: zigbee2mqtt or homeassistant
    #[arg(value_parser = source)]
    source: Source,
    /// The link to the broker where it does
    link: LinkId,
    /// The topic below which it does, unless it is the usual one
    #[arg(long, value_name = "TOPIC")]
    base: Option<String>,
    /// The area that new devices are put into, as in hall2
    #[arg(long)]
    area: Option<Area>,
    /// Register without asking
    #[arg(short, long)]
    yes: bool,
}

fn source(text: &str) -> Result<Source, String> {
    Source::from_name(text).ok_or_else(|| {
        let known: Vec<&str> = Source::ALL.iter().map(|source| source.as_str()).collect();
        format!("known are {}", known.join(", "))
    })
}

/// What is printed for programs.
#[derive(Debug, Serialize)]
struct Import<'a> {
    link: &'a str,
    source: &'a str,
    /// The node that looked.
    node: &'a str,
    devices: &'a [Change],
    /// What the source told and could not be read.
    problems: &'a [String],
    /// Whether what was to be done was asked for.
    applied: bool,
}

pub(super) async fn run(args: ImportArgs, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let look = Look::Discover { source: args.source, base: args.base.clone() };
    let request = LookRequest::new(args.link.clone(), look);
    let found: Looked<CandidateBody> = client.look_at_all(request, session.consistency()).await?;
    let target = QueryTarget::List { noun: Noun::Device, area: None };
    let known: Vec<DeviceBody> = listed::all(session, target, listed::whole_page()).await?;
    let wanted = diff::Wanted {
        link: &args.link,
        source: args.source,
        area: args.area.as_ref(),
        found: &found.items,
    };
    let mut changes = diff::changes(&wanted, &known);
    let form = session.form();
    let for_people = form == crate::output::Form::Table;
    if for_people && changes.iter().any(|change| change.state != State::Unchanged) {
        form.print(&(), || table(&changes))?;
    }
    for problem in &found.problems {
        say(&format!("not read: {}", tame(problem)));
    }
    say(&summed(&changes));
    let to_do = changes.iter().any(|change| change.is_to_do());
    let applied = to_do && (args.yes || (for_people && agreed()?));
    if applied {
        session.on_sending(None);
        changes = apply(&client, changes).await;
    } else if to_do {
        say("nothing was registered; --yes does it");
    }
    if !for_people {
        let (link, source) = (args.link.as_str(), args.source.as_str());
        let (node, problems) = (found.node.as_str(), found.problems.as_slice());
        let import = Import { link, source, node, devices: &changes, problems, applied };
        form.print(&import, || table(&changes))?;
    }
    end(&changes)
}

/// Asks whoever sits at the terminal, if somebody does.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    say("Register them? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Registers what is new or changed, each only if it is as it was when the diff was made.
async fn apply(client: &Client, changes: Vec<Change>) -> Vec<Change> {
    let register = |mut change: Change| async move {
        let Some(registration) = change.registration.take() else { return change };
        let options = CommandOptions {
            if_revision: Some(Revision::new(change.revision.unwrap_or(0))),
            ..CommandOptions::default()
        };
        let target = CommandTarget::DeviceRegister(registration.id);
        let payload = registration.body.to_json().into_bytes();
        change.take_end(client.command(&target, payload, &options).await);
        change
    };
    stream::iter(changes).map(register).buffered(AT_ONCE).collect().await
}

impl Change {
    fn take_end(&mut self, outcome: Result<Outcome, ClientError>) {
        match outcome {
            Ok(Outcome::Committed(committed)) => self.revision = Some(committed.revision),
            Ok(Outcome::Rejected(failed)) => self.fail(exit::stop_of_failed(&failed)),
            Ok(outcome @ Outcome::Unknown(_)) => {
                if let Some(stop) = exit::stop_of_outcome(&outcome) {
                    self.fail(stop);
                }
            }
            Err(error) => self.fail(exit::stop_of_client(&error)),
        }
    }

    fn fail(&mut self, stop: Stop) {
        say(&format!("{}: {}", tame(&self.id), tame(&stop.message)));
        self.error = Some(stop.message.clone());
        self.stop = Some(stop);
    }
}

/// How many there are of each kind.
fn summed(changes: &[Change]) -> String {
    let count = |state: State| changes.iter().filter(|change| change.state == state).count();
    let counts: Vec<String> = State::ALL
        .into_iter()
        .map(|state| (state, count(state)))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", state.as_str()))
        .collect();
    let counts =
        if counts.is_empty() { "no device is told of".to_owned() } else { counts.join(", ") };
    let to_do = changes.iter().any(|change| change.is_to_do());
    if to_do { counts } else { format!("{counts}; nothing to do") }
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new(&["STATE", "ID", "NAME", "MODEL", "ADDRESS", "NOTE"]);
    for change in changes.iter().filter(|change| change.state != State::Unchanged) {
        table.row([
            change.state.as_str().to_owned(),
            change.id.clone(),
            change.name.clone(),
            change.model.clone().unwrap_or_default(),
            change.address.clone(),
            change.notes.join("; "),
        ]);
    }
    table
}

/// Done when all was, partly when some was, else as the first that was not.
fn end(changes: &[Change]) -> Result<()> {
    let tried = changes.iter().filter(|change| change.is_to_do()).count();
    let failed = changes.iter().filter(|change| change.stop.is_some()).count();
    match changes.iter().find_map(|change| change.stop.as_ref()) {
        None => Ok(()),
        Some(first) if failed == tried => Err(Stop::said(first.exit).into()),
        Some(_) => {
            let what = format!("{failed} of {tried} were not registered");
            Err(Stop::new(Exit::Partly, what).with_hint("Run it again.").into())
        }
    }
}
