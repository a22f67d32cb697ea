//! Situations that have a name. The invariants look on in all of them; what stands here is what
//! should happen besides.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod scenario_support;

use fleet_sim::swarm::NetworkManners;
use fleet_sim::{Ended, Fault, Swarm, World};
use fleet_state::{Command, NodeId, TokenId};
use scenario_support::{Done, TICK_MS, followers, grown, key, leader, set, settle, term, write};

fn quiet(nodes: usize, voters: u8) -> World {
    grown(7, Swarm::quiet(nodes, voters))
}

#[test]
fn a_fresh_site_elects_commits_and_answers_on_every_node() -> Done {
    let mut world = quiet(3, 3);
    for node in world.running() {
        let revision = write(&mut world, node, 1);
        let read = world.ask_for_read(node, &key(), 1_000);
        world.run_for(500)?;
        let Some(Ended::Read(index)) = world.end_of(read) else {
            panic!("{:?}", world.end_of(read));
        };
        assert!(*index >= revision);
    }
    Ok(())
}

#[test]
fn an_idle_site_stays_in_its_term_and_writes_nothing() -> Done {
    let mut world = quiet(3, 3);
    settle(&mut world, 2_000);
    let before = leader(&world);
    let at = (term(&world, before), world.invariants.committed.last_index());
    world.run_for(60_000)?;
    assert_eq!(leader(&world), before);
    assert_eq!((term(&world, before), world.invariants.committed.last_index()), at);
    Ok(())
}

#[test]
fn a_bridge_partition_recovers() -> Done {
    for seed in 0..10 {
        let mut world = grown(seed, Swarm::quiet(5, 5));
        let bridge = followers(&world)[0];
        let rest: Vec<NodeId> = world.running().into_iter().filter(|id| *id != bridge).collect();
        for one in &rest[..2] {
            for other in &rest[2..] {
                world.network_mut().cut_both(*one, *other);
            }
        }
        world.run_for(100 * TICK_MS)?;
        write(&mut world, bridge, seed);
        world.network_mut().heal();
        settle(&mut world, 5_000);
    }
    Ok(())
}

/// Two that don't hear each other and both hear a third (openraft#2112): whoever leads, it goes on
/// leading and deciding. The one that doesn't hear the leader must not depose it again and again.
#[test]
fn two_leaves_around_a_hub_keep_their_leader() -> Done {
    for leads in [true, false] {
        for seed in 0..6 {
            let mut world = grown(seed, Swarm::quiet(3, 3));
            let others = followers(&world);
            let lead = leader(&world);
            // The hub leads, or a leaf does.
            let (one, other) = if leads { (others[0], others[1]) } else { (lead, others[1]) };
            world.network_mut().cut_both(one, other);
            world.run_for(100 * TICK_MS)?;
            let (settled, before) = (leader(&world), term(&world, leader(&world)));
            let hub = world.running().into_iter().find(|id| *id != one && *id != other).unwrap();
            for value in 0..5 {
                write(&mut world, hub, value);
                world.run_for(40 * TICK_MS)?;
            }
            let now = leader(&world);
            assert_eq!((now, term(&world, now)), (settled, before), "seed {seed}, hub: {leads}");
            world.network_mut().heal();
            settle(&mut world, 5_000);
            let now = leader(&world);
            assert_eq!(term(&world, now), before, "seed {seed}: a healed cut deposes nobody");
        }
    }
    Ok(())
}

/// The leader is lost while voters are added (openraft#1796): some nodes know the new configuration,
/// some the old one, and asking for votes beforehand must not keep all of them from being elected.
#[test]
fn a_leader_lost_between_two_configurations_leaves_a_site_that_elects() -> Done {
    let mut between = 0;
    for ms in 0..40 {
        let mut world = grown(ms, Swarm::quiet(3, 5));
        world.invite();
        world.run_for(4_000)?;
        world.invite();
        // Voters grow one by one: four vote for a moment.
        let begun = |world: &World| world.invariants.membership.newest().0.len() == 4;
        let until_ms = world.now_ms() + 8_000;
        assert!(world.run_until(until_ms, begun)?, "voters were not added");
        world.run_for(ms)?;
        let (voters, _) = world.invariants.membership.newest();
        between += usize::from(voters.len() == 4);
        let lost = leader(&world);
        world.crash(lost, false, "kill");
        world.run_for(4_000)?;
        let new = leader(&world);
        assert_ne!(new, lost, "after {ms} ms");
        write(&mut world, new, ms);
        world.start(lost)?;
        let is_whole = |world: &World| world.invariants.membership.newest().0.len() == 5;
        let until_ms = world.now_ms() + 10_000;
        assert!(world.run_until(until_ms, is_whole)?, "after {ms} ms the voters are not five");
        settle(&mut world, 5_000);
    }
    assert!(between > 0, "no leader was lost between two configurations");
    Ok(())
}

#[test]
fn a_frozen_follower_does_not_depose_the_leader_with_a_burst_of_ticks() -> Done {
    let mut world = quiet(3, 3);
    let before = leader(&world);
    let at = term(&world, before);
    for follower in followers(&world) {
        world.pause(follower, 40 * TICK_MS);
        world.run_for(200 * TICK_MS)?;
    }
    assert_eq!((leader(&world), term(&world, before)), (before, at));
    Ok(())
}

#[test]
fn a_paused_leader_gives_no_stale_read_when_it_goes_on() -> Done {
    let mut world = quiet(3, 3);
    let old = leader(&world);
    world.pause(old, 3_000);
    world.run_for(2_000)?;
    let new = leader(&world);
    assert_ne!(new, old);
    let revision = write(&mut world, new, 5);
    // The read waits in the old leader's queue, behind what it slept through.
    let read = world.ask_for_read(old, &key(), 5_000);
    world.run_for(3_000)?;
    match world.end_of(read) {
        Some(Ended::Read(index)) => assert!(*index >= revision, "read {index} after {revision}"),
        Some(Ended::NotTaken) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(leader(&world), new);
    Ok(())
}

#[test]
fn a_lagging_node_gets_a_snapshot_in_pieces_over_a_lossy_network() -> Done {
    let mut swarm = Swarm::quiet(3, 3);
    swarm.snapshot_every_entries = 20;
    swarm.frame_bytes_max = 4_096;
    swarm.workload.value_bytes_max = 8_000;
    swarm.workload.keys = 30;
    let mut world = grown(11, swarm);
    let lagging = followers(&world)[0];
    world.take_down(lagging, false, "away");
    world.start_clients();
    world.run_for(10_000)?;
    world.stop_clients();
    let (_, _, installed) = world.counts();
    let manners = NetworkManners { loss: 100, ..NetworkManners::calm() };
    world.network_mut().set_manners(manners);
    world.start(lagging)?;
    settle(&mut world, 60_000);
    assert!(world.counts().2 > installed, "no snapshot was installed");
    assert!(world.network().traffic().lost > 0, "nothing was lost");
    Ok(())
}

#[test]
fn voters_grow_in_pairs() -> Done {
    let mut world = quiet(1, 5);
    let sizes = [(2, 1), (3, 3), (4, 3), (5, 5), (6, 5)];
    for (nodes, voters) in sizes {
        world.invite();
        world.run_for(5_000)?;
        let (now, learners) = world.invariants.membership.newest();
        assert_eq!((now.len() + learners.len(), now.len()), (nodes, voters));
    }
    settle(&mut world, 2_000);
    Ok(())
}

#[test]
fn seven_voters_bear_the_loss_of_three_and_not_of_four() -> Done {
    let mut world = quiet(7, 7);
    let (voters, _) = world.invariants.membership.newest();
    assert_eq!(voters.len(), 7);
    let kept = leader(&world);
    let lost: Vec<NodeId> = followers(&world).into_iter().take(4).collect();
    for id in &lost[..3] {
        world.take_down(*id, false, "lost");
    }
    world.run_for(2_000)?;
    write(&mut world, kept, 1);
    world.take_down(lost[3], false, "lost");
    world.run_for(5_000)?;
    assert_eq!(world.leader(), None, "three of seven decide nothing");
    world.start(lost[0])?;
    world.run_for(5_000)?;
    write(&mut world, kept, 2);
    for id in &lost[1..] {
        world.start(*id)?;
    }
    settle(&mut world, 5_000);
    Ok(())
}

#[test]
fn a_leader_that_is_removed_hands_over_first() -> Done {
    let mut world = quiet(3, 3);
    let old = leader(&world);
    let follower = followers(&world)[0];
    world.remove(old);
    world.run_for(5_000)?;
    let (voters, _) = world.invariants.membership.newest();
    assert!(!voters.contains(&old), "{voters:?}");
    assert_ne!(leader(&world), old);
    write(&mut world, follower, 3);
    Ok(())
}

#[test]
fn a_standby_takes_the_place_of_a_dead_voter() -> Done {
    let mut world = quiet(4, 3);
    let (voters, learners) = world.invariants.membership.newest();
    let standby = *learners.first().unwrap();
    let dead = *voters.iter().find(|id| **id != leader(&world)).unwrap();
    world.wipe(dead);
    world.run_for(1_000)?;
    world.remove(dead);
    world.run_for(6_000)?;
    let (voters, _) = world.invariants.membership.newest();
    assert!(voters.len() == 3 && voters.contains(&standby) && !voters.contains(&dead));
    settle(&mut world, 2_000);
    Ok(())
}

#[test]
fn a_wiped_node_comes_back_as_a_new_one() -> Done {
    let mut world = quiet(3, 3);
    let wiped = followers(&world)[0];
    world.wipe(wiped);
    world.remove(wiped);
    world.invite();
    world.run_for(8_000)?;
    let (voters, learners) = world.invariants.membership.newest();
    let all: Vec<NodeId> = voters.iter().chain(&learners).copied().collect();
    assert_eq!(all.len(), 3);
    assert!(!all.contains(&wiped) && all.iter().any(|id| *id > wiped), "{all:?}");
    settle(&mut world, 2_000);
    Ok(())
}

#[test]
fn a_restart_of_all_nodes_keeps_every_state() -> Done {
    let mut world = quiet(5, 5);
    for value in 0..50 {
        let node = followers(&world)[usize::try_from(value % 4).unwrap()];
        write(&mut world, node, value);
    }
    settle(&mut world, 2_000);
    let digest = |world: &World| {
        let (state, _) = world.invariants.states.reference().unwrap();
        state.digests().params
    };
    let before = digest(&world);
    for power in [false, true] {
        world.running().iter().for_each(|id| world.take_down(*id, power, "all"));
        for id in [1, 2, 3, 4, 5] {
            world.start(NodeId::new(id).unwrap())?;
        }
        settle(&mut world, 5_000);
        assert_eq!(digest(&world), before);
    }
    Ok(())
}

#[test]
fn proposals_of_two_leaders_are_neither_lost_nor_doubled() -> Done {
    for seed in 0..5 {
        let mut world = grown(seed, Swarm::quiet(5, 5));
        world.start_clients();
        for _ in 0..4 {
            world.run_for(500)?;
            let old = leader(&world);
            for other in followers(&world) {
                world.network_mut().cut_both(old, other);
            }
            world.run_for(1_500)?;
            world.network_mut().heal();
        }
        world.stop_clients();
        settle(&mut world, 10_000);
        assert!(world.invariants.election.terms() > 4);
    }
    Ok(())
}

#[test]
fn a_command_survives_the_leader_that_it_was_relayed_to() -> Done {
    for ms in 1..12 {
        let mut world = grown(ms, Swarm::quiet(3, 3));
        let old = leader(&world);
        let through = followers(&world)[0];
        let attempt = world.ask(through, set(ms), 6_000);
        world.run_for(ms)?;
        world.crash(old, false, "kill");
        world.run_for(6_500)?;
        let ended = world.end_of(attempt);
        assert!(matches!(ended, Some(Ended::Decided(_))), "after {ms} ms: {ended:?}");
        settle(&mut world, 5_000);
    }
    Ok(())
}

#[test]
fn time_goes_on_for_deadlines_only() -> Done {
    let mut world = quiet(3, 3);
    let node = leader(&world);
    let command = Command::TokenCreate {
        id: TokenId::from_bytes([9; 8]),
        key: [9; 32],
        ttl_ms: 20_000,
        uses: 1,
        note: "short".into(),
    };
    let attempt = world.ask(node, command, 1_000);
    world.run_for(1_000)?;
    assert!(matches!(world.end_of(attempt), Some(Ended::Decided(_))));
    let log_time = |world: &World| world.invariants.states.reference().unwrap().0.log_time_ms();
    let created = log_time(&world);
    world.run_for(15_000)?;
    assert_eq!(log_time(&world), created, "time went on without a deadline");
    world.run_for(10_000)?;
    let expired = log_time(&world);
    assert!(expired >= created + 20_000, "{created} .. {expired}");
    world.run_for(30_000)?;
    assert_eq!(log_time(&world), expired, "time went on after the deadline");
    Ok(())
}

#[test]
fn a_node_that_drains_loses_nothing_that_was_answered() -> Done {
    for seed in 0..3 {
        let mut world = grown(seed, Swarm::quiet(3, 3));
        world.start_clients();
        for _ in 0..3 {
            world.run_for(700)?;
            let draining = leader(&world);
            world.stop(draining)?;
            world.run_for(3_200)?;
        }
        world.stop_clients();
        settle(&mut world, 5_000);
    }
    Ok(())
}

#[test]
fn a_site_without_its_founder_admits_joiners() -> Done {
    for seed in 0..6 {
        let mut world = grown(seed, Swarm::quiet(3, 3));
        world.run_for(3_000)?;
        // Leadership moves away from the founder, then the founder goes.
        while leader(&world) == NodeId::FOUNDER {
            world.strike(Fault::Transfer)?;
            world.run_for(2_000)?;
        }
        world.wipe(NodeId::FOUNDER);
        world.remove(NodeId::FOUNDER);
        world.invite();
        world.run_for(8_000)?;
        let (voters, learners) = world.invariants.membership.newest();
        assert_eq!(voters.len() + learners.len(), 3, "{voters:?} {learners:?}");
        settle(&mut world, 3_000);
    }
    Ok(())
}

#[test]
fn a_configuration_that_took_effect_elects_after_a_power_cut_of_all() -> Done {
    for seed in 0..20 {
        // The third voter was promoted this very moment.
        let mut world = grown(seed, Swarm::quiet(3, 3));
        let lost = followers(&world)[usize::try_from(seed % 2).unwrap()];
        let all = world.running();
        all.iter().for_each(|id| world.take_down(*id, true, "power"));
        world.wipe(lost);
        for id in all.iter().filter(|id| **id != lost) {
            world.start(*id)?;
        }
        world.run_for(5_000)?;
        let now = leader(&world);
        write(&mut world, now, seed);
    }
    Ok(())
}

#[test]
fn restarts_do_not_put_off_a_snapshot() -> Done {
    let mut swarm = Swarm::quiet(1, 1);
    swarm.snapshot_every_entries = 100;
    let mut world = grown(3, swarm);
    let (_, before, _) = world.counts();
    for round in 0..8 {
        for value in 0..30 {
            write(&mut world, NodeId::FOUNDER, round * 100 + value);
        }
        world.take_down(NodeId::FOUNDER, false, "restart");
        world.start(NodeId::FOUNDER)?;
        world.run_for(500)?;
    }
    assert!(world.counts().1 > before, "no snapshot in 240 entries");
    Ok(())
}
