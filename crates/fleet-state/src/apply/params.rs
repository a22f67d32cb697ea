//! Parameters.

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::{ACCEPTED, Decision};
use crate::ids::{ParamKey, Revision};
use crate::limits::PARAMS_MAX;
use crate::outcome::Outcome;
use crate::record::Param;
use crate::seeded;
use crate::state::FleetState;
use crate::value::Value;

impl FleetState {
    pub(super) fn param_set(
        &mut self,
        key: &ParamKey,
        value: &Value,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.params.get(key);
        let expected = expected.filter(|_| !seeded::on("precondition-ignored"));
        compare_revision(
            &format_args!("parameter {key}"),
            before.map(|param| param.revision),
            expected,
        )?;
        if before.is_some_and(|param| param.value == *value) {
            return Ok(Outcome::Unchanged);
        }
        if before.is_none() && self.params.len() >= PARAMS_MAX {
            return Err(limit_reached("parameters", PARAMS_MAX));
        }
        let revision = effects.revision();
        let param = Param {
            key: key.clone(),
            value: value.clone(),
            created: before.map_or(revision, |param| param.created),
            revision,
            changed_wall_ms: effects.wall_time_ms(),
        };
        self.try_put(param, effects)?;
        Ok(ACCEPTED)
    }

    pub(super) fn param_delete(
        &mut self,
        key: &ParamKey,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let entity = format_args!("parameter {key}");
        let before = self.params.get(key).ok_or_else(|| not_found(&entity))?;
        compare_revision(&entity, Some(before.revision), expected)?;
        self.delete::<Param>(key, effects);
        Ok(ACCEPTED)
    }
}
