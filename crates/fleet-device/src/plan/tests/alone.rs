//! Properties that are handed over together, and one of them is refused.

use super::*;

#[test]
fn a_property_that_the_device_refuses_keeps_none_of_the_others() {
    let mut hall = Hall::new(
        &[("bad", 0), ("dim", 0), ("on", 0)],
        orders(&[("bad", 1, 7), ("dim", 5, 7), ("on", 1, 8)]),
    );
    hall.refuses.insert("bad");
    let plan = hall.run_to(60_000);
    assert_eq!(hall.device, object(&[("bad", 0), ("dim", 5), ("on", 1)]));
    assert_eq!(
        plan.failures.iter().map(|t| (t.revision.get(), t.code)).collect::<Vec<_>>(),
        [(7, TroubleCode::Refused)]
    );
    assert_eq!(hall.writes.len(), 4, "all of them, and each by itself");
    assert_eq!(plan.marks.verified, Revision::new(8));
}

#[test]
fn what_is_refused_in_part_keeps_none_of_the_others_from_the_device() {
    // The device has taken the first on when it refuses the second: it may have acted.
    let mut hall = Hall::new(
        &[("a", 0), ("b", 0), ("c", 0)],
        orders(&[("a", 1, 7), ("b", 1, 8), ("c", 1, 9)]),
    );
    hall.one_by_one = true;
    hall.refuses.insert("b");
    let plan = hall.run_to(60_000);
    assert_eq!(hall.device, object(&[("a", 1), ("b", 0), ("c", 1)]));
    let failures: Vec<_> = plan.failures.iter().map(|t| (t.revision.get(), t.code)).collect();
    assert_eq!(failures, [(8, TroubleCode::Refused)]);
    assert_eq!(plan.marks.verified, Revision::new(9));
}

#[test]
fn what_the_device_is_too_busy_for_keeps_none_of_the_others_waiting() {
    for one_by_one in [false, true] {
        let mut hall = Hall::new(
            &[("a", 0), ("b", 0), ("c", 0)],
            orders(&[("a", 1, 7), ("b", 1, 8), ("c", 1, 9)]),
        );
        hall.one_by_one = one_by_one;
        hall.busy.insert("b");
        let plan = hall.run_to(60_000);
        assert_eq!(hall.device, object(&[("a", 1), ("b", 0), ("c", 1)]), "{one_by_one}");
        assert!(plan.failures.is_empty(), "{one_by_one}: it waits: {:?}", plan.failures);
        assert_eq!(plan.marks.verified, Revision::new(7), "{one_by_one}");
        hall.busy.clear();
        let plan = hall.run_to(200_000);
        assert_eq!((plan.trouble, plan.marks.verified), (None, Revision::new(9)), "{one_by_one}");
    }
}
