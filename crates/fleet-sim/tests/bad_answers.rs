//! Answers, configurations, states and hand-overs that never must be, told to the invariants by
//! hand. Those of logs, elections and bounds are in `bad_histories.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use fleet_consensus::frame::ConfChange;
use fleet_consensus::replica::AppliedEntry;
use fleet_device::lease::LEASE_MS;
use fleet_sim::field::Field;
use fleet_sim::invariants::{Answers, HandOvers, Membership, StateMachine, check_wishes};
use fleet_sim::keeper::{Ask, What};
use fleet_sim::{Swarm, Violation, World};
use fleet_state::{
    Accepted, Answer, Change, DeviceId, Entity, Link, NodeId, Outcome, Record, RequestId, Revision,
    Stage,
};

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

#[track_caller]
fn found<T: std::fmt::Debug>(what: &str, ended: Result<T, Violation>) {
    let violation = ended.expect_err(what);
    assert!(violation.to_string().contains(what), "{violation}");
}

fn request() -> RequestId {
    "request-1".parse().unwrap()
}

/// What was answered at a revision, to an entry at another one.
fn applied(at: u64, answered: u64) -> AppliedEntry {
    AppliedEntry {
        revision: Revision::new(at),
        request_id: Some(request()),
        answer: Some(done(answered)),
        changes: Vec::new(),
        wall_time_ms: 0,
    }
}

fn done(at: u64) -> Answer {
    Answer { revision: Revision::new(at), outcome: Outcome::Accepted(Accepted::default()) }
}

#[test]
fn a_command_that_takes_effect_twice() {
    let mut answers = Answers::default();
    answers.applied(&applied(4, 4)).unwrap();
    answers.applied(&applied(6, 4)).unwrap();
    found("none applied twice", answers.applied(&applied(7, 7)));
}

#[test]
fn an_answer_that_the_log_never_gave() {
    let mut answers = Answers::default();
    found("answers come from the log", answers.applied(&applied(4, 3)));
    found("answers come from the log", answers.acknowledged(&request(), &done(4)));
    answers.applied(&applied(4, 4)).unwrap();
    answers.acknowledged(&request(), &done(4)).unwrap();
    found("answers come from the log", answers.acknowledged(&request(), &done(5)));
}

#[test]
fn a_refused_command_that_takes_effect() {
    let mut answers = Answers::default();
    answers.all_refused(request()).unwrap();
    found("no effect of what was refused", answers.applied(&applied(4, 4)));
    let mut answers = Answers::default();
    answers.applied(&applied(4, 4)).unwrap();
    found("no effect of what was refused", answers.all_refused(request()));
    found("no effect of what was refused", answers.check_refused());
    answers.asked_again(&request());
    answers.check_refused().unwrap();
}

#[test]
fn two_histories_of_configurations() {
    let mut membership = Membership::default();
    membership.observe(node(1), 1, &[node(1)], &[]).unwrap();
    membership.commit(5, ConfChange::AddVoter(node(2))).unwrap();
    membership.observe(node(2), 5, &[node(1), node(2)], &[]).unwrap();
    let three = [node(1), node(2), node(3)];
    found("one configuration history", membership.observe(node(2), 6, &three, &[]));
    found("one configuration history", membership.observe(node(2), 6, &three, &[node(3)]));
    membership.commit(7, ConfChange::Remove(node(2))).unwrap();
    found("one configuration history", membership.commit(8, ConfChange::Remove(node(1))));
}

#[test]
fn a_configuration_that_goes_back() {
    let mut membership = Membership::default();
    membership.observe(node(1), 1, &[node(1)], &[]).unwrap();
    membership.commit(5, ConfChange::AddVoter(node(2))).unwrap();
    membership.in_force(node(1), &[node(1)], &[]).unwrap();
    membership.in_force(node(1), &[node(1), node(2)], &[]).unwrap();
    found("a configuration in force stays", membership.in_force(node(1), &[node(1)], &[]));
}

/// A small site whose one device is what was wished of it.
fn served() -> (World, DeviceId) {
    let mut swarm = Swarm::quiet(1, 1);
    swarm.links = 1;
    let mut world = World::new(3, swarm, false).unwrap();
    assert!(world.run_until(30_000, World::has_grown).unwrap());
    world.wish_for_good();
    let until_ms = world.now_ms() + 10_000;
    assert!(world.run_until(until_ms, World::has_converged).unwrap(), "{}", {
        world.why_not_converged()
    });
    let (state, _) = world.invariants.states.reference().unwrap();
    let device = state.devices().find(|device| device.spec.link.is_some()).unwrap();
    let id = device.id.clone();
    (world, id)
}

#[test]
fn a_state_that_nobody_else_has() {
    let (world, _) = served();
    let (state, index) = world.invariants.states.reference().unwrap();
    let mut states = StateMachine::default();
    states.begin(state.clone(), index);
    states.observe(node(1), 1, index, state).unwrap();
    let mut other = state.clone();
    other.skip(Revision::new(index + 1));
    found("equal states", states.observe(node(2), 1, index + 1, &other));
}

#[test]
fn a_wish_that_is_called_verified_and_never_was() {
    let (world, id) = served();
    let (state, _) = world.invariants.states.reference().unwrap();
    let marks = state.watermarks(&id).unwrap();
    let record = Some(Record::Watermarks(marks.clone()));
    let changes = [Change { entity: Entity::Watermarks(id.clone()), previous: None, record }];
    let wish = state.device(&id).unwrap().wishes.iter().next().unwrap().1.revision;
    assert_eq!(state.wish_stage(&id, wish), Some(Stage::Verified));
    check_wishes(state, &changes, &world.field).unwrap();
    let found_none = check_wishes(state, &changes, &Field::default());
    found("what is told of wishes is true", found_none);
}

/// What the log says of a link that node 1 owns, and a question of its for a lease.
fn owned(link: &Link, asked_ms: u64) -> HandOvers {
    let mut hand_overs = HandOvers::default();
    let record = Some(Record::Link(link.clone().into()));
    let change = Change { entity: Entity::Link(link.id.clone()), previous: None, record };
    hand_overs.committed(&[change], 0, 0);
    hand_overs.lease_asked((node(1), 1), 9, asked_ms);
    hand_overs
}

#[test]
fn a_write_without_a_lease() {
    let (world, device) = served();
    let (state, _) = world.invariants.states.reference().unwrap();
    let link = state.links().next().unwrap();
    let what = What::Write(Vec::new());
    let ask = Ask { device, link: link.id.clone(), epoch: link.epoch, what };
    let none = "nothing leaves without a lease";
    let mut hand_overs = owned(link, 100);
    found(none, hand_overs.leaves((node(1), 1), &ask, 120));
    hand_overs.lease_answered((node(1), 1), 9, false);
    found(none, hand_overs.leaves((node(1), 1), &ask, 120));
    let mut hand_overs = owned(link, 100);
    hand_overs.lease_answered((node(1), 1), 9, true);
    hand_overs.leaves((node(1), 1), &ask, 100 + LEASE_MS).unwrap();
    found(none, hand_overs.leaves((node(1), 2), &ask, 120));
    found(none, hand_overs.leaves((node(1), 1), &ask, 200 + LEASE_MS * 20 / 19));
}
