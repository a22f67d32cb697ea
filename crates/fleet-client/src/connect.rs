//! Connections: what can be configured, and for NATS the tuning that is always the same.
//!
//! A short-lived client wants to know at once that nobody is there, so the first connection is not
//! retried. Once it stands, it is kept alive by pings of a second and comes back within a tenth of
//! one, because a command may be waiting to be sent again.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::Notify;

use crate::{
    ConnectError, context,
    door::{Place, is_door},
    transport::Connection,
};

/// Where a NATS server is looked for when nothing says otherwise.
pub const SERVER_DEFAULT: &str = "nats://127.0.0.1:4222";
const PING_INTERVAL: Duration = Duration::from_secs(1);
const RECONNECT_DELAY_MS: u64 = 100;
const RECONNECT_DELAY_MS_MAX: u64 = 1_000;
/// Violations that are remembered to explain why a request got no answer.
const VIOLATIONS_MAX: usize = 32;

/// How a client shows who it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all, unless the URL does.
    #[default]
    None,
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A file with an NKey seed.
    NkeyFile(PathBuf),
    /// A credentials file: JWT and seed.
    CredsFile(PathBuf),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Password { .. } => "user and password",
            Self::Token(_) => "token",
            Self::NkeyFile(_) => "nkey",
            Self::CredsFile(_) => "credentials",
        })
    }
}

/// Files and choices for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust beside the system's. With them, a server without TLS is refused.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Begin with TLS, for servers with `handshake_first`.
    pub first: bool,
}

/// Everything about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectConfig {
    /// Server URLs, or the URL of one agent's door: `unix:/var/lib/flotilla/door.sock` or
    /// `http://127.0.0.1:8223`. Empty for those of the context, or the default.
    pub servers: Vec<String>,
    /// A context of the `nats` command, for what is not given here.
    pub context: Option<String>,
    /// How we show who we are.
    pub auth: Auth,
    /// TLS.
    pub tls: Tls,
    /// Prefix of reply subjects, where the server allows only some.
    pub inbox_prefix: Option<String>,
    /// Our name in the server's list of connections.
    pub name: String,
    /// How long to try.
    pub timeout: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            context: None,
            auth: Auth::None,
            tls: Tls::default(),
            inbox_prefix: None,
            name: "flotilla".to_owned(),
            timeout: Duration::from_secs(4),
        }
    }
}

/// Permission violations that the server told of. It tells them apart from the request they are about,
/// so they are kept until somebody wonders why nothing comes back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Violations(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    kept: Mutex<VecDeque<String>>,
    news: Notify,
}

impl Violations {
    fn note(&self, text: &str) {
        if !text.to_ascii_lowercase().contains("permissions violation") {
            return;
        }
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= VIOLATIONS_MAX {
            kept.pop_front();
        }
        kept.push_back(text.to_owned());
        drop(kept);
        self.0.news.notify_waiters();
    }

    /// Returns once the server has forbidden `subject` or our inbox.
    pub(crate) async fn told_about(&self, subject: &str) {
        loop {
            let news = self.0.news.notified();
            if self.about(subject).is_some() {
                return;
            }
            news.await;
        }
    }

    /// The forbidden subject, when the server forbade `subject` or our inbox.
    pub(crate) fn about(&self, subject: &str) -> Option<String> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            return None;
        }
        let quoted = format!("\"{subject}\"");
        kept.iter().find_map(|text| {
            if text.contains(&quoted) {
                return Some(subject.to_owned());
            }
            let lower = text.to_ascii_lowercase();
            lower
                .contains("for subscription")
                .then(|| text.split('"').nth(1).unwrap_or("its inbox").to_owned())
        })
    }
}

/// Opens a connection.
pub(crate) async fn connect(config: &ConnectConfig) -> Result<Connection, ConnectError> {
    match config.servers.as_slice() {
        [only] if is_door(only) => Connection::open_door(Place::parse(only)?, config).await,
        servers => {
            if let Some(door) = servers.iter().find(|server| is_door(server)) {
                return Err(ConnectError::Options(format!(
                    "{door} is the door of one agent and can't be mixed with other servers; name it alone"
                )));
            }
            connect_nats(config).await
        }
    }
}

async fn connect_nats(config: &ConnectConfig) -> Result<Connection, ConnectError> {
    let config = context::complete(config)?;
    let addresses: Vec<ServerAddr> = config
        .servers
        .iter()
        .map(|url| {
            url.parse().map_err(|_| {
                ConnectError::Options(format!(
                    "\"{}\" is not a server address; write it as nats://host:4222 or tls://host:4222",
                    redacted(url)
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    let servers: Vec<String> = config.servers.iter().map(|url| redacted(url)).collect();
    let violations = Violations::default();
    let options = options(&config, violations.clone()).await?;
    let opened = tokio::time::timeout(config.timeout, options.connect(addresses)).await;
    let nats = match opened {
        Ok(Ok(nats)) => nats,
        Ok(Err(error)) => return Err(refused(&error, servers, &config.tls)),
        Err(_) => {
            let why = with_tls("it takes too long".to_owned(), &config.tls);
            return Err(ConnectError::Unreachable { servers, why });
        }
    };
    Ok(Connection::of_nats(nats, violations, servers))
}

/// A server without TLS is heard of in the words of the library only, which name anything but that.
fn with_tls(why: String, tls: &Tls) -> String {
    if wants_tls(tls) { format!("{why} (it was asked to speak TLS)") } else { why }
}

fn refused(error: &async_nats::ConnectError, servers: Vec<String>, tls: &Tls) -> ConnectError {
    let why = chain(error);
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Denied { servers, why }
        }
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => {
            ConnectError::Unreachable { servers, why: with_tls(why, tls) }
        }
    }
}

/// The innermost cause; the outer ones say no more than their kind.
fn chain(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

async fn options(
    config: &ConnectConfig,
    violations: Violations,
) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(config.timeout)
        .request_timeout(None)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            if let Event::ServerError(error) = &event {
                violations.note(&error.to_string());
            }
            std::future::ready(())
        })
        .require_tls(wants_tls(&config.tls));
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(ca) = &config.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => {
            options = options.add_client_certificate(cert.clone(), key.clone())
        }
        (None, None) => {}
        _ => {
            let message =
                "a client certificate needs its key, and a key its certificate; give both";
            return Err(ConnectError::Options(message.to_owned()));
        }
    }
    if config.tls.first {
        options = options.tls_first();
    }
    authenticated(options, &config.auth).await
}

/// Whether a server that speaks plainly is refused before anything is said to it. Who names whom to
/// trust wants to know whom the password goes to.
fn wants_tls(tls: &Tls) -> bool {
    tls.ca.is_some() || tls.cert.is_some() || tls.first
}

async fn authenticated(
    options: ConnectOptions,
    auth: &Auth,
) -> Result<ConnectOptions, ConnectError> {
    Ok(match auth {
        Auth::None => options,
        Auth::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Auth::Token(token) => options.token(token.clone()),
        Auth::NkeyFile(path) => {
            let text =
                tokio::fs::read_to_string(path).await.map_err(|error| unreadable(path, &error))?;
            // The file may carry remarks; the seed is the line that begins as a user's.
            let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
            let seed = seed.ok_or_else(|| {
                ConnectError::Options(format!(
                    "{} holds no NKey seed of a user (SU…)",
                    path.display()
                ))
            })?;
            options.nkey(seed.to_owned())
        }
        Auth::CredsFile(path) => {
            let text =
                tokio::fs::read_to_string(path).await.map_err(|error| unreadable(path, &error))?;
            // The library wants a line break after the last line, which an editor may have cut off.
            options.credentials(&format!("{text}\n")).map_err(|error| unreadable(path, &error))?
        }
    })
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> ConnectError {
    ConnectError::Options(format!("{} cannot be used: {error}", path.display()))
}

/// A URL without its credentials.
pub(crate) fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}").escape_debug().to_string()
}

/// How long an attempt to connect waits, by its number, from 1 on. The library asks before the first
/// one too, for which nobody is to wait.
fn reconnect_delay(attempt: usize) -> Duration {
    let failed = u64::try_from(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_millis(RECONNECT_DELAY_MS.saturating_mul(failed).min(RECONNECT_DELAY_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(redacted("nats://me:secret@h:4222"), "nats://h:4222");
        assert_eq!(redacted("h:4222"), "nats://h:4222");
        assert_eq!(redacted("tls://t@k@h"), "tls://h");
        let auth = Auth::Password { user: "me".to_owned(), password: "secret".to_owned() };
        assert!(!format!("{auth:?}").contains("secret"));
    }

    #[test]
    fn a_violation_is_found_by_its_subject() {
        let violations = Violations::default();
        violations.note("Permissions Violation for Publish to \"a.b\"");
        violations.note("something else about \"c.d\"");
        assert_eq!(violations.about("a.b"), Some("a.b".to_owned()));
        assert_eq!(violations.about("a"), None);
        assert_eq!(violations.about("c.d"), None);
        violations.note("Permissions Violation for Subscription to \"_INBOX.x.*\"");
        assert_eq!(violations.about("c.d"), Some("_INBOX.x.*".to_owned()));
        for at in 0..100 {
            violations.note(&format!("permissions violation for publish to \"x.{at}\""));
        }
        assert_eq!(violations.about("a.b"), None, "the oldest are forgotten");
        assert_eq!(violations.about("x.99"), Some("x.99".to_owned()));
    }

    #[test]
    fn nobody_waits_for_the_first_attempt() {
        let delays =
            [0, 1, 2, 3, 11, 12, usize::MAX].map(|attempt| reconnect_delay(attempt).as_millis());
        assert_eq!(delays, [0, 0, 100, 200, 1_000, 1_000, 1_000]);
    }
}
