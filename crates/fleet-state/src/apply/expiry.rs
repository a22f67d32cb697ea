//! Time limits that are over.

use std::sync::Arc;

use super::effects::Effects;
use crate::deadlines::Due;
use crate::ids::DeviceId;
use crate::limits::EXPIRIES_PER_ENTRY_MAX;
use crate::record::Invocation;
use crate::stage::Stage;
use crate::state::FleetState;

impl FleetState {
    /// Ends what no owner claimed in time. A bounded number per entry: the rest is due still, so the leader's next
    /// time tick follows at once, and whatever asks for one of them before that finds it over by its deadline.
    pub(super) fn expire_due(&mut self, effects: &mut Effects) {
        let now = self.counters.log_time_ms;
        self.expire_until(now, EXPIRIES_PER_ENTRY_MAX, effects);
    }

    /// Ends all that no owner claimed, whatever its deadline. Not a bounded number, because what is left would be
    /// handed over: but once, after an outage of the whole site.
    pub(super) fn expire_all(&mut self, effects: &mut Effects) {
        self.expire_until(u64::MAX, usize::MAX, effects);
    }

    fn expire_until(&mut self, until: u64, count_max: usize, effects: &mut Effects) {
        for due in self.deadlines.over(until, count_max) {
            match due {
                Due::Wishes(device) => self.expire_wishes(&device, until, effects),
                Due::Invocation(id) => {
                    if let Some(invocation) = self.invocations.get(&id).cloned() {
                        self.end_invocation(&invocation, Stage::Expired, Arc::from(""), effects);
                    }
                }
            }
        }
    }

    pub(super) fn expire_wishes(&mut self, id: &DeviceId, now: u64, effects: &mut Effects) {
        if let Some(device) = self.devices.get(id).cloned() {
            let over = |_: &_, ttl: &crate::record::Ttl| ttl.deadline_log_ms <= now;
            self.roll_back(&device, over, Stage::Expired, effects);
        }
    }

    /// To be called after any change of a device or its watermarks.
    pub(crate) fn reckon_wishes_due(&mut self, id: &DeviceId) {
        let pending = self.devices.get(id).and_then(|device| {
            let wishes = device.wishes.iter().map(|(_, wish)| wish);
            let limited = wishes.filter_map(|wish| Some((wish, wish.ttl.as_ref()?)));
            let pending = limited.filter(|(wish, _)| self.is_pending(id, wish));
            pending.map(|(_, ttl)| ttl.deadline_log_ms).min()
        });
        self.deadlines.set(Due::Wishes(id.clone()), pending);
    }

    /// To be called after any change of an invocation.
    pub(crate) fn follow_invocation(
        &mut self,
        before: Option<&Invocation>,
        after: Option<&Invocation>,
    ) {
        if let Some(before) = before {
            self.errands.remove(before);
        }
        if let Some(after) = after {
            self.errands.add(after);
        }
        if let Some(either) = after.or(before) {
            let waiting = after.filter(|after| after.stage == Stage::Committed);
            let deadline = waiting.and_then(|after| after.deadline_log_ms);
            self.deadlines.set(Due::Invocation(either.id.clone()), deadline);
        }
    }

    /// What follows from devices, watermarks and invocations, for a state that was read.
    pub(crate) fn derive_device_indexes(&mut self) {
        let devices = self.devices.clone();
        for device in devices.iter() {
            self.reckon_wishes_due(&device.id);
        }
        let invocations = self.invocations.clone();
        for invocation in invocations.iter() {
            self.follow_invocation(None, Some(invocation));
        }
    }
}
