//! Quorums that are barely there: who leads and decides when no node can be spared.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod scenario_support;

use fleet_consensus::Replica;
use fleet_log::MemoryDisk;
use fleet_sim::{Swarm, World};
use fleet_state::NodeId;
use scenario_support::{Done, TICK_MS, followers, grown, leader, settle, term, write};

/// The old leader is joined to one follower only, the bridge, and leads no majority (openraft#2080).
/// It must not keep the bridge from electing: of the three that are left, whether the two beside
/// the bridge hear each other or not, one leads.
#[test]
fn a_leader_that_hears_only_the_bridge_gives_way() -> Done {
    for hear_each_other in [true, false] {
        for seed in 0..10 {
            let mut world = grown(seed, Swarm::quiet(5, 5));
            let old = leader(&world);
            let before = term(&world, old);
            let others = followers(&world);
            let (bridge, lost, rest) = (others[0], others[1], [others[2], others[3]]);
            for other in [old, bridge, rest[0], rest[1]] {
                world.network_mut().cut_both(lost, other);
            }
            rest.iter().for_each(|other| world.network_mut().cut_both(old, *other));
            if !hear_each_other {
                world.network_mut().cut_both(rest[0], rest[1]);
            }
            let has_given_way = |world: &World| {
                world.leader().is_some_and(|now| now == bridge || rest.contains(&now))
            };
            let until_ms = world.now_ms() + 100 * TICK_MS;
            assert!(
                world.run_until(until_ms, has_given_way)?,
                "seed {seed}, the rest hear each other: {hear_each_other}: node {old} leads on"
            );
            write(&mut world, bridge, seed);
            assert!(has_given_way(&world) && term(&world, bridge) > before);
            world.network_mut().heal();
            settle(&mut world, 5_000);
        }
    }
    Ok(())
}

fn replica(world: &World, id: NodeId) -> &Replica<MemoryDisk, u64> {
    world.node(id).unwrap().replica.as_ref().unwrap()
}

fn voters(world: &World) -> usize {
    world.invariants.membership.newest().0.len()
}

/// The smaller configuration is in force as soon as one node has it so, and that node may be all
/// that is left afterwards (etcd#10563, restate#5258): it elects itself, under the new one. Where it
/// was not in force yet the node leads nobody alone, and all come back.
#[test]
fn two_voters_become_one_that_elects_alone() -> Done {
    let (mut alone, mut together) = (0, 0);
    for ms in 0..40 {
        let mut world = grown(ms, Swarm::quiet(3, 3));
        world.set_voters(1);
        let until_ms = world.now_ms() + 8_000;
        assert!(world.run_until(until_ms, |world| voters(world) == 2)?, "they don't become fewer");
        // Who leads never takes its own vote away.
        let stays = leader(&world);
        let first = world.invariants.membership.newest_index();
        let is_begun = |world: &World| replica(world, stays).log().last_index() > first;
        let until_ms = world.now_ms() + 2_000;
        assert!(world.run_until(until_ms, is_begun)?, "they stay two");
        // From the moment when the change is in one log to long after it is in force.
        world.run_for(ms / 2)?;
        let in_force = replica(&world, stays).configuration().0 == [stays];
        let all = world.running();
        all.iter().for_each(|id| world.take_down(*id, true, "power"));
        let former: Vec<NodeId> = all.iter().copied().filter(|id| *id != stays).collect();
        if in_force {
            former.iter().for_each(|id| world.wipe(*id));
        }
        world.start(stays)?;
        world.run_for(4_000)?;
        if in_force {
            alone += 1;
            assert_eq!(world.leader(), Some(stays), "run {ms}");
            write(&mut world, stays, ms);
            continue;
        }
        together += 1;
        assert_eq!(world.leader(), None, "run {ms}: one of two elects nobody");
        for id in former {
            world.start(id)?;
        }
        let until_ms = world.now_ms() + 10_000;
        assert!(world.run_until(until_ms, |world| voters(world) == 1)?, "run {ms}: they stay two");
        settle(&mut world, 5_000);
    }
    assert!(alone >= 10 && together >= 5, "{alone} cut with it in force, {together} before");
    Ok(())
}
