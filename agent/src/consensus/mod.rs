//! The task that owns the replica, and the handle that everything else holds.
//!
//! One thread runs the loop (`run.rs`): it receives frames, proposals, read
//! barriers and ticks over bounded channels, steps the replica of `fleet-consensus`,
//! and carries its effects out. Nobody else touches the replica; readers take a
//! [`View`](fleet_consensus::View), writers call [`Handle::submit`].
//!
//! The loop never waits for the network. It does wait for the disk: an answer is
//! worth nothing before the entry behind it is durable. A disk may hang, so nobody waits
//! for the loop longer than until a deadline, and [`Handle::still_ms`] tells that it does.

mod clock;
mod errands;
mod handle;
mod notices;
mod own_ids;
mod pulse;
mod reply;
mod run;
mod stalls;
mod tally;

pub use clock::MonotonicClock;
pub use handle::{
    AdminError, AppliedBatch, AppliedItem, Handle, ReadError, SnapshotTaken, Submitted,
};
pub(crate) use pulse::stands_still;
pub use run::{AgentReplica, LoopParts, OpenNotes, start};
