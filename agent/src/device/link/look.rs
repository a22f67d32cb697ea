//! Looking at one device: the planner's step, or its next one-shot, is begun; ends are noted.

use std::sync::Arc;
use std::time::Duration;

use fleet_device::claimed_until_ms;
use fleet_device::one_shots::{Begun, Next, open_one_shots};
use fleet_device::plan::Step;
use fleet_state::{
    AgentCommand, ClaimItem, Claimed, DeviceId, Invocation, Outcome, RequestId, Revision,
};
use tokio::time::Instant;

use super::calls::CallEnd;
use super::slot::{Call, CallOf, Known};
use super::work::Work;
use crate::consensus::Submitted;
use crate::device::connector::{
    ANSWER_MS_MAX, Handed, Invoke, Read, Write, WriteError, WriteErrorKind,
};

/// How long the log may take for a command of this agent.
pub(super) const LOG_WITHIN: Duration = Duration::from_secs(3);
/// A call that has not ended so long after its deadline is given up.
const GRACE_MS: u64 = 1_000;
/// Pause after a command that the log didn't decide.
pub(super) const LOG_PAUSE_MS: u64 = 250;

impl Work<'_> {
    /// Plans for a device and begins the step.
    pub(super) fn look_at(&mut self, id: &DeviceId, now_ms: u64) {
        let until_ms = self.until_ms();
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.in_line = false;
        if slot.refusal.is_some() {
            // What was handed over with a former setup still has its end to be told.
            let idle = slot.call.is_none();
            if let Some(number) = idle.then(|| self.settle(id, now_ms)).flatten() {
                self.under_way(id, number, now_ms);
            }
            return self.show(id, None);
        }
        if slot.call.is_some() {
            let plan = slot.course.look(&slot.orders, now_ms);
            self.note_stages(id, &plan);
            return self.show(id, Some(&plan));
        }
        if let Some(number) = self.see_to_local(id, until_ms, now_ms) {
            self.under_way(id, number, now_ms);
            let Some(slot) = self.slots.get_mut(id) else { return };
            let plan = slot.course.look(&slot.orders, now_ms);
            return self.show(id, Some(&plan));
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        let plan = slot.course.plan(&slot.orders, until_ms.is_some(), now_ms);
        if let Some(again_ms) = plan.again_ms {
            self.agenda.insert((again_ms.max(now_ms.saturating_add(1)), id.clone()));
        }
        self.note_stages(id, &plan);
        let begun = match &plan.step {
            Some(step) => self.begin(id, step.clone(), until_ms.unwrap_or(now_ms), now_ms),
            None => self.next_one_shot(id, until_ms, now_ms),
        };
        if let Some(number) = begun {
            self.under_way(id, number, now_ms);
        }
        self.show(id, Some(&plan));
    }

    /// Notes the call that was begun for a device.
    fn under_way(&mut self, id: &DeviceId, number: u64, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let hard_ms = now_ms.saturating_add(ANSWER_MS_MAX + GRACE_MS);
        let (one_shot, of) = (self.begun.take(), CallOf::Course);
        slot.call = Some(Call { number, hard_ms, one_shot, of });
        self.under_way += 1;
        self.agenda.insert((hard_ms, id.clone()));
    }

    /// The moment at which a call ends whatever happens: what may be written until, at most.
    pub(super) fn deadline(&self, limits_ms: [u64; 2], now_ms: u64) -> Instant {
        let [one, other] = limits_ms;
        self.moment(now_ms.saturating_add(ANSWER_MS_MAX).min(one).min(other))
    }

    /// A reading of the node's clock as an instant. The clock is read anew, and second: what is
    /// done in one turn takes its time, and a deadline must not move by that.
    fn moment(&self, at_ms: u64) -> Instant {
        let now = Instant::now();
        now + Duration::from_millis(at_ms.saturating_sub(self.task.now_ms()))
    }

    fn begin(&mut self, id: &DeviceId, step: Step, lease_ms: u64, now_ms: u64) -> Option<u64> {
        let (link, epoch) = (self.link.id.clone(), self.task.epoch);
        let log_deadline = Instant::now() + LOG_WITHIN;
        let number = match step {
            Step::Read => {
                let deadline = self.deadline([u64::MAX; 2], now_ms);
                self.calls.read(Read { device: id.clone(), properties: None, deadline })
            }
            Step::Write { values, revision, until_ms } => {
                let write = Write {
                    device: id.clone(),
                    values,
                    revision,
                    epoch,
                    sequence: self.task.next_sequence(),
                    deadline: self.deadline([lease_ms, until_ms.unwrap_or(u64::MAX)], now_ms),
                    expires: until_ms.map(|until_ms| self.moment(until_ms)),
                };
                let begins = self.begins(id, &write.values);
                self.calls.write(write, begins)
            }
            Step::Claim(revisions) => {
                let item = |revision: &Revision| ClaimItem::Wish {
                    device: id.clone(),
                    revision: *revision,
                };
                let items = revisions.iter().map(item).collect();
                let claim = AgentCommand::Claim { link, epoch, items };
                self.calls.submit(id, claim, log_deadline, move |end| CallEnd::Claimed {
                    revisions,
                    asked_ms: now_ms,
                    end,
                })
            }
            Step::Adopt { property, value, seen } => {
                let device = id.clone();
                let adopt = AgentCommand::Adopt {
                    link,
                    epoch,
                    device,
                    property,
                    value,
                    seen_revision: seen,
                };
                self.calls.submit(id, adopt, log_deadline, CallEnd::Adopted)
            }
        };
        Some(number)
    }

    /// A call has ended, unless it was given up before.
    pub(super) fn call_ended(&mut self, id: &DeviceId, number: u64, end: CallEnd, now_ms: u64) {
        let current = self.slots.get(id).and_then(|slot| slot.call.clone());
        let Some(call) = current.filter(|call| call.number == number) else {
            return self.ended_elsewhere(id, number, end, now_ms);
        };
        self.agenda.remove(&(call.hard_ms, id.clone()));
        self.under_way = self.under_way.saturating_sub(1);
        let metrics = self.task.parts.metrics.clone();
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.call = None;
        if call.of == CallOf::FormerSetup {
            return self.ended_after_all(id, end, now_ms);
        }
        match end {
            CallEnd::Read(read) => {
                slot.source_ms = read.as_ref().ok().and_then(|reading| reading.source_ms);
                slot.course.read_ended(read.map_err(|error| error.kind), now_ms);
            }
            CallEnd::Written { values, ended } => {
                metrics.count_write(word(&ended));
                slot.note_write(&ended);
                slot.course.write_ended(&values, ended.as_ref().copied(), now_ms);
                if let Err(error) = &ended {
                    self.note_untouched(id, &values, error);
                }
            }
            CallEnd::Overtaken { values } => {
                slot.course.write_ended(&values, Err(&overtaken()), now_ms);
                self.take_local();
            }
            CallEnd::Claimed { revisions, asked_ms, end } => {
                self.claimed(id, &revisions, asked_ms, end, now_ms);
            }
            CallEnd::Adopted(end) => match end {
                Submitted::Decided(answer) => match &answer.outcome {
                    Outcome::Accepted(_) | Outcome::Unchanged => slot.course.log_ended(now_ms),
                    Outcome::Rejected(rejection) => {
                        slot.course.adoption_rejected(rejection, now_ms);
                    }
                },
                Submitted::Busy { .. }
                | Submitted::NoLeader
                | Submitted::Unknown
                | Submitted::Stopping => slot.course.log_failed(now_ms),
            },
            CallEnd::Taken { id: request, asked_ms, end } => {
                self.taken(id, &request, asked_ms, end, now_ms);
            }
            CallEnd::Invoked { id: request, ended } => {
                slot.course.invoke_ended(now_ms);
                metrics.count_invocation(word(&ended));
                self.invoked(id, request, ended);
            }
            CallEnd::Local => {
                slot.course.invoke_ended(now_ms);
                self.take_local();
            }
            CallEnd::Settled { id: request, end } => self.settled(id, &request, end, now_ms),
        }
    }

    pub(super) fn claimed(
        &mut self,
        id: &DeviceId,
        revisions: &[Revision],
        asked_ms: u64,
        end: Submitted,
        now_ms: u64,
    ) {
        let claims = match claims_of(&end) {
            Ok(claims) => claims,
            Err(()) => {
                if let Some(slot) = self.slots.get_mut(id) {
                    slot.course.log_failed(now_ms);
                }
                return;
            }
        };
        let view = self.task.parts.handle.view();
        let device = view.state.device(id).cloned();
        for (revision, claimed) in revisions.iter().zip(claims) {
            if *claimed != Claimed::Granted {
                self.task.parts.metrics.claims_lost.inc();
                continue;
            }
            let limited = device.as_ref().and_then(|device| {
                let wish = device.wishes.iter().find(|(_, wish)| wish.revision == *revision)?.1;
                wish.ttl.as_ref().map(|ttl| ttl.deadline_log_ms)
            });
            if let (Some(deadline_log_ms), Some(memory)) = (limited, self.task.memory.get_mut(id)) {
                let until_ms = claimed_until_ms(&view.state, deadline_log_ms, asked_ms);
                memory.claims.entry(*revision).or_insert(until_ms);
            }
        }
        if let (Some(slot), Some(device), Some(memory)) =
            (self.slots.get_mut(id), device, self.task.memory.get_mut(id))
        {
            slot.course.log_ended(now_ms);
            let (state, overlay) = (&view.state, self.book.overlay(id).cloned());
            let known = Known { state, device: &device, overlay, run: self.task.run };
            slot.follow(known, memory);
        }
    }

    /// Sees to the oldest open one-shot of a device: told, if it has ended; asked for, if not.
    fn next_one_shot(&mut self, id: &DeviceId, until_ms: Option<u64>, now_ms: u64) -> Option<u64> {
        if let Some(number) = self.settle(id, now_ms) {
            return Some(number);
        }
        let until_ms = until_ms.filter(|_| !self.task.is_alone())?;
        let view = self.task.parts.handle.view();
        let device = view.state.device(id)?;
        let open = open_one_shots(
            &view.state,
            device,
            &self.link.id,
            self.task.parts.node,
            self.task.epoch,
        );
        let slot = self.slots.get(id)?;
        let memory = self.task.memory.get(id)?;
        let next = memory.one_shots.next(open, &slot.orders, slot.course.availability())?;
        if now_ms < slot.one_shot_next_ms {
            self.agenda.insert((slot.one_shot_next_ms, id.clone()));
            return None;
        }
        match next {
            Next::Ask(request) => self.ask_for(id, request, now_ms),
            Next::HandOver(invocation, asked_ms) => {
                self.hand_over(id, &invocation, asked_ms, until_ms, now_ms)
            }
        }
    }

    fn ask_for(&mut self, id: &DeviceId, request: RequestId, now_ms: u64) -> Option<u64> {
        let asked_ms = self.task.memory.get_mut(id)?.one_shots.ask(&request, now_ms);
        let (link, epoch) = (self.link.id.clone(), self.task.epoch);
        let items = vec![ClaimItem::Invocation(request.clone())];
        let claim = AgentCommand::Claim { link, epoch, items };
        let to_end = move |end| CallEnd::Taken { id: request, asked_ms, end };
        Some(self.calls.submit(id, claim, Instant::now() + LOG_WITHIN, to_end))
    }

    /// The log has decided whether a one-shot may be handed over; or it has not.
    fn taken(
        &mut self,
        id: &DeviceId,
        request: &RequestId,
        asked_ms: u64,
        end: Submitted,
        now_ms: u64,
    ) {
        let claims = claims_of(&end);
        if claims != Ok(&[Claimed::Granted]) {
            if claims.is_ok() {
                self.task.parts.metrics.claims_lost.inc();
            }
            // What it is shows the state; without a decision it is asked for again.
            if let Some(slot) = self.slots.get_mut(id) {
                slot.one_shot_next_ms = now_ms.saturating_add(LOG_PAUSE_MS);
            }
            return;
        }
        let view = self.task.parts.handle.view();
        let (Some(invocation), Some(until_ms)) = (view.state.invocation(request), self.until_ms())
        else {
            return;
        };
        if let Some(number) = self.hand_over(id, invocation, asked_ms, until_ms, now_ms) {
            self.under_way(id, number, now_ms);
        }
    }

    /// Hands a one-shot over that was granted to this owner: once, and not after its time.
    fn hand_over(
        &mut self,
        id: &DeviceId,
        invocation: &Invocation,
        asked_ms: u64,
        lease_ms: u64,
        now_ms: u64,
    ) -> Option<u64> {
        let view = self.task.parts.handle.view();
        let slot = self.slots.get(id)?;
        let device = (&slot.orders, slot.course.availability());
        let one_shots = &mut self.task.memory.get_mut(id)?.one_shots;
        let until_ms = match one_shots.begin(&view.state, invocation, asked_ms, device, now_ms) {
            Begun::HandOver { until_ms } => until_ms,
            Begun::Again => return None,
            Begun::Refused => {
                self.line_up(id);
                return self.settle(id, now_ms);
            }
        };
        let request = invocation.id.clone();
        let deadline = self.deadline([lease_ms, until_ms.unwrap_or(u64::MAX)], now_ms);
        self.begun = Some(request.clone());
        let invoke = Invoke {
            device: id.clone(),
            action: Arc::clone(&invocation.action),
            args: invocation.args.clone().into(),
            request_id: request,
            epoch: self.task.epoch,
            sequence: self.task.next_sequence(),
            deadline,
            expires: until_ms.map(|until_ms| self.moment(until_ms)),
        };
        Some(self.calls.invoke(invoke))
    }

    pub(super) fn invoked(
        &mut self,
        id: &DeviceId,
        request: RequestId,
        ended: Result<Handed, WriteError>,
    ) {
        if let Some(memory) = self.task.memory.get_mut(id) {
            memory.one_shots.handed_over(request, ended);
        }
    }

    /// Tells the end of one one-shot, if there is one to tell.
    pub(super) fn settle(&mut self, id: &DeviceId, now_ms: u64) -> Option<u64> {
        let slot = self.slots.get(id)?;
        let memory = self.task.memory.get(id)?;
        let (request, (stage, detail)) = memory.one_shots.ends.first_key_value()?;
        if now_ms < slot.one_shot_next_ms {
            self.agenda.insert((slot.one_shot_next_ms, id.clone()));
            return None;
        }
        let command = AgentCommand::InvocationEnd {
            link: self.link.id.clone(),
            epoch: self.task.epoch,
            id: request.clone(),
            stage: *stage,
            detail: super::tell::short(detail),
        };
        let request = request.clone();
        let to_end = move |end| CallEnd::Settled { id: request, end };
        Some(self.calls.submit(id, command, Instant::now() + LOG_WITHIN, to_end))
    }

    pub(super) fn settled(
        &mut self,
        id: &DeviceId,
        request: &RequestId,
        end: Submitted,
        now_ms: u64,
    ) {
        if let Submitted::Decided(_) = end {
            if let Some(memory) = self.task.memory.get_mut(id) {
                memory.one_shots.told(request);
            }
        } else if let Some(slot) = self.slots.get_mut(id) {
            slot.one_shot_next_ms = now_ms.saturating_add(LOG_PAUSE_MS);
        }
    }
}

/// What the log said to a claim; `Err` when it said nothing.
fn claims_of(end: &Submitted) -> Result<&[Claimed], ()> {
    match end {
        Submitted::Decided(answer) => match &answer.outcome {
            Outcome::Accepted(accepted) => Ok(&accepted.claims),
            Outcome::Unchanged | Outcome::Rejected(_) => Ok(&[]),
        },
        Submitted::Busy { .. } | Submitted::NoLeader | Submitted::Unknown | Submitted::Stopping => {
            Err(())
        }
    }
}

/// What a write counts as that newer local ones have taken the place of: nothing has left.
fn overtaken() -> WriteError {
    WriteError {
        may_have_acted: false,
        kind: WriteErrorKind::Busy,
        message: "a newer local write has taken its place".to_owned(),
    }
}

/// The end of a hand-over, for metrics.
pub(super) fn word(ended: &Result<Handed, WriteError>) -> &'static str {
    match ended {
        Ok(Handed::Sent) => "sent",
        Ok(Handed::Acknowledged) => "acknowledged",
        Err(error) => error.kind.as_str(),
    }
}
