//! What a power cut can leave of a workload: every prefix of the calls to a disk.
//!
//! A small workload with snapshots, compaction and new segments is run again and again, and at
//! each run power is lost one call later. What was answered must be there afterwards, and the
//! invariants look on. The same for a second cut in the middle of the restart.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use fleet_log::{DiskFault, MemoryDisk};
use fleet_sim::node::Life;
use fleet_sim::{Ended, Swarm, World};
use fleet_state::{Command, NodeId, ParamKey, Value};

const WRITES: u64 = 24;
/// Calls to a disk while a node starts, at most.
const START_CALLS_MAX: u64 = 10;

fn swarm(nodes: usize) -> Swarm {
    let mut swarm = Swarm::quiet(nodes, u8::try_from(nodes).unwrap());
    swarm.snapshot_every_entries = 6;
    swarm.segment_bytes = 4 * 1024;
    swarm.cache_bytes = 0;
    swarm
}

fn key(number: u64) -> ParamKey {
    format!("area.key-{number}").parse().unwrap()
}

fn disk(world: &World, node: NodeId, of_log: bool) -> MemoryDisk {
    let node = world.node(node).unwrap();
    if of_log { node.log_disk.clone() } else { node.snapshot_disk.clone() }
}

/// Where power is lost, counted in calls to one disk of the node that leads in the beginning.
#[derive(Clone, Copy, Debug)]
struct Cuts {
    /// From the beginning of the workload.
    first: u64,
    /// From the restart.
    again: Option<u64>,
}

/// Runs until something is so, or a time. As soon as the node is down, the second cut is planned.
fn go(
    world: &mut World,
    ms: u64,
    (node, disk, again): (NodeId, &MemoryDisk, &mut Option<u64>),
    done: impl Fn(&World) -> bool,
) -> bool {
    let until_ms = world.now_ms() + ms;
    loop {
        let waits = again.is_some();
        let down = |w: &World| waits && w.node(node).unwrap().life == Life::Down;
        world.run_until(until_ms, |w| down(w) || done(w)).unwrap();
        let Some(ahead) = again.take_if(|_| down(world)) else { return done(world) };
        disk.plan_fault(disk.calls() + ahead, DiskFault::Stop);
    }
}

/// Runs the workload with these power cuts. Says how many of them happened.
fn run(nodes: usize, of_log: bool, cuts: Cuts) -> u64 {
    let mut world = World::new(21, swarm(nodes), false).unwrap();
    assert!(world.run_until(30_000, World::has_grown).unwrap(), "the site did not grow");
    world.run_for(1_000).unwrap();
    let node = world.leader().unwrap();
    let disk = disk(&world, node, of_log);
    let mut again = cuts.again;
    disk.plan_fault(disk.calls() + cuts.first, DiskFault::Stop);
    let mut acknowledged = Vec::new();
    for number in 0..WRITES {
        let filler = "x".repeat(200);
        let command = Command::ParamSet { key: key(number), value: Value::from(filler) };
        let through = world.running().first().copied().unwrap_or(node);
        let attempt = world.ask(through, command, 400);
        let second = (node, &disk, &mut again);
        go(&mut world, 500, second, |w| w.end_of(attempt).is_some());
        if let Some(Ended::Decided(answer)) = world.end_of(attempt) {
            acknowledged.push((number, answer.revision));
        }
        let second = (node, &disk, &mut again);
        go(&mut world, 4_000, second, |w| w.leader().is_some() && w.running().len() == nodes);
    }
    let converged = go(&mut world, 10_000, (node, &disk, &mut again), World::has_converged);
    assert!(converged, "{cuts:?}: {}", world.why_not_converged());
    world.compare_logs().unwrap();
    for id in world.running() {
        let state = world.node(id).unwrap().replica.as_ref().unwrap().state();
        for (number, revision) in &acknowledged {
            let param = state.param(&key(*number)).map(|param| param.revision);
            assert_eq!(param, Some(*revision), "{cuts:?}: write {number} on node {id}");
        }
    }
    disk.faults_fired()
}

/// One cut at each call, until the workload is through before it.
fn every_call(nodes: usize, of_log: bool) -> u64 {
    let mut calls = 0;
    while run(nodes, of_log, Cuts { first: calls, again: None }) > 0 {
        calls += 1;
    }
    calls
}

#[test]
fn power_is_lost_at_every_call_to_the_log_of_a_lone_node() {
    let calls = every_call(1, true);
    assert!(calls > 2 * WRITES, "only {calls} calls");
}

#[test]
fn power_is_lost_at_every_call_to_the_snapshots_of_a_lone_node() {
    let calls = every_call(1, false);
    assert!(calls > 10, "only {calls} calls");
}

#[test]
fn power_is_lost_at_every_call_to_the_log_of_a_leader() {
    let calls = every_call(3, true);
    assert!(calls > WRITES, "only {calls} calls");
}

/// Power is lost at some calls, and at each of the first ones after the restart.
fn again(nodes: usize, of_log: bool, firsts: impl Iterator<Item = u64>, calls: u64) {
    for first in firsts {
        for again in 0..calls {
            let happened = run(nodes, of_log, Cuts { first, again: Some(again) });
            assert_eq!(happened, 2, "cuts at {first} and {again} calls after the restart");
        }
    }
}

#[test]
fn power_is_lost_again_at_every_call_to_the_log_of_the_restart() {
    again(1, true, (0..60).step_by(7), START_CALLS_MAX);
}

#[test]
fn power_is_lost_again_at_every_call_to_the_snapshots_of_the_restart() {
    again(1, false, (0..10).step_by(3), START_CALLS_MAX / 2);
}

#[test]
fn power_is_lost_again_while_a_former_leader_starts() {
    again(3, true, (0..60).step_by(20), START_CALLS_MAX);
}
