//! One wish after another, faster than the device speaks.

use super::*;

/// A device that was on, and was handed "off" that it has not shown yet.
fn off_unheard(readable: bool) -> Hall {
    let mut hall = Hall::new(&[("on", 1)], orders(&[("on", 1, 5)]));
    hall.readable = readable;
    if !readable {
        hall.run_to(0);
        hall.reports(&[("on", 1)]);
    }
    hall.run_to(100);
    let before = hall.writes.len();
    hall.wishes("on", 0, 7);
    hand_over(&mut hall);
    assert_eq!(hall.writes.len(), before + 1);
    assert_eq!(hall.device, object(&[("on", 0)]));
    hall
}

/// Looks until something was handed over.
fn hand_over(hall: &mut Hall) {
    let before = hall.writes.len();
    let until_ms = hall.now_ms + 60_000;
    while hall.writes.len() == before {
        assert!(hall.now_ms < until_ms, "nothing is handed over");
        let plan = hall.course.plan(&hall.orders, true, hall.now_ms);
        match plan.step {
            Some(step) => hall.carry_out(step),
            None => hall.now_ms += 1,
        }
    }
}

fn is_on_and_told(hall: &mut Hall, readable: bool, case: &str) {
    let until_ms = hall.now_ms + 60_000;
    let plan = hall.run_to(until_ms);
    assert_eq!(hall.device, object(&[("on", 1)]), "{case}");
    assert_eq!((plan.trouble, plan.marks.sent), (None, Revision::new(9)), "{case}");
    if readable {
        assert_eq!(plan.marks.verified, Revision::new(9), "{case}");
    }
}

#[test]
fn what_was_wished_before_the_last_wish_is_handed_over_when_it_is_wished_again() {
    for readable in [true, false] {
        let mut hall = off_unheard(readable);
        hall.wishes("on", 1, 9);
        is_on_and_told(&mut hall, readable, &format!("readable: {readable}"));
    }
}

#[test]
fn a_wish_that_is_taken_away_and_set_again_is_handed_over() {
    for readable in [true, false] {
        let mut hall = off_unheard(readable);
        hall.orders.wishes.clear();
        hall.orders.desired_revision = Revision::new(8);
        hall.course.look(&hall.orders, hall.now_ms);
        hall.wishes("on", 1, 9);
        is_on_and_told(&mut hall, readable, &format!("readable: {readable}"));
    }
}

#[test]
fn a_hand_over_that_may_have_come_to_the_device_is_no_less_than_one_that_did() {
    let mut hall = Hall::new(&[("on", 1)], orders(&[("on", 1, 5)]));
    hall.run_to(100);
    hall.wishes("on", 0, 7);
    let Some(Step::Write { values, .. }) = hall.course.plan(&hall.orders, true, 100).step else {
        unreachable!("it is handed over")
    };
    hall.device.insert("on", 0_i64);
    hall.now_ms += 5;
    let (kind, message) = (WriteErrorKind::Timeout, "no answer".to_owned());
    let error = WriteError { may_have_acted: true, kind, message };
    hall.course.write_ended(&values, Err(&error), hall.now_ms);
    hall.wishes("on", 1, 9);
    is_on_and_told(&mut hall, true, "in doubt");
}

#[test]
fn a_device_that_is_slow_to_take_a_wish_on_is_handed_the_next_one() {
    let mut hall = Hall::new(&[("on", 1)], orders(&[("on", 1, 5)]));
    hall.run_to(100);
    hall.takes = false;
    hall.wishes("on", 0, 7);
    hand_over(&mut hall);
    // It still says what it was, while it begins to change.
    hall.run_to(200);
    hall.reports(&[("on", 1)]);
    hall.wishes("on", 1, 9);
    hand_over(&mut hall);
    assert_eq!(hall.writes.last(), Some(&object(&[("on", 1)])));
}

#[test]
fn what_was_said_before_a_one_shot_proves_no_later_wish() {
    for readable in [true, false] {
        let mut hall = Hall::new(&[("on", 1)], orders(&[("on", 1, 5)]));
        hall.readable = readable;
        hall.run_to(0);
        hall.reports(&[("on", 1)]);
        hall.run_to(100);
        // A toggle.
        hall.device.insert("on", 0_i64);
        hall.course.invoke_ended(hall.now_ms);
        hall.wishes("on", 1, 9);
        is_on_and_told(&mut hall, readable, &format!("readable: {readable}"));
    }
}

#[test]
fn a_question_gives_way_to_a_wish_that_can_be_handed_over() {
    let mut hall = Hall::new(&[("on", 1)], orders(&[("on", 1, 5)]));
    hall.run_to(100);
    hall.wishes("on", 0, 7);
    hand_over(&mut hall);
    hall.now_ms += 100;
    let plan = hall.course.plan(&hall.orders, true, hall.now_ms);
    assert_eq!(plan.step, Some(Step::Read));
    assert!(!hall.course.is_pressed(&hall.orders, true, hall.now_ms));
    hall.wishes("dim", 5, 9);
    assert!(!hall.course.is_pressed(&hall.orders, false, hall.now_ms), "without a lease");
    assert!(hall.course.is_pressed(&hall.orders, true, hall.now_ms));
    hall.course.read_gave_way(hall.now_ms);
    let plan = hall.course.plan(&hall.orders, true, hall.now_ms);
    assert!(matches!(plan.step, Some(Step::Write { .. })), "{plan:?}");
}

#[test]
fn without_room_nothing_is_asked_and_all_else_goes_on() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 5)]));
    let leave = Leave { write: true, read: false };
    let plan = hall.course.plan_within(&hall.orders, leave, 0);
    assert_eq!((plan.step, plan.why, plan.again_ms), (None, Why::ReadFirst, Some(250)));
    hall.run_to(1_000);
    hall.wishes("on", 0, 7);
    let plan = hall.course.plan_within(&hall.orders, leave, 1_000);
    assert!(matches!(plan.step, Some(Step::Write { .. })), "{plan:?}");
}

/// A wish with a time limit stood in its place for a moment, while it was being handed over.
#[test]
fn a_wish_that_comes_back_during_its_own_hand_over_is_verified() {
    for given_up in [false, true] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.may_write = false;
        hall.run_to(1_000);
        let step = hall.course.plan(&hall.orders, true, hall.now_ms).step;
        let Some(Step::Write { values, .. }) = step else { panic!("{step:?}") };
        for (value, revision) in [(2, 8), (1, 7)] {
            hall.wishes("on", value, revision);
            hall.course.plan(&hall.orders, true, hall.now_ms);
        }
        hall.device.insert("on", 1_i64);
        hall.now_ms += 5;
        if given_up {
            hall.course.given_up(hall.now_ms);
        } else {
            hall.course.write_ended(&values, Ok(Handed::Acknowledged), hall.now_ms);
        }
        hall.may_write = true;
        let plan = hall.run_to(60_000);
        assert_eq!(plan.marks.verified, Revision::new(7), "given up {given_up}");
    }
}
