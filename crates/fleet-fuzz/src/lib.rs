//! Mutated input for everything that reads foreign bytes.
//!
//! A [`Target`] takes any bytes and must come back: without a panic, and with what it took for
//! valid being the same after it was written and read again. What it says about the input, as a
//! short word, steers the search: an input that leads to a word not heard before becomes a seed of
//! further ones. This is no coverage as an instrumented build has it, but it works with the stable
//! toolchain, in every test run, and gets through the readers layer by layer.
//!
//! Seeds are the files under `corpus/<target>/` and what the targets make themselves where the
//! format has checksums. An input that found something is put into `corpus/` and stays there.
//!
//! `make test` runs each target for a moment, `make fuzz` as long as one likes. Hostile messages
//! that are well-formed, sealed and stepped by a real replica are in fleet-consensus
//! (`tests/guard_fuzz.rs`).

pub mod mutate;
pub mod run;
pub mod targets;

pub use run::{Finding, Report, fuzz};
pub use targets::{TARGETS, Target};
