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

/// Runs the workload with power cuts of one node at these calls, counted from its beginning.
/// Says how many of them happened.
fn run(nodes: usize, of_log: bool, cuts: &[u64]) -> u64 {
    let mut world = World::new(21, swarm(nodes), false).unwrap();
    assert!(world.run_until(30_000, World::has_grown).unwrap(), "the site did not grow");
    world.run_for(1_000).unwrap();
    let node = world.leader().unwrap();
    let disk = disk(&world, node, of_log);
    let begun = disk.calls();
    for cut in cuts {
        disk.plan_fault(begun + cut, DiskFault::Stop);
    }
    let mut acknowledged = Vec::new();
    for number in 0..WRITES {
        let filler = "x".repeat(200);
        let command = Command::ParamSet { key: key(number), value: Value::from(filler) };
        let through = world.running().first().copied().unwrap_or(node);
        let attempt = world.ask(through, command, 400);
        let until_ms = world.now_ms() + 500;
        world.run_until(until_ms, |w| w.end_of(attempt).is_some()).unwrap();
        if let Some(Ended::Decided(answer)) = world.end_of(attempt) {
            acknowledged.push((number, answer.revision));
        }
        let until_ms = world.now_ms() + 4_000;
        world.run_until(until_ms, |w| w.leader().is_some() && w.running().len() == nodes).unwrap();
    }
    let until_ms = world.now_ms() + 10_000;
    assert!(
        world.run_until(until_ms, World::has_converged).unwrap(),
        "cuts {cuts:?}: {}",
        world.why_not_converged()
    );
    world.compare_logs().unwrap();
    for id in world.running() {
        let state = world.node(id).unwrap().replica.as_ref().unwrap().state();
        for (number, revision) in &acknowledged {
            let param = state.param(&key(*number)).map(|param| param.revision);
            assert_eq!(param, Some(*revision), "cuts {cuts:?}: write {number} on node {id}");
        }
    }
    disk.faults_fired()
}

/// One cut at each call, until the workload is through before it.
fn every_call(nodes: usize, of_log: bool) -> u64 {
    let mut calls = 0;
    while run(nodes, of_log, &[calls]) > 0 {
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

#[test]
fn power_is_lost_again_at_every_call_of_the_restart() {
    for first in (0..60).step_by(7) {
        for second in 1..=START_CALLS_MAX {
            run(1, true, &[first, first + second]);
        }
    }
}
