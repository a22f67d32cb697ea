//! What is decided about links and devices. Pure: no I/O, no clock, no tasks, no random numbers.
//!
//! - [`plan`]: what to do next with one device; [`orders`](orders()) turns the records of the
//!   state into its words
//! - [`telling`]: what the log is told of how far wishes got
//! - [`since`]: since when a device is not as it should be, over sessions and owners
//! - [`one_shots`]: whether a one-shot is asked for, handed over, or told as ended
//! - [`ownership`]: which node gets which link, and when one may be taken from its owner
//! - [`charges`]: which links a node works on, in which epochs
//! - [`lease`]: how long a node may write without hearing from the leader
//! - the words that connectors share with the planner: what can be done with a device
//!   ([`Profile`]), what it says ([`Observation`], [`Reading`]), how a hand-over ends
//!   ([`Handed`], [`WriteError`])
//!
//! Time is a reading of the node's monotonic clock in milliseconds, an argument everywhere. The
//! agent carries the decisions out (`agent/src/device`); the simulator carries the same ones out
//! on devices that keep a journal. Tests of the planner stand beside it.

mod answers;
pub mod charges;
pub mod lease;
mod observation;
pub mod one_shots;
mod orders;
pub mod ownership;
pub mod plan;
mod profile;
pub mod seeded;
pub mod since;
pub mod telling;

pub use answers::{Handed, ReadErrorKind, Reading, WriteError, WriteErrorKind};
pub use observation::{Availability, Observation, Quality};
pub use orders::{Asked, Claims, Learnt, LogBound, claimed_until_ms, orders, take_granted};
pub use profile::{Access, Fence, Profile};
