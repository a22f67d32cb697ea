//! A seeded site: the replicas, frames, guard, log and state of the agent on a simulated clock,
//! network and disk.
//!
//! A run is decided by one number. It founds a site, lets nodes join, puts it under load and
//! under the faults that the seed chose, then grants calm and demands that everything converges.
//! All the while the checks of [`invariants`] look on from outside. A seed that fails replays:
//! `cargo run --release -p fleet-sim -- --seed N -v`.
//!
//! - [`swarm`]: what a seed chooses; [`faults`]: what can go wrong
//! - [`world`]: nodes, network, clients and time; it begins nothing by itself
//! - [`keeper`]: the southbound side of a node; [`field`]: the devices, with their journals
//! - [`run`]: the phases of a run, its figures, its failure
//! - [`shrink`]: a smaller run that fails like a large one
//! - [`judge`]: mistakes made on purpose, which the invariants must find
//! - [`invariants`]: one file each
//!
//! Nothing here uses a clock, a thread, hash order or a random source besides the seed.

pub mod faults;
pub mod field;
pub mod invariants;
pub mod judge;
pub mod keeper;
pub mod network;
pub mod node;
pub mod random;
pub mod run;
pub mod shrink;
pub mod site;
pub mod swarm;
pub mod trace;
pub mod world;

pub use faults::Fault;
pub use invariants::Violation;
pub use run::{Failure, Report, run_seed, run_swarm};
pub use swarm::Swarm;
pub use world::{Ended, World};
