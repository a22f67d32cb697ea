//! One node's part in a site's agreement: a replica around `raft::RawNode`, without any I/O.
//!
//! This crate is the only one that names `raft`. It opens no socket, reads no clock and draws
//! no random number (raft's own election timeouts excepted): frames, time and salt come in as
//! arguments, the disk is `fleet_log`'s small trait, and effects go out as values. That is why
//! the agent and the simulator can run the very same code.
//!
//! - [`frame`]: what members say to each other, bounded, sealed and numbered
//! - [`guard`]: what raft must never see
//! - [`replica`]: the replica itself; start reading there
//! - [`membership`]: what a leader does next about who belongs to the site
//! - [`snapshot_store`]: snapshot files, whole or not there
//! - [`status`]: what a replica says about itself
//!
//! Never in here: `tokio`, sockets, wall clocks, a byte from outside parsed by protobuf.

mod checkpoints;
pub mod config;
mod counters;
mod fault;
pub mod frame;
pub mod guard;
mod leases;
mod log_time;
pub mod membership;
mod raft_storage;
mod reads;
pub mod replica;
#[doc(hidden)]
pub mod seeded;
pub mod snapshot_store;
pub mod status;
mod transfer;
mod waiters;

pub use config::{ConfigError, Levels, ReplicaConfig};
pub use counters::Counters;
pub use fault::{Fault, StartError};
pub use leases::Leases;
pub use log_time::Now;
pub use reads::ReadEnd;
pub use replica::{Founding, Opened, Outputs, Parts, Replica, Routes, Wire};
pub use status::{MemberProgress, NodeRole, Standing, View};
pub use waiters::CommandEnd;
