//! Each end belongs to what was begun, and to nothing else.

use super::*;

/// Looks until the planner begins to hand over.
fn write_of(hall: &mut Hall) -> Object {
    loop {
        let plan = hall.course.plan(&hall.orders, true, hall.now_ms);
        match plan.step {
            Some(Step::Write { values, .. }) => return values,
            Some(step) => hall.carry_out(step),
            None => hall.now_ms += 1,
        }
    }
}

#[test]
fn a_wish_that_arrives_during_a_write_is_handed_over_itself() {
    let error = |kind, may_have_acted| {
        let message = "no".to_owned();
        Err(WriteError { may_have_acted, kind, message })
    };
    let ends = [
        Ok(Handed::Sent),
        Ok(Handed::Acknowledged),
        error(WriteErrorKind::Refused, false),
        error(WriteErrorKind::Timeout, true),
    ];
    // The device may be what is wished then, before the write under way changes that.
    for (before, readable, ended) in [0, 50]
        .into_iter()
        .flat_map(|b| [true, false].map(|r| (b, r)))
        .flat_map(|(b, r)| ends.clone().map(|ended| (b, r, ended)))
    {
        let case = format!("{before} {readable} {ended:?}");
        let mut hall = Hall::new(&[("level", before)], orders(&[("level", 10, 5)]));
        hall.readable = readable;
        let values = write_of(&mut hall);
        hall.wishes("level", 50, 7);
        let plan = hall.course.look(&hall.orders, hall.now_ms + 1);
        assert_eq!(plan.marks, Marks::default(), "{case}");
        hall.now_ms += 5;
        if ended.as_ref().map_or_else(|error| error.may_have_acted, |_| true) {
            hall.device.insert("level", 10_i64);
        }
        hall.course.write_ended(&values, ended.as_ref().copied(), hall.now_ms);
        let plan = hall.course.look(&hall.orders, hall.now_ms);
        assert_eq!((plan.marks, &plan.failures), (Marks::default(), &vec![]), "{case}");
        let plan = hall.run_to(60_000);
        assert_eq!(hall.device.get("level"), Some(&Value::from(50_i64)), "{case}");
        assert_eq!((plan.trouble, plan.marks.sent), (None, Revision::new(7)), "{case}");
        if readable {
            assert_eq!(plan.marks.verified, Revision::new(7), "{case}");
        }
    }
}

#[test]
fn a_call_that_is_given_up_was_not_of_the_wish_that_came_during_it() {
    let mut hall = Hall::new(&[("level", 0)], orders(&[("level", 10, 5), ("on", 1, 5)]));
    write_of(&mut hall);
    hall.wishes("level", 50, 7);
    hall.course.look(&hall.orders, hall.now_ms);
    hall.course.given_up(hall.now_ms);
    let plan = hall.run_to(60_000);
    assert_eq!(hall.device, object(&[("level", 50), ("on", 1)]));
    assert_eq!((plan.trouble, plan.marks.verified), (None, Revision::new(7)));
}

#[test]
fn an_adoption_that_the_log_refuses_is_no_flood() {
    let hour_ms = 3_600_000;
    for (code, once) in [
        (RejectCode::Schema, true),
        (RejectCode::Malformed, true),
        (RejectCode::RevisionMismatch, false),
        (RejectCode::Blocked, false),
    ] {
        let mut hall = Hall::new(&[("on", 1)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Adopt));
        hall.rejects = Some(code);
        hall.run_to(1_000);
        hall.reports(&[("on", 9)]);
        let plan = hall.run_to(hour_ms);
        if once {
            assert_eq!(hall.rejected, 1, "{code:?}");
            let trouble = plan.trouble.expect("trouble");
            assert_eq!((trouble.code, trouble.stage), (TroubleCode::NotAdopted, Stage::Verified));
            // The same value once more changes nothing, another one does.
            hall.reports(&[("on", 9)]);
            hall.run_to(hour_ms + 60_000);
            assert_eq!(hall.rejected, 1, "{code:?}");
            hall.rejects = None;
            hall.reports(&[("on", 0)]);
        } else {
            assert!((2..80).contains(&hall.rejected), "{code:?}: {}", hall.rejected);
            hall.rejects = None;
        }
        let plan = hall.run_to(hour_ms + 200_000);
        assert_eq!((hall.adopted.len(), plan.trouble), (1, None), "{code:?}");
        assert!(hall.orders.given_up.is_empty());
    }
}
