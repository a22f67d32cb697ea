//! Wishes that newer ones have taken the place of, and that may come back.

use super::*;

#[test]
fn a_wish_that_may_come_back_keeps_the_marks_below_it() {
    // 5 was never handed over; 7 took its place and may expire.
    let mut wanted = orders(&[("dim", 9, 7), ("on", 1, 6)]);
    wanted.held = true;
    let wish = wanted.wishes.get_mut("dim").expect("it");
    (wish.ttl, wish.before) = (Ttl::Unclaimed, Some(Revision::new(5)));
    let mut hall = Hall::new(&[("dim", 0), ("on", 1)], wanted);
    let plan = hall.run_to(5_000);
    assert_eq!(plan.marks.verified, Revision::NONE);
    // It has expired.
    let back = orders(&[("dim", 3, 5), ("on", 1, 6)]);
    (hall.orders.wishes, hall.orders.desired_revision) = (back.wishes, Revision::new(8));
    hall.orders.held = false;
    let plan = hall.run_to(60_000);
    assert_eq!(hall.writes, [object(&[("dim", 3)])]);
    assert_eq!(plan.marks.verified, Revision::new(8));
}

#[test]
fn a_wish_that_may_come_back_and_was_verified_keeps_nobody() {
    let mut hall = Hall::new(&[("dim", 3), ("on", 0)], orders(&[("dim", 3, 5)]));
    hall.run_to(1_000);
    hall.wishes("on", 1, 6);
    hall.wishes("dim", 9, 7);
    let wish = hall.orders.wishes.get_mut("dim").expect("it");
    (wish.ttl, wish.before) = (Ttl::ClaimedElsewhere, Some(Revision::new(5)));
    let plan = hall.run_to(10_000);
    assert_eq!(plan.marks.verified, Revision::new(6));
}
