//! Mistakes made on purpose, to see whether the judge finds them.
//!
//! The simulator's judge is worth what it finds. With the feature `seeded-bugs` each switch in
//! this crate breaks one rule while its name is chosen for the running thread. No program of the
//! site enables the feature: they refuse to compile with [`COMPILED`]. Without it [`on`] is the
//! constant `false`, and nothing of a switch is left.
//!
//! The names, and what each of them breaks, stand in the catalogue of fleet-sim.

/// Whether the switches are there at all.
pub const COMPILED: bool = cfg!(feature = "seeded-bugs");

#[cfg(feature = "seeded-bugs")]
mod chosen {
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<&'static str> = const { Cell::new("") };
    }

    /// Chooses the one mistake that this thread makes from now on; an empty name is none.
    pub fn choose(name: &'static str) {
        CHOSEN.set(name);
    }

    /// Whether this mistake is to be made.
    #[must_use]
    pub fn on(name: &str) -> bool {
        CHOSEN.get() == name
    }
}

#[cfg(feature = "seeded-bugs")]
pub use chosen::{choose, on};

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "seeded-bugs"))]
#[must_use]
pub const fn on(_name: &str) -> bool {
    false
}
