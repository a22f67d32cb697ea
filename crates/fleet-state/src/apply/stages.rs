//! How far the wishes of devices got, as the owner of their link tells.

use super::effects::Effects;
use super::{ACCEPTED, Decision};
use crate::command::StageItem;
use crate::ids::{LinkId, Revision};
use crate::outcome::Outcome;
use crate::record::Watermarks;
use crate::state::FleetState;

impl FleetState {
    /// Marks only rise, so that reports may come late, twice or in any order; what keeps a command stands until it is
    /// told that nothing does, or until nobody wants it any more. A device that is not on the link any
    /// more is passed over: its watermarks are another owner's.
    pub(super) fn stages(
        &mut self,
        link: &LinkId,
        epoch: u64,
        items: &[StageItem],
        effects: &mut Effects,
    ) -> Decision {
        self.owned_link(link, epoch)?;
        let mut changed = false;
        for item in items {
            let Ok(device) = self.device_on(&item.device, link) else {
                continue;
            };
            let before = self.watermarks_of(&item.device);
            let mut after = merged(&before, item, device.wishes.newest());
            self.forget_unwished(&mut after);
            if after != before {
                self.put_watermarks(after, effects);
                changed = true;
            }
        }
        Ok(if changed { ACCEPTED } else { Outcome::Unchanged })
    }
}

/// A mark beyond the newest wish would stand for wishes that nobody has made yet.
fn merged(before: &Watermarks, item: &StageItem, newest: Revision) -> Watermarks {
    let raise = |mark: Revision, told: Revision| mark.max(told.min(newest));
    let mut after = Watermarks {
        sent: raise(before.sent, item.sent),
        acknowledged: raise(before.acknowledged, item.acknowledged),
        verified: raise(before.verified, item.verified),
        ..before.clone()
    };
    after.take_failures(&item.failures, &item.overcome);
    after
}
