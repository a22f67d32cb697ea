//! What is desired of a device, property by property.
//!
//! A wish is absolute, so writing it twice does no harm and a wish without a time limit needs no memory besides
//! itself. One with a time limit keeps what it took the place of. It stays when an owner claims it in time; otherwise
//! what was there before comes back and the command is as if it had never been.
//!
//! Naming a property again, even with the value that it has, is a new command where a device hangs on a link: the
//! lamp may have been switched off at the wall since, and who says "on" a second time wants it on.

use std::sync::Arc;

use super::effects::Effects;
use super::{ACCEPTED, Decision};
use crate::command::{AgentCommand, check_wishes};
use crate::ids::{DeviceId, Revision};
use crate::limits::WISH_ENDS_MAX;
use crate::outcome::{Outcome, RejectCode, Rejection};
use crate::record::{Device, Former, Ttl, Watermarks, Wish, WishEnd, Wishes};
use crate::schema::Schema;
use crate::stage::Stage;
use crate::state::FleetState;
use crate::value::{Object, Value};

impl FleetState {
    pub(super) fn device_update(
        &mut self,
        before: &Device,
        patch: &Object,
        ttl_ms: Option<u64>,
        effects: &mut Effects,
    ) -> Decision {
        let merged = before.desired().merge_patch(patch);
        // The patch was within its limits, the merged object need not be.
        check_wishes(&merged)?;
        let named = patch.iter().map(|(property, _)| property);
        let touched =
            named.map(|property| (property.clone(), merged.get(property).cloned())).collect();
        self.wish(before, touched, ttl_ms, effects)
    }

    pub(super) fn device_replace(
        &mut self,
        before: &Device,
        desired: &Object,
        ttl_ms: Option<u64>,
        effects: &mut Effects,
    ) -> Decision {
        let gone = before.wishes.iter().map(|(property, _)| property);
        let gone = gone.filter(|property| desired.get(property).is_none());
        let mut touched: Vec<_> = gone.map(|property| (property.clone(), None)).collect();
        touched.extend(
            desired.iter().map(|(property, value)| (property.clone(), Some(value.clone()))),
        );
        self.wish(before, touched, ttl_ms, effects)
    }

    /// Puts wishes, or takes them away where there is no value.
    fn wish(
        &mut self,
        before: &Device,
        touched: Vec<(Arc<str>, Option<Value>)>,
        ttl_ms: Option<u64>,
        effects: &mut Effects,
    ) -> Decision {
        if ttl_ms.is_some() {
            check_limited(before, &touched)?;
        }
        let deadline = ttl_ms.map(|ttl_ms| self.counters.log_time_ms.saturating_add(ttl_ms));
        let mut wishes = before.wishes.clone();
        for (property, value) in touched {
            match value {
                Some(value) if self.is_asked_anew(before, &property, &value) => {
                    let wish = self.new_wish(before, &property, value, deadline, effects);
                    wishes.insert(property, wish);
                }
                Some(_) => {}
                None => wishes.remove(&property),
            }
        }
        check_model(before.spec.model.as_ref(), &wishes.object())?;
        // The first setting counts even when it sets nothing: from then on the device has a desired state.
        if before.wishes == wishes && before.desired_revision != Revision::NONE {
            return Ok(Outcome::Unchanged);
        }
        self.put_wishes(before, wishes, effects)?;
        Ok(ACCEPTED)
    }

    /// Whether naming a property makes a new wish of it.
    fn is_asked_anew(&self, device: &Device, property: &str, value: &Value) -> bool {
        let known = device.wishes.get(property).filter(|wish| wish.value == *value);
        known.is_none_or(|wish| device.spec.link.is_some() || self.is_pending(&device.id, wish))
    }

    fn new_wish(
        &self,
        device: &Device,
        property: &str,
        value: Value,
        deadline: Option<u64>,
        effects: &Effects,
    ) -> Wish {
        let ttl = deadline.map(|deadline_log_ms| {
            let before = device.wishes.get(property);
            let previous = before.and_then(|wish| match &wish.ttl {
                // What may never have happened is nothing to come back to.
                Some(ttl) if self.is_pending(&device.id, wish) => ttl.previous.clone(),
                Some(_) | None => Some(Former {
                    value: wish.value.clone(),
                    revision: wish.revision,
                    wished_log_ms: wish.wished_log_ms,
                }),
            });
            Ttl { deadline_log_ms, previous }
        });
        let wished_log_ms = self.counters.log_time_ms;
        Wish { value, revision: effects.revision(), wished_log_ms, ttl }
    }

    pub(super) fn put_wishes(
        &mut self,
        before: &Device,
        wishes: Wishes,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let device = Device {
            wishes,
            desired_revision: effects.revision(),
            revision: effects.revision(),
            changed_wall_ms: effects.wall_time_ms(),
            ..before.clone()
        };
        self.try_put(device, effects)
    }

    /// Whether a wish has a time limit and no owner has claimed it.
    pub(crate) fn is_pending(&self, device: &DeviceId, wish: &Wish) -> bool {
        wish.ttl.is_some()
            && self
                .watermarks
                .get(device)
                .is_none_or(|watermarks| !watermarks.has_claimed(wish.revision))
    }

    /// Ends the pending wishes of a device that `over` picks, as if they had never been. Says whether there were any.
    pub(crate) fn roll_back(
        &mut self,
        device: &Device,
        over: impl Fn(&Wish, &Ttl) -> bool,
        stage: Stage,
        effects: &mut Effects,
    ) -> bool {
        let mut wishes = device.wishes.clone();
        let mut watermarks = self.watermarks_of(&device.id);
        let mut ended: Vec<Revision> = Vec::new();
        for (property, wish) in device.wishes.iter() {
            let Some(ttl) = wish.ttl.as_ref().filter(|ttl| over(wish, ttl)) else {
                continue;
            };
            if !self.is_pending(&device.id, wish) {
                continue;
            }
            if let Err(at) = ended.binary_search(&wish.revision) {
                ended.insert(at, wish.revision);
            }
            match &ttl.previous {
                Some(former) => {
                    let Former { value, revision, wished_log_ms } = former.clone();
                    // What was claimed had a limit too, and whether it was handed over within it
                    // the log doesn't know: it must not come back as one without a limit.
                    let deadline_log_ms = self.counters.log_time_ms;
                    let limited = watermarks.has_claimed(revision);
                    let ttl = limited.then_some(Ttl { deadline_log_ms, previous: None });
                    let back = Wish { value, revision, wished_log_ms, ttl };
                    wishes.insert(property.clone(), back);
                }
                None => wishes.remove(property),
            }
        }
        if ended.is_empty() {
            return false;
        }
        let back = Device {
            wishes,
            desired_revision: effects.revision(),
            revision: effects.revision(),
            changed_wall_ms: effects.wall_time_ms(),
            ..device.clone()
        };
        // What comes back was there before, so there is room for it.
        self.put(back, effects);
        watermarks.ends.extend(ended.into_iter().map(|revision| WishEnd { revision, stage }));
        let surplus = watermarks.ends.len().saturating_sub(WISH_ENDS_MAX);
        watermarks.ends.drain(..surplus);
        self.put_watermarks(watermarks, effects);
        true
    }

    pub(super) fn watermarks_of(&self, device: &DeviceId) -> Watermarks {
        let known = self.watermarks.get(device).map(|known| known.as_ref().clone());
        known.unwrap_or_else(|| Watermarks::new(device.clone()))
    }

    /// Takes out what is about wishes that are no more.
    pub(super) fn forget_unwished(&self, watermarks: &mut Watermarks) {
        if let Some(device) = self.devices.get(&watermarks.device) {
            let claimed = std::mem::take(&mut watermarks.claimed);
            let known = |revision: &Revision| device.wishes.leads_back_to(*revision, &claimed);
            watermarks.claimed = claimed.iter().copied().filter(known).collect();
            watermarks.failures.retain(|failure| device.wishes.remembers(failure.revision));
        }
    }

    /// Puts watermarks, without what is about wishes that are no more.
    pub(super) fn put_watermarks(&mut self, mut watermarks: Watermarks, effects: &mut Effects) {
        self.forget_unwished(&mut watermarks);
        watermarks.revision = effects.revision();
        self.put(watermarks, effects);
    }

    /// Makes what a device says of itself desired, when nobody wanted anything else meanwhile.
    pub(super) fn adopt(&mut self, command: &AgentCommand, effects: &mut Effects) -> Decision {
        let AgentCommand::Adopt { link, epoch, device, property, value, seen_revision } = command
        else {
            return Ok(Outcome::Unchanged);
        };
        self.owned_link(link, *epoch)?;
        let before = self.device_on(device, link)?;
        let seen = before.wishes.get(property).filter(|wish| wish.revision == *seen_revision);
        let Some(wish) = seen else {
            let message = format!(
                "{property:?} of device {device} is not at revision {seen_revision} any more"
            );
            return Err(Rejection::new(RejectCode::RevisionMismatch, message));
        };
        if wish.value == *value {
            return Ok(Outcome::Unchanged);
        }
        if let Some(held) = before.blocked() {
            return Err(blocked(&format_args!("device {device}"), held));
        }
        let mut wishes = before.wishes.clone();
        let (value, wished_log_ms) = (value.clone(), self.counters.log_time_ms);
        let wish = Wish { value, revision: effects.revision(), wished_log_ms, ttl: None };
        wishes.insert(property.clone(), wish);
        check_wishes(&wishes.object())?;
        check_model(before.spec.model.as_ref(), &wishes.object())?;
        self.put_wishes(&before, wishes, effects)?;
        Ok(ACCEPTED)
    }

    /// A device, when it hangs on this link.
    pub(super) fn device_on(
        &self,
        device: &DeviceId,
        link: &crate::ids::LinkId,
    ) -> Result<Arc<Device>, Rejection> {
        let on = |device: &&Arc<Device>| device.spec.link.as_ref() == Some(link);
        self.devices.get(device).filter(on).cloned().ok_or_else(|| {
            let message = format!("there is no device {device} on link {link}");
            Rejection::new(RejectCode::NotFound, message)
        })
    }
}

/// The rejection of what would have to be written where nothing may be.
pub(super) fn blocked(entity: &dyn std::fmt::Display, why: &str) -> Rejection {
    let message = format!("{entity} {why}, so nothing is written to it");
    Rejection::new(RejectCode::Blocked, message)
}

/// What a time limit can't be given to.
fn check_limited(device: &Device, touched: &[(Arc<str>, Option<Value>)]) -> Result<(), Rejection> {
    if device.spec.link.is_none() {
        let message = format!(
            "device {} is on no link, so nobody could hand it anything in time; leave the time limit out",
            device.id
        );
        return Err(Rejection::new(RejectCode::LinkNotFound, message));
    }
    match touched.iter().find(|(_, value)| value.is_none()) {
        Some((property, _)) => {
            let message = format!(
                "taking {property:?} away hands nothing to the device, so it takes no time limit; do it by itself"
            );
            Err(Rejection::new(RejectCode::Malformed, message))
        }
        None => Ok(()),
    }
}

pub(super) fn check_model(model: Option<&Schema>, desired: &Object) -> Result<(), Rejection> {
    let checked = model.map_or(Ok(()), |model| model.check(desired));
    checked.map_err(|violation| {
        Rejection::new(RejectCode::Schema, format!("{violation}; see the device's model"))
    })
}
