//! Who owns a link, and which members are to own none.
//!
//! Whether it is safe to give a link to another node is not decided here: the leader does that, by leases, before it
//! proposes. What is decided here is that every change of owner begins a new epoch, which makes everything that was
//! said under the epoch before stale.

use super::effects::{Effects, compare_revision, not_found};
use super::{ACCEPTED, Decision};
use crate::command::Placement;
use crate::ids::{LinkId, NodeId, Revision};
use crate::outcome::{RejectCode, Rejection};
use crate::record::{Link, Member};
use crate::seeded;
use crate::state::FleetState;

impl FleetState {
    pub(super) fn link_assign(
        &mut self,
        id: &LinkId,
        expect_epoch: u64,
        owner: Option<NodeId>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.links.get(id).cloned();
        let before = before.ok_or_else(|| not_found(&format_args!("link {id}")))?;
        if before.epoch != expect_epoch {
            return Err(stale_epoch(&before, expect_epoch));
        }
        if let Some(node) = owner {
            self.check_owner(&before, node)?;
        }
        self.settle_dispatching(id, "the link changed hands", effects);
        self.hand_over(&before, owner, effects);
        Ok(ACCEPTED)
    }

    fn check_owner(&self, link: &Link, node: NodeId) -> Result<(), Rejection> {
        let member = self.live_member(node)?;
        match &link.spec.placement {
            Placement::On(name) if *name != member.name => {
                let message =
                    format!("link {} is wired to {name}, not to {}", link.id, member.name);
                Err(Rejection::new(RejectCode::Denied, message))
            }
            Placement::On(_) | Placement::Any { .. } => Ok(()),
        }
    }

    pub(super) fn link_release(
        &mut self,
        id: &LinkId,
        epoch: u64,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.owned_link(id, epoch)?;
        self.settle_dispatching(id, "its owner let go of the link", effects);
        self.hand_over(&before, None, effects);
        Ok(ACCEPTED)
    }

    fn hand_over(&mut self, before: &Link, owner: Option<NodeId>, effects: &mut Effects) {
        let link = Link {
            owner,
            epoch: before.epoch.saturating_add(1),
            releasing: false,
            // Who is to have it next stands until somebody has it.
            wanted: before.wanted.filter(|_| owner.is_none()),
            revision: effects.revision(),
            changed_wall_ms: effects.wall_time_ms(),
            ..before.clone()
        };
        self.put(link, effects);
    }

    /// The link, when this epoch is its owner's.
    pub(super) fn owned_link(&self, id: &LinkId, epoch: u64) -> Result<Link, Rejection> {
        let link = self.links.get(id).ok_or_else(|| not_found(&format_args!("link {id}")))?;
        let same = link.epoch == epoch || seeded::on("epoch-not-checked");
        if same && link.owner.is_some() {
            Ok(link.as_ref().clone())
        } else {
            Err(stale_epoch(link, epoch))
        }
    }

    /// Asks a member to let go of every link that another node could own, or lets it have links again.
    pub(super) fn node_drain(
        &mut self,
        node: NodeId,
        drain: bool,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.live_member(node)?.clone();
        compare_revision(&format_args!("node {node}"), Some(before.revision), expected)?;
        if before.draining == drain {
            return Ok(crate::outcome::Outcome::Unchanged);
        }
        let owned: Vec<Link> = self
            .links
            .iter()
            .filter(|link| link.owner == Some(node) || link.wanted == Some(node))
            .filter(|link| matches!(link.spec.placement, Placement::Any { .. }))
            .map(|link| link.as_ref().clone())
            .collect();
        for link in owned {
            // A move to another node, asked for before, goes on.
            let wanted = link.wanted.filter(|wanted| *wanted != node);
            let releasing = link.owner == Some(node) && (drain || wanted.is_some());
            let after = Link { releasing, wanted, ..link.clone() };
            self.put_link(&link, after, effects)?;
        }
        let revision = effects.revision();
        self.put(Member { draining: drain, revision, ..before }, effects);
        Ok(ACCEPTED)
    }
}

fn stale_epoch(link: &Link, epoch: u64) -> Rejection {
    let message = match link.owner {
        Some(node) => {
            format!(
                "link {} is at epoch {}, owned by node {node}, not {epoch}",
                link.id, link.epoch
            )
        }
        None => format!("link {} is at epoch {} and has no owner", link.id, link.epoch),
    };
    Rejection::new(RejectCode::StaleEpoch, message)
}
