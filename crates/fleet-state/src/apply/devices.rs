//! Devices: what they are and whether they are written to. What is desired of them is in `wishes.rs`.

use std::sync::Arc;

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::wishes::check_model;
use super::{ACCEPTED, Decision};
use crate::command::{DeviceSpec, Mode};
use crate::ids::{DeviceId, LinkId, Revision};
use crate::limits::DEVICES_MAX;
use crate::outcome::{Outcome, RejectCode, Rejection};
use crate::record::{Device, Hold, Watermarks, Wishes};
use crate::state::FleetState;

impl FleetState {
    pub(super) fn device_register(
        &mut self,
        id: &DeviceId,
        spec: &DeviceSpec,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.devices.get(id).cloned();
        compare_revision(
            &format_args!("device {id}"),
            before.as_ref().map(|device| device.revision),
            expected,
        )?;
        if before.as_ref().is_some_and(|device| device.spec == *spec) {
            return Ok(Outcome::Unchanged);
        }
        if before.is_none() && self.devices.len() >= DEVICES_MAX {
            return Err(limit_reached("devices", DEVICES_MAX));
        }
        if let Some(link) = spec.link.as_ref().filter(|link| self.links.get(link).is_none()) {
            let message = format!(
                "link {link} does not exist; register it before the devices that it carries"
            );
            return Err(Rejection::new(RejectCode::LinkNotFound, message));
        }
        // A model binds what is desired from the first time that something is.
        if let Some(device) =
            before.as_ref().filter(|device| device.desired_revision != Revision::NONE)
        {
            check_model(spec.model.as_ref(), &device.desired())?;
        }
        let (revision, changed_wall_ms) = (effects.revision(), effects.wall_time_ms());
        let device = match &before {
            Some(before) => {
                Device { spec: spec.clone(), revision, changed_wall_ms, ..before.as_ref().clone() }
            }
            None => Device {
                id: id.clone(),
                spec: spec.clone(),
                mode: Mode::default(),
                hold: None,
                wishes: Wishes::default(),
                registered: revision,
                desired_revision: Revision::NONE,
                revision,
                changed_wall_ms,
            },
        };
        self.try_put(device, effects)?;
        if let Some(before) = &before {
            self.forget_progress(before, spec, effects);
        }
        let from = before.as_ref().and_then(|device| device.spec.link.as_ref());
        if let Some(from) = from.filter(|from| spec.link.as_ref() != Some(from)) {
            self.settle_dispatching_of(id, from, "the device left its link", effects);
        }
        self.move_link_use(from, spec.link.as_ref());
        Ok(ACCEPTED)
    }

    /// What another address was told says nothing of this one.
    fn forget_progress(&mut self, before: &Device, spec: &DeviceSpec, effects: &mut Effects) {
        if before.spec.link == spec.link && before.spec.address == spec.address {
            return;
        }
        if let Some(known) = self.watermarks.get(&before.id).cloned() {
            let watermarks = Watermarks {
                claimed: known.claimed.clone(),
                ends: known.ends.clone(),
                ..Watermarks::new(before.id.clone())
            };
            self.put_watermarks(watermarks, effects);
        }
    }

    pub(super) fn device_delete(
        &mut self,
        id: &DeviceId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        self.move_link_use(before.spec.link.as_ref(), None);
        self.cancel_open(id, "the device was deleted", effects);
        self.delete::<Device>(id, effects);
        if let Some(link) = &before.spec.link {
            self.settle_dispatching_of(id, link, "the device was deleted", effects);
        }
        self.delete::<Watermarks>(id, effects);
        Ok(ACCEPTED)
    }

    pub(super) fn device_mode(
        &mut self,
        id: &DeviceId,
        mode: Mode,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        if mode == Mode::Observe {
            self.cancel_open(id, "the device was set to mode observe", effects);
        }
        self.put_device(&before, Device { mode, ..before.as_ref().clone() }, effects)
    }

    pub(super) fn device_hold(
        &mut self,
        id: &DeviceId,
        reason: &Arc<str>,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        if before.hold.as_ref().is_some_and(|hold| hold.reason == *reason) {
            return Ok(Outcome::Unchanged);
        }
        self.cancel_open(id, "the device was put on hold", effects);
        let (actor, revision) = (effects.actor(), effects.revision());
        let hold = Some(Hold { reason: reason.clone(), actor, revision });
        self.put_device(&before, Device { hold, ..before.as_ref().clone() }, effects)
    }

    pub(super) fn device_release(
        &mut self,
        id: &DeviceId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        self.put_device(&before, Device { hold: None, ..before.as_ref().clone() }, effects)
    }

    fn put_device(&mut self, before: &Device, device: Device, effects: &mut Effects) -> Decision {
        if *before == device {
            return Ok(Outcome::Unchanged);
        }
        let (revision, changed_wall_ms) = (effects.revision(), effects.wall_time_ms());
        self.try_put(Device { revision, changed_wall_ms, ..device }, effects)?;
        Ok(ACCEPTED)
    }

    pub(super) fn existing_device(
        &self,
        id: &DeviceId,
        expected: Option<Revision>,
    ) -> Result<Arc<Device>, Rejection> {
        let entity = format_args!("device {id}");
        let device = self.devices.get(id).ok_or_else(|| not_found(&entity))?;
        compare_revision(&entity, Some(device.revision), expected)?;
        Ok(device.clone())
    }

    /// Keeps count of the devices of a link.
    pub(crate) fn move_link_use(&mut self, from: Option<&LinkId>, to: Option<&LinkId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            match self.link_uses.get(from).copied().unwrap_or(0) {
                0 | 1 => self.link_uses.remove(from),
                uses => self.link_uses.insert(from.clone(), uses - 1),
            };
        }
        if let Some(to) = to {
            let uses = self.link_uses.get(to).copied().unwrap_or(0);
            self.link_uses.insert(to.clone(), uses.saturating_add(1));
        }
    }
}
