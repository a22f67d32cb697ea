//! A committed entry that this binary can't read stops the node. It is never skipped: a state
//! without it would be another one than that of the nodes which can read it.

use fleet_state::Command;

use super::hall::{Hall, PATIENCE_TICKS, Settings, proposal, set};
use crate::{Fault, StartError};

/// An entry as this binary writes it.
fn readable(command: Command) -> Vec<u8> {
    let body = fleet_state::Body::Proposal(proposal("poison", command));
    fleet_state::Entry { log_time_ms: 1, wall_time_ms: 1, body }.encode()
}

/// Entries as another version might write them.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let good = readable(set("poison", "x"));
    let mut longer = good.clone();
    longer.push(0);
    let shorter = good[..good.len() - 1].to_vec();
    let mut newer = good;
    newer[0] = newer[0].wrapping_add(1);
    let foreign = vec![0xff; 40];
    vec![("longer", longer), ("shorter", shorter), ("newer", newer), ("foreign", foreign)]
}

/// The index at which the leader has it appended.
fn slip_in(hall: &mut Hall, data: Vec<u8>) -> u64 {
    let leader = hall.until_led();
    let raw = &mut hall.replica(leader).raw;
    raw.propose(Vec::new(), data).expect("raft looks into no entry");
    raw.raft.raft_log.last_index()
}

fn assert_poisoned(what: &str, index: u64, fault: &Fault) {
    let text = fault.to_string();
    assert!(
        matches!(fault, Fault::Undecodable { index: at, .. } if *at == index),
        "{what}: {text}"
    );
    assert!(text.contains(&format!("entry {index}")), "{what}: {text}");
    assert!(text.contains("install the version that the other nodes run"), "{what}: {text}");
    assert!(!fault.is_final(), "with the right version it goes on on this data directory");
}

#[test]
fn the_entry_slipped_in_would_be_read_if_it_were_whole() {
    let mut hall = Hall::new(&[], Settings::default());
    let index = slip_in(&mut hall, readable(set("poison", "x")));
    let leader = hall.until_led();
    hall.until("applied", |hall| hall.replica(leader).applied().get() >= index);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}

#[test]
fn an_entry_that_can_not_be_read_stops_every_node_that_comes_to_it_and_is_never_skipped() {
    for (what, data) in unreadable() {
        let mut hall = Hall::new(&[], Settings::default());
        hall.write(5, "before");
        let index = slip_in(&mut hall, data);
        hall.until("a node stops", |hall| !hall.faults.is_empty());
        // The others elect another leader, who comes to it as well.
        for _ in 0..PATIENCE_TICKS / 4 {
            hall.tick();
        }
        assert!(hall.faults.len() >= 2, "{what}: {:?}", hall.faults);
        for (_, fault) in &hall.faults {
            assert_poisoned(what, index, fault);
        }
        let running = hall.places.values().filter_map(|place| place.replica.as_ref());
        for replica in running {
            assert!(replica.applied().get() < index, "{what}: it was skipped");
        }
        // Nor does a start go past it: it stops at once, or when it learns that it is committed.
        let stopped: Vec<u64> = hall.faults.drain(..).map(|(node, _)| node).collect();
        let mut starts = 0;
        for node in stopped {
            match hall.start(node) {
                Ok(_) => {}
                Err(StartError::Fault(fault)) => {
                    starts += 1;
                    assert_poisoned(what, index, &fault);
                }
                Err(other) => panic!("{what}: node {node} ends with {other}"),
            }
        }
        for _ in 0..PATIENCE_TICKS / 4 {
            hall.tick();
        }
        for (_, fault) in &hall.faults {
            assert_poisoned(what, index, fault);
        }
        assert!(starts + hall.faults.len() >= 2, "{what}: {starts} {:?}", hall.faults);
        let running = hall.places.values().filter_map(|place| place.replica.as_ref());
        for replica in running {
            assert!(replica.applied().get() < index, "{what}: it was skipped after a start");
        }
    }
}
