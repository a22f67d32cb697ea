//! A site that has grown, and what is done with it by hand.
#![allow(dead_code, unreachable_pub)]

use fleet_sim::{Ended, Swarm, Violation, World};
use fleet_state::{Command, NodeId, ParamKey, Value};

pub type Done = Result<(), Violation>;

/// Ticks of a node, in milliseconds.
pub const TICK_MS: u64 = 25;

pub fn key() -> ParamKey {
    "area.scenario".parse().unwrap()
}

pub fn set(value: u64) -> Command {
    Command::ParamSet { key: key(), value: Value::from(value) }
}

pub fn grown(seed: u64, swarm: Swarm) -> World {
    let mut world = World::new(seed, swarm, false).unwrap();
    assert!(world.run_until(30_000, World::has_grown).unwrap(), "the site did not grow");
    world
}

pub fn leader(world: &World) -> NodeId {
    world.leader().expect("a leader")
}

pub fn followers(world: &World) -> Vec<NodeId> {
    let leader = leader(world);
    world.running().into_iter().filter(|id| *id != leader).collect()
}

pub fn term(world: &World, id: NodeId) -> u64 {
    world.node(id).unwrap().replica.as_ref().unwrap().term_and_commit().0
}

pub fn settle(world: &mut World, within_ms: u64) {
    let until_ms = world.now_ms() + within_ms;
    if !world.run_until(until_ms, World::has_converged).unwrap() {
        panic!("{}", world.why_not_converged());
    }
    world.compare_logs().unwrap();
    world.invariants.answers.check_refused().unwrap();
}

/// Writes through a node and gives back the revision.
pub fn write(world: &mut World, node: NodeId, value: u64) -> u64 {
    let attempt = world.ask(node, set(value), 3_000);
    let until_ms = world.now_ms() + 3_500;
    world.run_until(until_ms, |w| w.end_of(attempt).is_some()).unwrap();
    match world.end_of(attempt) {
        Some(Ended::Decided(answer)) => answer.revision.get(),
        other => panic!("a write through node {node} ended {other:?}"),
    }
}
