//! Sending commands and telling what came of them: one, or a whole list.

use anyhow::Result;
use clap::Args;
use fleet_client::{Client, ClientError, CommandOptions, Outcome};
use fleet_protocol::{AdminOp, CommandTarget, WaitFor, duration, reply::Committed};
use fleet_state::{
    RequestId, Revision, Stage,
    limits::{TTL_MS_MAX, TTL_MS_MIN},
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use crate::{
    exit::{self, Exit, Stop},
    output::{Table, say, tame},
    session::Session,
};

/// Commands of a list that are under way at once.
const AT_ONCE: usize = 32;

/// Options of commands that change something.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WriteArgs {
    #[arg(skip)]
    ttl_ms: Option<u64>,
    /// Only if it is at this revision; 0: only if it does not exist
    #[arg(long, env = "FLOTILLA_IF_REVISION", value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    retry: RetryArgs,
    /// Wait until the device got this far
    #[arg(long, env = "FLOTILLA_WAIT", value_name = "STAGE", value_parser = stage)]
    wait: Option<WaitFor>,
}

/// Options of commands that are handed to a device.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct HandOverArgs {
    /// Never hand it over later than this, as in 500ms, 5s, 1m
    #[arg(long, env = "FLOTILLA_TTL", value_name = "TIME", value_parser = ttl)]
    ttl: Option<u64>,
    #[command(flatten)]
    write: WriteArgs,
}

impl HandOverArgs {
    /// The options with the time limit among them.
    pub(crate) fn write(&self) -> WriteArgs {
        WriteArgs { ttl_ms: self.ttl, ..self.write.clone() }
    }
}

fn ttl(text: &str) -> Result<u64, String> {
    duration::parse_ms(text, TTL_MS_MIN, TTL_MS_MAX).map_err(|error| error.to_string())
}

/// The option that makes a retry safe.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RetryArgs {
    /// The id of the request; give the one of an unknown outcome to send it again
    #[arg(long, env = "FLOTILLA_REQUEST_ID", value_name = "ID")]
    request_id: Option<RequestId>,
}

/// What was done, as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    id: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// For --if-revision of a later command.
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    stop: Option<Stop>,
}

/// Something to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) target: CommandTarget,
    pub(crate) payload: Vec<u8>,
}

impl Order {
    /// What it is called in what is printed.
    fn name(&self) -> String {
        self.target.id().unwrap_or_else(|| "batch".to_owned())
    }
}

fn stage(text: &str) -> Result<WaitFor, String> {
    let known: Vec<&str> = WaitFor::ALL.iter().map(|stage| stage.as_str()).collect();
    WaitFor::from_name(text).ok_or_else(|| format!("the stages are {}", known.join(", ")))
}

impl WriteArgs {
    /// The client's options.
    fn options(&self) -> CommandOptions {
        CommandOptions {
            if_revision: self.if_revision.map(Revision::new),
            ttl_ms: self.ttl_ms,
            wait: self.wait,
            ..self.retry.options()
        }
    }

    /// Sends one command and prints what came of it.
    pub(crate) async fn send(&self, session: &Session, order: Order) -> Result<()> {
        let client = session.client().await?;
        let options = named(self.options(), session, &client);
        let name = order.name();
        let outcome = client.command(&order.target, order.payload, &options).await?;
        report_one(session, name, outcome, self.wait)
    }

    /// Sends many commands, as many at once as make sense, and prints what came of each.
    pub(crate) async fn send_all(&self, session: &Session, orders: Vec<Order>) -> Result<()> {
        if let [only] = orders.as_slice() {
            return self.send(session, only.clone()).await;
        }
        if self.retry.request_id.is_some() || self.if_revision.is_some() {
            return Err(Stop::usage(
                "--request-id and --if-revision are for one thing, not for a list",
            )
            .with_hint("For conditions per item use: flotilla batch apply -f FILE")
            .into());
        }
        refuse_doubles(&orders)?;
        let client = session.client().await?;
        let options = self.options();
        session.on_sending(None);
        let send = |order: Order| {
            let (client, options) = (client.clone(), options.clone());
            async move {
                let name = order.name();
                let outcome = client.command(&order.target, order.payload, &options).await;
                Done::of(name, outcome, options.wait)
            }
        };
        let done: Vec<Done> = stream::iter(orders).map(send).buffered(AT_ONCE).collect().await;
        report_all(session, done)
    }
}

impl RetryArgs {
    fn options(&self) -> CommandOptions {
        CommandOptions { request_id: self.request_id.clone(), ..CommandOptions::default() }
    }

    /// Sends administration and prints what came of it.
    pub(crate) async fn admin(
        &self,
        session: &Session,
        client: &Client,
        op: AdminOp,
        (name, payload): (String, String),
    ) -> Result<()> {
        let options = named(self.options(), session, client);
        let outcome = client.admin_command(op, payload.into_bytes(), &options).await?;
        report_one(session, name, outcome, None)
    }
}

/// Makes the request id here, so that it can be told if we are interrupted.
fn named(mut options: CommandOptions, session: &Session, client: &Client) -> CommandOptions {
    if options.request_id.is_none() {
        options.request_id = Some(client.new_request_id());
        options.id_is_new = true;
    }
    session.on_sending(options.request_id.as_ref());
    options
}

/// The same thing twice in a list that is sent all at once would leave its end to chance.
fn refuse_doubles(orders: &[Order]) -> Result<(), Stop> {
    let mut ids: Vec<String> = orders.iter().filter_map(|order| order.target.id()).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
        Some(id) => {
            Err(Stop::usage(format!("{id} stands twice in the list; name each thing once")))
        }
        None => Ok(()),
    }
}

impl Done {
    fn of(id: String, outcome: Result<Outcome, ClientError>, wait: Option<WaitFor>) -> Self {
        let none = Self {
            id,
            ok: false,
            request_id: None,
            revision: None,
            thing_revision: None,
            changed: None,
            stage: None,
            detail: None,
            error: None,
            stop: None,
        };
        match outcome {
            Ok(Outcome::Committed(committed)) => {
                let stop = wait.and_then(|wait| missed(&committed, wait));
                Self {
                    ok: true,
                    request_id: Some(committed.request_id),
                    revision: Some(committed.revision),
                    thing_revision: committed.thing_revision,
                    changed: Some(committed.changed),
                    stage: Some(committed.stage),
                    detail: committed.detail,
                    stop,
                    ..none
                }
            }
            Ok(Outcome::Rejected(failed)) => Self {
                request_id: failed.request_id.clone(),
                revision: failed.revision,
                error: Some(failed.error.code.clone()),
                stop: Some(exit::stop_of_failed(&failed)),
                ..none
            },
            Ok(outcome @ Outcome::Unknown(_)) => Self {
                request_id: match &outcome {
                    Outcome::Unknown(unknown) => Some(unknown.request_id.to_string()),
                    Outcome::Committed(_) | Outcome::Rejected(_) => None,
                },
                error: Some("unknown".to_owned()),
                stop: exit::stop_of_outcome(&outcome),
                ..none
            },
            Err(error) => {
                let stop = exit::stop_of_client(&error);
                Self { error: Some("unavailable".to_owned()), stop: Some(stop), ..none }
            }
        }
    }

    fn line(&self) -> [String; 2] {
        let what = match (self.ok, self.revision, self.changed) {
            (true, Some(revision), Some(true)) => match self.stage.as_deref() {
                None | Some("committed") => format!("revision {revision}"),
                Some(stage) => format!("revision {revision} {stage}"),
            },
            // The thing's own revision is the one that a later --if-revision compares.
            (true, Some(_), _) => match self.thing_revision {
                Some(revision) => format!("unchanged at revision {revision}"),
                None => "unchanged".to_owned(),
            },
            (true, None, _) => "done".to_owned(),
            (false, ..) => self.error.clone().unwrap_or_default(),
        };
        [self.id.clone(), what]
    }
}

/// Why a command that is committed does not end as it was asked for.
fn missed(committed: &Committed, wait: WaitFor) -> Option<Stop> {
    if reached(&committed.stage, wait) {
        return None;
    }
    let why = committed.detail.as_ref().map(|why| format!(": {}", tame(why))).unwrap_or_default();
    let (exit, message, hint) = match Stage::from_name(&committed.stage) {
        Some(Stage::Unknown) => (
            Exit::Unknown,
            format!("it is committed, and nobody can say whether the device acted{why}"),
            "Look at the device, then decide whether to ask again.",
        ),
        Some(stage) if stage.is_final() => (
            Exit::StageNotReached,
            format!("it is committed, and ended {}, not {wait}{why}", committed.stage),
            "It goes no further. Look at the device: flotilla device get.",
        ),
        _ => (
            Exit::StageNotReached,
            format!("it is committed, and got as far as {}, not {wait}{why}", committed.stage),
            "What is committed holds; do not send it again, but look at the device later.",
        ),
    };
    Some(Stop::new(exit, message).with_hint(hint))
}

/// A stage that is newer than this program is taken for reached.
fn reached(stage: &str, wait: WaitFor) -> bool {
    Stage::from_name(stage).is_none_or(|stage| wait.met_by(stage) == Some(true))
}

fn report_one(
    session: &Session,
    name: String,
    outcome: Outcome,
    wait: Option<WaitFor>,
) -> Result<()> {
    let mut done = Done::of(name, Ok(outcome), wait);
    let stop = done.stop.take();
    if done.ok {
        session.form().print(&done, || table(std::slice::from_ref(&done)))?;
    }
    stop.map_or(Ok(()), |stop| Err(stop.into()))
}

fn report_all(session: &Session, done: Vec<Done>) -> Result<()> {
    let stop = stop_of_all(&done);
    for failed in &done {
        if let Some(stop) = &failed.stop {
            say(&format!("{}: {}", tame(&failed.id), tame(&stop.message)));
            if stop.exit == Exit::Unknown {
                say(&format!(
                    "  send it again with --request-id {}",
                    failed.request_id.as_deref().unwrap_or("?")
                ));
            }
        }
    }
    session.form().print(&done, || table(&done))?;
    stop.map_or(Ok(()), |stop| Err(stop.into()))
}

fn table(done: &[Done]) -> Table {
    let mut table = Table::new(&[]);
    for done in done {
        table.row(done.line());
    }
    table
}

/// One end for many: done when all are, partly when some are, else as the first that is not.
fn stop_of_all(done: &[Done]) -> Option<Stop> {
    let first = done.iter().find_map(|done| done.stop.as_ref())?;
    let failed = done.iter().filter(|done| done.stop.is_some()).count();
    if failed == done.len() {
        return Some(Stop::said(first.exit));
    }
    Some(Stop::new(Exit::Partly, format!("{failed} of {} were not done", done.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(stage: &str) -> Outcome {
        Outcome::Committed(Committed {
            request_id: "r".to_owned(),
            revision: 7,
            thing_revision: Some(7),
            changed: true,
            stage: stage.to_owned(),
            detail: None,
            node: None,
        })
    }

    fn order(key: &str) -> Order {
        Order { target: CommandTarget::ParamDelete(key.parse().unwrap()), payload: Vec::new() }
    }

    #[test]
    fn a_stage_that_was_not_reached_is_told() {
        let done = Done::of("a".to_owned(), Ok(committed("committed")), Some(WaitFor::Verified));
        assert!(done.ok);
        assert_eq!(done.stop.unwrap().exit, Exit::StageNotReached);
        let done = Done::of("a".to_owned(), Ok(committed("verified")), Some(WaitFor::Sent));
        assert!(done.stop.is_none());
    }

    #[test]
    fn a_list_ends_as_its_parts() {
        let good = || Done::of("a".to_owned(), Ok(committed("committed")), None);
        let bad = || Done::of("b".to_owned(), Err(ClientError::Unavailable("x".to_owned())), None);
        assert!(stop_of_all(&[good(), good()]).is_none());
        assert_eq!(stop_of_all(&[good(), bad()]).unwrap().exit, Exit::Partly);
        assert_eq!(stop_of_all(&[bad(), bad()]).unwrap().exit, Exit::Unavailable);
    }

    #[test]
    fn lists_name_each_thing_once() {
        assert!(refuse_doubles(&[order("a"), order("b")]).is_ok());
        assert_eq!(
            refuse_doubles(&[order("a"), order("b"), order("a")]).unwrap_err().exit,
            Exit::Usage
        );
    }
}
