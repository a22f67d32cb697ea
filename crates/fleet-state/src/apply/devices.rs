//! Devices.

use std::sync::Arc;

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::{ACCEPTED, Decision};
use crate::command::{DeviceSpec, check_object};
use crate::ids::{DeviceId, LinkId, Revision};
use crate::limits::DEVICES_MAX;
use crate::outcome::{Outcome, RejectCode, Rejection};
use crate::record::Device;
use crate::schema::Schema;
use crate::state::FleetState;
use crate::value::Object;

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
            check_model(spec.model.as_ref(), &device.desired)?;
        }
        let revision = effects.revision();
        let device = Device {
            id: id.clone(),
            spec: spec.clone(),
            desired: before.as_ref().map(|device| device.desired.clone()).unwrap_or_default(),
            registered: before.as_ref().map_or(revision, |device| device.registered),
            desired_revision: before
                .as_ref()
                .map_or(Revision::NONE, |device| device.desired_revision),
            revision,
            changed_wall_ms: effects.wall_time_ms(),
        };
        self.try_put(device, effects)?;
        self.move_link_use(
            before.as_ref().and_then(|device| device.spec.link.as_ref()),
            spec.link.as_ref(),
        );
        Ok(ACCEPTED)
    }

    pub(super) fn device_update(
        &mut self,
        id: &DeviceId,
        patch: &Object,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        let desired = before.desired.merge_patch(patch);
        // The patch was within its limits, the merged object need not be.
        check_object(&desired)?;
        self.set_desired(&before, desired, effects)
    }

    pub(super) fn device_replace(
        &mut self,
        id: &DeviceId,
        desired: &Object,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        self.set_desired(&before, desired.clone(), effects)
    }

    pub(super) fn device_delete(
        &mut self,
        id: &DeviceId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_device(id, expected)?;
        self.move_link_use(before.spec.link.as_ref(), None);
        self.delete::<Device>(id, effects);
        Ok(ACCEPTED)
    }

    fn existing_device(
        &self,
        id: &DeviceId,
        expected: Option<Revision>,
    ) -> Result<Arc<Device>, Rejection> {
        let entity = format_args!("device {id}");
        let device = self.devices.get(id).ok_or_else(|| not_found(&entity))?;
        compare_revision(&entity, Some(device.revision), expected)?;
        Ok(device.clone())
    }

    fn set_desired(&mut self, before: &Device, desired: Object, effects: &mut Effects) -> Decision {
        check_model(before.spec.model.as_ref(), &desired)?;
        // The first setting counts even when it sets nothing: from then on the device has a desired state.
        if before.desired == desired && before.desired_revision != Revision::NONE {
            return Ok(Outcome::Unchanged);
        }
        let device = Device {
            id: before.id.clone(),
            spec: before.spec.clone(),
            desired,
            registered: before.registered,
            desired_revision: effects.revision(),
            revision: effects.revision(),
            changed_wall_ms: effects.wall_time_ms(),
        };
        self.try_put(device, effects)?;
        Ok(ACCEPTED)
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

fn check_model(model: Option<&Schema>, desired: &Object) -> Result<(), Rejection> {
    let checked = model.map_or(Ok(()), |model| model.check(desired));
    checked.map_err(|violation| {
        Rejection::new(RejectCode::Schema, format!("{violation}; see the device's model"))
    })
}
