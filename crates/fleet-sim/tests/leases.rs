//! A lease that is heard of too late: what the leader counts on holds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use fleet_sim::{Fault, Swarm, Violation, World};

/// Owners find each other, and something is wished of the devices.
const SETTLE_MS: u64 = 2_000;
/// An owner stands still, is cut off, and everything heals.
const LATE_MS: u64 = 9_000;
const SITES: u64 = 6;

/// An owner stands still between the question for its lease and the answer, hears nothing more
/// afterwards, and its devices are turned meanwhile. Says how often links were taken.
fn late_lease(seed: u64) -> Result<(World, u64), Violation> {
    let mut swarm = Swarm::quiet(3, 3);
    swarm.links = 3;
    let mut world = World::new(seed, swarm, false)?;
    assert!(world.run_until(30_000, World::has_grown)?, "the site did not grow");
    world.run_for(SETTLE_MS)?;
    let [.., taken_before] = world.field_counts();
    world.strike(Fault::LateLease)?;
    world.run_for(LATE_MS)?;
    let [.., taken] = world.field_counts();
    Ok((world, taken - taken_before))
}

#[test]
fn an_owner_that_hears_of_its_lease_too_late_writes_nothing_past_it() {
    let (mut late, mut taken) = (0, 0);
    for seed in 0..SITES {
        let (world, takeovers) = late_lease(seed).unwrap_or_else(|wrong| panic!("{seed}: {wrong}"));
        late += world.fired.get(&Fault::LateLease).copied().unwrap_or(0);
        taken += takeovers;
    }
    assert!(late >= SITES / 2, "only {late} owners stood still");
    assert!(taken > 0, "nothing was taken from them");
}

/// The same with a mistake in it: somebody must notice.
#[cfg(feature = "seeded-bugs")]
#[test]
fn an_owner_that_counts_its_lease_from_the_answer_is_found() {
    fleet_consensus::seeded::choose("lease-from-the-answer");
    let found = (0..SITES).find_map(|seed| late_lease(seed).err());
    fleet_consensus::seeded::choose("");
    assert_eq!(found.expect("nobody noticed").invariant, "owners take turns");
}
