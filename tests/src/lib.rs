//! Real parts for tests: a nats-server, agents, the command line, a bare client.
//!
//! A scenario under `tests/tests/` starts the programs that users start, breaks
//! something, and looks at what a user would see. Nothing of Flotilla's own code is
//! linked here but the judge of histories, which knows no encoding, so that a mistake in a
//! shared encoder cannot hide itself: subjects, headers and replies are spelled as
//! `docs/protocol.md` spells them.
//!
//! - [`nats_server::NatsServer`]: a real server on a free port, which can be paused,
//!   killed and started again on the same port.
//! - [`site::Site`]: agents as processes, made with `init` and `join` like real ones.
//! - [`lan::Lan`]: a network of its own, whose machines have addresses, cables and faults.
//! - [`hall::Hall`]: a site on such a network.
//! - [`bare::BareClient`]: NATS requests without our client.
//! - [`door::BareDoor`]: HTTP requests at one agent's door, written by hand.
//! - [`cli::Cli`]: the `flotilla` command.
//! - [`cut::Wire`]: a way to a server that a test can cut and mend.
//! - [`pki::Pki`]: an authority, and certificates for servers and clients.
//! - [`disk::SmallDisk`]: a real file system that can run full, where this user may mount one.
//! - [`hung_disk::HungDisk`]: a disk under one agent that hangs.
//! - [`guest`]: machines that lose power, where this user may have them.
//! - [`field`]: an MQTT broker and devices that we did not write.
//! - [`nats_device::NatsDevice`]: a device that speaks NATS, with a journal.
//! - [`chaos`]: faults drawn from a seed, and clients whose histories are judged.
//! - [`load`]: many writers at once, and what was promised to each of them.
//! - [`not_run`]: what this machine can't run, said so that nobody misses it.
//! - [`wait`]: the only place that lets time pass, always towards a deadline.
//!
//! Everything that is started is stopped on drop, by its own process id. The folder
//! of a failed test stays, with each process's output, and its path is printed.
//! Without a nats-server or without the built programs a test fails and says what to
//! do; it never passes by not running.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure of the harness is the failure of its test, with the reason as text"
)]

pub mod agent;
pub mod bare;
pub mod chaos;
pub mod cli;
pub mod cut;
pub mod disk;
pub mod door;
pub mod field;
pub mod guest;
pub mod hall;
pub mod hung_disk;
pub mod lan;
pub mod load;
pub mod metrics;
pub mod nats_device;
pub mod nats_server;
pub mod not_run;
pub mod pki;
pub mod plant;
pub mod process;
pub mod programs;
pub mod rig;
pub mod site;
pub mod status;
pub mod wait;
pub mod workplace;
