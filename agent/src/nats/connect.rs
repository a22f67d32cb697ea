//! Opening a connection and following its state.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::prepare::{Prepared, Proof, redacted};
use super::probe;

/// How often the server is pinged; two missed answers end the connection.
const PING_INTERVAL: Duration = Duration::from_millis(250);
/// How long one attempt to connect may take, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before the second attempt; the first is made at once.
const RETRY_DELAY_MS: u64 = 100;
/// By how much the wait grows with each attempt, and where that ends.
const RETRY_GROWTH_MS: u64 = 20;
const RETRY_DELAY_MS_MAX: u64 = 400;
/// The wait is spread by up to so many milliseconds, so that agents don't come in step.
const RETRY_SPREAD_MS: u64 = 50;
/// The same complaint is logged again after this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// How the library calls a connection that could not be opened or broke.
const IO_ERROR: &str = "IO error";

/// What a connection is for.
#[derive(Debug, Clone)]
pub struct ConnectionPlan {
    /// Shown by the server's monitoring: `flotilla home gateway-1 control`.
    pub name: String,
    /// Word in logs and metrics: `control`, `raft` or `devices`.
    pub purpose: &'static str,
    /// Messages held per subscription until they are read; beyond it new ones are dropped.
    pub subscription_capacity: usize,
    /// Publications held until they are written; beyond it `publish` waits.
    pub publish_capacity: usize,
    /// Whether what is published over it comes back where it is subscribed to.
    pub echo: bool,
    /// Counts how often messages were dropped because a subscription held as many as it may. The
    /// library leaves some out when there are many, so it is at least as often.
    pub slow_consumers: Counter,
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected since the start, or not any more.
    Disconnected,
    /// Connected as far as the client knows.
    Connected,
    /// The server has announced that it is going away.
    LameDuck,
}

impl LinkState {
    /// The word used in status output and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Connected => "connected",
            Self::LameDuck => "lame_duck",
        }
    }
}

/// Why a connection couldn't be set up. A server that doesn't answer is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The credentials file can't be used.
    #[error("nats.creds_file: it does not hold a usable JWT and seed ({0}); download it again")]
    Credentials(String),
    /// The client refused its settings.
    #[error("the connection to NATS can't be set up: {0}; check [nats] in the configuration")]
    Setup(String),
}

/// A client and its state.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The client; it reconnects by itself for ever.
    pub client: Client,
    /// Its state as told by its events; a hint, not a promise of delivery.
    pub state: watch::Receiver<LinkState>,
}

impl Prepared {
    /// Opens a connection in the background and returns at once.
    ///
    /// # Errors
    /// When the settings can't be used at all; an unreachable server is tried for ever.
    pub async fn connect(&self, plan: &ConnectionPlan) -> Result<Connection, ConnectError> {
        let (sender, state) = watch::channel(LinkState::Disconnected);
        let follower = Follower::new(plan, self.servers.clone(), sender);
        // TLS takes the provider that was chosen when the crate was built with one only; with
        // more it would have to guess. An error says that one was chosen before.
        let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
        let mut options = self.options(plan)?;
        options = options.event_callback(move |event| {
            follower.on_event(&event);
            std::future::ready(())
        });
        let client = options
            .connect(self.servers.as_slice())
            .await
            .map_err(|error| ConnectError::Setup(error.to_string()))?;
        let discovers = !self.ignore_discovered;
        tokio::spawn(move_on(client.clone(), state.clone(), self.servers.len(), discovers));
        Ok(Connection { client, state })
    }

    fn options(&self, plan: &ConnectionPlan) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::new()
            .name(&plan.name)
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(None)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(|attempt| retry_delay(attempt, std::process::id()))
            .subscription_capacity(plan.subscription_capacity)
            .client_capacity(plan.publish_capacity)
            .require_tls(self.require_tls);
        if !plan.echo {
            options = options.no_echo();
        }
        if self.ignore_discovered {
            options = options.ignore_discovered_servers();
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        if let Some(ca) = &self.tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((cert, key)) = &self.tls.client {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        if self.tls.first {
            options = options.tls_first();
        }
        Ok(match &self.proof {
            Proof::None => options,
            Proof::Password { user, password } => {
                options.user_and_password(user.clone(), password.reveal().to_owned())
            }
            Proof::Token(token) => options.token(token.reveal().to_owned()),
            Proof::Nkey(seed) => options.nkey(seed.reveal().to_owned()),
            // The library wants a line break after the last line, which reading a secret cuts off.
            Proof::Credentials(text) => options
                .credentials(&format!("{}\n", text.reveal()))
                .map_err(|error| ConnectError::Credentials(error.to_string()))?,
        })
    }
}

/// Leaves a server that is about to go where another one is known, before it closes the
/// connection when it likes. It takes no new connections, so the next one is another's.
async fn move_on(
    client: Client,
    mut state: watch::Receiver<LinkState>,
    servers: usize,
    discovers: bool,
) {
    while state.wait_for(|state| *state == LinkState::LameDuck).await.is_ok() {
        let discovered = if discovers { client.server_info().connect_urls.len() } else { 0 };
        if servers + discovered > 1
            && let Err(error) = client.force_reconnect().await
        {
            tracing::debug!(%error, "the server could not be left yet");
        }
        if state.wait_for(|state| *state != LinkState::LameDuck).await.is_err() {
            return;
        }
    }
}

/// The wait before an attempt; `attempt` counts from 1 since the last success.
fn retry_delay(attempt: usize, seed: u32) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let attempt = u64::try_from(attempt).unwrap_or(u64::MAX);
    let grown = RETRY_DELAY_MS.saturating_add(RETRY_GROWTH_MS.saturating_mul(attempt - 2));
    // Any function of process and attempt will do that differs between agents.
    let spread = attempt.wrapping_mul(31).wrapping_add(u64::from(seed)) % RETRY_SPREAD_MS;
    Duration::from_millis(grown.min(RETRY_DELAY_MS_MAX) + spread)
}

/// Turns events of the client into a state and into log lines, without flooding the log.
struct Follower {
    purpose: &'static str,
    servers: Vec<ServerAddr>,
    state: watch::Sender<LinkState>,
    last: Mutex<Option<(String, Instant)>>,
    slow_consumers: Counter,
    slow: Mutex<SlowNote>,
}

/// What was said of messages that were dropped.
#[derive(Default)]
struct SlowNote {
    said: Option<Instant>,
    unsaid: u64,
}

impl SlowNote {
    /// How often messages were dropped since it was said last, when it is time to say it.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.unsaid = self.unsaid.saturating_add(1);
        let is_due =
            self.said.is_none_or(|said| now.saturating_duration_since(said) >= COMPLAINT_INTERVAL);
        is_due.then(|| {
            self.said = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }
}

impl Follower {
    fn new(
        plan: &ConnectionPlan,
        servers: Vec<ServerAddr>,
        state: watch::Sender<LinkState>,
    ) -> Arc<Self> {
        Arc::new(Self {
            purpose: plan.purpose,
            servers,
            state,
            last: Mutex::new(None),
            slow_consumers: plan.slow_consumers.clone(),
            slow: Mutex::default(),
        })
    }

    fn on_event(&self, event: &Event) {
        let connection = self.purpose;
        match event {
            Event::Connected => {
                tracing::info!(connection, "connected to NATS");
                self.state.send_replace(LinkState::Connected);
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Event::Closed => {
                tracing::debug!(connection, "closed");
                self.state.send_replace(LinkState::Disconnected);
            }
            Event::Disconnected => {
                tracing::warn!(connection, "disconnected from NATS; trying again");
                self.state.send_replace(LinkState::Disconnected);
            }
            Event::LameDuckMode => {
                tracing::warn!(connection, "the NATS server is about to go away");
                self.state.send_replace(LinkState::LameDuck);
            }
            Event::Draining => tracing::debug!(connection, "draining"),
            Event::SlowConsumer(subscription) => self.drop_noted(*subscription),
            Event::ServerError(error) => self.complain(error.to_string()),
            Event::ClientError(error) => self.complain(error.to_string()),
        }
    }

    /// Counts messages that were dropped, and says it once in a while: there are many at a time.
    fn drop_noted(&self, subscription: u64) {
        self.slow_consumers.inc();
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = slow.due(Instant::now()) else { return };
        tracing::warn!(
            connection = self.purpose,
            subscription,
            times,
            hint = "see flotilla_nats_slow_consumers_total: somebody floods the site, or this machine is too busy",
            "messages were dropped: they came faster than they were taken in"
        );
    }

    /// Each attempt to reconnect fails in the same way: say it once in a while.
    fn complain(&self, text: String) {
        if !self.is_new(&text) {
            return;
        }
        let (connection, servers) = (self.purpose, self.servers.clone());
        // Finding the reason takes a moment, and the next event must not wait for it.
        tokio::spawn(async move {
            // The library tells the kind of an error and keeps its source to itself.
            let found =
                if text.ends_with(IO_ERROR) { probe::servers(&servers).await } else { None };
            let reason = found.unwrap_or(text);
            let hint = if reason.to_lowercase().contains("authorization") {
                "check the credentials in [nats]"
            } else {
                "check that the server runs, its address and [nats.tls]"
            };
            let servers: Vec<String> =
                servers.iter().map(|server| redacted(server.as_url_str())).collect();
            let servers = servers.join(" ");
            tracing::warn!(connection, servers, reason, hint, "trouble with NATS");
        });
    }

    /// Whether a complaint was not made lately; notes it.
    fn is_new(&self, text: &str) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            matches!(&*last, Some((said, at)) if said == text && at.elapsed() < COMPLAINT_INTERVAL);
        if !known {
            *last = Some((text.to_owned(), Instant::now()));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_immediate_and_the_later_ones_are_bounded() {
        assert_eq!(retry_delay(0, 7), Duration::ZERO);
        assert_eq!(retry_delay(1, 7), Duration::ZERO);
        for attempt in [2, 3, 20, 1_000_000, usize::MAX] {
            let delay = retry_delay(attempt, 7);
            assert!(delay >= Duration::from_millis(RETRY_DELAY_MS), "{attempt}");
            assert!(
                delay < Duration::from_millis(RETRY_DELAY_MS_MAX + RETRY_SPREAD_MS),
                "{attempt}"
            );
        }
        assert_ne!(retry_delay(5, 1), retry_delay(5, 2));
    }

    #[test]
    fn events_become_states() {
        let (sender, state) = watch::channel(LinkState::Disconnected);
        let slow_consumers = Counter::default();
        let plan = ConnectionPlan {
            name: "test".to_owned(),
            purpose: "test",
            subscription_capacity: 1,
            publish_capacity: 1,
            echo: true,
            slow_consumers: slow_consumers.clone(),
        };
        let follower = Follower::new(&plan, Vec::new(), sender);
        for (event, want) in [
            (Event::Connected, LinkState::Connected),
            (Event::SlowConsumer(3), LinkState::Connected),
            (Event::LameDuckMode, LinkState::LameDuck),
            (Event::Disconnected, LinkState::Disconnected),
            (Event::Connected, LinkState::Connected),
            (Event::Closed, LinkState::Disconnected),
        ] {
            follower.on_event(&event);
            assert_eq!(*state.borrow(), want);
        }
        assert_eq!(slow_consumers.get(), 1);
    }

    #[test]
    fn drops_are_said_at_once_and_then_once_in_a_while_with_their_number() {
        let begun = Instant::now();
        let mut note = SlowNote::default();
        assert_eq!(note.due(begun), Some(1));
        for _ in 0..500 {
            assert_eq!(note.due(begun + Duration::from_secs(1)), None);
        }
        assert_eq!(note.due(begun + COMPLAINT_INTERVAL), Some(501));
        assert_eq!(note.due(begun + COMPLAINT_INTERVAL), None);
    }
}
