//! The next one-shot of a device: asked for in the log, handed over, told as ended.

use std::sync::Arc;

use fleet_device::one_shots::{Begun, Next, open_one_shots};
use fleet_state::{AgentCommand, ClaimItem, Claimed, DeviceId, Invocation, Outcome, RequestId};
use tokio::time::Instant;

use super::calls::CallEnd;
use super::look::{LOG_PAUSE_MS, LOG_WITHIN};
use super::work::Work;
use crate::consensus::Submitted;
use crate::device::connector::{Handed, Invoke, WriteError};

impl Work<'_> {
    /// Sees to the oldest open one-shot of a device: told, if it has ended; asked for, if not.
    pub(super) fn next_one_shot(
        &mut self,
        id: &DeviceId,
        until_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<u64> {
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

    /// Whether there is anything to be done for a one-shot of a device now.
    pub(super) fn has_one_shot(&self, id: &DeviceId, now_ms: u64) -> bool {
        let (Some(slot), Some(memory)) = (self.slots.get(id), self.task.memory.get(id)) else {
            return false;
        };
        if now_ms < slot.one_shot_next_ms {
            return false;
        }
        if !memory.one_shots.ends.is_empty() {
            return true;
        }
        let view = self.task.parts.handle.view();
        let device = view.state.device(id).filter(|_| !self.task.is_alone());
        let open = device.map(|device| {
            let (node, epoch) = (self.task.parts.node, self.task.epoch);
            open_one_shots(&view.state, device, &self.link.id, node, epoch)
        });
        let availability = slot.course.availability();
        open.and_then(|open| memory.one_shots.next(open, &slot.orders, availability)).is_some()
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
    pub(super) fn taken(
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
            epoch: self.told_epoch(id),
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
pub(super) fn claims_of(end: &Submitted) -> Result<&[Claimed], ()> {
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
