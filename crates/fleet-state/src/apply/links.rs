//! Links.

use std::sync::Arc;

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::owners::check_fits;
use super::{ACCEPTED, Decision};
use crate::command::LinkSpec;
use crate::ids::{LinkId, NodeId, NodeName, Revision};
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
        let owner = before.and_then(|link| link.owner);
        let wanted = before.and_then(|link| link.wanted);
        let wired_to_owner =
            owner.is_some() && spec.placement.is_wired() && self.all_fit(owner, spec);
        let unleased = before.is_some_and(|link| link.unleased) || wired_to_owner;
        let link = Link {
            id: id.clone(),
            spec: spec.clone(),
            owner,
            epoch: before.map_or(revision.get(), |link| link.epoch),
            unleased,
            releasing: before.is_some_and(|link| link.releasing),
            wanted: wanted.filter(|wanted| self.all_fit(Some(*wanted), spec)),
            paused: before.is_some_and(|link| link.paused),
            registered: before.map_or(revision, |link| link.registered),
            revision,
            changed_wall_ms: effects.wall_time_ms(),
        };
        let releasing = link.releasing || self.is_misplaced(&link);
        self.try_put(Link { releasing, ..link }, effects)?;
        Ok(ACCEPTED)
    }

    pub(super) fn link_delete(
        &mut self,
        id: &LinkId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let entity = format_args!("link {id}");
        self.existing_link(id, expected)?;
        let uses = self.link_uses(id);
        if uses > 0 {
            let message = format!(
                "{entity} carries {uses} devices; delete them or move them to another link first"
            );
            return Err(Rejection::new(RejectCode::InUse, message));
        }
        self.settle_dispatching(id, "the link was deleted", effects);
        self.delete::<Link>(id, effects);
        Ok(ACCEPTED)
    }

    /// Asks the owner to let go. A link that nobody owns is merely told who is to have it next.
    pub(super) fn link_move(
        &mut self,
        id: &LinkId,
        to: Option<&NodeName>,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_link(id, expected)?;
        let wanted = to.map(|name| self.mover(&before, name)).transpose()?;
        if wanted.is_some() && wanted == before.owner && !before.releasing {
            return Ok(Outcome::Unchanged);
        }
        let releasing = before.owner.is_some() && wanted != before.owner;
        let link = Link { releasing, wanted, ..before.as_ref().clone() };
        self.put_link(&before, link, effects)
    }

    /// The member that a link is to move to.
    fn mover(&self, link: &Link, name: &NodeName) -> Result<NodeId, Rejection> {
        let member = self.member_named(name).filter(|member| !member.leaving).ok_or_else(|| {
            let message =
                format!("no member of the site is named {name}; `member ls` shows who is");
            Rejection::new(RejectCode::NotFound, message)
        })?;
        check_fits(link, member)?;
        if member.draining {
            let message = format!(
                "{name} is drained and takes no links; end that first (flotilla member resume)"
            );
            return Err(Rejection::new(RejectCode::Denied, message));
        }
        Ok(member.id)
    }

    pub(super) fn link_pause(
        &mut self,
        id: &LinkId,
        paused: bool,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.existing_link(id, expected)?;
        let link = Link { paused, ..before.as_ref().clone() };
        self.put_link(&before, link, effects)
    }

    fn existing_link(
        &self,
        id: &LinkId,
        expected: Option<Revision>,
    ) -> Result<Arc<Link>, Rejection> {
        let entity = format_args!("link {id}");
        let link = self.links.get(id).ok_or_else(|| not_found(&entity))?;
        compare_revision(&entity, Some(link.revision), expected)?;
        Ok(link.clone())
    }

    /// Puts a link of which something else than its specification may have changed.
    pub(super) fn put_link(
        &mut self,
        before: &Link,
        link: Link,
        effects: &mut Effects,
    ) -> Decision {
        if *before == link {
            return Ok(Outcome::Unchanged);
        }
        let revision = effects.revision();
        let link = Link { revision, changed_wall_ms: effects.wall_time_ms(), ..link };
        self.put(link, effects);
        Ok(ACCEPTED)
    }
}
