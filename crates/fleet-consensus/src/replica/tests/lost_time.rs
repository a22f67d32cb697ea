//! Who can't tell how late it is says so in the log before anything else.

use fleet_state::{Body, Entry};

use super::hall::{Hall, Settings};

/// The bodies of all entries that a node holds, the oldest first.
fn bodies(hall: &mut Hall, node: u64) -> Vec<Body> {
    let replica = hall.replica(node);
    let log = &replica.raw.store().log;
    let entries = log.entries(log.first_index(), log.last_index() + 1, u64::MAX).expect("read");
    let decoded = entries.iter().filter_map(|entry| Entry::decode(&entry.data).ok());
    decoded.map(|entry| entry.body).collect()
}

fn losses(bodies: &[Body]) -> usize {
    bodies.iter().filter(|body| **body == Body::TimeLost).count()
}

#[test]
fn a_leader_that_nobody_told_the_time_says_so_first_and_one_that_was_told_does_not() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.write(3, "x");
    let told = bodies(&mut hall, leader);
    assert_eq!(losses(&told), 1, "{told:?}");
    assert_eq!(told.first(), Some(&Body::TimeLost), "{told:?}");
    // Long enough for the followers to have been told.
    for _ in 0..100 {
        hall.tick();
    }
    hall.cut.insert(leader);
    hall.until("another leader", |hall| hall.leader().is_some_and(|other| other != leader));
    let other = hall.leader().expect("it leads");
    hall.write(3, "y");
    assert_eq!(losses(&bodies(&mut hall, other)), 1);
}

#[test]
fn a_leader_that_nobody_told_the_time_tells_nobody_before_the_log_has_heard_of_it() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    let (mut waited, mut told) = (false, false);
    for _ in 0..40 {
        let now = hall.now();
        told = hall.replica(leader).may_tell_log_time(now).expect("no fault");
        let lost = bodies(&mut hall, leader).iter().position(|body| *body == Body::TimeLost);
        let replica = hall.replica(leader);
        // Empty entries have no body; there is one, of this leader, before the loss.
        let first = replica.raw.store().log.first_index();
        let heard = lost.is_some_and(|at| replica.applied.index > first + at as u64);
        assert!(heard || !told, "it told the time, and the log had not heard of it");
        waited |= lost.is_some() && !told;
        if told {
            break;
        }
        hall.tick();
    }
    assert!(waited && told);
}
