//! Where the site is, how to log in and how to print: what every command shares.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use anyhow::Result;
use clap::Args;
use fleet_client::{Auth, Client, ConnectConfig, Tls};
use fleet_protocol::{
    Consistency, duration,
    limits::{TIMEOUT_MS_MAX, TIMEOUT_MS_MIN},
};
use fleet_state::{RequestId, SiteName};

use crate::{
    exit::Stop,
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
    #[arg(long, global = true, help_heading = "Request options", env = "FLOTILLA_STALE")]
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

/// Where the site is and how to log in.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection options")]
pub(crate) struct ConnectionArgs {
    /// A NATS server, or several [default: nats://127.0.0.1:4222]
    #[arg(
        short,
        long,
        global = true,
        env = "FLOTILLA_SERVER",
        value_name = "URL",
        value_delimiter = ','
    )]
    server: Vec<String>,
    /// The site [default: the one that answers on the server]
    #[arg(long, global = true, env = "FLOTILLA_SITE", value_name = "NAME")]
    pub(crate) site: Option<SiteName>,
    /// A context of the `nats` command, for servers and login
    #[arg(long, global = true, env = "FLOTILLA_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// User for NATS
    #[arg(long, global = true, env = "FLOTILLA_USER", value_name = "NAME")]
    user: Option<String>,
    /// Password for NATS; better in the variable than here
    #[arg(
        long,
        global = true,
        env = "FLOTILLA_PASSWORD",
        value_name = "WORD",
        hide_env_values = true
    )]
    password: Option<String>,
    /// Token for NATS; better in the variable than here
    #[arg(
        long,
        global = true,
        env = "FLOTILLA_NATS_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    nats_token: Option<String>,
    /// File with an NKey seed
    #[arg(long, global = true, env = "FLOTILLA_NKEY", value_name = "FILE")]
    nkey: Option<PathBuf>,
    /// Credentials file
    #[arg(long, global = true, env = "FLOTILLA_CREDS", value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Certificates to trust
    #[arg(long, global = true, env = "FLOTILLA_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate
    #[arg(long, global = true, env = "FLOTILLA_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(long, global = true, env = "FLOTILLA_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Begin with TLS, for servers with handshake_first
    #[arg(long, global = true, env = "FLOTILLA_TLS_FIRST")]
    tls_first: bool,
    /// Prefix of reply subjects, where the server allows only some
    #[arg(long, global = true, env = "FLOTILLA_INBOX_PREFIX", value_name = "PREFIX")]
    inbox_prefix: Option<String>,
}

impl ConnectionArgs {
    /// The client's configuration.
    pub(crate) fn config(&self, timeout: Duration) -> Result<ConnectConfig, Stop> {
        Ok(ConnectConfig {
            servers: self.server.clone(),
            context: self.context.clone(),
            auth: self.auth()?,
            tls: Tls {
                ca: self.tls_ca.clone(),
                cert: self.tls_cert.clone(),
                key: self.tls_key.clone(),
                first: self.tls_first,
            },
            inbox_prefix: self.inbox_prefix.clone(),
            name: "flotilla".to_owned(),
            timeout,
        })
    }

    fn auth(&self) -> Result<Auth, Stop> {
        let mut found = Vec::new();
        match (&self.user, &self.password) {
            (Some(user), password) => {
                let password = password.clone().unwrap_or_default();
                found.push(("--user", Auth::Password { user: user.clone(), password }));
            }
            (None, Some(_)) => return Err(Stop::usage("--password needs --user")),
            (None, None) => {}
        }
        found.extend(self.nats_token.clone().map(|token| ("--nats-token", Auth::Token(token))));
        found.extend(self.nkey.clone().map(|file| ("--nkey", Auth::NkeyFile(file))));
        found.extend(self.creds.clone().map(|file| ("--creds", Auth::CredsFile(file))));
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            return Err(Stop::usage(format!(
                "{} are different ways to log in; give one of them",
                names.join(" and ")
            )));
        }
        Ok(found.pop().map(|(_, auth)| auth).unwrap_or_default())
    }
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
        let config = connection.config(*timeout)?;
        let client = Client::connect(&config, connection.site.as_ref()).await?;
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
