//! What to do next with one device. Pure: no I/O, no clock, no random numbers.
//!
//! [`Orders`] is what the site wants of a device, as the log says it. A [`Course`] is what the
//! owner of its link remembers of it for as long as a session lasts: what the device said, what
//! was handed to it and when. [`Course::plan`] puts the two together and gives at most one
//! [`Step`] at a time, with the reason, the stages reached, the drift, and when to look again.
//! Whoever carries the step out says how it ended, and asks again.
//!
//! The rules, in the order in which they are asked:
//! 1. A device is read before it is written to: at a start, a reconnect, a take-over, a return.
//!    What it already is counts as verified, and is not written.
//! 2. Nothing is written in mode observe, on hold, without the lease, or to a device that is
//!    away. What would be written is shown.
//! 3. A wish with a time to live is claimed in the log first, and handed over only while its time
//!    can't be over yet.
//! 4. A wish that isn't verified is handed over, a few times if the device doesn't take it on.
//! 5. What was verified and is different now is drift. In mode auto it is reported, adopted or
//!    enforced a bounded number of times; in mode manual it is shown.
//! 6. Only a value that the device itself said after the hand-over verifies anything: what is
//!    retained or uncertain is shown, and proves nothing. What is only ever written rests once
//!    it was handed over.
//! 7. A local write, made without a majority, is handed over like a wish, in the place of the one
//!    that it stands before. Nothing of it counts for the log's stages.

mod alike;
mod away;
mod choice;
mod course;
mod ended;
mod marks;
mod orders;
mod property;
mod standing;
mod step;
mod track;

#[cfg(test)]
mod tests;

pub use alike::alike;
pub use away::Away;
pub use course::Course;
pub use marks::{Marks, Trouble, TroubleCode};
pub use orders::{
    Age, GivenUp, Mode, OnDrift, OnReturn, Orders, PropertyPolicy, SETTLE_MS_DEFAULT, Ttl, Wish,
};
pub use step::{Drift, Leave, LocalReached, LocalStanding, Plan, Reported, Step, Why};
