//! Local writes, and decisions that outlive an owner.

use super::*;

/// A local value over a wish.
fn over(orders: &mut Orders, property: &str, value: i64, number: u64) {
    let known = orders.wishes.get(property).map_or(Revision::NONE, |wish| wish.revision);
    let value = Value::from(value);
    let (age, ttl) = (Age::Unasked, Ttl::Unlimited);
    let wish = Wish { value, revision: known, ttl, age, before: None, local: Some(number) };
    orders.wishes.insert(Arc::from(property), wish);
}

#[test]
fn a_local_write_is_handed_over_and_the_log_hears_nothing_of_it() {
    let mut hall = Hall::new(&[("dim", 0)], orders(&[("dim", 1, 7)]));
    hall.run_to(1_000);
    over(&mut hall.orders, "dim", 5, 1);
    let plan = hall.run_to(2_000);
    assert_eq!(hall.writes.last(), Some(&object(&[("dim", 5)])));
    let reached = Some(LocalReached::Verified);
    assert_eq!(plan.local, [LocalStanding { number: 1, reached, trouble: None }]);
    assert_eq!(plan.marks.verified, Revision::new(7));
    assert_eq!(plan.trouble, None);
}

#[test]
fn marks_stay_where_they_are_while_a_local_write_stands_before_a_wish() {
    // Nobody could hand the wish over before; it must not count as verified now.
    let mut wanted = orders(&[("dim", 1, 7), ("on", 1, 8)]);
    over(&mut wanted, "dim", 5, 1);
    let mut hall = Hall::new(&[("dim", 0), ("on", 0)], wanted);
    let plan = hall.run_to(5_000);
    assert_eq!(hall.device, object(&[("dim", 5), ("on", 1)]));
    assert_eq!(plan.marks, Marks::default());
}

#[test]
fn once_it_is_merged_the_policy_of_drift_decides() {
    for (on_drift, is) in [(OnDrift::Report, 5), (OnDrift::Enforce, 1)] {
        let mut hall = Hall::new(&[("dim", 0)], enforcing(orders(&[("dim", 1, 7)]), on_drift));
        hall.run_to(1_000);
        let before = hall.orders.wishes.clone();
        over(&mut hall.orders, "dim", 5, 1);
        hall.run_to(10_000);
        hall.orders.wishes = before;
        let plan = hall.run_to(60_000);
        assert_eq!(hall.device, object(&[("dim", is)]), "{on_drift:?}");
        assert_eq!(plan.drift.is_empty(), on_drift == OnDrift::Enforce);
        assert!(plan.local.is_empty());
    }
}

#[test]
fn a_wish_that_a_local_write_stands_before_waits_until_somebody_wishes_anew() {
    let mut hall = Hall::new(&[("dim", 5)], orders(&[("dim", 1, 7)]));
    hall.orders.stood_down.insert(Arc::from("dim"), Revision::new(7));
    let plan = hall.run_to(60_000);
    assert!(hall.writes.is_empty());
    assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(TroubleCode::LocalStands));
    assert_eq!(plan.drift.len(), 1);
    let anew = Wish {
        value: Value::from(1_i64),
        revision: Revision::new(9),
        ttl: Ttl::Unlimited,
        age: Age::Unasked,
        before: None,
        local: None,
    };
    hall.orders.wishes.insert(Arc::from("dim"), anew);
    hall.orders.desired_revision = Revision::new(9);
    let plan = hall.run_to(120_000);
    assert_eq!(hall.device, object(&[("dim", 1)]));
    assert_eq!((plan.trouble, plan.marks.verified), (None, Revision::new(9)));
}

#[test]
fn a_local_write_is_not_adopted_by_what_the_device_says_instead() {
    let mut hall = Hall::new(&[("dim", 0)], enforcing(orders(&[("dim", 1, 7)]), OnDrift::Adopt));
    hall.run_to(1_000);
    over(&mut hall.orders, "dim", 5, 1);
    hall.run_to(10_000);
    hall.reports(&[("dim", 3)]);
    hall.run_to(60_000);
    assert!(hall.adopted.is_empty());
}

#[test]
fn what_was_discarded_stays_so_for_every_later_owner() {
    // A new owner, or this one after a restart, knows it from the log.
    let mut wanted = orders(&[("dim", 1, 7), ("on", 1, 9)]);
    let (code, message) = (TroubleCode::Discarded, Arc::from("the device was away"));
    let given_up = GivenUp { code, stage: Stage::Failed, message };
    wanted.given_up.insert(Revision::new(7), given_up);
    let mut hall = Hall::new(&[("dim", 0), ("on", 0)], wanted);
    let plan = hall.run_to(60_000);
    assert_eq!(hall.writes, [object(&[("on", 1)])], "what came later is handed over");
    assert_eq!(plan.trouble.map(|trouble| trouble.revision), Some(Revision::new(7)));
    assert_eq!(TroubleCode::of_word("discarded"), code);
    assert!(code.is_decision() && !TroubleCode::NotVerified.is_decision());
}
