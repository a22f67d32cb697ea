//! Chaos: a site of real agents, clients that write down what they asked and heard, and a nemesis.
//!
//! - [`clients`]: write and read parameters through all doors, and give up or try again as the
//!   contract tells them to.
//! - [`terminal`]: the machine from which some of them speak NATS.
//! - [`recorder`]: what they asked and heard, in the order of time, told to the judges of
//!   fleet-judge at once: the same that judge simulated sites.
//! - [`nemesis`]: draws faults from a seed, makes them, proves that each has fired (`proofs`), mends them.
//! - [`fault`]: the list of faults. `disks`, `clocks` and `starving` know how to make some.
//! - [`report`]: what was done, what held, in text. It is written also when a part of the run has
//!   failed ([`attempt`]).
//! - [`peers`]: the same for etcd and JetStream, with fewer faults.
//!
//! The seed decides which faults come in which order and whom they hit; when exactly is up to the
//! machine. So a seed repeats the kind of trouble, not its microseconds.

pub mod attempt;
pub mod clients;
mod clocks;
mod disks;
pub mod fault;
mod making;
pub mod nemesis;
pub mod peers;
mod proofs;
pub mod random;
pub mod recorder;
pub mod report;
mod starving;
pub mod terminal;
