//! What a later owner makes of what an earlier one left.

use super::*;

fn limited(mut orders: Orders, property: &str, ttl: Ttl) -> Orders {
    orders.wishes.get_mut(property).expect("wished").ttl = ttl;
    orders
}

/// What the third owner finds: the second gave `angle` up, and the newer `level` is verified.
fn passed_over() -> Orders {
    let wishes = orders(&[("angle", 72, 145), ("level", 76, 149)]);
    let mut second = Hall::new(&[("angle", 21)], limited(wishes, "angle", Ttl::ClaimedElsewhere));
    let plan = second.run_to(5_000);
    assert_eq!(second.writes, [object(&[("level", 76)])]);
    assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(TroubleCode::Unknown));
    assert_eq!(second.orders.marks.verified, Revision::new(149), "which passes over 145");
    enforcing(second.orders, OnDrift::Enforce)
}

#[test]
fn a_wish_that_marks_pass_over_is_not_enforced_after_its_time() {
    let mut third = Hall::new(&[("angle", 21), ("level", 76)], passed_over());
    let plan = third.run_to(60_000);
    assert_eq!(third.writes, [], "its time may be over");
    let trouble = plan.trouble.expect("told");
    assert_eq!((trouble.code, trouble.revision), (TroubleCode::Unknown, Revision::new(145)));
    // The other one has no end.
    third.reports(&[("level", 3)]);
    third.run_to(90_000);
    assert_eq!(third.writes, [object(&[("level", 76)])]);
}

#[test]
fn a_wish_with_an_end_that_the_device_has_shown_is_enforced_by_later_owners() {
    let mut third = Hall::new(&[("angle", 72), ("level", 76)], passed_over());
    third.run_to(5_000);
    third.reports(&[("angle", 3)]);
    third.run_to(60_000);
    assert_eq!(third.writes, [object(&[("angle", 72)])]);
}

#[test]
fn a_wish_that_this_owner_claimed_is_enforced_within_its_time() {
    let claimed = limited(passed_over(), "angle", Ttl::Claimed { until_ms: 30_000 });
    let mut hall = Hall::new(&[("angle", 21), ("level", 76)], claimed.clone());
    hall.run_to(20_000);
    assert_eq!(hall.writes, [object(&[("angle", 72)])]);
    let mut late = Hall::new(&[("angle", 21), ("level", 76)], claimed);
    late.now_ms = 30_000;
    late.run_to(60_000);
    assert_eq!(late.writes, []);
}

#[test]
fn what_was_decided_about_a_wish_holds_when_marks_have_passed_it() {
    let mut third = enforcing(orders(&[("angle", 72, 145), ("level", 76, 149)]), OnDrift::Enforce);
    third.marks.verified = Revision::new(149);
    let (code, message) = (TroubleCode::Discarded, Arc::from("it was away"));
    third.given_up.insert(Revision::new(145), GivenUp { code, stage: Stage::Failed, message });
    let mut hall = Hall::new(&[("angle", 21), ("level", 76)], third);
    let plan = hall.run_to(60_000);
    assert_eq!(hall.writes, []);
    let codes: Vec<TroubleCode> = plan.failures.iter().map(|trouble| trouble.code).collect();
    assert_eq!(codes, [TroubleCode::Discarded]);
}
