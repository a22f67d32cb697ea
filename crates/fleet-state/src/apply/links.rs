//! Links.

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::{ACCEPTED, Decision};
use crate::command::LinkSpec;
use crate::ids::{LinkId, Revision};
use crate::limits::LINKS_MAX;
use crate::outcome::{Outcome, RejectCode, Rejection};
use crate::record::Link;
use crate::state::FleetState;

impl FleetState {
    pub(super) fn link_register(
        &mut self,
        id: &LinkId,
        spec: &LinkSpec,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.links.get(id);
        compare_revision(&format_args!("link {id}"), before.map(|link| link.revision), expected)?;
        if before.is_some_and(|link| link.spec == *spec) {
            return Ok(Outcome::Unchanged);
        }
        if before.is_none() && self.links.len() >= LINKS_MAX {
            return Err(limit_reached("links", LINKS_MAX));
        }
        let revision = effects.revision();
        let link = Link {
            id: id.clone(),
            spec: spec.clone(),
            registered: before.map_or(revision, |link| link.registered),
            revision,
            changed_wall_ms: effects.wall_time_ms(),
        };
        self.try_put(link, effects)?;
        Ok(ACCEPTED)
    }

    pub(super) fn link_delete(
        &mut self,
        id: &LinkId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let entity = format_args!("link {id}");
        let before = self.links.get(id).ok_or_else(|| not_found(&entity))?;
        compare_revision(&entity, Some(before.revision), expected)?;
        let uses = self.link_uses(id);
        if uses > 0 {
            let message = format!(
                "{entity} carries {uses} devices; delete them or move them to another link first"
            );
            return Err(Rejection::new(RejectCode::InUse, message));
        }
        self.delete::<Link>(id, effects);
        Ok(ACCEPTED)
    }
}
