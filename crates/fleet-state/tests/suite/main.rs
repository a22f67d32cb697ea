//! The tests of the replicated state, in one binary: one module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests may fail where they stand"
)]

mod batches;
mod changes;
mod codec;
mod dedup;
mod devices;
mod entries;
mod generate;
mod golden;
mod hall;
mod ids;
mod invocations;
mod json;
mod limits;
mod links_params;
mod members;
mod owners;
mod reference_model;
mod schema;
mod site;
mod snapshot;
mod tokens;
mod wishes;
