//! The local door: the whole contract over HTTP/1.1, on a Unix socket of the data directory and,
//! where the configuration says so, on a TCP port of the loopback.
//!
//! It is the way to command the site when there is no NATS server, and the way for programs that
//! have no NATS client: `curl --unix-socket door.sock http://flotilla/v1/query/site/get`. A path is
//! a subject (`fleet_protocol::door`), headers and bodies are those of NATS, and the desk that
//! takes a request in is the same ([`LocalDoor`]), so nothing is decided here.
//!
//! 1. `socket` makes the socket: for its owner only, replacing a stale one and nothing else.
//! 2. `serve` takes connections in: so many at a time, each with bounds on the time its headers,
//!    its body and its reading of the answer may take (`patient`).
//! 3. `request` turns an HTTP request into one of the contract; `answer` turns the answers into a
//!    response: a body, or server-sent events.
//!
//! Who may use the socket is decided by its permissions. The TCP port asks nobody who they are, so
//! it is never bound off the loopback, and what a web page has a browser send is refused: a foreign
//! `Host` or any `Origin` (`browsers`).
//!
//! Tests: tables beside the parts, real processes in the workspace's `tests/tests/door.rs`.

mod answer;
mod browsers;
mod patient;
mod request;
mod serve;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use fleet_protocol::Subjects;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::control::LocalDoor;

use browsers::Caller;
use socket::SocketFile;

/// Connections at a time, of each listener; the next one waits in the system's queue.
const CONNECTIONS_MAX: usize = 512;
/// How long open connections may take to finish when the agent stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the door is, and what is told there beside the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorConfig {
    /// The Unix socket.
    pub socket: Option<PathBuf>,
    /// The TCP address, on the loopback.
    pub address: Option<SocketAddr>,
    /// The NATS servers that the agent uses, without secrets; clients put them into join tokens.
    pub nats_urls: Vec<String>,
}

/// Why the door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The Unix socket.
    #[error("the socket {} can't be used: {why}; set http.socket to another path, or to \"off\"", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The TCP address.
    #[error("http.door = {address} can't be used: {source}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// What requests are served with.
#[derive(Clone, Debug)]
struct Desk {
    door: LocalDoor,
    subjects: Arc<Subjects>,
    nats_urls: Arc<[String]>,
    caller: Caller,
}

/// An open door.
#[derive(Debug)]
pub struct DoorServer {
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    /// Removed from the disk when it is dropped.
    _socket: Option<SocketFile>,
}

impl DoorServer {
    /// Waits until a place has ended that was listened at, which none should before the door is
    /// closed; for ever where there is none.
    pub async fn failed(&mut self) -> String {
        match self.listeners.join_next().await {
            Some(Ok(())) => "a task of the local door ended".to_owned(),
            Some(Err(error)) => format!("a task of the local door failed: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Takes no more connections and lets requests under way finish, within a bound.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.listeners.join_next().await.is_some() {} };
        // What is still open then is cut: its client asks again elsewhere.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
    }
}

/// Opens the door.
///
/// # Errors
/// When one of the places can't be used.
pub async fn open(config: DoorConfig, door: LocalDoor) -> Result<DoorServer, DoorError> {
    let (stop, stopped) = watch::channel(false);
    let mut listeners = JoinSet::new();
    let desk = Desk {
        subjects: Arc::new(Subjects::new(&door.node().site)),
        nats_urls: config.nats_urls.into(),
        caller: Caller::Loopback,
        door,
    };
    let serving = |caller| serve::Serving {
        router: router(&desk, caller),
        // Whoever fills the port must not keep out those whom the socket lets in.
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        stopped: stopped.clone(),
    };
    let mut socket = None;
    if let Some(path) = config.socket {
        let (listener, file): (UnixListener, _) =
            SocketFile::bind(&path).map_err(|why| DoorError::Socket { path: path.clone(), why })?;
        tracing::info!(socket = %path.display(), "the local door is open");
        listeners.spawn(serving(Caller::Socket).run(listener));
        socket = Some(file);
    }
    if let Some(address) = config.address {
        let refused = |source| DoorError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        tracing::info!(%address, "the local door is open to every user of this machine");
        listeners.spawn(serving(Caller::Loopback).run(listener));
    }
    Ok(DoorServer { stop, listeners, _socket: socket })
}

fn router(desk: &Desk, caller: Caller) -> Router {
    Router::new()
        .route(fleet_protocol::door::DOOR_ROOT, any(request::facts))
        .fallback(request::serve)
        .with_state(Desk { caller, ..desk.clone() })
}
