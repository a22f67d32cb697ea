//! What an owner asks for before the first byte of it leaves.
//!
//! A claim is an entry like any other, so between it and a deadline, a cancellation or a newer wish the order of the
//! log decides, once and for all nodes. What was granted may be handed over, though nobody can tell whether it was
//! until its owner says so; what was not granted never is.

use super::Decision;
use super::effects::Effects;
use crate::command::ClaimItem;
use crate::ids::{DeviceId, LinkId, RequestId, Revision};
use crate::outcome::{Accepted, Claimed, Outcome};
use crate::record::{Dispatch, Invocation, Link};
use crate::stage::Stage;
use crate::state::FleetState;

impl FleetState {
    pub(super) fn claim(
        &mut self,
        link: &LinkId,
        epoch: u64,
        items: &[ClaimItem],
        effects: &mut Effects,
    ) -> Decision {
        let link = self.owned_link(link, epoch)?;
        let claims = items.iter().map(|item| match item {
            ClaimItem::Wish { device, revision } => {
                self.claim_wish(&link, device, *revision, effects)
            }
            ClaimItem::Invocation(id) => self.claim_invocation(&link, id, effects),
        });
        Ok(Outcome::Accepted(Accepted { node: None, claims: claims.collect() }))
    }

    fn claim_wish(
        &mut self,
        link: &Link,
        id: &DeviceId,
        revision: Revision,
        effects: &mut Effects,
    ) -> Claimed {
        let Ok(device) = self.device_on(id, &link.id) else {
            return Claimed::Gone;
        };
        let now = self.counters.log_time_ms;
        self.roll_back(&device, |_, ttl| ttl.deadline_log_ms <= now, Stage::Expired, effects);
        let Ok(device) = self.device_on(id, &link.id) else {
            return Claimed::Gone;
        };
        if !device.wishes.holds(revision) {
            return self.ended_as(id, revision);
        }
        if link.paused || device.blocked().is_some() {
            return Claimed::Blocked;
        }
        let limited = |wish: &crate::record::Wish| wish.revision == revision && wish.ttl.is_some();
        let mut watermarks = self.watermarks_of(id);
        if device.wishes.iter().any(|(_, wish)| limited(wish))
            && let Err(at) = watermarks.claimed.binary_search(&revision)
        {
            watermarks.claimed.insert(at, revision);
            self.put_watermarks(watermarks, effects);
        }
        Claimed::Granted
    }

    /// How a command ended that stands behind no wish any more.
    fn ended_as(&self, device: &DeviceId, revision: Revision) -> Claimed {
        let ends = self.watermarks.get(device).map(|watermarks| watermarks.ends.as_slice());
        let end = ends.unwrap_or_default().iter().find(|end| end.revision == revision);
        match end.map(|end| end.stage) {
            Some(Stage::Expired) => Claimed::Expired,
            Some(Stage::Cancelled) => Claimed::Cancelled,
            Some(_) | None => Claimed::Superseded,
        }
    }

    fn claim_invocation(&mut self, link: &Link, id: &RequestId, effects: &mut Effects) -> Claimed {
        let Some(before) = self.invocations.get(id).cloned() else {
            return Claimed::Gone;
        };
        match before.stage {
            Stage::Committed => {}
            Stage::Expired => return Claimed::Expired,
            Stage::Cancelled => return Claimed::Cancelled,
            Stage::Dispatching
            | Stage::Sent
            | Stage::Acknowledged
            | Stage::Verified
            | Stage::Failed
            | Stage::Superseded
            | Stage::Unknown => return Claimed::Taken,
        }
        let (Ok(device), Some(node)) = (self.device_on(&before.device, &link.id), link.owner)
        else {
            return Claimed::Gone;
        };
        if before.deadline_log_ms.is_some_and(|deadline| deadline <= self.counters.log_time_ms) {
            self.end_invocation(&before, Stage::Expired, "".into(), effects);
            return Claimed::Expired;
        }
        if link.paused || device.blocked().is_some() {
            return Claimed::Blocked;
        }
        let dispatch = Some(Dispatch { link: link.id.clone(), node, epoch: link.epoch });
        let invocation = Invocation { dispatch, ..before.as_ref().clone() };
        self.end_invocation(&invocation, Stage::Dispatching, "".into(), effects);
        Claimed::Granted
    }
}
