//! The way of a wish to its device, and what keeps it from there.

use super::*;

#[test]
fn a_wish_is_read_written_and_verified() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    let plan = hall.run_to(1_000);
    assert_eq!(hall.writes, [object(&[("on", 1)])]);
    assert!(hall.reads >= 2, "before and after");
    let seven = Revision::new(7);
    assert_eq!((plan.marks.sent, plan.marks.verified), (seven, seven));
    assert_eq!((plan.trouble, plan.drift.len(), plan.why), (None, 0, Why::Rest));
}

#[test]
fn what_the_device_already_is_is_not_written() {
    let mut hall = Hall::new(&[("on", 1), ("dim", 5)], orders(&[("on", 1, 7)]));
    let plan = hall.run_to(60_000);
    assert!(hall.writes.is_empty());
    assert_eq!(plan.marks.verified, Revision::new(7));
}

#[test]
fn a_device_that_can_not_be_asked_is_written_once_and_verified_by_its_report() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.readable = false;
    let plan = hall.run_to(60_000);
    assert_eq!(hall.writes.len(), 1);
    assert_eq!((plan.marks.sent, plan.marks.verified), (Revision::new(7), Revision::NONE));
    hall.reports(&[("on", 1)]);
    assert_eq!(hall.run_to(61_000).marks.verified, Revision::new(7));
}

#[test]
fn a_report_that_was_on_its_way_is_no_reason_to_write_again() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    let step = loop {
        let plan = hall.course.plan(&hall.orders, true, hall.now_ms);
        match plan.step {
            Some(step @ Step::Write { .. }) => break step,
            Some(step) => hall.carry_out(step),
            None => hall.now_ms += 1,
        }
    };
    // A poll that was read before the write comes in while the write is under way.
    let heard = Observation::fresh(Hall::id(), object(&[("on", 0)]));
    hall.course.heard(&heard, hall.now_ms + 2);
    hall.carry_out(step);
    let plan = hall.run_to(10_000);
    assert_eq!(hall.writes.len(), 1);
    assert_eq!(plan.marks.verified, Revision::new(7));
}

#[test]
fn nothing_is_written_where_it_must_not_be() {
    type Change = fn(&mut Hall);
    let table: [(&str, Why, Change); 4] = [
        ("observe", Why::Observing, |hall| hall.orders.mode = Mode::Observe),
        ("hold", Why::OnHold, |hall| hall.orders.held = true),
        ("no lease", Why::NoLease, |hall| hall.may_write = false),
        ("away", Why::ReadFirst, |hall| hall.goes(Availability::Offline)),
    ];
    for (name, why, change) in table {
        let mut hall =
            Hall::new(&[("on", 0)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Enforce));
        change(&mut hall);
        let plan = hall.run_to(200);
        assert!(hall.writes.is_empty(), "{name}");
        assert_eq!(plan.why, why, "{name}");
        let shown = matches!(why, Why::Observing | Why::OnHold);
        assert_eq!(!plan.would_write.is_empty(), shown, "{name}");
    }
}

#[test]
fn a_local_hand_is_shown_adopted_or_corrected() {
    let table = [
        (Mode::Auto, OnDrift::Report, 1, 0, true),
        (Mode::Auto, OnDrift::Adopt, 1, 1, false),
        (Mode::Auto, OnDrift::Enforce, 2, 0, false),
        (Mode::Manual, OnDrift::Enforce, 1, 0, true),
        (Mode::Manual, OnDrift::Adopt, 1, 0, true),
    ];
    for (mode, on_drift, writes, adopted, drifts) in table {
        let mut hall = Hall::new(&[("on", 0)], enforcing(orders(&[("on", 1, 7)]), on_drift));
        hall.orders.mode = mode;
        hall.run_to(1_000);
        hall.reports(&[("on", 0)]);
        let plan = hall.run_to(60_000);
        let case = format!("{mode:?} {on_drift:?}");
        assert_eq!(hall.writes.len(), writes, "{case}");
        assert_eq!(hall.adopted.len(), adopted, "{case}");
        assert_eq!(plan.drift.len(), usize::from(drifts), "{case}");
        assert_eq!(plan.marks.verified, hall.orders.desired_revision, "{case}");
        if drifts {
            assert_eq!(plan.drift.first().map(|drift| drift.since_ms), Some(1_000), "{case}");
        }
    }
}

#[test]
fn who_does_not_obey_is_tried_a_few_times_and_then_told_of() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.takes = false;
    let plan = hall.run_to(600_000);
    assert_eq!(hall.writes.len(), 3);
    let trouble = plan.trouble.expect("trouble");
    assert_eq!((trouble.code, trouble.revision), (TroubleCode::NotVerified, Revision::new(7)));
    assert_eq!(plan.drift.len(), 1);

    // Verified once, then stubborn.
    let mut hall = Hall::new(&[("on", 1)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Enforce));
    hall.run_to(1_000);
    hall.takes = false;
    hall.reports(&[("on", 0)]);
    let plan = hall.run_to(600_000);
    assert_eq!(hall.writes.len(), 5);
    assert_eq!(plan.trouble.map(|t| t.code), Some(TroubleCode::NotEnforced));
    // A local hand puts it right: the alarm is over.
    hall.reports(&[("on", 1)]);
    let plan = hall.run_to(601_000);
    assert_eq!((plan.trouble, plan.drift.len()), (None, 0));
}

#[test]
fn a_hand_over_that_got_lost_before_the_device_ever_spoke_of_it_is_repeated() {
    let mut hall = Hall::new(&[], orders(&[("on", 1, 7)]));
    hall.takes = false;
    hall.run_to(1_000);
    assert_eq!(hall.writes.len(), 1, "it may still come");
    hall.takes = true;
    let plan = hall.run_to(10_000);
    assert_eq!((hall.writes.len(), plan.marks.verified), (2, Revision::new(7)));
}

#[test]
fn what_was_kept_or_is_uncertain_verifies_nothing() {
    for retained in [true, false] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.readable = false;
        hall.run_to(3_000);
        let mut heard = Observation::fresh(Hall::id(), object(&[("on", 1)]));
        heard.retained = retained;
        heard.quality = if retained { Quality::Good } else { Quality::Uncertain };
        hall.course.heard(&heard, hall.now_ms);
        assert_eq!(hall.run_to(4_000).marks.verified, Revision::NONE);
    }
}

#[test]
fn a_return_is_treated_as_its_policy_says() {
    let table = [
        (OnReturn::Hold, 10_000, 0, Some(TroubleCode::HeldOnReturn)),
        (OnReturn::Discard, 10_000, 0, Some(TroubleCode::Discarded)),
        (OnReturn::Apply { age_ms_max: 20_000 }, 10_000, 1, None),
        (OnReturn::Apply { age_ms_max: 20_000 }, 30_000, 0, Some(TroubleCode::Discarded)),
    ];
    for (on_return, away_ms, writes, trouble) in table {
        let mut hall = Hall::new(&[("on", 0)], orders(&[]));
        hall.orders.on_return = on_return;
        hall.run_to(100);
        hall.readable = false;
        hall.goes(Availability::Offline);
        hall.age = Age::AtMost { age_ms: 0, at_ms: hall.now_ms };
        let wished = orders(&[("on", 1, 7)]);
        (hall.orders.wishes, hall.orders.desired_revision) =
            (wished.wishes, wished.desired_revision);
        let plan = hall.run_to(away_ms);
        assert!(hall.writes.is_empty(), "it is away: {plan:?}");
        hall.goes(Availability::Online);
        let plan = hall.run_to(away_ms + 5_000);
        assert_eq!(hall.writes.len(), writes, "{on_return:?}");
        assert_eq!(plan.trouble.map(|trouble| trouble.code), trouble, "{on_return:?}");
        // Who wishes it again gets it.
        let again = orders(&[("on", 1, 9)]);
        (hall.orders.wishes, hall.orders.desired_revision) = (again.wishes, again.desired_revision);
        let plan = hall.run_to(away_ms + 9_000);
        assert_eq!(hall.writes.len(), writes + 1, "{on_return:?}");
        assert_eq!((plan.trouble, plan.marks.sent), (None, Revision::new(9)));
    }
}

#[test]
fn a_wish_with_an_end_is_claimed_and_never_late() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.orders.wishes.get_mut("on").expect("it").ttl = Ttl::Unclaimed;
    let plan = hall.run_to(500);
    assert_eq!((hall.writes.len(), plan.marks.verified), (1, Revision::new(7)));

    for ttl in [Ttl::ClaimedElsewhere, Ttl::Claimed { until_ms: 0 }] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.orders.wishes.get_mut("on").expect("it").ttl = ttl;
        let plan = hall.run_to(60_000);
        assert!(hall.writes.is_empty());
        assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(TroubleCode::Unknown));
    }
}

#[test]
fn failures_are_told_apart() {
    let table = [
        (WriteErrorKind::Refused, 1, TroubleCode::Refused),
        (WriteErrorKind::Invalid, 1, TroubleCode::Refused),
        (WriteErrorKind::Busy, 4, TroubleCode::Unreachable),
        (WriteErrorKind::Timeout, 4, TroubleCode::Unreachable),
    ];
    for (kind, tries_min, code) in table {
        let mut course = Course::new(0);
        let orders = orders(&[("on", 1, 7)]);
        course.plan(&orders, true, 0);
        course.read_ended(Err(ReadErrorKind::Unsupported), 0);
        let (mut now_ms, mut tries) = (0, 0);
        let plan = loop {
            let plan = course.plan(&orders, true, now_ms);
            match (&plan.step, plan.again_ms) {
                (Some(Step::Write { values, .. }), _) => {
                    tries += 1;
                    let message = "no".to_owned();
                    let error = WriteError { may_have_acted: false, kind, message };
                    course.write_ended(values, Err(&error), now_ms);
                }
                (None, Some(again_ms)) if now_ms < 10_000 => now_ms = again_ms,
                _ => break plan,
            }
        };
        assert!(tries >= tries_min && tries < 10, "{kind:?}: {tries}");
        assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(code), "{kind:?}");
        assert_eq!(plan.marks, Marks::default());
    }
}

#[test]
fn what_is_not_writable_and_what_is_not_wished_is_left_alone() {
    let mut hall = Hall::new(&[("on", 0), ("other", 3)], orders(&[("on", 1, 7), ("temp", 20, 8)]));
    let plan = hall.run_to(5_000);
    assert_eq!(hall.writes, [object(&[("on", 1)])]);
    assert_eq!(plan.trouble.map(|trouble| trouble.revision), Some(Revision::new(8)));
    // What was given up keeps only its own revision back.
    assert_eq!(plan.marks.verified, Revision::new(7));
}

#[test]
fn values_are_alike_within_their_tolerance() {
    let parse =
        |text: &str| Value::parse(text.as_bytes(), fleet_state::Limits::default()).expect("JSON");
    let table = [
        ("1", "1.0", 0.0, true),
        ("20.5", "20.6", 0.2, true),
        ("20.5", "20.6", 0.05, false),
        ("true", "true", 0.0, true),
        ("true", "\"true\"", 0.0, false),
        (r#"{"x":1}"#, r#"{"x":1,"y":2}"#, 0.0, true),
        (r#"{"x":1,"y":2}"#, r#"{"x":1}"#, 0.0, false),
        ("[1,2]", "[1,2.001]", 0.01, true),
        ("[1,2]", "[1,2,3]", 0.0, false),
        ("null", "0", 1.0, false),
    ];
    for (wished, said, tolerance, expected) in table {
        assert_eq!(alike(&parse(wished), &parse(said), tolerance), expected, "{wished} {said}");
    }
    assert!(!alike(&Value::from(1_i64), &Value::from(2_i64), f64::NAN));
}

/// There was no time to ask for all of it: the rest is not known to be anything.
#[test]
fn what_there_was_no_time_for_is_asked_again_before_it_is_written() {
    let mut hall = Hall::new(&[("a", 0), ("b", 1)], orders(&[("a", 1, 7), ("b", 1, 8)]));
    assert_eq!(hall.course.plan(&hall.orders, true, 0).step, Some(Step::Read));
    let values = object(&[("a", 0)]);
    let (quality, complete) = (Quality::Good, false);
    let reading = Reading { values, quality, source_ms: None, problem: None, complete };
    hall.course.read_ended(Ok(reading), 10);
    let plan = hall.course.plan(&hall.orders, true, 11);
    assert_eq!((plan.step, plan.why), (None, Why::ReadFirst));
    hall.now_ms = 11;
    let plan = hall.run_to(10_000);
    assert_eq!(hall.writes, [object(&[("a", 1)])], "the other was so already");
    assert_eq!(plan.marks.verified, Revision::new(8));
}
