//! Devices that are away without anybody saying so.

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn silent_lamp(on_return: OnReturn) -> Hall {
    let mut hall = Hall::new(&[("on", 0)], orders(&[]));
    hall.orders.on_return = on_return;
    hall.run_to(1_000);
    hall.silent = true;
    hall
}

#[test]
fn a_wish_that_waited_for_a_silent_device_is_treated_as_its_policy_says() {
    let table = [
        (OnReturn::Hold, false, Some(TroubleCode::HeldOnReturn)),
        (OnReturn::Discard, false, Some(TroubleCode::Discarded)),
        (OnReturn::Apply { age_ms_max: 60_000 }, false, Some(TroubleCode::Discarded)),
        (OnReturn::Apply { age_ms_max: 2 * HOUR_MS }, true, None),
    ];
    for (on_return, applied, trouble) in table {
        let mut hall = silent_lamp(on_return);
        hall.wishes("on", 1, 7);
        hall.run_to(HOUR_MS);
        hall.silent = false;
        let plan = hall.run_to(HOUR_MS + 200_000);
        assert_eq!(hall.device, object(&[("on", i64::from(applied))]), "{on_return:?}");
        assert_eq!(plan.trouble.map(|trouble| trouble.code), trouble, "{on_return:?}");
    }
}

#[test]
fn a_wish_for_a_device_that_never_answered_in_this_session_waits_too() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.silent = true;
    hall.run_to(HOUR_MS);
    hall.silent = false;
    hall.run_to(HOUR_MS + 200_000);
    assert_eq!(hall.device, object(&[("on", 0)]));
    // Of a later one nobody can say that.
    hall.wishes("on", 1, 9);
    hall.run_to(HOUR_MS + 300_000);
    assert_eq!(hall.device, object(&[("on", 1)]));
}

#[test]
fn the_age_of_a_wish_is_what_the_log_says_and_not_how_long_this_session_knows_it() {
    let at_most = |age_ms| Age::AtMost { age_ms, at_ms: HOUR_MS };
    // How old it is when the log is asked, whether it is handed over, how often the log is asked.
    let table = [
        (at_most(60_000), true, None),
        (at_most(3 * HOUR_MS), false, Some(TroubleCode::Discarded)),
        (Age::Unknown, false, Some(TroubleCode::Discarded)),
    ];
    for (age, applied, trouble) in table {
        // It stood there when the session began.
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.orders.on_return = OnReturn::Apply { age_ms_max: 2 * HOUR_MS };
        (hall.silent, hall.age) = (true, age);
        hall.run_to(HOUR_MS);
        assert_eq!(hall.claims, 0, "nothing is asked before the device is back");
        hall.silent = false;
        let plan = hall.run_to(HOUR_MS + 200_000);
        assert_eq!(hall.device, object(&[("on", i64::from(applied))]), "{age:?}");
        assert_eq!(plan.trouble.map(|trouble| trouble.code), trouble, "{age:?}");
        assert_eq!(hall.claims, 1, "{age:?}");
    }
}

#[test]
fn an_old_answer_of_the_log_makes_no_fresh_wish_old() {
    let mut hall = silent_lamp(OnReturn::Apply { age_ms_max: 300_000 });
    hall.run_to(3 * HOUR_MS);
    hall.wishes("on", 1, 7);
    // Something else was asked of the log hours ago.
    let wish = hall.orders.wishes.get_mut("on").expect("just wished");
    wish.age = Age::AtMost { age_ms: 0, at_ms: 1_000 };
    hall.age = Age::AtMost { age_ms: 60_000, at_ms: 3 * HOUR_MS + 60_000 };
    hall.run_to(3 * HOUR_MS + 60_000);
    hall.silent = false;
    let plan = hall.run_to(3 * HOUR_MS + 200_000);
    assert_eq!((plan.trouble, hall.device), (None, object(&[("on", 1)])));
    assert_eq!(hall.claims, 1, "it is asked again, once");
}

#[test]
fn a_device_that_sleeps_is_not_away() {
    let mut hall = silent_lamp(OnReturn::Discard);
    hall.goes(Availability::Asleep);
    hall.wishes("on", 1, 7);
    hall.run_to(HOUR_MS);
    hall.silent = false;
    let plan = hall.run_to(HOUR_MS + 200_000);
    assert_eq!((plan.trouble, hall.device), (None, object(&[("on", 1)])));
}

#[test]
fn a_short_silence_is_none() {
    let mut hall = silent_lamp(OnReturn::Discard);
    hall.wishes("on", 1, 7);
    hall.run_to(20_000);
    hall.silent = false;
    let plan = hall.run_to(200_000);
    assert_eq!((plan.trouble, hall.device), (None, object(&[("on", 1)])));
}

#[test]
fn a_device_that_nobody_asked_anything_of_for_long_was_not_away() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[]));
    hall.orders.on_return = OnReturn::Discard;
    hall.run_to(HOUR_MS);
    hall.wishes("on", 1, 7);
    let plan = hall.run_to(HOUR_MS + 60_000);
    assert_eq!((plan.trouble, hall.device), (None, object(&[("on", 1)])));
}

#[test]
fn a_silence_goes_on_in_the_next_session() {
    let mut hall = silent_lamp(OnReturn::Discard);
    hall.wishes("on", 1, 7);
    hall.run_to(HOUR_MS);
    let away = hall.course.away();
    assert!(away.since_ms.is_some_and(|since_ms| since_ms < 10_000), "{away:?}");
    hall.silent = false;
    hall.course = Course::resumed(away, hall.now_ms);
    let plan = hall.run_to(HOUR_MS + 60_000);
    assert_eq!(hall.device, object(&[("on", 0)]));
    assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(TroubleCode::Discarded));
    assert_eq!(hall.course.away(), Away::default());
}

#[test]
fn that_it_was_away_is_known_to_the_next_owner_who_finds_it_there() {
    for readable in [true, false] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.orders.on_return = OnReturn::Hold;
        hall.readable = readable;
        hall.course = Course::resumed(Away { since_ms: None, is_offline: true }, 0);
        let plan = hall.run_to(60_000);
        assert_eq!(hall.device, object(&[("on", 0)]), "{readable}");
        let code = plan.trouble.map(|trouble| trouble.code);
        assert_eq!(code, Some(TroubleCode::HeldOnReturn), "{readable}");
    }
}
