//! Sending commands and telling what came of them: one, or a whole list.

mod done;

use anyhow::Result;
use clap::Args;
use fleet_client::{Client, CommandOptions, Outcome};
use fleet_protocol::{AdminOp, CommandTarget, WaitFor, duration};
use fleet_state::{
    RequestId, Revision,
    limits::{TTL_MS_MAX, TTL_MS_MIN},
};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::{
    exit::{Exit, Stop},
    output::{say, tame},
    session::Session,
};
use done::{Done, Waited, stop_of_all, table};

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
    /// Refuses options that mean nothing to a local write.
    pub(crate) fn check_local(&self) -> Result<(), Stop> {
        let idle =
            [("--ttl", self.ttl_ms.is_some()), ("--if-revision", self.if_revision.is_some())];
        match idle.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(Stop::usage(format!("{option} has no meaning together with --local")))
            }
            None => Ok(()),
        }
    }

    /// The same, waiting for the hand-over where nothing else is awaited.
    pub(crate) fn or_sent(mut self) -> Self {
        self.wait.get_or_insert(WaitFor::Sent);
        self
    }

    /// The stage to wait for.
    pub(crate) fn wait(&self) -> Option<WaitFor> {
        self.wait
    }

    /// The options of one command, its request id made here, so that it can be told if we are
    /// interrupted.
    pub(crate) fn named(&self, session: &Session, client: &Client) -> CommandOptions {
        named(self.options(), session, client)
    }

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
        let begun = Instant::now();
        let outcome = client.command(&order.target, order.payload, &options).await?;
        report_one(session, name, outcome, Waited { wait: self.wait, took: begun.elapsed() })
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
                let (name, begun) = (order.name(), Instant::now());
                let outcome = client.command(&order.target, order.payload, &options).await;
                Done::of(name, outcome, Waited { wait: options.wait, took: begun.elapsed() })
            }
        };
        let done: Vec<Done> = stream::iter(orders).map(send).buffered(AT_ONCE).collect().await;
        report_all(session, done)
    }
}

impl RetryArgs {
    /// Whether it may have been sent before.
    pub(crate) fn is_again(&self) -> bool {
        self.request_id.is_some()
    }

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
        let begun = Instant::now();
        let outcome = client.admin_command(op, payload.into_bytes(), &options).await?;
        report_one(session, name, outcome, Waited { wait: None, took: begun.elapsed() })
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

fn report_one(session: &Session, name: String, outcome: Outcome, waited: Waited) -> Result<()> {
    let mut done = Done::of(name, Ok(outcome), waited);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn order(key: &str) -> Order {
        Order { target: CommandTarget::ParamDelete(key.parse().unwrap()), payload: Vec::new() }
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
