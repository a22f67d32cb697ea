//! What users, agents and clients say to each other over NATS: the contract of `docs/protocol.md`.
//!
//! This crate is pure. It turns what came from the wire into checked values, and values into what
//! goes out; it has no sockets, no clock and no source of randomness, and knows no type of any NATS
//! library.
//!
//! Where to look:
//! - [`Subjects`]: the only place where a subject is spelled; builders and a strict parser;
//! - [`Options`]: the headers; [`request`]: a message in, a [`Request`] out;
//! - [`ErrorCode`], [`Failure`]: the closed list of what can go wrong; [`reply`]: how it is told;
//! - [`query`], [`changes`], [`event`]: reading the site, once, since, and as it goes on;
//! - [`look`]: which devices a link carries, as its owner sees it;
//! - [`admin`], [`node`], [`mesh`]: running the site; [`JoinToken`]: an invitation to it;
//! - [`reply_subject`]: where an agent lets itself be told to answer to.
//! - [`door`]: the same over HTTP, at an agent's own door; [`local`]: what is commanded there while there is no
//!   majority.
//!
//! What must never happen here: a subject literal outside `subjects.rs`; a user's value read or
//! written by anything but `fleet_state::Value`; an unknown field or header that is skipped; a bound
//! that is not in [`limits`].
//!
//! Tests are beside the modules; `tests/contract.rs` compares the code with `docs/protocol.md`.

pub mod admin;
mod area;
pub mod changes;
mod command;
pub mod door;
pub mod duration;
mod error;
pub mod event;
mod fields;
mod headers;
pub mod hex;
mod json;
pub mod limits;
pub mod local;
pub mod look;
pub mod mesh;
pub mod node;
mod operation;
pub mod query;
pub mod record;
pub mod reply;
pub mod reply_subject;
pub mod request;
pub mod subjects;
pub mod suggest;
pub mod target;
mod token;

pub use admin::AdminRequest;
pub use area::{Area, AreaError};
pub use changes::{ChangeBody, ChangesPage, ChangesRequest};
pub use door::DoorFacts;
pub use error::{ErrorCode, ErrorFacts, Failure};
pub use headers::{Consistency, HeaderName, Options, WaitFor};
pub use json::Json;
pub use node::{NodeRequest, NodeStatus};
pub use operation::{AdminOp, CommandOp, EventKind, NodeVerb, Noun, QueryVerb};
pub use query::Query;
pub use reply::ReplyMessage;
pub use request::{Action, CommandRequest, Incoming, Refused, Request};
pub use subjects::{Inbound, SubjectError, Subjects};
pub use target::{ChangesTarget, CommandTarget, QueryTarget};
pub use token::{JOIN_TOKEN_PREFIX, JoinToken, JoinTokenError};
