//! A device that is enforced, and somebody who wants something else.

use super::*;

/// Runs a lamp that is switched off again every so often.
fn fought_over(every_ms: u64, rounds: u64) -> (Hall, Plan) {
    let mut hall = Hall::new(&[("on", 0)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Enforce));
    let mut plan = hall.run_to(every_ms);
    for round in 2..=rounds {
        hall.reports(&[("on", 0)]);
        plan = hall.run_to(round * every_ms);
    }
    (hall, plan)
}

#[test]
fn a_fight_ends_in_an_alarm() {
    let (hall, plan) = fought_over(20_000, 100);
    assert_eq!(hall.writes.len(), 6, "the first one, and five enforcements");
    assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(TroubleCode::NotEnforced));
}

#[test]
fn who_comes_by_now_and_then_is_no_fight() {
    let (hall, plan) = fought_over(120_000, 20);
    assert_eq!(hall.writes.len(), 20);
    assert_eq!((plan.trouble, hall.device), (None, object(&[("on", 1)])));
}

#[test]
fn after_a_quiet_time_it_is_enforced_again() {
    let (mut hall, _) = fought_over(20_000, 20);
    hall.reports(&[("on", 1)]);
    let plan = hall.run_to(hall.now_ms + 200_000);
    assert_eq!(plan.trouble, None, "somebody put it right");
    // Nothing was said meanwhile.
    hall.reports(&[("on", 0)]);
    let plan = hall.run_to(hall.now_ms + 20_000);
    assert_eq!((plan.trouble, hall.device), (None, object(&[("on", 1)])));
}
