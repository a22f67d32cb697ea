//! The planner against a device in a few lines, by tables and at random.

mod alone;
mod coming_back;
mod ended;
mod fights;
mod known;
mod local;
mod owners;
mod random;
mod returns;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::{DeviceId, Object, RejectCode, Rejection, Revision, Stage, Value};

use super::*;
use crate::{
    Access, Availability, Fence, Handed, Observation, Profile, Quality, ReadErrorKind, Reading,
    WriteError, WriteErrorKind,
};

fn object(members: &[(&str, i64)]) -> Object {
    members.iter().map(|(key, value)| (Arc::from(*key), Value::from(*value))).collect()
}

fn profile() -> Arc<Profile> {
    Arc::new(Profile {
        properties: BTreeMap::from([(Arc::from("temp"), Access::Readable)]),
        others: Some(Access::Desired),
        actions: None,
        fence: Fence::Lease,
        warnings: Vec::new(),
    })
}

fn orders(wishes: &[(&str, i64, u64)]) -> Orders {
    Orders {
        mode: Mode::Auto,
        held: false,
        wishes: wishes
            .iter()
            .map(|(property, value, revision)| {
                let (value, revision) = (Value::from(*value), Revision::new(*revision));
                (
                    Arc::from(*property),
                    Wish { value, revision, ttl: Ttl::Unlimited, before: None, local: None },
                )
            })
            .collect(),
        desired_revision: Revision::new(wishes.iter().map(|w| w.2).max().unwrap_or(0)),
        marks: Marks::default(),
        policies: BTreeMap::new(),
        policy: PropertyPolicy::default(),
        on_return: OnReturn::Hold,
        given_up: BTreeMap::new(),
        stood_down: BTreeMap::new(),
        profile: profile(),
    }
}

fn enforcing(mut orders: Orders, on_drift: OnDrift) -> Orders {
    orders.policy.on_drift = on_drift;
    orders
}

/// A device, its course, and everything that was done to it.
struct Hall {
    course: Course,
    orders: Orders,
    device: Object,
    /// What it does with a hand-over.
    takes: bool,
    readable: bool,
    may_write: bool,
    now_ms: u64,
    writes: Vec<Object>,
    reads: usize,
    adopted: Vec<(Arc<str>, Value)>,
    /// What the log says to adoptions, and how often it was asked.
    rejects: Option<RejectCode>,
    rejected: usize,
    /// Properties that it leaves out when it is asked.
    leaves_out: BTreeSet<&'static str>,
    /// Properties for which it refuses all that comes with them.
    refuses: BTreeSet<&'static str>,
    /// It keeps silent.
    silent: bool,
}

impl Hall {
    fn new(device: &[(&str, i64)], orders: Orders) -> Self {
        Self {
            course: Course::new(0),
            orders,
            device: object(device),
            takes: true,
            readable: true,
            may_write: true,
            now_ms: 0,
            writes: Vec::new(),
            reads: 0,
            adopted: Vec::new(),
            rejects: None,
            rejected: 0,
            leaves_out: BTreeSet::new(),
            refuses: BTreeSet::new(),
            silent: false,
        }
    }

    fn id() -> DeviceId {
        "hall.lamp".parse().expect("an id")
    }

    fn reports(&mut self, values: &[(&str, i64)]) {
        for (key, value) in values {
            self.device.insert(*key, *value);
        }
        let heard = Observation::fresh(Self::id(), object(values));
        self.course.heard(&heard, self.now_ms);
    }

    fn goes(&mut self, availability: Availability) {
        let heard = Observation::availability(Self::id(), availability);
        self.course.heard(&heard, self.now_ms);
    }

    fn wishes(&mut self, property: &str, value: i64, revision: u64) {
        let (value, revision) = (Value::from(value), Revision::new(revision));
        let wish = Wish { value, revision, ttl: Ttl::Unlimited, before: None, local: None };
        self.orders.wishes.insert(Arc::from(property), wish);
        self.orders.desired_revision = revision;
    }

    /// Another session, or another owner: it knows what the log knows.
    fn begins_anew(&mut self) {
        self.course = Course::new(self.now_ms);
    }

    /// The log hears how far the wishes got.
    fn tell(&mut self, plan: &Plan) {
        self.orders.marks = self.orders.marks.max(plan.marks);
        let wished: BTreeSet<_> = self.orders.wishes.values().map(|wish| wish.revision).collect();
        let stands =
            |revision: &Revision| wished.contains(revision) && !plan.overcome.contains(revision);
        self.orders.given_up.retain(|revision, _| stands(revision));
        for Trouble { code, message, revision, stage } in plan.failures.clone() {
            let given_up = GivenUp { code, stage, message: Arc::from(message) };
            self.orders.given_up.insert(revision, given_up);
        }
    }

    /// Carries steps out until nothing is to do before `until_ms`.
    fn run_to(&mut self, until_ms: u64) -> Plan {
        for _ in 0..10_000 {
            let plan = self.course.plan(&self.orders, self.may_write, self.now_ms);
            self.tell(&plan);
            if let Some(step) = plan.step.clone() {
                self.carry_out(step);
                continue;
            }
            match plan.again_ms.filter(|again_ms| *again_ms <= until_ms) {
                Some(again_ms) => self.now_ms = again_ms.max(self.now_ms + 1),
                None => {
                    self.now_ms = until_ms;
                    return self.course.plan(&self.orders, self.may_write, until_ms);
                }
            }
        }
        unreachable!("the planner never rests");
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Read if self.silent => {
                self.reads += 1;
                self.now_ms += 500;
                self.course.read_ended(Err(ReadErrorKind::Timeout), self.now_ms);
            }
            Step::Read => {
                self.reads += 1;
                let known = self.device.iter();
                let values = known.filter(|(key, _)| !self.leaves_out.contains(key.as_ref()));
                let values = values.map(|(key, value)| (Arc::clone(key), value.clone())).collect();
                let reading =
                    Reading { values, quality: Quality::Good, source_ms: None, problem: None };
                let ended =
                    if self.readable { Ok(reading) } else { Err(ReadErrorKind::Unsupported) };
                self.course.read_ended(ended, self.now_ms);
            }
            Step::Write { values, until_ms, .. } => {
                assert!(until_ms.is_none_or(|until_ms| self.now_ms < until_ms), "too late");
                self.now_ms += 5;
                let refused = values.iter().any(|(key, _)| self.refuses.contains(key.as_ref()));
                if refused || self.silent {
                    let kind =
                        if refused { WriteErrorKind::Refused } else { WriteErrorKind::Timeout };
                    let (may_have_acted, message) = (false, "no".to_owned());
                    let error = WriteError { may_have_acted, kind, message };
                    self.course.write_ended(&values, Err(&error), self.now_ms);
                    self.writes.push(values);
                    return;
                }
                if self.takes {
                    for (key, value) in values.iter() {
                        self.device.insert(Arc::clone(key), value.clone());
                    }
                }
                self.course.write_ended(&values, Ok(Handed::Sent), self.now_ms);
                self.writes.push(values);
            }
            Step::Claim(revisions) => {
                for wish in self.orders.wishes.values_mut() {
                    if revisions.contains(&wish.revision) {
                        wish.ttl = Ttl::Claimed { until_ms: self.now_ms + 1_000 };
                    }
                }
                self.course.log_ended(self.now_ms);
            }
            Step::Adopt { .. } if self.rejects.is_some() => {
                self.rejected += 1;
                let code = self.rejects.unwrap_or(RejectCode::Schema);
                self.course.adoption_rejected(&Rejection::new(code, "no"), self.now_ms);
            }
            Step::Adopt { property, value, seen } => {
                let wish = self.orders.wishes.get_mut(&property).expect("a wish");
                assert_eq!(wish.revision, seen);
                let revision = Revision::new(self.orders.desired_revision.get() + 1);
                *wish = Wish {
                    value: value.clone(),
                    revision,
                    ttl: Ttl::Unlimited,
                    before: None,
                    local: None,
                };
                self.orders.desired_revision = revision;
                self.adopted.push((property, value));
                self.course.log_ended(self.now_ms);
            }
        }
    }
}

#[test]
fn a_wish_is_read_written_and_verified() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    let plan = hall.run_to(1_000);
    assert_eq!(hall.writes, [object(&[("on", 1)])]);
    assert!(hall.reads >= 2, "before and after");
    let seven = Revision::new(7);
    assert_eq!((plan.marks.sent, plan.marks.verified), (seven, seven));
    assert_eq!((plan.trouble, plan.drift.len(), plan.why), (None, 0, Why::Rest));
}

#[test]
fn what_the_device_already_is_is_not_written() {
    let mut hall = Hall::new(&[("on", 1), ("dim", 5)], orders(&[("on", 1, 7)]));
    let plan = hall.run_to(60_000);
    assert!(hall.writes.is_empty());
    assert_eq!(plan.marks.verified, Revision::new(7));
}

#[test]
fn a_device_that_can_not_be_asked_is_written_once_and_verified_by_its_report() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.readable = false;
    let plan = hall.run_to(60_000);
    assert_eq!(hall.writes.len(), 1);
    assert_eq!((plan.marks.sent, plan.marks.verified), (Revision::new(7), Revision::NONE));
    hall.reports(&[("on", 1)]);
    assert_eq!(hall.run_to(61_000).marks.verified, Revision::new(7));
}

#[test]
fn a_report_that_was_on_its_way_is_no_reason_to_write_again() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    let step = loop {
        let plan = hall.course.plan(&hall.orders, true, hall.now_ms);
        match plan.step {
            Some(step @ Step::Write { .. }) => break step,
            Some(step) => hall.carry_out(step),
            None => hall.now_ms += 1,
        }
    };
    // A poll that was read before the write comes in while the write is under way.
    let heard = Observation::fresh(Hall::id(), object(&[("on", 0)]));
    hall.course.heard(&heard, hall.now_ms + 2);
    hall.carry_out(step);
    let plan = hall.run_to(10_000);
    assert_eq!(hall.writes.len(), 1);
    assert_eq!(plan.marks.verified, Revision::new(7));
}

#[test]
fn nothing_is_written_where_it_must_not_be() {
    type Change = fn(&mut Hall);
    let table: [(&str, Why, Change); 4] = [
        ("observe", Why::Observing, |hall| hall.orders.mode = Mode::Observe),
        ("hold", Why::OnHold, |hall| hall.orders.held = true),
        ("no lease", Why::NoLease, |hall| hall.may_write = false),
        ("away", Why::ReadFirst, |hall| hall.goes(Availability::Offline)),
    ];
    for (name, why, change) in table {
        let mut hall =
            Hall::new(&[("on", 0)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Enforce));
        change(&mut hall);
        let plan = hall.run_to(200);
        assert!(hall.writes.is_empty(), "{name}");
        assert_eq!(plan.why, why, "{name}");
        let shown = matches!(why, Why::Observing | Why::OnHold);
        assert_eq!(!plan.would_write.is_empty(), shown, "{name}");
    }
}

#[test]
fn a_local_hand_is_shown_adopted_or_corrected() {
    let table = [
        (Mode::Auto, OnDrift::Report, 1, 0, true),
        (Mode::Auto, OnDrift::Adopt, 1, 1, false),
        (Mode::Auto, OnDrift::Enforce, 2, 0, false),
        (Mode::Manual, OnDrift::Enforce, 1, 0, true),
        (Mode::Manual, OnDrift::Adopt, 1, 0, true),
    ];
    for (mode, on_drift, writes, adopted, drifts) in table {
        let mut hall = Hall::new(&[("on", 0)], enforcing(orders(&[("on", 1, 7)]), on_drift));
        hall.orders.mode = mode;
        hall.run_to(1_000);
        hall.reports(&[("on", 0)]);
        let plan = hall.run_to(60_000);
        let case = format!("{mode:?} {on_drift:?}");
        assert_eq!(hall.writes.len(), writes, "{case}");
        assert_eq!(hall.adopted.len(), adopted, "{case}");
        assert_eq!(plan.drift.len(), usize::from(drifts), "{case}");
        assert_eq!(plan.marks.verified, hall.orders.desired_revision, "{case}");
        if drifts {
            assert_eq!(plan.drift.first().map(|drift| drift.since_ms), Some(1_000), "{case}");
        }
    }
}

#[test]
fn who_does_not_obey_is_tried_a_few_times_and_then_told_of() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.takes = false;
    let plan = hall.run_to(600_000);
    assert_eq!(hall.writes.len(), 3);
    let trouble = plan.trouble.expect("trouble");
    assert_eq!((trouble.code, trouble.revision), (TroubleCode::NotVerified, Revision::new(7)));
    assert_eq!(plan.drift.len(), 1);

    // Verified once, then stubborn.
    let mut hall = Hall::new(&[("on", 1)], enforcing(orders(&[("on", 1, 7)]), OnDrift::Enforce));
    hall.run_to(1_000);
    hall.takes = false;
    hall.reports(&[("on", 0)]);
    let plan = hall.run_to(600_000);
    assert_eq!(hall.writes.len(), 5);
    assert_eq!(plan.trouble.map(|t| t.code), Some(TroubleCode::NotEnforced));
    // A local hand puts it right: the alarm is over.
    hall.reports(&[("on", 1)]);
    let plan = hall.run_to(601_000);
    assert_eq!((plan.trouble, plan.drift.len()), (None, 0));
}

#[test]
fn a_hand_over_that_got_lost_before_the_device_ever_spoke_of_it_is_repeated() {
    let mut hall = Hall::new(&[], orders(&[("on", 1, 7)]));
    hall.takes = false;
    hall.run_to(1_000);
    assert_eq!(hall.writes.len(), 1, "it may still come");
    hall.takes = true;
    let plan = hall.run_to(10_000);
    assert_eq!((hall.writes.len(), plan.marks.verified), (2, Revision::new(7)));
}

#[test]
fn what_was_kept_or_is_uncertain_verifies_nothing() {
    for retained in [true, false] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.readable = false;
        hall.run_to(3_000);
        let mut heard = Observation::fresh(Hall::id(), object(&[("on", 1)]));
        heard.retained = retained;
        heard.quality = if retained { Quality::Good } else { Quality::Uncertain };
        hall.course.heard(&heard, hall.now_ms);
        assert_eq!(hall.run_to(4_000).marks.verified, Revision::NONE);
    }
}

#[test]
fn a_return_is_treated_as_its_policy_says() {
    let table = [
        (OnReturn::Hold, 10_000, 0, Some(TroubleCode::HeldOnReturn)),
        (OnReturn::Discard, 10_000, 0, Some(TroubleCode::Discarded)),
        (OnReturn::Apply { age_ms_max: 20_000 }, 10_000, 1, None),
        (OnReturn::Apply { age_ms_max: 20_000 }, 30_000, 0, Some(TroubleCode::Discarded)),
    ];
    for (on_return, away_ms, writes, trouble) in table {
        let mut hall = Hall::new(&[("on", 0)], orders(&[]));
        hall.orders.on_return = on_return;
        hall.run_to(100);
        hall.readable = false;
        hall.goes(Availability::Offline);
        let wished = orders(&[("on", 1, 7)]);
        (hall.orders.wishes, hall.orders.desired_revision) =
            (wished.wishes, wished.desired_revision);
        let plan = hall.run_to(away_ms);
        assert!(hall.writes.is_empty(), "it is away: {plan:?}");
        hall.goes(Availability::Online);
        let plan = hall.run_to(away_ms + 5_000);
        assert_eq!(hall.writes.len(), writes, "{on_return:?}");
        assert_eq!(plan.trouble.map(|trouble| trouble.code), trouble, "{on_return:?}");
        // Who wishes it again gets it.
        let again = orders(&[("on", 1, 9)]);
        (hall.orders.wishes, hall.orders.desired_revision) = (again.wishes, again.desired_revision);
        let plan = hall.run_to(away_ms + 9_000);
        assert_eq!(hall.writes.len(), writes + 1, "{on_return:?}");
        assert_eq!((plan.trouble, plan.marks.sent), (None, Revision::new(9)));
    }
}

#[test]
fn a_wish_with_an_end_is_claimed_and_never_late() {
    let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
    hall.orders.wishes.get_mut("on").expect("it").ttl = Ttl::Unclaimed;
    let plan = hall.run_to(500);
    assert_eq!((hall.writes.len(), plan.marks.verified), (1, Revision::new(7)));

    for ttl in [Ttl::ClaimedElsewhere, Ttl::Claimed { until_ms: 0 }] {
        let mut hall = Hall::new(&[("on", 0)], orders(&[("on", 1, 7)]));
        hall.orders.wishes.get_mut("on").expect("it").ttl = ttl;
        let plan = hall.run_to(60_000);
        assert!(hall.writes.is_empty());
        assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(TroubleCode::Unknown));
    }
}

#[test]
fn failures_are_told_apart() {
    let table = [
        (WriteErrorKind::Refused, 1, TroubleCode::Refused),
        (WriteErrorKind::Invalid, 1, TroubleCode::Refused),
        (WriteErrorKind::Busy, 4, TroubleCode::Unreachable),
        (WriteErrorKind::Timeout, 4, TroubleCode::Unreachable),
    ];
    for (kind, tries_min, code) in table {
        let mut course = Course::new(0);
        let orders = orders(&[("on", 1, 7)]);
        course.plan(&orders, true, 0);
        course.read_ended(Err(ReadErrorKind::Unsupported), 0);
        let (mut now_ms, mut tries) = (0, 0);
        let plan = loop {
            let plan = course.plan(&orders, true, now_ms);
            match (&plan.step, plan.again_ms) {
                (Some(Step::Write { values, .. }), _) => {
                    tries += 1;
                    let message = "no".to_owned();
                    let error = WriteError { may_have_acted: false, kind, message };
                    course.write_ended(values, Err(&error), now_ms);
                }
                (None, Some(again_ms)) if now_ms < 10_000 => now_ms = again_ms,
                _ => break plan,
            }
        };
        assert!(tries >= tries_min && tries < 10, "{kind:?}: {tries}");
        assert_eq!(plan.trouble.map(|trouble| trouble.code), Some(code), "{kind:?}");
        assert_eq!(plan.marks, Marks::default());
    }
}

#[test]
fn what_is_not_writable_and_what_is_not_wished_is_left_alone() {
    let mut hall = Hall::new(&[("on", 0), ("other", 3)], orders(&[("on", 1, 7), ("temp", 20, 8)]));
    let plan = hall.run_to(5_000);
    assert_eq!(hall.writes, [object(&[("on", 1)])]);
    assert_eq!(plan.trouble.map(|trouble| trouble.revision), Some(Revision::new(8)));
    // What was given up keeps only its own revision back.
    assert_eq!(plan.marks.verified, Revision::new(7));
}

#[test]
fn values_are_alike_within_their_tolerance() {
    let parse =
        |text: &str| Value::parse(text.as_bytes(), fleet_state::Limits::default()).expect("JSON");
    let table = [
        ("1", "1.0", 0.0, true),
        ("20.5", "20.6", 0.2, true),
        ("20.5", "20.6", 0.05, false),
        ("true", "true", 0.0, true),
        ("true", "\"true\"", 0.0, false),
        (r#"{"x":1}"#, r#"{"x":1,"y":2}"#, 0.0, true),
        (r#"{"x":1,"y":2}"#, r#"{"x":1}"#, 0.0, false),
        ("[1,2]", "[1,2.001]", 0.01, true),
        ("[1,2]", "[1,2,3]", 0.0, false),
        ("null", "0", 1.0, false),
    ];
    for (wished, said, tolerance, expected) in table {
        assert_eq!(alike(&parse(wished), &parse(said), tolerance), expected, "{wished} {said}");
    }
    assert!(!alike(&Value::from(1_i64), &Value::from(2_i64), f64::NAN));
}
