//! Where the site is, how to log in and how to print: what every command shares.

use std::{sync::OnceLock, time::Duration};

use anyhow::Result;
use clap::{Args, builder::FalseyValueParser};
use fleet_client::Client;
use fleet_protocol::{
    Consistency, duration,
    limits::{TIMEOUT_MS_MAX, TIMEOUT_MS_MIN},
};
use fleet_state::RequestId;

use crate::{
    connect::{self, ConnectionArgs},
    output::{Form, say},
};

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// How data is printed
    #[arg(short, long, global = true, help_heading = "Output", value_enum, default_value_t = Form::Table, env = "FLOTILLA_OUTPUT", value_name = "FORM")]
    pub(crate) output: Form,
    /// How long to wait for an answer, as in 500ms or 10s
    #[arg(long, global = true, help_heading = "Request options", default_value = "4s", env = "FLOTILLA_TIMEOUT", value_name = "TIME", value_parser = timeout, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    /// Read whatever the answering agent has, without asking the leader; works without one
    #[arg(long, global = true, help_heading = "Request options", env = "FLOTILLA_STALE", value_parser = FalseyValueParser::new())]
    pub(crate) stale: bool,
    /// Who you say you are; it is shown, and authorises nothing
    #[arg(
        long,
        global = true,
        help_heading = "Request options",
        env = "FLOTILLA_ACTOR",
        value_name = "NAME"
    )]
    pub(crate) actor: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) globals: Globals,
    /// Set once something was sent; the request id of a single command.
    in_flight: OnceLock<Option<RequestId>>,
}

impl Session {
    pub(crate) fn new(globals: Globals) -> Self {
        Self { globals, in_flight: OnceLock::new() }
    }

    /// Connects to the site.
    pub(crate) async fn client(&self) -> Result<Client> {
        let Globals { timeout, actor, connection, .. } = &self.globals;
        let (client, _) = connect::connect(connection, *timeout).await?;
        Ok(client.with_timeout(*timeout).with_actor(actor.clone()))
    }

    /// Connects to the agent of this machine, at its socket.
    pub(crate) async fn gateway(&self) -> Result<Client> {
        let Globals { timeout, actor, connection, .. } = &self.globals;
        let client = connect::connect_gateway(connection, *timeout).await?;
        Ok(client.with_timeout(*timeout).with_actor(actor.clone()))
    }

    /// How fresh a read must be.
    pub(crate) fn consistency(&self) -> Consistency {
        if self.globals.stale { Consistency::Stale } else { Consistency::Linearizable }
    }

    /// How data is printed.
    pub(crate) fn form(&self) -> Form {
        self.globals.output
    }

    /// Says how old a stale answer is.
    pub(crate) fn say_age(&self, revision: u64, age_ms: Option<u64>) {
        if self.globals.stale {
            let age =
                age_ms.map_or_else(|| "of unknown age".to_owned(), |ms| format!("{ms} ms old"));
            say(&format!("stale: as of revision {revision}, {age}"));
        }
    }

    /// Remembers that something was sent; with its id, when it is one command.
    pub(crate) fn on_sending(&self, id: Option<&RequestId>) {
        // The first is kept: a run sends one command or one list.
        let _ = self.in_flight.set(id.cloned());
    }

    /// What to say to the one who interrupts us.
    pub(crate) fn on_interrupt(&self) -> Option<String> {
        let id = self.in_flight.get()?.as_ref();
        let again = id
            .map(|id| format!("; see what came of it by sending it again with --request-id {id}"));
        Some(format!(
            "interrupted; what was sent may still be carried out{}",
            again.unwrap_or_default()
        ))
    }
}

/// Reads a time within the bounds of a request.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    duration::parse_ms(text, TIMEOUT_MS_MIN, TIMEOUT_MS_MAX)
        .map(Duration::from_millis)
        .map_err(|error| error.to_string())
}
