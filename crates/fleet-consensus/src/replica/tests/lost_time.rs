//! Who can't tell how late it is says so in the log before anything else.

use fleet_state::{Body, Entry};

use super::hall::{Hall, Settings};
use crate::log_time::LogTime;

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
    hall.write(3, "x");
    let may_tell = |hall: &mut Hall| {
        let now = hall.now();
        hall.replica(leader).may_tell_log_time(now).expect("no fault")
    };
    assert!(may_tell(&mut hall));
    let before = losses(&bodies(&mut hall, leader));
    // As if it had restarted, and nothing of it comes to the others.
    hall.replica(leader).log_time = LogTime::from_disk(0, 0);
    hall.cut.insert(leader);
    assert!(!may_tell(&mut hall), "the log has not heard of it");
    hall.tick();
    assert!(!may_tell(&mut hall));
    hall.cut.remove(&leader);
    hall.until("the log has heard of it", may_tell);
    assert_eq!(losses(&bodies(&mut hall, leader)), before + 1);
}
