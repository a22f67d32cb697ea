//! The agent of one gateway, as a library so that its parts can be tested; `main.rs` only starts it.

// The mistakes that the simulator makes on purpose must never run a site.
const _: () = assert!(!fleet_consensus::seeded::COMPILED, "an agent is built without seeded-bugs");

pub mod agent;
pub mod cli;
pub mod commands;
pub mod config;
pub mod consensus;
pub mod control;
pub mod device;
pub mod http;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod nats;
pub mod site;
pub mod storage;
pub mod transport;
