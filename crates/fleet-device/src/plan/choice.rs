//! Which step comes next, of all that the properties of a device ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{Object, Revision};

use super::course::{Course, FirstRead};
use super::property::Verdict;
use super::{Leave, Mode, Orders, Step, Why};
use crate::Availability;

/// How long a question waits until it is looked at again whether there is room for it.
const ROOM_MS: u64 = 250;

impl Course {
    /// Whether a question that is under way keeps something waiting that may be handed over, or
    /// asked of the log, before it is answered.
    pub fn is_pressed(&mut self, orders: &Orders, may_write: bool, now_ms: u64) -> bool {
        let waits = !self.sleeps_unread() && self.first_read != FirstRead::Done;
        if waits || self.stop(orders, may_write).is_some() {
            return false;
        }
        self.follow(orders, now_ms);
        let verdicts = self.verdicts(orders, now_ms);
        verdicts.values().any(|verdict| matches!(verdict, Verdict::Write { .. } | Verdict::Claim))
    }

    pub(super) fn choose(
        &self,
        orders: &Orders,
        verdicts: &BTreeMap<Arc<str>, Verdict>,
        leave: Leave,
        now_ms: u64,
    ) -> (Option<Step>, Why, Option<u64>) {
        if self.is_busy() {
            return (None, Why::Busy, None);
        }
        let unread_ms = match self.first_read {
            FirstRead::Due { at_ms, .. } => Some(at_ms),
            FirstRead::Done | FirstRead::Impossible => None,
        };
        if let Some(at_ms) = unread_ms.filter(|_| !self.sleeps_unread()) {
            if now_ms >= at_ms {
                return read_step(leave, Why::ReadFirst, now_ms);
            }
            return (None, Why::ReadFirst, Some(at_ms));
        }
        let stop = self.stop(orders, leave.write);
        let step = self
            .write_step(orders, verdicts)
            .or_else(|| claim_step(orders, verdicts))
            .or_else(|| adopt_step(orders, verdicts));
        match (stop, step) {
            (Some(_), Some(_)) if unread_ms.is_some_and(|at_ms| now_ms >= at_ms) => {
                return read_step(leave, Why::ReadFirst, now_ms);
            }
            (Some(why), Some(_)) => return (None, why, unread_ms),
            (None, Some(step)) => return (Some(step), Why::ToDo, None),
            (_, None) => {}
        }
        if unread_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            return read_step(leave, Why::ReadFirst, now_ms);
        }
        let asks = verdicts.values().any(|v| matches!(v, Verdict::Ask | Verdict::Settle { .. }));
        let asks = asks && self.first_read == FirstRead::Done;
        if asks && now_ms >= self.ask_next_ms {
            return read_step(leave, Why::Settling, now_ms);
        }
        let until = verdicts.values().filter_map(|verdict| match verdict {
            Verdict::Wait { until_ms } | Verdict::Settle { until_ms } => Some(*until_ms),
            Verdict::Rest
            | Verdict::Ask
            | Verdict::Claim
            | Verdict::Write { .. }
            | Verdict::Adopt(_) => None,
        });
        match until.chain(asks.then_some(self.ask_next_ms)).chain(unread_ms).min() {
            Some(until_ms) if Some(until_ms) == unread_ms => (None, Why::ReadFirst, Some(until_ms)),
            Some(until_ms) => (None, Why::Settling, Some(until_ms)),
            None => (None, stop.unwrap_or(Why::Rest), None),
        }
    }

    /// Everything that has to be handed over, in one hand-over; what failed together with others
    /// goes after them, one by one.
    fn write_step(&self, orders: &Orders, verdicts: &BTreeMap<Arc<str>, Verdict>) -> Option<Step> {
        let is_alone = |property| self.tracks.get(property).is_some_and(|track| track.alone);
        let writes = verdicts.iter().filter_map(|(property, verdict)| match verdict {
            Verdict::Write { until_ms } => {
                Some((property, orders.wishes.get(property)?, *until_ms))
            }
            Verdict::Rest
            | Verdict::Wait { .. }
            | Verdict::Settle { .. }
            | Verdict::Ask
            | Verdict::Claim
            | Verdict::Adopt(_) => None,
        });
        let (alone, together): (Vec<_>, Vec<_>) =
            writes.partition(|(property, ..)| is_alone(*property));
        // The one that failed least and waits longest, so that none keeps the others waiting.
        let turn = |property: &Arc<str>| {
            self.tracks.get(property).map(|track| (track.tries, track.next_ms))
        };
        let writes = if together.is_empty() {
            alone.into_iter().min_by_key(|(property, ..)| turn(property)).into_iter().collect()
        } else {
            together
        };
        let mut values = Object::new();
        let (mut revision, mut until) = (Revision::NONE, None::<u64>);
        for (property, wish, until_ms) in writes {
            values.insert(Arc::clone(property), wish.value.clone());
            revision = revision.max(wish.revision);
            until = match (until, until_ms) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        (!values.is_empty()).then_some(Step::Write { values, revision, until_ms: until })
    }

    /// Whether the device sleeps and a question to it was in vain: it may hear what is kept for it
    /// when it wakes, and answers nothing before that.
    fn sleeps_unread(&self) -> bool {
        let tried = matches!(self.first_read, FirstRead::Due { tries, .. } if tries > 0);
        tried && self.availability == Availability::Asleep
    }

    /// What forbids to hand anything over.
    fn stop(&self, orders: &Orders, may_write: bool) -> Option<Why> {
        if orders.mode == Mode::Observe {
            Some(Why::Observing)
        } else if orders.held {
            Some(Why::OnHold)
        } else if !may_write {
            Some(Why::NoLease)
        } else if self.availability == Availability::Offline {
            Some(Why::Away)
        } else {
            None
        }
    }
}

/// A question, or a look at whether there is room for it later.
fn read_step(leave: Leave, why: Why, now_ms: u64) -> (Option<Step>, Why, Option<u64>) {
    if leave.read {
        (Some(Step::Read), why, None)
    } else {
        (None, why, Some(now_ms.saturating_add(ROOM_MS)))
    }
}

fn claim_step(orders: &Orders, verdicts: &BTreeMap<Arc<str>, Verdict>) -> Option<Step> {
    let claims = verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Claim);
    let mut revisions: Vec<Revision> =
        claims.filter_map(|(property, _)| Some(orders.wishes.get(property)?.revision)).collect();
    revisions.sort_unstable();
    revisions.dedup();
    (!revisions.is_empty()).then_some(Step::Claim(revisions))
}

fn adopt_step(orders: &Orders, verdicts: &BTreeMap<Arc<str>, Verdict>) -> Option<Step> {
    verdicts.iter().find_map(|(property, verdict)| {
        let (Verdict::Adopt(value), Some(wish)) = (verdict, orders.wishes.get(property)) else {
            return None;
        };
        let (property, value) = (Arc::clone(property), value.clone());
        Some(Step::Adopt { property, value, seen: wish.revision })
    })
}

/// What would be handed over if that were allowed.
pub(super) fn would_write(orders: &Orders, verdicts: &BTreeMap<Arc<str>, Verdict>) -> Object {
    if orders.allows_writing() {
        return Object::new();
    }
    let writes = |verdict: &Verdict| matches!(verdict, Verdict::Write { .. } | Verdict::Claim);
    verdicts
        .iter()
        .filter(|(_, verdict)| writes(verdict))
        .filter_map(|(property, _)| {
            Some((Arc::clone(property), orders.wishes.get(property)?.value.clone()))
        })
        .collect()
}
