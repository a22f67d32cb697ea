//! Mistakes made on purpose, to see whether the judge finds them; see [`fleet_log::seeded`].

pub use fleet_log::seeded::on;

/// Whether the switches are there at all, in this crate or below.
pub const COMPILED: bool =
    cfg!(feature = "seeded-bugs") || fleet_log::seeded::COMPILED || fleet_state::seeded::COMPILED;

/// Chooses the one mistake that this thread makes from now on, in whatever crate it is; an empty
/// name is none.
#[cfg(feature = "seeded-bugs")]
pub fn choose(name: &'static str) {
    fleet_log::seeded::choose(name);
    fleet_state::seeded::choose(name);
}
