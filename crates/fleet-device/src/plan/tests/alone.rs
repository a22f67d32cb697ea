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
