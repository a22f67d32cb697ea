//! Judges of what clients asked and heard, and when.
//!
//! They know nothing of Flotilla: no codec, no type of ours, so that the tests of real programs
//! may use them, which link no other crate of the product, and the simulator uses the same.
//!
//! - [`Histories`]: is there any order of the operations on a key that explains all answers?
//! - [`Linearizable`]: does the order of the log agree with real time? Fast, for long histories.
//!
//! Inputs: operations with their beginnings and ends, in the order of time. Outputs: a
//! [`Violation`], or how much was judged. What is never here: a clock, a task, a socket.

mod histories;
mod linearizable;

use std::fmt;

pub use histories::{Heard, Histories, Wanted};
pub use linearizable::{Floor, Linearizable};

/// An invariant that doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// A violation.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
