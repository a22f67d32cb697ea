//! The planner against a device to which anything happens, at random.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Wish(bool, i64),
    Hand(i64),
    Away(bool),
    Takes(bool),
    Lease(bool),
    Hold(bool),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (any::<bool>(), 0..4_i64).prop_map(|(ttl, value)| Event::Wish(ttl, value)),
        2 => (0..4_i64).prop_map(Event::Hand),
        1 => any::<bool>().prop_map(Event::Away),
        1 => any::<bool>().prop_map(Event::Takes),
        1 => any::<bool>().prop_map(Event::Lease),
        1 => any::<bool>().prop_map(Event::Hold),
        6 => (1..4_000_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: nothing is written without leave, late, or without end; and when it
    /// becomes quiet, an enforced device is as wished, or the planner says why not.
    #[test]
    fn the_planner_keeps_its_rules(events in events(), readable in any::<bool>(), enforce in any::<bool>()) {
        let policy = if enforce { OnDrift::Enforce } else { OnDrift::Report };
        let mut hall = Hall::new(&[("on", 0)], enforcing(orders(&[]), policy));
        hall.orders.on_return = OnReturn::Apply { age_ms_max: u64::MAX };
        hall.readable = readable;
        let mut wishes = BTreeSet::new();
        let mut hands = 0;
        for event in events {
            match event {
                Event::Wish(ttl, value) => {
                    let revision = Revision::new(hall.orders.desired_revision.get() + 1);
                    let ttl = if ttl { Ttl::Unclaimed } else { Ttl::Unlimited };
                    let (value, age) = (Value::from(value), Age::Unasked);
                    let wish = Wish { value, revision, ttl, age, before: None, local: None };
                    hall.orders.wishes.insert(Arc::from("on"), wish);
                    hall.orders.desired_revision = revision;
                    wishes.insert(revision);
                }
                Event::Hand(value) => {
                    hands += 1;
                    hall.reports(&[("on", value)]);
                }
                Event::Away(away) => hall.goes(if away { Availability::Offline } else { Availability::Online }),
                Event::Takes(takes) => hall.takes = takes,
                Event::Lease(lease) => hall.may_write = lease,
                Event::Hold(held) => hall.orders.held = held,
                Event::Wait(ms) => {
                    let (before, until_ms) = (hall.writes.len(), hall.now_ms + ms);
                    let away = hall.course.availability() == Availability::Offline && !hall.readable;
                    hall.run_to(until_ms);
                    let wrote = hall.writes.len() > before;
                    prop_assert!(!wrote || (hall.may_write && !hall.orders.held && !away));
                }
            }
        }
        // Three tries a wish, five and the first of each disturbance.
        let bound = (wishes.len() + hands + 1) * 9;
        prop_assert!(hall.writes.len() <= bound, "{} writes", hall.writes.len());
        hall.takes = true;
        hall.may_write = true;
        hall.orders.held = false;
        hall.goes(Availability::Online);
        let until_ms = hall.now_ms + 600_000;
        let plan = hall.run_to(until_ms);
        let wished = hall.orders.wishes.get("on").map(|wish| wish.value.clone());
        let is = hall.device.get("on").cloned();
        let told = plan.trouble.is_some() || !plan.drift.is_empty();
        if enforce && readable {
            prop_assert!(wished.is_none() || wished == is || told, "{plan:?}");
        }
        if plan.marks.verified == hall.orders.desired_revision && !told && readable && wished.is_some() {
            prop_assert_eq!(wished, is);
        }
    }
}
