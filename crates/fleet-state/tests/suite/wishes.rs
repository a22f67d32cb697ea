//! What is desired, property by property: revisions, time limits, claims, stages.

use fleet_state::{
    AgentCommand, Claimed, Command, DeviceSpec, Mode, Outcome, RejectCode, Revision, Schema, Stage,
    StageFailure, StageItem,
};

use crate::hall::{
    LAMP, LINK, assign, errand, hall, invoke, lamp, link, marked, marks, set_for, shot, stage,
    told, wish,
};
use crate::site::{Site, device_on, json, object, register, replace, update};

fn wished(site: &Site, property: &str) -> (String, u64) {
    let lamp = lamp(site);
    let wish = lamp.wishes.get(property).unwrap();
    (wish.value.to_json(), wish.revision.get())
}

#[test]
fn each_property_has_the_revision_of_its_command() {
    let mut site = hall();
    let first = site.accept(update(LAMP, r#"{"on":true,"level":1}"#));
    let second = site.accept(update(LAMP, r#"{"level":2}"#));
    assert_eq!(wished(&site, "on"), ("true".to_owned(), first));
    assert_eq!(wished(&site, "level"), ("2".to_owned(), second));
    // To name a property again is to want it again.
    let third = site.accept(update(LAMP, r#"{"on":true}"#));
    assert_eq!((wished(&site, "on").1, wished(&site, "level").1), (third, second));
    let fourth = site.accept(replace(LAMP, r#"{"level":2}"#));
    assert_eq!(wished(&site, "level").1, fourth);
    assert_eq!(lamp(&site).desired(), object(r#"{"level":2}"#));
    site.unchanged(update(LAMP, "{}"));
    // Nobody sees to a device without a link, so there nothing is wanted anew.
    site.accept(register("other"));
    site.accept(update("other", r#"{"on":true}"#));
    site.unchanged(update("other", r#"{"on":true}"#));
}

#[test]
fn an_unclaimed_wish_is_rolled_back_as_if_it_had_never_been() {
    let mut site = hall();
    let first = site.accept(update(LAMP, r#"{"on":false}"#));
    let second = site.accept(set_for(r#"{"on":true,"level":3}"#, 5_000));
    assert_eq!(lamp(&site).desired(), object(r#"{"on":true,"level":3}"#));
    assert_eq!(stage(&site, second), Some(Stage::Committed));
    assert_eq!(site.state.next_deadline_log_ms(), Some(5_000));
    assert!(site.tick(4_999).changes.is_empty());
    let changes = site.tick(1).changes;
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(lamp(&site).desired(), object(r#"{"on":false}"#));
    assert_eq!(wished(&site, "on"), ("false".to_owned(), first));
    assert_eq!(stage(&site, second), Some(Stage::Expired));
    assert_eq!(stage(&site, first), Some(Stage::Committed));
    assert_eq!(site.claimed(vec![wish(second), wish(first)]), [Claimed::Expired, Claimed::Granted]);
}

#[test]
fn nothing_with_a_time_limit_outlives_an_outage_of_the_whole_site() {
    let mut site = hall();
    let first = site.accept(update(LAMP, r#"{"on":false}"#));
    let second = site.accept(set_for(r#"{"on":true}"#, 60_000));
    site.propose_as("soon", invoke("open", Some(60_000)));
    site.propose_as("whenever", invoke("open", None));
    site.propose_as("begun", invoke("open", Some(60_000)));
    site.claimed(vec![shot("begun")]);
    site.apply_body(fleet_state::Body::TimeLost);
    assert_eq!(stage(&site, second), Some(Stage::Expired));
    assert_eq!(wished(&site, "on"), ("false".to_owned(), first));
    assert_eq!(errand(&site, "soon").stage, Stage::Expired);
    assert_eq!(errand(&site, "whenever").stage, Stage::Committed, "it has no time limit");
    assert_eq!(errand(&site, "begun").stage, Stage::Dispatching, "its owner may have acted");
    assert_eq!(site.claimed(vec![wish(second), shot("soon")]), [Claimed::Expired; 2]);
    assert!(site.state.next_deadline_log_ms().is_none_or(|deadline_ms| deadline_ms > 60_000));
}

#[test]
fn a_claimed_wish_stays() {
    let mut site = hall();
    let revision = site.accept(set_for(r#"{"on":true}"#, 5_000));
    site.tick(4_999);
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Granted]);
    assert_eq!(stage(&site, revision), Some(Stage::Dispatching));
    // To ask twice is to hear the same; a desired state may be written twice.
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Granted]);
    site.tick(100_000);
    assert_eq!(wished(&site, "on").1, revision);
    // The next one comes back to it.
    let next = site.accept(set_for(r#"{"on":false}"#, 100));
    site.tick(100);
    assert_eq!(stage(&site, next), Some(Stage::Expired));
    assert_eq!(wished(&site, "on"), ("true".to_owned(), revision));
}

#[test]
fn the_order_of_the_log_decides_between_claim_and_deadline() {
    let mut site = hall();
    let revision = site.accept(set_for(r#"{"on":true}"#, 1_000));
    // No tick came, but the claim's own stamp is late.
    site.log_time_ms += 1_000;
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Expired]);
    assert!(lamp(&site).wishes.is_empty());
}

#[test]
fn a_newer_wish_supersedes_and_comes_back_to_what_happened() {
    let mut site = hall();
    let first = site.accept(update(LAMP, r#"{"on":"a"}"#));
    let second = site.accept(set_for(r#"{"on":"b"}"#, 60_000));
    let third = site.accept(set_for(r#"{"on":"c"}"#, 1_000));
    assert_eq!(stage(&site, second), Some(Stage::Superseded));
    assert_eq!(site.claimed(vec![wish(second)]), [Claimed::Superseded]);
    site.tick(1_000);
    assert_eq!((stage(&site, third), wished(&site, "on").1), (Some(Stage::Expired), first));
    // A wish without a limit ends the limit of the one before it, whatever its value.
    let limited = site.accept(set_for(r#"{"on":"d"}"#, 1_000));
    let kept = site.accept(update(LAMP, r#"{"on":"d"}"#));
    assert_eq!(stage(&site, limited), Some(Stage::Superseded));
    site.tick(10_000);
    assert_eq!(wished(&site, "on"), ("\"d\"".to_owned(), kept));
    assert_eq!(site.state.next_deadline_log_ms(), Some(600_000));
}

#[test]
fn what_takes_no_time_limit_is_refused() {
    let mut site = hall();
    site.accept(update(LAMP, r#"{"on":true}"#));
    site.reject(set_for(r#"{"on":null}"#, 1_000), RejectCode::Malformed);
    let id = LAMP.parse().unwrap();
    let whole = Command::DeviceReplace { id, desired: object(r#"{"x":1}"#), ttl_ms: Some(1_000) };
    let message = site.reject(whole, RejectCode::Malformed);
    assert!(message.contains("taking \"on\" away"), "{message}");
    for ttl_ms in [0, 49, 7 * 24 * 3_600_000 + 1] {
        site.reject(set_for(r#"{"on":true}"#, ttl_ms), RejectCode::Malformed);
    }
    site.accept(register("other"));
    let id = "other".parse().unwrap();
    let alone = Command::DeviceUpdate { id, patch: object(r#"{"a":1}"#), ttl_ms: Some(1_000) };
    site.reject(alone, RejectCode::LinkNotFound);
}

#[test]
fn toggles_are_no_desired_state() {
    let mut site = hall();
    for patch in [r#"{"state":"TOGGLE"}"#, r#"{"light":{"state":"toggle"}}"#] {
        let message = site.reject(update(LAMP, patch), RejectCode::Malformed);
        assert!(message.contains("\"state\" is to toggle"), "{message}");
        site.reject(replace(LAMP, patch), RejectCode::Malformed);
    }
    site.accept(update(LAMP, r#"{"name":"toggle switch"}"#));
}

#[test]
fn marks_only_rise_and_never_beyond_what_is_wished() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let first = site.accept(update(LAMP, r#"{"on":true}"#));
    let second = site.accept(update(LAMP, r#"{"level":1}"#));
    site.accept(told(epoch, marked(second, first, 0)));
    assert_eq!(stage(&site, first), Some(Stage::Acknowledged));
    assert_eq!(stage(&site, second), Some(Stage::Sent));
    site.unchanged(told(epoch, marked(first, first, 0)));
    site.accept(told(epoch, marked(second + 100, second + 100, second + 100)));
    assert_eq!(marks(&site).verified.get(), second);
    let third = site.accept(update(LAMP, r#"{"level":1}"#));
    assert_eq!(stage(&site, third), Some(Stage::Committed));
    // How far it got is no change of the device to who set a condition.
    assert_eq!(lamp(&site).revision.get(), third);
    // Another address was told nothing yet.
    let spec = DeviceSpec { address: "b".into(), ..device_on(LINK) };
    site.accept(Command::DeviceRegister { id: LAMP.parse().unwrap(), spec });
    assert_eq!(marks(&site).sent, Revision::NONE);
}

fn failing(epoch: u64, revision: u64, code: &str, item: StageItem) -> Command {
    let failure = StageFailure {
        revision: Revision::new(revision),
        stage: Stage::Failed,
        code: code.into(),
        message: "the drive says no".into(),
    };
    told(epoch, StageItem { failures: vec![failure], ..item })
}

fn overcome(epoch: u64, revision: u64, item: StageItem) -> Command {
    told(epoch, StageItem { overcome: vec![Revision::new(revision)], ..item })
}

#[test]
fn a_failure_stands_until_it_is_overcome() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let first = site.accept(update(LAMP, r#"{"on":true}"#));
    let refused = |revision| failing(epoch, revision, "refused", marked(first, 0, 0));
    site.accept(refused(first));
    assert_eq!(stage(&site, first), Some(Stage::Failed));
    site.unchanged(refused(first));
    // Marks pass over it; only its own end overcomes it.
    site.accept(told(epoch, marked(first, first, first)));
    assert_eq!(stage(&site, first), Some(Stage::Failed));
    site.accept(overcome(epoch, first, marked(first, first, first)));
    assert_eq!((stage(&site, first), marks(&site).failures), (Some(Stage::Verified), vec![]));
    // Of a wish that there is not nothing can have failed.
    site.unchanged(refused(first + 50));
}

#[test]
fn a_command_that_can_get_no_further_says_why() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let first = site.accept(update(LAMP, r#"{"on":true}"#));
    let why = |site: &Site| {
        let failure = site.state.wish_failure(&LAMP.parse().unwrap(), Revision::new(first));
        failure.map(|failure| failure.code.to_string())
    };
    site.accept(told(epoch, marked(first, 0, 0)));
    assert_eq!((stage(&site, first), why(&site)), (Some(Stage::Sent), None));
    let failure = StageFailure {
        revision: Revision::new(first),
        stage: Stage::Sent,
        code: "write_only".into(),
        message: "nobody hears what becomes of it".into(),
    };
    site.accept(told(epoch, StageItem { failures: vec![failure], ..marked(first, 0, 0) }));
    assert_eq!(stage(&site, first), Some(Stage::Sent));
    assert_eq!(why(&site).as_deref(), Some("write_only"));
}

#[test]
fn what_keeps_one_command_says_nothing_of_the_others() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let first = site.accept(update(LAMP, r#"{"level":50}"#));
    let second = site.accept(update(LAMP, r#"{"on":true}"#));
    let third = site.accept(update(LAMP, r#"{"hue":1}"#));
    site.accept(failing(epoch, first, "discarded", marked(first, 0, 0)));
    site.accept(failing(epoch, third, "refused", marked(first, 0, 0)));
    // The older one stays given up, whatever is told of newer ones.
    assert_eq!(
        marks(&site).failures.iter().map(|f| &*f.code).collect::<Vec<_>>(),
        ["discarded", "refused"]
    );
    assert_eq!(stage(&site, second), Some(Stage::Committed));
    site.accept(told(epoch, marked(second, second, second)));
    let stages = [first, second, third].map(|revision| stage(&site, revision));
    assert_eq!(stages, [Some(Stage::Failed), Some(Stage::Verified), Some(Stage::Failed)]);
    // Who wishes anew is another matter, and what is wished no more is forgotten.
    let anew = site.accept(update(LAMP, r#"{"level":50}"#));
    assert_eq!(stage(&site, anew), Some(Stage::Committed));
    site.accept(told(epoch, marked(anew, 0, 0)));
    assert_eq!(marks(&site).failures.len(), 1);
}

#[test]
fn what_comes_back_when_a_time_is_up_is_still_given_up() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let first = site.accept(update(LAMP, r#"{"level":50}"#));
    site.accept(failing(epoch, first, "discarded", marked(first, 0, 0)));
    let limited = site.accept(set_for(r#"{"level":9}"#, 100));
    site.accept(told(epoch, marked(limited, 0, 0)));
    site.tick(200);
    assert_eq!(wished(&site, "level"), ("50".to_owned(), first));
    assert_eq!(stage(&site, first), Some(Stage::Failed));
}

#[test]
fn a_local_hand_is_adopted_only_while_nobody_wants_else() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let adopt = |value: &str, seen: u64| {
        Command::Agents(AgentCommand::Adopt {
            link: LINK.parse().unwrap(),
            epoch,
            device: LAMP.parse().unwrap(),
            property: "on".into(),
            value: json(value),
            seen_revision: Revision::new(seen),
        })
    };
    site.reject(adopt("true", 1), RejectCode::RevisionMismatch);
    let first = site.accept(update(LAMP, r#"{"on":true}"#));
    let adopted = site.accept(adopt("false", first));
    assert_eq!(wished(&site, "on"), ("false".to_owned(), adopted));
    site.unchanged(adopt("false", adopted));
    let second = site.accept(update(LAMP, r#"{"on":true}"#));
    site.reject(adopt("false", adopted), RejectCode::RevisionMismatch);
    site.reject(adopt("\"toggle\"", second), RejectCode::Malformed);
    let model = Schema::from_value(json(r#"{"properties":{"on":{"type":"boolean"}}}"#)).unwrap();
    let spec = DeviceSpec { model: Some(model), ..device_on(LINK) };
    site.accept(Command::DeviceRegister { id: LAMP.parse().unwrap(), spec });
    site.reject(adopt("7", second), RejectCode::Schema);
    site.accept(Command::DeviceHold { id: LAMP.parse().unwrap(), reason: "".into() });
    site.reject(adopt("false", second), RejectCode::Blocked);
    site.accept(assign(epoch, Some(2)));
    site.reject(adopt("false", second), RejectCode::StaleEpoch);
}

#[test]
fn what_is_held_or_observed_is_not_claimed() {
    let mut site = hall();
    let id = || LAMP.parse().unwrap();
    let revision = site.accept(set_for(r#"{"on":true}"#, 60_000));
    site.accept(Command::DeviceHold { id: id(), reason: "cleaning".into() });
    site.unchanged(Command::DeviceHold { id: id(), reason: "cleaning".into() });
    assert_eq!(lamp(&site).blocked(), Some("is on hold"));
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Blocked]);
    site.accept(Command::DeviceRelease { id: id() });
    site.unchanged(Command::DeviceRelease { id: id() });
    site.accept(Command::DeviceMode { id: id(), mode: Mode::Observe });
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Blocked]);
    site.accept(Command::DeviceMode { id: id(), mode: Mode::Manual });
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Granted]);
    site.reject(
        Command::DeviceMode { id: "no".parse().unwrap(), mode: Mode::Auto },
        RejectCode::NotFound,
    );
}

#[test]
fn a_hold_says_who_and_why() {
    let mut site = hall();
    let id = LAMP.parse().unwrap();
    let proposal = fleet_state::Proposal {
        request_id: "held".parse().unwrap(),
        if_revision: None,
        actor: Some("ana".into()),
        command: Command::DeviceHold { id, reason: "cleaning".into() },
    };
    let applied = site.apply_body(fleet_state::Body::Proposal(proposal));
    let hold = lamp(&site).hold.unwrap();
    assert_eq!((&*hold.reason, hold.actor.as_deref()), ("cleaning", Some("ana")));
    assert_eq!(hold.revision, applied.answer.unwrap().revision);
}

#[test]
fn a_wish_is_taken_back_before_it_is_claimed() {
    let mut site = hall();
    let cancel = |request: &str| Command::CommandCancel { request: request.parse().unwrap() };
    let first = site.accept(update(LAMP, r#"{"on":false}"#));
    let set = site.propose_as("mine", set_for(r#"{"on":true}"#, 60_000));
    let revision = set.answer.unwrap().revision.get();
    site.accept(cancel("mine"));
    assert_eq!(stage(&site, revision), Some(Stage::Cancelled));
    assert_eq!(wished(&site, "on"), ("false".to_owned(), first));
    assert_eq!(site.claimed(vec![wish(revision)]), [Claimed::Cancelled]);
    let message = site.reject(cancel("mine"), RejectCode::TooLate);
    assert!(message.ends_with("it is cancelled"), "{message}");
    // Claimed, without a limit, of another kind, never heard of.
    let set = site.propose_as("claimed", set_for(r#"{"on":true}"#, 60_000));
    site.claimed(vec![wish(set.answer.unwrap().revision.get())]);
    site.reject(cancel("claimed"), RejectCode::TooLate);
    site.propose_as("plain", update(LAMP, r#"{"on":false}"#));
    let message = site.reject(cancel("plain"), RejectCode::TooLate);
    assert!(message.contains("without a time limit"), "{message}");
    site.propose_as("param", crate::site::set("p", "1"));
    site.reject(cancel("param"), RejectCode::TooLate);
    site.reject(cancel("nothing"), RejectCode::NotFound);
}

#[test]
fn a_claimed_wish_does_not_come_back_without_its_limit() {
    let mut site = hall();
    let claimed = site.accept(set_for(r#"{"on":true}"#, 1_000));
    assert_eq!(site.claimed(vec![wish(claimed)]), [Claimed::Granted]);
    // Another one stands before it, and something else is told and claimed meanwhile.
    site.accept(set_for(r#"{"on":false}"#, 2_000));
    let other = site.accept(set_for(r#"{"level":1}"#, 2_000));
    assert_eq!(site.claimed(vec![wish(other)]), [Claimed::Granted]);
    site.tick(5_000);
    assert_eq!(wished(&site, "on"), ("true".to_owned(), claimed));
    let lamp = lamp(&site);
    let back = lamp.wishes.get("on").unwrap();
    assert!(back.ttl.is_some(), "it had a limit, and that is over");
    assert!(!site.state.needs_claim(&lamp.id, back), "it is not to be claimed a second time");
    assert_eq!(marks(&site).claimed, [Revision::new(claimed), Revision::new(other)]);
    // And so it stays when it happens again.
    site.accept(set_for(r#"{"on":false}"#, 1_000));
    site.tick(5_000);
    assert!(self::lamp(&site).wishes.get("on").unwrap().ttl.is_some());
}

#[test]
fn what_is_remembered_of_commands_says_how_they_ended() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let set = site.propose_as("set", set_for(r#"{"on":true}"#, 1_000)).answer.unwrap();
    site.propose_as("gone", update(LAMP, r#"{"level":null}"#));
    site.propose_as("bad", update(LAMP, r#"{"on":"toggle"}"#));
    let found = |site: &Site, id: &str| site.state.command_found(&id.parse().unwrap()).unwrap();
    assert_eq!(found(&site, "set").stage, Some(Stage::Committed));
    assert_eq!(found(&site, "set").kind.as_str(), "device.update");
    assert_eq!(found(&site, "set").about.unwrap().id_text(), LAMP);
    assert_eq!(found(&site, "gone").stage, None);
    assert!(matches!(found(&site, "bad").answer.outcome, Outcome::Rejected(_)));
    site.claimed(vec![wish(set.revision.get())]);
    site.accept(told(epoch, marked(set.revision.get(), 0, set.revision.get())));
    assert_eq!(found(&site, "set").stage, Some(Stage::Verified));
    let newest: Vec<_> =
        site.state.commands_found().map(|found| found.request_id.to_string()).take(3).collect();
    assert_eq!(newest, ["bad", "gone", "set"]);
    // One that failed says why, as long as that is so.
    let failed = site.propose_as("no", update(LAMP, r#"{"hue":1}"#)).answer.unwrap();
    let failed = failed.revision.get();
    assert_eq!(found(&site, "no").failure, None);
    site.accept(failing(epoch, failed, "refused", marked(set.revision.get(), 0, 0)));
    assert_eq!(found(&site, "no").failure.as_deref(), Some("the drive says no"));
    assert_eq!(found(&site, "set").failure, None);
    site.accept(overcome(epoch, failed, marked(failed, failed, failed)));
    assert_eq!(found(&site, "no").failure, None);
}

#[test]
fn the_memory_of_ends_is_bounded_and_does_not_guess() {
    let mut site = hall();
    let mut revisions = Vec::new();
    for _ in 0..9 {
        revisions.push(site.accept(set_for(r#"{"on":true}"#, 100)));
        site.tick(100);
    }
    assert_eq!(marks(&site).ends.len(), fleet_state::limits::WISH_ENDS_MAX);
    assert_eq!(stage(&site, revisions[0]), None);
    assert!(revisions[1..].iter().all(|revision| stage(&site, *revision) == Some(Stage::Expired)));
}

#[test]
fn many_limits_over_at_once_take_a_few_entries() {
    let mut site = hall();
    let count = fleet_state::limits::EXPIRIES_PER_ENTRY_MAX + 10;
    for number in 0..count {
        let id = || format!("d-{number}").parse().unwrap();
        site.accept(Command::DeviceRegister { id: id(), spec: device_on(LINK) });
        let patch = object(r#"{"a":1}"#);
        site.accept(Command::DeviceUpdate { id: id(), patch, ttl_ms: Some(1_000) });
    }
    let wishes =
        |site: &Site| site.state.devices().filter(|device| !device.wishes.is_empty()).count();
    site.tick(1_000);
    assert_eq!(wishes(&site), 10);
    // Still due, so the leader ticks again; what asks for one before that finds it over.
    assert!(site.state.next_deadline_log_ms().unwrap() <= site.log_time_ms);
    site.tick(0);
    assert_eq!(wishes(&site), 0);
}
