//! Calls that a slot's course doesn't wait for: begun with a former setup, given up, or cut short.
//!
//! Every call counts as under way until it has ended or was given up, whatever became of its
//! device; and what it tells of a one-shot counts in any case.

use fleet_state::DeviceId;
use tokio::task::AbortHandle;

use super::calls::CallEnd;
use super::look::word;
use super::slot::{Call, CallOf};
use super::work::Work;

impl Work<'_> {
    /// A call has ended that no slot waits for: its device has left the link, or it was given up.
    pub(super) fn ended_elsewhere(
        &mut self,
        id: &DeviceId,
        number: u64,
        end: CallEnd,
        now_ms: u64,
    ) {
        let gone = self.left.get(id).is_some_and(|call| call.number == number);
        if !gone {
            // What it handed over was told as unknown, which stays true.
            tracing::debug!(device = %id, ?end, "a call ended after it was given up");
            return;
        }
        self.left.remove(id);
        self.under_way = self.under_way.saturating_sub(1);
        self.ended_after_all(id, end, now_ms);
    }

    /// A call has ended that was begun with a former setup of its device: what became of a
    /// one-shot counts all the same, and what the device said does not.
    pub(super) fn ended_after_all(&mut self, id: &DeviceId, end: CallEnd, now_ms: u64) {
        match end {
            CallEnd::Invoked { id: request, ended } => {
                self.task.parts.metrics.count_invocation(word(&ended));
                self.invoked(id, request, ended);
            }
            CallEnd::Settled { id: request, end } => self.settled(id, &request, end, now_ms),
            CallEnd::Claimed { revisions, asked_ms, end } => {
                self.claimed(id, &revisions, asked_ms, end, now_ms);
            }
            CallEnd::Local | CallEnd::Overtaken { .. } => self.take_local(),
            CallEnd::Written { ended, .. } => self.task.parts.metrics.count_write(word(&ended)),
            // A one-shot that was granted is handed over when its device is looked at.
            CallEnd::Taken { .. } | CallEnd::Read(_) | CallEnd::Adopted(_) => {}
        }
    }

    /// Gives up a call that has not ended long after its deadline: its connector blocks.
    pub(super) fn give_up_call(&mut self, id: &DeviceId, now_ms: u64) {
        let late = |call: &mut Call| call.hard_ms <= now_ms;
        let slot = self.slots.get_mut(id);
        let own = slot.and_then(|slot| {
            let call = slot.call.take_if(late)?;
            if call.of == CallOf::Course {
                slot.course.given_up(now_ms);
            }
            Some(call)
        });
        let left = || self.left.get_mut(id).is_some_and(late).then(|| self.left.remove(id))?;
        let Some(call) = own.or_else(left) else { return };
        tracing::error!(device = %id, link = %self.link.id, "a connector blocks; the call is given up");
        self.under_way = self.under_way.saturating_sub(1);
        self.reads.remove(&call.number);
        self.in_doubt(id, call, "the connector blocks");
    }

    /// Ends a question that is under way, for something that can't wait for its answer.
    pub(super) fn abandon_read(&mut self, id: &DeviceId, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(call) = slot.call.take_if(|call| call.read.is_some()) else { return };
        slot.course.read_gave_way(now_ms);
        call.read.iter().for_each(AbortHandle::abort);
        self.agenda.remove(&(call.hard_ms, id.clone()));
        self.reads.remove(&call.number);
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The one-shot of a call that is not waited for any more ends as unknown.
    fn in_doubt(&mut self, id: &DeviceId, call: Call, why: &str) {
        if let (Some(request), Some(memory)) = (call.one_shot, self.task.memory.get_mut(id)) {
            memory.one_shots.given_up(request, why);
        }
    }

    /// Gives all calls up: they were aborted.
    pub(super) fn give_up_all(&mut self) {
        let calls = self.slots.iter_mut().filter_map(|(id, slot)| Some((id, slot.call.take()?)));
        let calls: Vec<_> = calls.map(|(id, call)| (id.clone(), call)).collect();
        for (id, call) in calls.into_iter().chain(std::mem::take(&mut self.left)) {
            self.in_doubt(&id, call, "the link was closed before it ended");
        }
        self.under_way = 0;
        self.telling = false;
    }

    /// When the session is to be closed: tells the ends that are not told yet.
    pub(super) fn settle_all(&mut self) {
        let now_ms = self.task.now_ms();
        let idle: Vec<DeviceId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.call.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in idle {
            if let Some(number) = self.settle(&id, now_ms)
                && let Some(slot) = self.slots.get_mut(&id)
            {
                let (hard_ms, of) = (u64::MAX, CallOf::Course);
                slot.call = Some(Call { number, hard_ms, read: None, one_shot: None, of });
                self.under_way += 1;
            }
        }
    }
}
