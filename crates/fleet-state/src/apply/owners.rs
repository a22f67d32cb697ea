//! Who owns a link, and which members are to own none.
//!
//! Whether it is safe to give a link to another node is not decided here: the leader does that, by leases, before it
//! proposes. What is decided here is that every change of owner begins a new epoch, which makes everything that was
//! said under the epoch before stale.

use std::sync::Arc;

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::{ACCEPTED, Decision};
use crate::command::{LabelPatch, LinkSpec, Placement};
use crate::ids::{LinkId, NodeId, Revision};
use crate::limits::LABELS_MAX;
use crate::outcome::{Outcome, RejectCode, Rejection};
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
        check_fits(link, member)
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
            unleased: owner.is_some() && before.spec.placement.is_wired(),
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
            return Ok(Outcome::Unchanged);
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
            let misplaced = self.is_misplaced(&link);
            let releasing = link.owner == Some(node) && (drain || wanted.is_some() || misplaced);
            let after = Link { releasing, wanted, ..link.clone() };
            self.put_link(&link, after, effects)?;
        }
        let revision = effects.revision();
        self.put(Member { draining: drain, revision, ..before }, effects);
        Ok(ACCEPTED)
    }
}

impl FleetState {
    /// Changes the labels of a member. A link that it owns and that its labels fit no more moves.
    pub(super) fn member_label(
        &mut self,
        node: NodeId,
        patch: &LabelPatch,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.live_member(node)?.clone();
        compare_revision(&format_args!("node {node}"), Some(before.revision), expected)?;
        let mut labels = before.labels.clone();
        for (key, value) in patch {
            match value {
                Some(value) => labels.insert(key.clone(), value.clone()),
                None => labels.remove(key),
            };
        }
        if labels == before.labels {
            return Ok(Outcome::Unchanged);
        }
        if labels.len() > LABELS_MAX {
            return Err(limit_reached("labels of one member", LABELS_MAX));
        }
        self.put(Member { labels, revision: effects.revision(), ..before }, effects);
        let misplaced: Vec<Arc<Link>> = self
            .links
            .iter()
            .filter(|link| link.owner == Some(node) && self.is_misplaced(link))
            .cloned()
            .collect();
        for link in misplaced {
            let after = Link { releasing: true, ..link.as_ref().clone() };
            self.put_link(&link, after, effects)?;
        }
        Ok(ACCEPTED)
    }

    /// Whether the owner of a link has to let go: its placement fits it no more, or it may write without a lease to what
    /// others could own now.
    pub(super) fn is_misplaced(&self, link: &Link) -> bool {
        let wired = link.spec.placement.is_wired();
        !self.all_fit(link.owner, &link.spec) || (link.unleased && !wired)
    }

    /// Whether a link of this kind may be served where it is, or is to be. A member that is gone fits nothing, and what
    /// it owned is taken from it as soon as that is safe.
    pub(super) fn all_fit(&self, nodes: impl IntoIterator<Item = NodeId>, spec: &LinkSpec) -> bool {
        let fits = |node| self.members.get(&node).is_some_and(|member| spec.placement.fits(member));
        nodes.into_iter().all(fits)
    }
}

/// Refuses a member that a link's placement does not allow.
pub(super) fn check_fits(link: &Link, member: &Member) -> Result<(), Rejection> {
    if link.spec.placement.fits(member) {
        return Ok(());
    }
    let message = match &link.spec.placement {
        Placement::On(name) => {
            format!("link {} is wired to {name}; change its placement", link.id)
        }
        Placement::Any { .. } => format!(
            "{} has not the labels that the placement of link {} asks for; change one of the two",
            member.name, link.id
        ),
    };
    Err(Rejection::new(RejectCode::Denied, message))
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
