//! One-shots: at most once, never late, and an end that is true.

use fleet_state::limits::{INVOCATIONS_MAX, INVOCATIONS_OPEN_MAX};
use fleet_state::{Claimed, Command, Mode, RejectCode, Stage};

use crate::hall::{LAMP, LINK, assign, end, errand, hall, invoke, link, node, release, shot};
use crate::site::{delete_device, device_on, object, register, rejection, restored, snapshot_of};

#[test]
fn an_invocation_is_granted_once() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let answer = site.propose_as("one", invoke("open", Some(5_000))).answer.unwrap();
    let one = errand(&site, "one");
    assert_eq!((one.stage, one.committed), (Stage::Committed, answer.revision));
    assert_eq!(
        (&*one.action, &one.args, one.deadline_log_ms),
        ("open", &object(r#"{"n":1}"#), Some(5_000))
    );
    assert_eq!(site.claimed(vec![shot("one"), shot("none")]), [Claimed::Granted, Claimed::Gone]);
    let dispatch = errand(&site, "one").dispatch.unwrap();
    assert_eq!((dispatch.node, dispatch.epoch), (node(1), epoch));
    // An owner that does not know any more whether it asked must not act.
    assert_eq!(site.claimed(vec![shot("one")]), [Claimed::Taken]);
    site.tick(100_000);
    assert_eq!(errand(&site, "one").stage, Stage::Dispatching);
    site.accept(end(epoch, "one", Stage::Sent));
    site.reject(end(epoch, "one", Stage::Sent), RejectCode::TooLate);
    site.accept(end(epoch, "one", Stage::Verified));
    site.reject(end(epoch, "one", Stage::Failed), RejectCode::TooLate);
    assert_eq!(&*errand(&site, "one").detail, "as told");
    assert_eq!(site.claimed(vec![shot("one")]), [Claimed::Taken]);
}

#[test]
fn an_invocation_that_nobody_took_in_time_never_happens() {
    let mut site = hall();
    site.propose_as("late", invoke("open", Some(1_000)));
    assert_eq!(site.state.next_deadline_log_ms(), Some(1_000));
    site.tick(1_000);
    assert_eq!(errand(&site, "late").stage, Stage::Expired);
    assert_eq!(site.claimed(vec![shot("late")]), [Claimed::Expired]);
    site.propose_as("later", invoke("open", Some(1_000)));
    site.log_time_ms += 1_000;
    assert_eq!(site.claimed(vec![shot("later")]), [Claimed::Expired]);
}

#[test]
fn an_invocation_is_taken_back_before_it_is_taken() {
    let mut site = hall();
    let cancel = |request: &str| Command::CommandCancel { request: request.parse().unwrap() };
    site.propose_as("a", invoke("open", None));
    site.propose_as("b", invoke("open", None));
    site.accept(cancel("a"));
    assert_eq!(site.claimed(vec![shot("a"), shot("b")]), [Claimed::Cancelled, Claimed::Granted]);
    let message = site.reject(cancel("b"), RejectCode::TooLate);
    assert!(message.ends_with("it is dispatching"), "{message}");
}

#[test]
fn an_owner_may_refuse_before_anything_left() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    site.propose_as("a", invoke("no such action", None));
    site.reject(end(epoch, "a", Stage::Verified), RejectCode::TooLate);
    site.accept(end(epoch, "a", Stage::Failed));
    assert_eq!(errand(&site, "a").stage, Stage::Failed);
    for stage in [Stage::Committed, Stage::Dispatching, Stage::Expired, Stage::Cancelled] {
        site.reject(end(epoch, "a", stage), RejectCode::Malformed);
    }
    site.reject(end(epoch, "nothing", Stage::Failed), RejectCode::NotFound);
}

#[test]
fn nothing_is_asked_of_a_device_that_is_not_written_to() {
    let mut site = hall();
    let id = || LAMP.parse().unwrap();
    site.propose_as("a", invoke("open", None));
    site.accept(Command::DeviceHold { id: id(), reason: "cleaning".into() });
    // It would come as a surprise when the hold ends.
    assert_eq!(errand(&site, "a").stage, Stage::Cancelled);
    let message = site.reject(invoke("open", None), RejectCode::Blocked);
    assert!(message.contains("is on hold"), "{message}");
    site.accept(Command::DeviceRelease { id: id() });
    site.propose_as("b", invoke("open", None));
    site.accept(Command::DeviceMode { id: id(), mode: Mode::Observe });
    assert_eq!(errand(&site, "b").stage, Stage::Cancelled);
    site.reject(invoke("open", None), RejectCode::Blocked);
    site.accept(register("alone"));
    site.accept(Command::DeviceMode { id: "alone".parse().unwrap(), mode: Mode::Auto });
    let alone = Command::DeviceInvoke {
        id: "alone".parse().unwrap(),
        action: "open".into(),
        args: object("{}"),
        ttl_ms: None,
    };
    site.reject(alone, RejectCode::LinkNotFound);
    site.reject(invoke("", None), RejectCode::Malformed);
}

#[test]
fn a_device_takes_its_open_invocations_with_it() {
    let mut site = hall();
    site.propose_as("a", invoke("open", None));
    site.propose_as("b", invoke("open", None));
    site.claimed(vec![shot("b")]);
    site.accept(delete_device(LAMP));
    assert_eq!(errand(&site, "a").stage, Stage::Cancelled);
    // Of what is under way nobody will tell: its owner forgets the device with it.
    assert_eq!(errand(&site, "b").stage, Stage::Unknown);
    assert!(site.state.watermarks(&LAMP.parse().unwrap()).is_none());
}

#[test]
fn what_is_under_way_over_a_deleted_link_is_unknown() {
    let mut site = hall();
    site.propose_as("a", invoke("open", None));
    site.claimed(vec![shot("a")]);
    site.accept(delete_device(LAMP));
    site.accept(crate::site::delete_link(LINK));
    assert_eq!(errand(&site, "a").stage, Stage::Unknown);
}

#[test]
fn what_is_under_way_to_a_device_that_leaves_its_link_is_unknown() {
    let mut site = hall();
    site.accept(crate::site::register_link("other"));
    site.propose_as("a", invoke("open", None));
    site.propose_as("b", invoke("open", None));
    site.claimed(vec![shot("a")]);
    let move_to = |link: &str| {
        let id = LAMP.parse().unwrap();
        Command::DeviceRegister { id, spec: device_on(link) }
    };
    site.accept(move_to("other"));
    assert_eq!(errand(&site, "a").stage, Stage::Unknown);
    // Back in the same epoch: the owner has forgotten what it had asked for, and the next one is
    // not kept waiting for it.
    site.accept(move_to(LINK));
    assert_eq!(errand(&site, "b").stage, Stage::Committed);
    assert_eq!(site.claimed(vec![shot("a"), shot("b")]), [Claimed::Taken, Claimed::Granted]);
}

#[test]
fn open_invocations_of_a_device_are_bounded() {
    let mut site = hall();
    for number in 0..INVOCATIONS_OPEN_MAX {
        site.propose_as(&format!("i-{number}"), invoke("open", None));
    }
    site.reject(invoke("open", None), RejectCode::LimitReached);
    site.claimed(vec![shot("i-0")]);
    let epoch = link(&site).epoch;
    site.accept(end(epoch, "i-0", Stage::Failed));
    site.accept(invoke("open", None));
}

#[test]
fn ended_ones_make_room_oldest_first() {
    let mut site = hall();
    site.propose_as("open", invoke("open", None));
    for number in 0..=INVOCATIONS_MAX {
        site.propose_as(&format!("i-{number}"), invoke("open", Some(50)));
        site.tick(50);
    }
    assert_eq!(site.state.invocations_len(), INVOCATIONS_MAX);
    let known = |id: &str| site.state.invocation(&id.parse().unwrap()).is_some();
    assert!(known("open") && !known("i-0") && !known("i-1") && known("i-2"));
    let bytes = snapshot_of(&site.state);
    let again = restored(&bytes);
    assert_eq!(again.digests(), site.state.digests());
    assert_eq!(again.next_deadline_log_ms(), site.state.next_deadline_log_ms());
    // They push no deletion out of the memory of changes.
    let deleted = site.state.changes_since(fleet_state::Revision::NONE).unwrap();
    assert_eq!(deleted.filter(|(_, change)| change.record.is_none()).count(), 0);
}

#[test]
fn a_request_id_stands_for_one_invocation_even_when_its_answer_is_forgotten() {
    let mut site = hall();
    site.propose_as("door", invoke("open", None));
    for number in 0..100 {
        site.tick(60_000);
        site.accept(crate::site::set("p", &number.to_string()));
    }
    assert!(site.state.answer_for(&"door".parse().unwrap()).is_none());
    let again = site.propose_as("door", invoke("open", None)).answer.unwrap();
    assert_eq!(rejection(&again), Some(RejectCode::RequestIdReused));
}

#[test]
fn a_device_moved_away_is_no_business_of_the_former_owner() {
    let mut site = hall();
    site.accept(crate::site::register_link("other"));
    site.propose_as("a", invoke("open", None));
    let id = LAMP.parse().unwrap();
    site.accept(Command::DeviceRegister { id, spec: device_on("other") });
    assert_eq!(site.claimed(vec![shot("a")]), [Claimed::Gone]);
    let epoch = link(&site).epoch;
    site.reject(end(epoch, "a", Stage::Failed), RejectCode::TooLate);
    site.accept(release(epoch));
    site.accept(assign(epoch + 1, Some(2)));
    assert_eq!(errand(&site, "a").stage, Stage::Committed);
}
