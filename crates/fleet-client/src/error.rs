//! Why a call gave no answer.
//!
//! For a command, an error means that it was certainly not carried out, or never sent at all. When
//! nobody can know, the call gives [`crate::Outcome::Unknown`], which is no error: it is an answer
//! to act upon.

use fleet_protocol::reply::{Failed, ReplyError};
use thiserror::Error;

/// Why a call gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No NATS server could be reached, or none took us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No site answers on the server.
    #[error(
        "no Flotilla site answers on {server}; check that its agents run and use this NATS server"
    )]
    NoSite {
        /// Where was asked.
        server: String,
    },
    /// Several sites answer.
    #[error("several sites answer on {server}: {}; say which with --site or FLOTILLA_SITE", sites.join(", "))]
    ManySites {
        /// Where was asked.
        server: String,
        /// Their names.
        sites: Vec<String>,
    },
    /// The site that was named does not answer, while the server does.
    #[error("no agent of site {site} answers on {server}; {}", others_text(others))]
    UnknownSite {
        /// The site that was named.
        site: fleet_state::SiteName,
        /// Where was asked.
        server: String,
        /// The sites that do answer there.
        others: Vec<String>,
    },
    /// The request is larger than it may be, so it was not sent.
    #[error("{0}")]
    TooLarge(String),
    /// The NATS server forbids it.
    #[error(
        "the NATS server does not allow this user to use {subject}; use credentials that may, or ask for the permission"
    )]
    Denied {
        /// The subject that is forbidden.
        subject: String,
    },
    /// Nobody took the request, so it was not carried out.
    #[error("{0}")]
    Unavailable(String),
    /// The site refused.
    #[error("{}", .0.error.message)]
    Failed(Failed),
    /// The reply was not understood.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The connection was lost or closed.
    #[error("the NATS client failed: {0}")]
    Nats(String),
    /// Something on this machine failed.
    #[error("{0}")]
    Local(String),
}

/// What answers instead.
fn others_text(others: &[String]) -> String {
    if others.is_empty() {
        return "no other site does either; check that its agents run and use this NATS server"
            .to_owned();
    }
    format!("those that do are {}; check the name", others.join(", "))
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The options contradict each other or name something that cannot be used.
    #[error("{0}")]
    Options(String),
    /// Nobody is there.
    #[error("no NATS server answers at {}: {why}; check that it runs there and can be reached, or name another with --server", servers.join(", "))]
    Unreachable {
        /// What was tried.
        servers: Vec<String>,
        /// The last reason.
        why: String,
    },
    /// No agent answers at its door.
    #[error(
        "no agent answers at {place}: {why}; check that it runs and where its door is (http.socket and http.door of its configuration)"
    )]
    NoDoor {
        /// What was tried.
        place: String,
        /// The reason.
        why: String,
    },
    /// An agent is there and this user may not use its door.
    #[error(
        "the door at {place} is closed to this user: {why}; use it as the user the agent runs as"
    )]
    DoorClosed {
        /// What was tried.
        place: String,
        /// The reason.
        why: String,
    },
    /// Somebody is there and does not take us in.
    #[error("the NATS server at {} refused the connection: {why}; check the user, token, key or credentials", servers.join(", "))]
    Denied {
        /// What was tried.
        servers: Vec<String>,
        /// The reason.
        why: String,
    },
}
