//! Connections to NATS: which servers, how to prove who we are, and how to notice that a
//! connection is gone.
//!
//! The agent has two connections, one for control and one for Raft, and a third for devices that
//! speak NATS once it owns a link of theirs. All are made here from the same [`Prepared`] settings. Preparing does all the checking, before anything is opened:
//! - the URLs parse and hold one set of credentials at most;
//! - a context of the `nats` CLI is read, filling in what the configuration leaves open;
//! - secret files are read (a file that everybody may read is refused);
//! - a server off the loopback is refused unless the connection is encrypted *and* the agent
//!   proves who it is, or `nats.allow_insecure` says otherwise. Servers that a server tells us
//!   of later can't slip past that rule: they are ignored unless TLS is required of all.
//!
//! The client library never gives up and never blocks the start: an agent without NATS runs and
//! keeps trying. It pings every 250 ms, so a server that stopped answering without closing the
//! connection is noticed in about half a second, and it retries about every 100 ms: its own
//! back-off would leave a site without control for seconds after its server is back.
//!
//! "Connected" is a hint, not a promise of delivery; Raft has its own heartbeats.

mod connect;
mod context;
mod prepare;
mod probe;
mod server_age;

#[cfg(test)]
mod fake_server;
#[cfg(test)]
mod tests;

pub use connect::{ConnectError, Connection, ConnectionPlan, LinkState};
pub(crate) use prepare::redacted;
pub use prepare::{NatsError, Prepared, prepare};
pub use server_age::follow_server;

/// The name under which the client library logs.
pub(crate) const LIBRARY_LOG_TARGET: &str = "async_nats";
