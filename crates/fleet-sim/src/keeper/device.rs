//! One device of a link that is worked on.

use std::sync::Arc;

use fleet_device::one_shots::{Begun, Next, open_one_shots};
use fleet_device::plan::{Course, Orders, Plan, Step};
use fleet_device::telling::stage_news;
use fleet_device::{LogBound, Observation, WriteError, WriteErrorKind, claimed_until_ms};
use fleet_state::{
    AgentCommand, ClaimItem, Claimed, DeviceId, FleetState, Invocation, Outcome, RequestId,
    Revision, StageItem,
};

use super::link::Work;
use super::{Act, Answer, Ask, Call, Calls, LOG_WITHIN_MS, Purpose, What};

/// How long a device may take for an answer.
const ANSWER_WITHIN_MS: u64 = 5_000;
/// Pause after a command that the log didn't decide.
const LOG_PAUSE_MS: u64 = 250;

/// A device of the link.
#[derive(Debug)]
pub(super) struct Slot {
    course: Course,
    pub(super) orders: Orders,
    call: Option<Call>,
    handing_over: bool,
    one_shot_next_ms: u64,
    told: Option<StageItem>,
}

impl Slot {
    pub(super) fn new(orders: Orders, now_ms: u64) -> Self {
        let course = Course::new(now_ms);
        Self { course, orders, call: None, handing_over: false, one_shot_next_ms: 0, told: None }
    }

    /// Something was handed to the device, and it has not ended.
    pub(super) fn is_handing_over(&self) -> bool {
        self.handing_over
    }

    pub(super) fn heard(&mut self, heard: &Observation, now_ms: u64) {
        self.course.heard(heard, now_ms);
    }

    pub(super) fn forget_told(&mut self) {
        self.told = None;
    }

    pub(super) fn device_ended(
        &mut self,
        call: Call,
        purpose: &Purpose,
        answer: Answer,
        now_ms: u64,
    ) {
        if self.call != Some(call) {
            return;
        }
        (self.call, self.handing_over) = (None, false);
        match (purpose, answer) {
            (_, Answer::Read(read)) => self.course.read_ended(read, now_ms),
            (Purpose::Write(_, _, values), Answer::Handed(ended)) => {
                self.course.write_ended(values, ended.as_ref().copied(), now_ms);
            }
            // How it ended was noted by the link already.
            (_, Answer::Handed(_)) => self.course.invoke_ended(now_ms),
        }
    }

    fn stage_item(&mut self, device: &DeviceId, plan: &Plan) -> Option<StageItem> {
        let news = stage_news(device, plan, &self.orders);
        if news == self.told {
            return None;
        }
        self.told.clone_from(&news);
        news
    }
}

/// A call that ended without an answer.
pub(super) fn in_doubt() -> WriteError {
    let message = "no answer in time".to_owned();
    WriteError { may_have_acted: true, kind: WriteErrorKind::Timeout, message }
}

impl Work {
    /// Plans for a device and begins the step, or sees to its next one-shot.
    pub(super) fn look_at(
        &mut self,
        id: &DeviceId,
        state: &FleetState,
        now_ms: u64,
        calls: &mut Calls,
    ) {
        let Some(until_ms) = self.until_ms else { return };
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.call.is_some() {
            let plan = slot.course.look(&slot.orders, now_ms);
            let item = slot.stage_item(id, &plan);
            self.to_tell.extend(item.map(|item| (id.clone(), item)));
            return;
        }
        let plan = slot.course.plan(&slot.orders, true, now_ms);
        let item = slot.stage_item(id, &plan);
        self.to_tell.extend(item.map(|item| (id.clone(), item)));
        let begun = match plan.step {
            Some(step) => self.begin(id, step, until_ms, now_ms, calls),
            None => self.next_one_shot(id, state, until_ms, now_ms, calls),
        };
        self.note_begun(id, begun);
    }

    fn note_begun(&mut self, id: &DeviceId, begun: Option<(Call, bool)>) {
        if let (Some((call, handing_over)), Some(slot)) = (begun, self.slots.get_mut(id)) {
            (slot.call, slot.handing_over) = (Some(call), handing_over);
        }
    }

    fn ask(&self, device: &DeviceId, what: What) -> Ask {
        Ask { device: device.clone(), link: self.id.clone(), epoch: self.epoch, what }
    }

    fn begin(
        &mut self,
        id: &DeviceId,
        step: Step,
        lease_ms: u64,
        now_ms: u64,
        calls: &mut Calls,
    ) -> Option<(Call, bool)> {
        let (link, epoch, device) = (self.id.clone(), self.epoch, id.clone());
        let answer_ms = now_ms + ANSWER_WITHIN_MS;
        match step {
            Step::Read => {
                let call = calls.begin(Purpose::Read(link, device), answer_ms);
                calls.acts.push(Act::Device(call, self.ask(id, What::Read)));
                Some((call, false))
            }
            Step::Write { values, until_ms, .. } => {
                let wishes = &self.slots.get(id)?.orders.wishes;
                let parts = values.iter().filter_map(|(property, value)| {
                    Some((Arc::clone(property), value.clone(), wishes.get(property)?.revision))
                });
                let what = What::Write(parts.collect());
                let end_ms = answer_ms.min(lease_ms).min(until_ms.unwrap_or(u64::MAX));
                let call = calls.begin(Purpose::Write(link, device, values), end_ms);
                calls.acts.push(Act::Device(call, self.ask(id, what)));
                Some((call, true))
            }
            Step::Claim(revisions) => {
                let item = |revision: &Revision| ClaimItem::Wish {
                    device: id.clone(),
                    revision: *revision,
                };
                let items = revisions.iter().map(item).collect();
                if let Some(memory) = self.memory.get_mut(id) {
                    for revision in &revisions {
                        memory.asked.entry(*revision).or_insert(now_ms);
                    }
                }
                let claim = AgentCommand::Claim { link: link.clone(), epoch, items };
                let purpose = Purpose::Claim(link, device, revisions, now_ms);
                Some((calls.submit(purpose, claim, now_ms, LOG_WITHIN_MS), false))
            }
            Step::Adopt { property, value, seen } => {
                let adopt = AgentCommand::Adopt {
                    link: link.clone(),
                    epoch,
                    device: device.clone(),
                    property,
                    value,
                    seen_revision: seen,
                };
                let purpose = Purpose::Adopt(link, device);
                Some((calls.submit(purpose, adopt, now_ms, LOG_WITHIN_MS), false))
            }
        }
    }

    fn next_one_shot(
        &mut self,
        id: &DeviceId,
        state: &FleetState,
        until_ms: u64,
        now_ms: u64,
        calls: &mut Calls,
    ) -> Option<(Call, bool)> {
        let slot = self.slots.get(id)?;
        if now_ms < slot.one_shot_next_ms {
            return None;
        }
        if let Some(call) = self.settle(id, now_ms, calls) {
            return Some((call, false));
        }
        let device = state.device(id)?;
        let open = open_one_shots(state, device, &self.id, self.node, self.epoch);
        let memory = self.memory.get_mut(id)?;
        match memory.one_shots.next(open, &slot.orders, slot.course.availability())? {
            Next::HandOver(invocation, asked_ms) => {
                self.hand_over(id, &invocation, asked_ms, (state, until_ms), now_ms, calls)
            }
            Next::Ask(request) => {
                let asked_ms = memory.one_shots.ask(&request, now_ms);
                let (link, epoch) = (self.id.clone(), self.epoch);
                let items = vec![ClaimItem::Invocation(request.clone())];
                let claim = AgentCommand::Claim { link: link.clone(), epoch, items };
                let purpose = Purpose::Take(link, id.clone(), request, asked_ms);
                Some((calls.submit(purpose, claim, now_ms, LOG_WITHIN_MS), false))
            }
        }
    }

    /// Tells the end of one one-shot, if there is one to tell.
    fn settle(&self, id: &DeviceId, now_ms: u64, calls: &mut Calls) -> Option<Call> {
        let ends = &self.memory.get(id)?.one_shots.ends;
        let (request, (stage, detail)) = ends.first_key_value()?;
        let command = AgentCommand::InvocationEnd {
            link: self.id.clone(),
            epoch: self.epoch,
            id: request.clone(),
            stage: *stage,
            detail: Arc::from(detail.as_str()),
        };
        let purpose = Purpose::Settle(self.id.clone(), id.clone(), request.clone());
        Some(calls.submit(purpose, command, now_ms, LOG_WITHIN_MS))
    }

    fn hand_over(
        &mut self,
        id: &DeviceId,
        invocation: &Invocation,
        asked_ms: u64,
        (state, lease_ms): (&FleetState, u64),
        now_ms: u64,
        calls: &mut Calls,
    ) -> Option<(Call, bool)> {
        let slot = self.slots.get(id)?;
        let device = (&slot.orders, slot.course.availability());
        let one_shots = &mut self.memory.get_mut(id)?.one_shots;
        match one_shots.begin(state, invocation, asked_ms, device, now_ms) {
            Begun::Again => None,
            Begun::Refused => self.settle(id, now_ms, calls).map(|call| (call, false)),
            Begun::HandOver { until_ms } => {
                let request = invocation.id.clone();
                let end_ms = now_ms + ANSWER_WITHIN_MS;
                let end_ms = end_ms.min(lease_ms).min(until_ms.unwrap_or(u64::MAX));
                let purpose = Purpose::Invoke(self.id.clone(), id.clone(), request.clone());
                let call = calls.begin(purpose, end_ms);
                calls.acts.push(Act::Device(call, self.ask(id, What::Invoke(request))));
                Some((call, true))
            }
        }
    }

    /// The log has decided about something that concerns a device, or has not.
    pub(super) fn device_log_ended(
        &mut self,
        call: Call,
        purpose: Purpose,
        outcome: Option<&Outcome>,
        state: &FleetState,
        now_ms: u64,
        calls: &mut Calls,
    ) {
        match purpose {
            Purpose::Claim(_, id, revisions, asked_ms) => {
                self.claimed(call, &id, (&revisions, asked_ms), outcome, state, now_ms);
            }
            Purpose::Adopt(_, id) => {
                if let Some(slot) = self.of_call(&id, call) {
                    match outcome {
                        Some(Outcome::Rejected(why)) => slot.course.adoption_rejected(why, now_ms),
                        Some(_) => slot.course.log_ended(now_ms),
                        None => slot.course.log_failed(now_ms),
                    }
                }
            }
            Purpose::Settle(_, id, request) => {
                if outcome.is_some()
                    && let Some(memory) = self.memory.get_mut(&id)
                {
                    memory.one_shots.told(&request);
                }
                if let Some(slot) = self.of_call(&id, call)
                    && outcome.is_none()
                {
                    slot.one_shot_next_ms = now_ms + LOG_PAUSE_MS;
                }
            }
            Purpose::Take(_, id, request, asked_ms) => {
                if self.of_call(&id, call).is_some() {
                    self.taken(&id, (&request, asked_ms), outcome, state, now_ms, calls);
                }
            }
            Purpose::Read(..)
            | Purpose::Write(..)
            | Purpose::Invoke(..)
            | Purpose::Stages(_)
            | Purpose::Release(_)
            | Purpose::FirstBarrier
            | Purpose::Barrier(_) => {}
        }
    }

    /// The slot that waits for this call; it waits no more.
    fn of_call(&mut self, id: &DeviceId, call: Call) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id).filter(|slot| slot.call == Some(call))?;
        slot.call = None;
        Some(slot)
    }

    fn claimed(
        &mut self,
        call: Call,
        id: &DeviceId,
        (revisions, asked_ms): (&[Revision], u64),
        outcome: Option<&Outcome>,
        state: &FleetState,
        now_ms: u64,
    ) {
        let Some(slot) = self.of_call(id, call) else { return };
        let Some(claims) = outcome.map(claims_of) else {
            slot.course.log_failed(now_ms);
            return;
        };
        slot.course.log_ended(now_ms);
        self.log_bound = Some(LogBound::of(state, asked_ms));
        let (Some(device), Some(memory)) = (state.device(id), self.memory.get_mut(id)) else {
            return;
        };
        for (revision, _) in
            revisions.iter().zip(claims).filter(|(_, claimed)| **claimed == Claimed::Granted)
        {
            let wish = device.wishes.iter().find(|(_, wish)| wish.revision == *revision);
            let ttl = wish.and_then(|(_, wish)| wish.ttl.as_ref());
            if let Some(ttl) = ttl {
                let until_ms = claimed_until_ms(state, ttl.deadline_log_ms, asked_ms);
                memory.claims.entry(*revision).or_insert(until_ms);
            }
        }
    }

    fn taken(
        &mut self,
        id: &DeviceId,
        (request, asked_ms): (&RequestId, u64),
        outcome: Option<&Outcome>,
        state: &FleetState,
        now_ms: u64,
        calls: &mut Calls,
    ) {
        if outcome.map(claims_of) != Some(&[Claimed::Granted][..]) {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.one_shot_next_ms = now_ms + LOG_PAUSE_MS;
            }
            return;
        }
        let (Some(invocation), Some(until_ms)) = (state.invocation(request), self.until_ms) else {
            return;
        };
        let begun = self.hand_over(id, invocation, asked_ms, (state, until_ms), now_ms, calls);
        self.note_begun(id, begun);
    }
}

/// What the log said to a claim.
fn claims_of(outcome: &Outcome) -> &[Claimed] {
    match outcome {
        Outcome::Accepted(accepted) => &accepted.claims,
        Outcome::Unchanged | Outcome::Rejected(_) => &[],
    }
}
