//! How far the wishes of devices got, as the owner of their link tells.

use super::effects::Effects;
use super::{ACCEPTED, Decision};
use crate::command::StageItem;
use crate::ids::{LinkId, Revision};
use crate::outcome::Outcome;
use crate::record::Watermarks;
use crate::state::FleetState;

impl FleetState {
    /// Marks only rise, so that reports may come late, twice or in any order. A device that is not on the link any
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
            let after = merged(&before, item, device.wishes.newest());
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
    let told = item.failure.clone().filter(|failure| failure.revision <= newest);
    after.failure = match (told, after.failure.take()) {
        (Some(told), Some(known)) if told.revision < known.revision => Some(known),
        (Some(told), _) => Some(told),
        (None, known) => known,
    };
    let overcome = after.acknowledged.max(after.verified);
    if item.failure.is_none() {
        after.failure = after
            .failure
            .filter(|failure| overcome < failure.revision && after.sent <= failure.revision);
    }
    after
}
