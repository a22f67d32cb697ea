//! Looking at one device: the planner's step, or its next one-shot, is begun; ends are noted.

use std::sync::Arc;
use std::time::Duration;

use fleet_device::plan::{Leave, Step};
use fleet_device::telling::told_epoch;
use fleet_device::{LogBound, claimed_until_ms};
use fleet_state::{AgentCommand, ClaimItem, Claimed, Device, DeviceId, Outcome, Revision};
use tokio::time::Instant;

use super::calls::CallEnd;
use super::one_shot::claims_of;
use super::slot::{Call, CallOf, Known};
use super::work::Work;
use crate::consensus::Submitted;
use crate::device::connector::{ANSWER_MS_MAX, Handed, Read, Write, WriteError, WriteErrorKind};

/// How long the log may take for a command of this agent.
pub(super) const LOG_WITHIN: Duration = Duration::from_secs(3);
/// A call that has not ended so long after its deadline is given up.
const GRACE_MS: u64 = 1_000;
/// Pause after a command that the log didn't decide.
pub(super) const LOG_PAUSE_MS: u64 = 250;

/// What a question that is under way keeps waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presses {
    Nothing,
    /// A stop, a hand-over, or a claim.
    Step,
    /// A one-shot.
    OneShot,
}

impl Work<'_> {
    /// Plans for a device and begins the step.
    pub(super) fn look_at(&mut self, id: &DeviceId, now_ms: u64) {
        self.tell_foreign(id, now_ms);
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
            match self.presses(id, until_ms, now_ms) {
                Presses::Nothing => {
                    let Some(slot) = self.slots.get_mut(id) else { return };
                    let plan = slot.course.look(&slot.orders, now_ms);
                    self.note_stages(id, &plan);
                    return self.show(id, Some(&plan));
                }
                Presses::OneShot => return self.one_shot_first(id, until_ms, now_ms),
                Presses::Step => self.abandon_read(id, now_ms),
            }
        }
        if let Some(number) = self.see_to_local(id, until_ms, now_ms) {
            self.under_way(id, number, now_ms);
            let Some(slot) = self.slots.get_mut(id) else { return };
            let plan = slot.course.look(&slot.orders, now_ms);
            return self.show(id, Some(&plan));
        }
        let read = self.may_read();
        let Some(slot) = self.slots.get_mut(id) else { return };
        let leave = Leave { write: until_ms.is_some(), read };
        let plan = slot.course.plan_within(&slot.orders, leave, now_ms);
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

    /// What a question that is under way for a device keeps waiting.
    fn presses(&mut self, id: &DeviceId, until_ms: Option<u64>, now_ms: u64) -> Presses {
        let Some(slot) = self.slots.get_mut(id) else { return Presses::Nothing };
        let reads = slot.call.as_ref().is_some_and(|call| call.read.is_some());
        if !reads || until_ms.is_none() {
            return Presses::Nothing;
        }
        let stops = slot.overlay.as_ref().is_some_and(|overlay| overlay.stop.is_some());
        let stop_ms = slot.stop_next_ms.map_or(0, |(_, again_ms)| again_ms);
        if (stops && now_ms >= stop_ms) || slot.course.is_pressed(&slot.orders, true, now_ms) {
            return Presses::Step;
        }
        if self.has_one_shot(id, now_ms) { Presses::OneShot } else { Presses::Nothing }
    }

    /// Sees to a one-shot in the place of a question, which is asked after it.
    fn one_shot_first(&mut self, id: &DeviceId, until_ms: Option<u64>, now_ms: u64) {
        self.abandon_read(id, now_ms);
        match self.next_one_shot(id, until_ms, now_ms) {
            Some(number) => self.under_way(id, number, now_ms),
            None => {
                self.agenda.insert((now_ms.saturating_add(LOG_PAUSE_MS), id.clone()));
            }
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        let plan = slot.course.look(&slot.orders, now_ms);
        self.show(id, Some(&plan));
    }

    /// Notes the call that was begun for a device.
    pub(super) fn under_way(&mut self, id: &DeviceId, number: u64, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let hard_ms = now_ms.saturating_add(ANSWER_MS_MAX + GRACE_MS);
        let (one_shot, of) = (self.begun.take(), CallOf::Course);
        let read = self.calls.last.clone().filter(|_| self.reads.contains(&number));
        slot.call = Some(Call { number, hard_ms, read, one_shot, of });
        self.under_way += 1;
        self.agenda.insert((hard_ms, id.clone()));
    }

    /// The moment at which a call ends whatever happens: what may be written until, at most.
    pub(super) fn deadline(&self, limits_ms: [u64; 2], now_ms: u64) -> Instant {
        let [one, other] = limits_ms;
        self.moment(now_ms.saturating_add(ANSWER_MS_MAX).min(one).min(other))
    }

    /// The epoch that a device is told. What the node knows beyond this task's epoch is not for it.
    pub(super) fn told_epoch(&self, id: &DeviceId) -> u64 {
        let view = self.task.parts.handle.view();
        let link = view.state.link(&self.link.id).filter(|link| link.epoch == self.task.epoch);
        let on_link = |device: &&Arc<Device>| device.spec.link.as_ref() == Some(&self.link.id);
        let device = view.state.device(id).filter(on_link);
        let known = link.zip(device).map(|(link, device)| told_epoch(link, device));
        known.unwrap_or(self.task.epoch)
    }

    /// A reading of the node's clock as an instant. The clock is read anew, and second: what is
    /// done in one turn takes its time, and a deadline must not move by that.
    pub(super) fn moment(&self, at_ms: u64) -> Instant {
        let now = Instant::now();
        now + Duration::from_millis(at_ms.saturating_sub(self.task.now_ms()))
    }

    fn begin(&mut self, id: &DeviceId, step: Step, lease_ms: u64, now_ms: u64) -> Option<u64> {
        let (link, epoch) = (self.link.id.clone(), self.task.epoch);
        let log_deadline = Instant::now() + LOG_WITHIN;
        let number = match step {
            Step::Read => {
                let deadline = self.deadline([u64::MAX; 2], now_ms);
                let properties = self.slots.get(id).and_then(|slot| slot.orders.asked_for());
                let read = Read { device: id.clone(), properties, deadline };
                let number = self.calls.read(read);
                self.reads.insert(number);
                number
            }
            Step::Write { values, revision, until_ms } => {
                let write = Write {
                    device: id.clone(),
                    values,
                    revision,
                    epoch: self.told_epoch(id),
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
                if let Some(memory) = self.task.memory.get_mut(id) {
                    for revision in &revisions {
                        memory.asked.entry(*revision).or_insert(now_ms);
                    }
                }
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
                slot.note_read(&read);
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
            CallEnd::Adopted(end) => self.adopted(id, &end, now_ms),
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

    /// What the log made of an adoption. The device is followed at once: the record comes by another
    /// way, and planned by the former one the same would be proposed again.
    fn adopted(&mut self, id: &DeviceId, end: &Submitted, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        match end {
            Submitted::Decided(answer) => {
                match &answer.outcome {
                    Outcome::Accepted(_) | Outcome::Unchanged => slot.course.log_ended(now_ms),
                    Outcome::Rejected(rejection) => {
                        slot.course.adoption_rejected(rejection, now_ms);
                    }
                }
                let view = self.task.parts.handle.view();
                self.take_record(&view.state, id);
            }
            Submitted::Busy { .. }
            | Submitted::NoLeader
            | Submitted::Unknown
            | Submitted::Stopping => slot.course.log_failed(now_ms),
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
        self.task.log_bound = Some(LogBound::of(&view.state, asked_ms));
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
            let (run, bound) = (self.task.run, self.task.log_bound);
            let known = Known { state, device: &device, overlay, run, bound };
            slot.follow(known, memory);
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
