//! The planner against a device in a few lines, by tables and at random.

mod alone;
mod asleep;
mod coming_back;
mod course;
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
                    Wish {
                        value,
                        revision,
                        ttl: Ttl::Unlimited,
                        age: Age::Unasked,
                        before: None,
                        local: None,
                    },
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
    /// Properties that it can't take on now.
    busy: BTreeSet<&'static str>,
    /// It takes what comes together on one by one, until it refuses something.
    one_by_one: bool,
    /// It keeps silent.
    silent: bool,
    /// What is handed over is kept for it elsewhere.
    sleeps: bool,
    /// How old wishes are, as the log says when it is asked, and how often it was asked.
    age: Age,
    claims: usize,
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
            busy: BTreeSet::new(),
            one_by_one: false,
            silent: false,
            sleeps: false,
            age: Age::Unknown,
            claims: 0,
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
        let age = Age::AtMost { age_ms: 0, at_ms: self.now_ms };
        let wish = Wish { value, revision, ttl: Ttl::Unlimited, age, before: None, local: None };
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
                let reading = Reading {
                    values,
                    quality: Quality::Good,
                    source_ms: None,
                    problem: None,
                    complete: true,
                };
                let ended =
                    if self.readable { Ok(reading) } else { Err(ReadErrorKind::Unsupported) };
                self.course.read_ended(ended, self.now_ms);
            }
            Step::Write { values, until_ms, .. } => {
                assert!(until_ms.is_none_or(|until_ms| self.now_ms < until_ms), "too late");
                self.now_ms += 5;
                let refused = |key: &Arc<str>| self.refuses.contains(key.as_ref());
                let busy = |key: &Arc<str>| self.busy.contains(key.as_ref());
                let first = values.iter().position(|(key, _)| refused(key) || busy(key));
                if first.is_some() || (self.silent && !self.sleeps) {
                    let kind = match first.and_then(|at| values.iter().nth(at)) {
                        Some((key, _)) if refused(key) => WriteErrorKind::Refused,
                        Some(_) => WriteErrorKind::Busy,
                        None => WriteErrorKind::Timeout,
                    };
                    let taken = first.filter(|_| self.one_by_one).unwrap_or(0);
                    for (key, value) in values.iter().take(taken) {
                        self.device.insert(Arc::clone(key), value.clone());
                    }
                    let (may_have_acted, message) = (taken > 0, "no".to_owned());
                    let error = WriteError { may_have_acted, kind, message };
                    self.course.write_ended(&values, Err(&error), self.now_ms);
                    self.writes.push(values);
                    return;
                }
                if self.takes && !self.sleeps {
                    for (key, value) in values.iter() {
                        self.device.insert(Arc::clone(key), value.clone());
                    }
                }
                self.course.write_ended(&values, Ok(Handed::Sent), self.now_ms);
                self.writes.push(values);
            }
            Step::Claim(revisions) => {
                self.claims += 1;
                for wish in self.orders.wishes.values_mut() {
                    if revisions.contains(&wish.revision) && wish.ttl != Ttl::Unlimited {
                        wish.ttl = Ttl::Claimed { until_ms: self.now_ms + 1_000 };
                    }
                    if wish.age == Age::Unasked || wish.ttl == Ttl::Unlimited {
                        wish.age = self.age;
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
                    age: Age::Unasked,
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
