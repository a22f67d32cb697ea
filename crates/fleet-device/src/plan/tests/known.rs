//! What is known of wishes, and what can't be: given up, over, write-only, left out, too old.

use super::*;

fn seven() -> Revision {
    Revision::new(7)
}

fn kept(plan: &Plan) -> Vec<(u64, TroubleCode, Stage)> {
    plan.failures.iter().map(|t| (t.revision.get(), t.code, t.stage)).collect()
}

#[test]
fn what_was_given_up_never_counts_as_verified_and_is_not_enforced() {
    type Change = fn(&mut Hall);
    let table: [(TroubleCode, Change); 3] = [
        (TroubleCode::Discarded, |hall| {
            let policy = PropertyPolicy { on_drift: OnDrift::Enforce, ..PropertyPolicy::default() };
            hall.orders.policies.insert(Arc::from("level"), policy);
            hall.orders.on_return = OnReturn::Discard;
            hall.orders.wishes.clear();
            hall.orders.desired_revision = Revision::NONE;
            hall.run_to(10);
            hall.goes(Availability::Offline);
            hall.wishes("level", 50, 5);
            // It is found by asking, and that is a return.
            hall.run_to(1_000);
        }),
        (TroubleCode::Unknown, |hall| {
            hall.orders.wishes.get_mut("level").expect("it").ttl = Ttl::ClaimedElsewhere;
        }),
        (TroubleCode::HeldOnReturn, |hall| {
            let (code, message) = (TroubleCode::HeldOnReturn, Arc::from("it was away"));
            let given_up = GivenUp { code, stage: Stage::Failed, message };
            hall.orders.given_up.insert(Revision::new(5), given_up);
        }),
    ];
    for (code, change) in table {
        let stage = if code == TroubleCode::Unknown { Stage::Unknown } else { Stage::Failed };
        let wanted = enforcing(orders(&[("level", 50, 5)]), OnDrift::Enforce);
        let mut hall = Hall::new(&[("level", 3), ("on", 0)], wanted);
        change(&mut hall);
        hall.run_to(5_000);
        hall.wishes("on", 1, 7);
        let plan = hall.run_to(60_000);
        assert_eq!(plan.marks.verified, seven(), "{code:?}");
        assert_eq!(kept(&plan), [(5, code, stage)]);
        for session in 1..4 {
            hall.begins_anew();
            let plan = hall.run_to(60_000 + session * 600_000);
            assert_eq!(kept(&plan), [(5, code, stage)], "{session}");
        }
        assert_eq!(hall.device, object(&[("level", 3), ("on", 1)]), "{code:?}");
        // A hand at the device overcomes it.
        hall.reports(&[("level", 50)]);
        let plan = hall.run_to(hall.now_ms + 60_000);
        assert_eq!((kept(&plan), plan.trouble), (vec![], None), "{code:?}");
        assert!(hall.orders.given_up.is_empty());
    }
}

#[test]
fn a_decision_stands_beside_another_failure() {
    // temp can't be written.
    let mut hall = Hall::new(&[("level", 3)], orders(&[("level", 50, 5), ("temp", 20, 7)]));
    let (code, message) = (TroubleCode::Discarded, Arc::from("it was away"));
    hall.orders.given_up.insert(Revision::new(5), GivenUp { code, stage: Stage::Failed, message });
    for session in 1..3 {
        let plan = hall.run_to(session * 60_000);
        let refused = (7, TroubleCode::Refused, Stage::Failed);
        assert_eq!(kept(&plan), [(5, TroubleCode::Discarded, Stage::Failed), refused]);
        assert_eq!(hall.orders.given_up.len(), 2);
        assert!(hall.writes.is_empty());
        hall.begins_anew();
    }
}

#[test]
fn what_the_device_did_not_show_is_tried_by_the_next_owner_and_overcome() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.takes = false;
    let plan = hall.run_to(60_000);
    assert_eq!(kept(&plan), [(7, TroubleCode::NotVerified, Stage::Failed)]);
    hall.takes = true;
    hall.begins_anew();
    let plan = hall.run_to(120_000);
    assert_eq!((kept(&plan), plan.marks.verified), (vec![], seven()));
    assert!(hall.orders.given_up.is_empty());
}

#[test]
fn an_alarm_of_a_wish_that_was_verified_leaves_it_verified_and_stands_until_it_is_over() {
    let mut hall = Hall::new(&[("on", 1)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Enforce));
    hall.run_to(1_000);
    hall.takes = false;
    hall.reports(&[("on", 0)]);
    let plan = hall.run_to(600_000);
    assert_eq!(kept(&plan), [(7, TroubleCode::NotEnforced, Stage::Verified)]);
    hall.begins_anew();
    hall.run_to(610_000);
    assert_eq!(hall.orders.given_up.len(), 1, "it is still so");
    hall.reports(&[("on", 1)]);
    hall.run_to(620_000);
    assert!(hall.orders.given_up.is_empty());
}

#[test]
fn what_is_write_only_is_handed_over_once_and_keeps_nobody() {
    let mut wanted = orders(&[("pulse", 4, 5), ("on", 1, 7)]);
    let mut profile = wanted.profile.as_ref().clone();
    profile.properties.insert(Arc::from("pulse"), Access::WriteOnly);
    wanted.profile = Arc::new(profile);
    let mut hall = Hall::new(&[("on", 0)], wanted);
    hall.leaves_out.insert("pulse");
    let plan = hall.run_to(600_000);
    assert_eq!(hall.writes, [object(&[("on", 1), ("pulse", 4)])]);
    assert_eq!((plan.trouble.as_ref(), plan.marks.verified), (None, seven()));
    assert_eq!(kept(&plan), [(5, TroubleCode::WriteOnly, Stage::Sent)]);
    hall.begins_anew();
    hall.run_to(1_200_000);
    assert_eq!(hall.writes.last(), Some(&object(&[("pulse", 4)])));
    assert_eq!(hall.writes.len(), 2, "once in a session");
    // Away and back, it waits like any other wish.
    hall.wishes("pulse", 5, 9);
    let plan = hall.run_to(1_300_000);
    assert_eq!((hall.writes.len(), plan.marks.sent), (3, Revision::new(9)));
    assert_eq!(plan.marks.verified, seven());
}

#[test]
fn what_an_answer_leaves_out_is_no_difference() {
    // It spoke of it before, or never.
    for (known, writes_max) in [(true, 1), (false, 3)] {
        let mut hall = Hall::new(&[("on", 0), ("other", 1)], orders(&[("on", 1, 7)]));
        if known {
            hall.run_to(0);
            hall.reports(&[("on", 0)]);
        }
        hall.leaves_out.insert("on");
        let plan = hall.run_to(600_000);
        assert_eq!(hall.writes.len(), writes_max, "{known}");
        assert_eq!((plan.trouble.as_ref(), plan.marks.sent), (None, seven()), "{known}");
        hall.reports(&[("on", 1)]);
        let plan = hall.run_to(601_000);
        assert_eq!(plan.marks.verified, seven(), "{known}");
    }
}

#[test]
fn a_wish_that_was_there_before_the_session_may_be_too_old_for_a_return() {
    let mut wanted = orders(&[("on", 1, 7)]);
    wanted.on_return = OnReturn::Apply { age_ms_max: 60_000 };
    let mut hall = Hall::new(&[("on", 0)], wanted);
    hall.readable = false;
    hall.goes(Availability::Offline);
    hall.run_to(1_000);
    // One that comes now has a known age.
    hall.wishes("dim", 1, 9);
    hall.run_to(30_000);
    hall.goes(Availability::Online);
    hall.run_to(60_000);
    assert_eq!(hall.writes, [object(&[("dim", 1)])]);
    let given_up = hall.orders.given_up.get(&seven()).map(|given_up| given_up.code);
    assert_eq!(given_up, Some(TroubleCode::Discarded));
}

#[test]
fn what_a_device_reports_is_bounded_and_what_is_wished_has_room() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.readable = false;
    hall.run_to(100);
    for number in 0..2_000 {
        hall.reports(&[(&format!("p{number}"), number)]);
    }
    hall.reports(&[("on", 1)]);
    let plan = hall.run_to(10_000);
    assert_eq!(plan.marks.verified, seven());
    assert_eq!(hall.course.reported().count(), 513);
    assert!(hall.course.note().is_some_and(|note| note.contains("more properties")));
}

#[test]
fn a_device_that_can_not_be_understood_says_so() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[]));
    let mut heard = Observation::fresh(Hall::id(), Object::new());
    heard.quality = Quality::Bad;
    hall.course.heard(&heard, 0);
    assert!(hall.course.note().is_some_and(|note| note.contains("can't be read")));
    hall.goes(Availability::Online);
    assert!(hall.course.note().is_some());
    hall.reports(&[("on", 1)]);
    assert_eq!(hall.course.note(), None);
}

#[test]
fn what_was_sent_within_its_time_stays_sent_for_the_next_session() {
    // Of what is only ever written nobody hears more; of the other one nobody heard yet.
    for write_only in [true, false] {
        let mut wanted = orders(&[("pulse", 4, 5)]);
        if write_only {
            let mut profile = wanted.profile.as_ref().clone();
            profile.properties.insert(Arc::from("pulse"), Access::WriteOnly);
            wanted.profile = Arc::new(profile);
        }
        wanted.wishes.get_mut("pulse").expect("it").ttl = Ttl::Unclaimed;
        let mut hall = Hall::new(&[], wanted);
        hall.readable = false;
        let plan = hall.run_to(10_000);
        assert_eq!((hall.writes.len(), plan.marks.sent), (1, Revision::new(5)));
        for ttl in [Ttl::Claimed { until_ms: 1_000 }, Ttl::ClaimedElsewhere] {
            hall.orders.wishes.get_mut("pulse").expect("it").ttl = ttl;
            hall.begins_anew();
            let plan = hall.run_to(hall.now_ms + 60_000);
            let expected = write_only.then_some((5, TroubleCode::WriteOnly, Stage::Sent));
            assert_eq!(kept(&plan), Vec::from_iter(expected), "{write_only} {ttl:?}");
            assert_eq!((hall.writes.len(), plan.trouble), (1, None), "{write_only} {ttl:?}");
        }
    }
}

#[test]
fn what_was_sent_within_its_time_and_is_not_so_has_failed() {
    let mut wanted = orders(&[("on", 1, 5)]);
    wanted.wishes.get_mut("on").expect("it").ttl = Ttl::ClaimedElsewhere;
    wanted.marks.sent = Revision::new(5);
    let mut hall = Hall::new(&[("on", 0)], wanted);
    let plan = hall.run_to(60_000);
    assert!(hall.writes.is_empty());
    assert_eq!(kept(&plan), [(5, TroubleCode::NotVerified, Stage::Failed)]);
}

#[test]
fn a_question_is_about_what_is_wished_and_can_be_known() {
    let mut orders = orders(&[("level", 1, 5), ("key", 1, 5)]);
    orders.profile = Arc::new(Profile {
        properties: BTreeMap::from([
            (Arc::from("key"), Access::WriteOnly),
            (Arc::from("level"), Access::Desired),
            (Arc::from("temp"), Access::Readable),
        ]),
        ..profile().as_ref().clone()
    });
    assert_eq!(orders.asked_for(), Some(BTreeSet::from([Arc::from("level")])));
    orders.wishes.remove("level");
    assert_eq!(orders.asked_for(), None);
}

#[test]
fn one_that_nobody_tells_of_is_there_as_long_as_it_answers() {
    for (told, silent) in [(false, Availability::Unknown), (true, Availability::Online)] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 0, 5)]));
        if told {
            hall.goes(Availability::Online);
        }
        hall.run_to(1_000);
        assert_eq!(hall.course.availability(), Availability::Online);
        hall.silent = true;
        hall.wishes("on", 1, 7);
        hall.run_to(20_000);
        assert_eq!(hall.course.availability(), Availability::Online, "it may be busy");
        hall.run_to(60_000);
        assert_eq!(hall.course.availability(), silent, "{told}");
        hall.reports(&[("other", 1)]);
        assert_eq!(hall.course.availability(), Availability::Online, "{told}: it speaks");
        hall.silent = false;
        hall.run_to(200_000);
        assert_eq!(hall.course.availability(), Availability::Online);
    }
}

/// Nobody hears what becomes of one part of a command, and the other is still on its way.
#[test]
fn what_is_write_only_does_not_speak_for_the_rest_of_its_command() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 5), ("pulse", 1, 5)]));
    hall.orders.profile = Arc::new({
        let mut profile = hall.orders.profile.as_ref().clone();
        profile.properties.insert(Arc::from("pulse"), Access::WriteOnly);
        profile
    });
    hall.busy.insert("on");
    let plan = hall.run_to(20_000);
    let pulses = hall.writes.iter().filter(|values| values.get("on").is_none()).count();
    assert_eq!((pulses, kept(&plan)), (1, vec![]));
    hall.busy.clear();
    let plan = hall.run_to(100_000);
    assert_eq!(kept(&plan), [(5, TroubleCode::WriteOnly, Stage::Sent)]);
}
