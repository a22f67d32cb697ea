//! The agent of one gateway, as a library so that its parts can be tested; `main.rs` only starts it.

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
