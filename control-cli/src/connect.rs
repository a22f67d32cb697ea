//! How a command reaches the site: over NATS, or through the door of an agent on this machine.
//!
//! Who names a door gets that one. Everybody else goes to NATS, and when nobody is there and this
//! machine is a gateway, through the door of its agent, which is said on standard error. That is done
//! only where it can't be another site that is spoken to than the one that was meant: when no server
//! was named at all, or when the site was.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, builder::FalseyValueParser};
use fleet_client::{Auth, Client, ClientError, ConnectConfig, ConnectError, Tls, is_door};
use fleet_protocol::door::DOOR_SOCKET;
use fleet_state::SiteName;

use crate::{
    exit::{Stop, stop_of_client},
    output::say,
};

/// Where an agent keeps its files unless it is told otherwise.
const DATA_DIR_DEFAULT: &str = "/var/lib/flotilla";
/// The agent's own variables for the socket and for the data directory.
const SOCKET_VARIABLE: &str = "FLOTILLA_HTTP_SOCKET";
const DATA_DIR_VARIABLE: &str = "FLOTILLA_NODE_DATA_DIR";

/// Where the site is and how to log in.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection options")]
pub(crate) struct ConnectionArgs {
    /// NATS servers, or an agent's door as unix:/PATH or http://127.0.0.1:PORT [default:
    /// nats://127.0.0.1:4222, then the door of this machine's agent]
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
    /// Certificates to trust; a server without TLS is refused then
    #[arg(long, global = true, env = "FLOTILLA_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate
    #[arg(long, global = true, env = "FLOTILLA_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(long, global = true, env = "FLOTILLA_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Begin with TLS, for servers with handshake_first
    #[arg(long, global = true, env = "FLOTILLA_TLS_FIRST", value_parser = FalseyValueParser::new())]
    tls_first: bool,
    /// Prefix of reply subjects, where the server allows only some
    #[arg(long, global = true, env = "FLOTILLA_INBOX_PREFIX", value_name = "PREFIX")]
    inbox_prefix: Option<String>,
}

impl ConnectionArgs {
    /// The client's configuration.
    pub(crate) fn config(&self, timeout: Duration) -> Result<ConnectConfig, Stop> {
        Ok(ConnectConfig {
            servers: self.servers(),
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

    /// The servers that were named. An empty variable names none.
    fn servers(&self) -> Vec<String> {
        self.server.iter().filter(|server| !server.trim().is_empty()).cloned().collect()
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

/// Connects, and tells with what.
pub(crate) async fn connect(
    args: &ConnectionArgs,
    timeout: Duration,
) -> Result<(Client, ConnectConfig)> {
    let config = args.config(timeout)?;
    let site = args.site.as_ref();
    let error = match Client::connect(&config, site).await {
        Ok(client) => return Ok((client, config)),
        Err(error) => error,
    };
    let names_door = config.servers.iter().any(|server| is_door(server));
    let socket = socket(|name| std::env::var_os(name).map(PathBuf::from));
    if names_door || !is_nobody_there(&error) || !is_socket(&socket) {
        return Err(error.into());
    }
    let door = format!("unix:{}", socket.display());
    let names_server = !config.servers.is_empty() || config.context.is_some();
    if names_server && site.is_none() {
        let hint = format!(
            "This machine's agent has a door: name its site with --site, or use --server {door}."
        );
        return Err(stop_of_client(&error).with_hint(hint).into());
    }
    let through = ConnectConfig { servers: vec![door.clone()], context: None, ..config };
    match Client::connect(&through, site).await {
        Ok(client) => {
            say(&format!("{error}"));
            say(&format!("going through the door of this machine's agent, {door}"));
            Ok((client, through))
        }
        Err(closed) => Err(stop_of_client(&error)
            .with_hint(format!("Nor does the door help: {closed}"))
            .into()),
    }
}

/// Connects to the socket of the agent of this machine: for what no other gateway can do.
pub(crate) async fn connect_gateway(args: &ConnectionArgs, timeout: Duration) -> Result<Client> {
    let config = args.config(timeout)?;
    let named: Vec<&String> = config.servers.iter().filter(|server| is_door(server)).collect();
    let door = match named.as_slice() {
        [] => {
            let socket = socket(|name| std::env::var_os(name).map(PathBuf::from));
            format!("unix:{}", socket.display())
        }
        [door] => (*door).clone(),
        _ => {
            return Err(
                Stop::usage("several doors are named; a local write is one gateway's").into()
            );
        }
    };
    let through = ConnectConfig { servers: vec![door], context: None, ..config };
    Ok(Client::connect(&through, args.site.as_ref()).await?)
}

/// Whether the error says that there is nobody, as opposed to somebody who refuses.
fn is_nobody_there(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Connect(ConnectError::Unreachable { .. })
            | ClientError::NoSite { .. }
            | ClientError::UnknownSite { .. }
    )
}

/// Where the socket of this machine's agent is, by the variables that the agent itself reads.
fn socket(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let set = |name| variable(name).filter(|path| path.is_absolute());
    set(SOCKET_VARIABLE).unwrap_or_else(|| {
        let folder = set(DATA_DIR_VARIABLE).unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        folder.join(DOOR_SOCKET)
    })
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_the_agent_has_it() {
        let with = |pairs: &[(&str, &str)]| {
            socket(|name| {
                let found = pairs.iter().find(|(held, _)| *held == name);
                found.map(|(_, value)| PathBuf::from(value))
            })
        };
        assert_eq!(with(&[]), Path::new("/var/lib/flotilla/door.sock"));
        assert_eq!(with(&[(DATA_DIR_VARIABLE, "/x/n1")]), Path::new("/x/n1/door.sock"));
        assert_eq!(with(&[(DATA_DIR_VARIABLE, "")]), Path::new("/var/lib/flotilla/door.sock"));
        let both = [(DATA_DIR_VARIABLE, "/x/n1"), (SOCKET_VARIABLE, "/run/door")];
        assert_eq!(with(&both), Path::new("/run/door"));
        assert_eq!(with(&[(SOCKET_VARIABLE, "off")]), Path::new("/var/lib/flotilla/door.sock"));
    }
}
