//! Histories that never must be, told to the invariants by hand: each finds its own, also those
//! that no mistake of the judge leads to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use fleet_log::{HardState, Log, LogConfig, LogEntry, LogIdentity, MemoryDisk, Position};
use fleet_sim::Violation;
use fleet_sim::field::{Field, Wrong};
use fleet_sim::invariants::{
    Bounds, CommitMonotone, CommittedLog, ElectionSafety, HandOvers, check_new_leader,
    check_progress, compare_logs,
};
use fleet_sim::keeper::{Ask, What};
use fleet_state::{DeviceId, NodeId, Revision, Value};

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// A log of entries of these terms, from index 1 on, whose contents are these.
fn log(entries: &[(u64, &'static str)]) -> Log<MemoryDisk> {
    let identity = LogIdentity { site_uid: [7; 16], node: 1 };
    let (config, start) = (LogConfig::default(), Position::default());
    let disk = MemoryDisk::new();
    let mut log = Log::create(disk, identity, config, start, HardState::default()).unwrap();
    let entry = |(index, (term, text)): (u64, &(u64, &'static str))| LogEntry {
        index,
        term: *term,
        kind: 0,
        data: text.as_bytes().into(),
    };
    let entries: Vec<LogEntry> = (1..).zip(entries).map(entry).collect();
    log.append(&entries).unwrap();
    log.sync().unwrap();
    log
}

#[track_caller]
fn found<T: std::fmt::Debug>(what: &str, ended: Result<T, Violation>) {
    let violation = ended.expect_err(what);
    assert!(violation.to_string().contains(what), "{violation}");
}

#[test]
fn two_leaders_of_a_term() {
    let mut election = ElectionSafety::default();
    assert!(election.leads(node(1), 3).unwrap());
    assert!(!election.leads(node(1), 3).unwrap(), "the same one");
    election.follows(node(2), 3, node(1)).unwrap();
    assert!(election.leads(node(2), 4).unwrap(), "in another term");
    found("election safety", election.leads(node(2), 3));
    let mut election = ElectionSafety::default();
    election.follows(node(2), 5, node(1)).unwrap();
    found("election safety", election.follows(node(3), 5, node(2)));
}

#[test]
fn a_node_that_goes_back() {
    let before = (3, 10, 9);
    for (boot, now, what) in [
        (1, (3, 10, 11), "ahead of what is committed"),
        (1, (2, 10, 10), "its term"),
        (2, (2, 10, 10), "its term, over a restart"),
        (1, (3, 9, 9), "what is committed"),
        (1, (4, 10, 8), "what is applied"),
    ] {
        let mut commit = CommitMonotone::default();
        commit.observe(node(1), 1, before).unwrap();
        assert!(commit.observe(node(1), boot, now).is_err(), "{what}");
    }
    let mut commit = CommitMonotone::default();
    commit.observe(node(1), 1, before).unwrap();
    commit.observe(node(1), 2, (3, 5, 5)).unwrap();
    commit.observe(node(2), 1, (1, 1, 1)).unwrap();
}

#[test]
fn logs_that_contradict_each_other() {
    let one = log(&[(1, "a"), (1, "b"), (2, "c")]);
    for (other, agrees) in [
        (log(&[(1, "a"), (1, "b")]), true),
        // Not committed yet, and of different terms.
        (log(&[(1, "a"), (1, "b"), (3, "d")]), true),
        (log(&[(1, "a"), (1, "x"), (2, "c")]), false),
        (log(&[(1, "a"), (2, "b"), (2, "c")]), false),
        (log(&[(1, "a"), (1, "b"), (2, "x")]), false),
    ] {
        let compared = compare_logs(&[(node(1), &one), (node(2), &other)]);
        if agrees {
            compared.unwrap();
        } else {
            found("log matching", compared);
        }
    }
}

#[test]
fn an_entry_that_two_nodes_committed_otherwise() {
    for other in [log(&[(1, "a"), (1, "x")]), log(&[(1, "a"), (2, "b")])] {
        let one = log(&[(1, "a"), (1, "b")]);
        let mut committed = CommittedLog::default();
        assert_eq!(committed.observe(node(1), 1, &one, (1, 2)).unwrap().len(), 2);
        committed.observe(node(2), 1, &other, (2, 1)).unwrap();
        found("state machine safety", committed.observe(node(2), 1, &other, (2, 2)));
    }
}

#[test]
fn a_leader_that_lacks_what_was_committed() {
    let mut committed = CommittedLog::default();
    committed.observe(node(1), 1, &log(&[(1, "a"), (1, "b")]), (1, 2)).unwrap();
    for (log, leads) in [
        (log(&[(1, "a"), (1, "b"), (2, "c")]), true),
        (log(&[(1, "a")]), false),
        (log(&[(1, "a"), (2, "c")]), false),
    ] {
        let ended = check_new_leader(node(2), 2, &log, &committed);
        if leads {
            ended.unwrap();
        } else {
            found("leader completeness", ended);
            check_new_leader(node(2), 1, &log, &committed).unwrap();
        }
    }
}

#[test]
fn what_a_member_has_is_sent_again() {
    check_progress(node(1), [(2, 5, 6), (3, 0, 1)].into_iter()).unwrap();
    found("progress goes on", check_progress(node(1), [(2, 5, 6), (3, 4, 4)].into_iter()));
}

#[test]
fn what_piles_up() {
    let mut bounds = Bounds::default();
    bounds.log(node(1), 1_800, (100, 200)).unwrap();
    found("bounded log", bounds.log(node(1), 1_801, (100, 200)));
    bounds.waiting(node(1), 3, 3).unwrap();
    found("bounded waiters", bounds.waiting(node(1), 4, 3));
    // Three nodes, and frames as large as an append: twelve windows of 48, and 2,000 others.
    bounds.in_flight(3 * 2_576, 3, 256 * 1024).unwrap();
    found("bounded network", bounds.in_flight(3 * 2_576 + 1, 3, 256 * 1024));
    bounds.in_flight(30_001, 3, 4_096).unwrap();
}

#[test]
fn a_device_that_gets_what_it_must_not() {
    let id: DeviceId = "hall.lamp".parse().unwrap();
    let ask = |epoch, what| Ask { device: id.clone(), link: "bus".parse().unwrap(), epoch, what };
    let wish = |revision| vec![("on".into(), Value::from(revision), Revision::new(revision))];
    let mut field = Field::default();
    let device = field.device(&id);
    device.take(&ask(1, What::Write(wish(7)))).unwrap();
    device.take(&ask(2, What::Write(wish(6)))).unwrap();
    let wrong = device.take(&ask(2, What::Write(wish(5)))).unwrap_err();
    assert!(matches!(wrong, Wrong::Older(..)), "{wrong:?}");
    found("no older wish after a newer one", HandOvers::wrong(node(1), &id, &wrong));
    let shot = What::Invoke("request-1".parse().unwrap());
    device.take(&ask(2, shot.clone())).unwrap();
    let wrong = device.take(&ask(3, shot)).unwrap_err();
    found("a one-shot arrives once", HandOvers::wrong(node(1), &id, &wrong));
}

/// Nobody owns the link by the log.
#[test]
fn a_write_of_one_that_owns_nothing() {
    let mut hand_overs = HandOvers::default();
    let ask = |what| Ask {
        device: "hall.lamp".parse().unwrap(),
        link: "bus".parse().unwrap(),
        epoch: 1,
        what,
    };
    hand_overs.leaves((node(1), 1), &ask(What::Read), 5).unwrap();
    let shot = What::Invoke("request-1".parse().unwrap());
    found("owners take turns", hand_overs.leaves((node(1), 1), &ask(shot), 5));
}
