//! When snapshots are taken, and what is cut behind them.

use super::hall::{Hall, Settings};
use super::sending::take;
use crate::config::{SNAPSHOT_RETRY_DOUBLINGS_MAX, SNAPSHOT_RETRY_TICKS};

#[test]
fn a_wish_for_a_snapshot_costs_one() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.write(3, "x");
    // Raft goes on asking while it is written.
    hall.replica(leader).raw.store().snapshot_wanted.set(true);
    hall.replica(leader).begin_snapshot_if_due();
    let build = hall.replica(leader).take_outputs().build.expect("begun");
    hall.replica(leader).raw.store().snapshot_wanted.set(true);
    let built = build.run().expect("written");
    hall.replica(leader).handle_snapshot_built(Some(built)).expect("taken");
    for _ in 0..100 {
        hall.tick();
    }
    assert_eq!(hall.builds, 0);
}

#[test]
fn what_can_not_be_written_is_tried_again_ever_more_rarely() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.write(3, "x");
    hall.place(leader).snapshot_disk.set_capacity_bytes(Some(0));
    let settled = hall.replica(leader).view().standing;
    assert!(hall.replica(leader).handle_snapshot_request());
    for doublings in 0..=SNAPSHOT_RETRY_DOUBLINGS_MAX + 1 {
        let before = hall.builds;
        hall.until("an attempt", |hall| hall.builds > before);
        let rest = SNAPSHOT_RETRY_TICKS << doublings.min(SNAPSHOT_RETRY_DOUBLINGS_MAX);
        if rest > 400 {
            break;
        }
        for _ in 1..rest {
            hall.tick();
        }
        assert_eq!(hall.builds, before + 1, "it rests for {rest} ticks");
    }
    let now = hall.replica(leader).view().standing;
    assert_eq!(
        (now.first_index, now.snapshot_index),
        (settled.first_index, settled.snapshot_index)
    );
    hall.place(leader).snapshot_disk.set_capacity_bytes(None);
    let before = hall.builds;
    hall.until("success", |hall| {
        hall.builds > before && hall.replica(leader).pace.build_failures == 0
    });
}

#[test]
fn a_trailing_window_stays_in_the_log() {
    let settings =
        Settings { snapshot_every_entries: 100, log_trailing_entries: 60, ..Settings::default() };
    let mut hall = Hall::new(&[], settings);
    let leader = hall.until_led();
    hall.write(30, "x");
    // Two snapshots one right after the other would leave nothing but what lies between them.
    for _ in 0..2 {
        let before = hall.builds;
        assert!(hall.replica(leader).handle_snapshot_request());
        hall.until("a snapshot", |hall| hall.builds > before);
        hall.write(1, "y");
    }
    let standing = hall.replica(leader).view().standing;
    assert!(standing.last_index < 60 + standing.first_index);
    assert!(standing.first_index < standing.last_index - 25);
    hall.write(150, "z");
    let before = hall.builds;
    assert!(hall.replica(leader).handle_snapshot_request());
    hall.until("a snapshot", |hall| hall.builds > before);
    let standing = hall.replica(leader).view().standing;
    assert!(standing.last_index >= standing.first_index + 59, "{standing:?}");
    assert!(standing.first_index > 60, "{standing:?}");
}

/// A snapshot of a node's own state takes its time. What it installed meanwhile from its leader is
/// newer, and the log goes on from there (nats-server#6053).
#[test]
fn an_older_snapshot_of_its_own_does_not_replace_the_leaders() {
    // The log waits for nobody.
    let settings = Settings { log_bytes_max: 1, ..Settings::default() };
    for is_written_before in [true, false] {
        let mut hall = Hall::new(&[], settings);
        let leader = hall.until_led();
        let follower = if leader == 3 { 2 } else { 3 };
        hall.write(5, "x");
        hall.until("agreement", Hall::agrees);
        assert!(hall.replica(follower).handle_snapshot_request());
        let build = hall.replica(follower).take_outputs().build.expect("begun");
        let mut build = Some(build);
        let mut written = None;
        if is_written_before {
            written = build.take().map(|build| build.run().expect("written"));
        }
        hall.cut.insert(follower);
        // The log is cut at the older of two.
        for _ in 0..2 {
            hall.write(10, "y");
            take(&mut hall, leader);
        }
        hall.cut.clear();
        hall.until("agreement", Hall::agrees);
        let installed = hall.replica(follower).view().standing;
        let newest = hall.place(follower).newest();
        let old = written.or_else(|| build.map(|build| build.run().expect("written")));
        let old = old.expect("one of both");
        assert!(old.file().index < installed.snapshot_index, "the leader's is newer");
        assert_eq!(installed.first_index, installed.snapshot_index + 1, "it was installed");
        hall.replica(follower).handle_snapshot_built(Some(old)).expect("taken");
        for _ in 0..10 {
            hall.tick();
        }
        let now = hall.replica(follower).view().standing;
        assert_eq!(
            (now.snapshot_index, now.first_index),
            (installed.snapshot_index, installed.first_index)
        );
        assert_eq!(hall.place(follower).newest(), newest);
        hall.place(follower).replica = None;
        hall.start(follower).expect("log and snapshots fit");
        hall.write(5, "z");
        hall.until("agreement", Hall::agrees);
        assert!(hall.faults.is_empty(), "{:?}", hall.faults);
    }
}
