//! A device that sleeps hears no question, and reports when it wakes.

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn sleeper(wished: &[(&str, i64, u64)]) -> Hall {
    let mut hall = Hall::new(&[("set_point", 18)], orders(wished));
    hall.silent = true;
    hall.sleeps = true;
    hall.goes(Availability::Asleep);
    hall
}

#[test]
fn a_sleeping_device_gets_its_wish_after_one_question_in_vain() {
    let mut hall = sleeper(&[("set_point", 21, 7)]);
    hall.run_to(600);
    assert_eq!((hall.reads, hall.writes.len()), (1, 1));
    // It wakes, has taken on what was kept for it, and says so.
    hall.run_to(600_000);
    hall.reports(&[("set_point", 21)]);
    let plan = hall.run_to(601_000);
    assert_eq!((plan.marks.verified, hall.writes.len()), (Revision::new(7), 1));
}

#[test]
fn a_report_of_a_sleeping_device_counts_as_reading_it() {
    let mut hall = sleeper(&[("set_point", 21, 7)]);
    hall.reports(&[("set_point", 21)]);
    let plan = hall.run_to(10_000);
    assert_eq!((hall.reads, hall.writes.len()), (0, 0), "it is as wished");
    assert_eq!((plan.marks.verified, plan.why), (Revision::new(7), Why::Rest));
}

#[test]
fn what_was_kept_for_it_elsewhere_is_no_report() {
    let mut hall = sleeper(&[("set_point", 21, 7)]);
    let mut kept = Observation::fresh(Hall::id(), object(&[("set_point", 21)]));
    kept.retained = true;
    hall.course.heard(&kept, hall.now_ms);
    let plan = hall.run_to(10_000);
    assert_eq!((plan.marks.verified, hall.writes.len()), (Revision::NONE, 1));
}

#[test]
fn a_sleeping_device_is_asked_every_few_minutes_at_most() {
    for wished in [&[][..], &[("set_point", 21, 7)][..]] {
        let mut hall = sleeper(wished);
        hall.run_to(HOUR_MS);
        let before = hall.reads;
        hall.run_to(2 * HOUR_MS);
        assert!((1..=13).contains(&(hall.reads - before)), "{wished:?}: {}", hall.reads - before);
        // Nothing that is asked after a report, either: what it does with the wish is to be known.
        hall.reports(&[("other", 1)]);
        hall.run_to(3 * HOUR_MS);
        let before = hall.reads;
        hall.run_to(4 * HOUR_MS);
        assert!(hall.reads - before <= 13, "{wished:?}: {}", hall.reads - before);
    }
}

#[test]
fn a_newer_wish_for_a_sleeping_device_does_not_wait_for_its_word() {
    let mut hall = sleeper(&[("set_point", 21, 7)]);
    hall.run_to(1_000);
    assert_eq!(hall.writes.len(), 1);
    hall.wishes("set_point", 22, 8);
    hall.run_to(60_000);
    assert_eq!(hall.writes.len(), 2, "it is kept for it as well");
    hall.reports(&[("set_point", 22)]);
    let plan = hall.run_to(61_000);
    assert_eq!((plan.marks.verified, hall.writes.len()), (Revision::new(8), 2));
}

#[test]
fn a_sleeping_device_that_is_held_is_asked_all_the_same() {
    let mut hall = sleeper(&[("set_point", 21, 7)]);
    hall.orders.held = true;
    hall.run_to(HOUR_MS);
    let before = hall.reads;
    hall.run_to(2 * HOUR_MS);
    assert!(hall.reads > before, "{before}");
    assert!(hall.writes.is_empty());
}
