//! Which node gets which link, as the leader sees it.
//!
//! A link without an owner goes to the node that it is wanted on, else to the first of its
//! candidates by rendezvous hashing over (link, node), so that the loss of a node moves its links
//! and no others. A link is taken from an owner only when that owner's lease is over for certain:
//! no read barrier asked for since [`silent_ms`]. Who comes back gets nothing back by itself;
//! `link move` does that.
//!
//! Gossip and presence have no say here.

use std::collections::BTreeMap;

use fleet_consensus::{NodeRole, View};
use fleet_state::{Link, LinkId, Member, NodeId, Placement};
use sha2::{Digest, Sha256};

use crate::lease::silent_ms;
use crate::seeded;

/// A link that was let go isn't given back to the same node for so long, if another one fits.
const REST_MS: u64 = 5_000;

/// A change of owner that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The link.
    pub link: LinkId,
    /// The epoch that ends.
    pub expect_epoch: u64,
    /// Who gets it.
    pub owner: NodeId,
    /// From whom it is taken.
    pub from: Option<NodeId>,
}

/// Who let go of what lately.
#[derive(Debug, Default)]
pub struct Resting(BTreeMap<LinkId, (NodeId, u64)>);

impl Resting {
    /// Notes the owners there are, and forgets links that are gone.
    pub fn note(&mut self, view: &View, now_ms: u64) {
        let links = view.state.links().filter_map(|link| Some((link.id.clone(), link.owner?)));
        for (link, owner) in links {
            self.0.insert(link, (owner, now_ms));
        }
        self.0.retain(|link, _| view.state.link(link).is_some());
    }

    fn rests(&self, link: &LinkId, node: NodeId, now_ms: u64) -> bool {
        self.0
            .get(link)
            .is_some_and(|(owner, at_ms)| *owner == node && now_ms.saturating_sub(*at_ms) < REST_MS)
    }
}

/// The changes of owner that are due, if this node leads.
#[must_use]
pub fn due(view: &View, resting: &Resting, now_ms: u64) -> Vec<Assignment> {
    if view.standing.role != NodeRole::Leader {
        return Vec::new();
    }
    let links = view.state.links();
    links.filter_map(|link| assignment(view, link, resting, now_ms)).collect()
}

fn assignment(view: &View, link: &Link, resting: &Resting, now_ms: u64) -> Option<Assignment> {
    if let Some(owner) = link.owner
        && !may_be_taken(view, link, owner, now_ms)
    {
        return None;
    }
    let fits = |node: NodeId| Some(node) != link.owner;
    let candidates: Vec<NodeId> =
        candidates(view, link).into_iter().filter(|node| fits(*node)).collect();
    let wanted = link.wanted.filter(|wanted| candidates.contains(wanted));
    let rested = |node: &&NodeId| !resting.rests(&link.id, **node, now_ms);
    let best = |nodes: &mut dyn Iterator<Item = &NodeId>| {
        nodes.copied().max_by_key(|node| weight(&link.id, *node))
    };
    let owner = wanted
        .or_else(|| best(&mut candidates.iter().filter(rested)))
        .or_else(|| best(&mut candidates.iter()))?;
    Some(Assignment { link: link.id.clone(), expect_epoch: link.epoch, owner, from: link.owner })
}

/// Whether the owner can't write any more, whatever it believes.
fn may_be_taken(view: &View, link: &Link, owner: NodeId, now_ms: u64) -> bool {
    let gone = view.state.member(&owner).is_none_or(|member| !member.is_live());
    if link.unleased && !gone {
        return false;
    }
    if owner == view.standing.node {
        // The leader hears its own barriers without asking; it lets go by itself.
        return false;
    }
    if seeded::on("links-never-taken-over") {
        return false;
    }
    let silence_ms = view.standing.leases.silent_ms(owner, now_ms);
    silence_ms.is_some_and(|silence_ms| silence_ms > silent_ms())
}

/// The nodes that could own a link now.
fn candidates(view: &View, link: &Link) -> Vec<NodeId> {
    let standing = &view.standing;
    let is_there = |node: NodeId| {
        let active = |member: &&fleet_consensus::MemberProgress| member.node == node;
        node == standing.node
            || standing.progress.iter().find(active).is_some_and(|member| member.active)
    };
    let wired = matches!(link.spec.placement, Placement::On(_));
    let fits = |member: &Member| link.spec.placement.fits(member) && (wired || !member.draining);
    view.state
        .members()
        .filter(|member| member.is_live() && !member.leaving && is_there(member.id))
        .filter(|member| fits(member))
        .map(|member| member.id)
        .collect()
}

/// The weight of a node for a link: the same on all nodes, and without a pattern.
fn weight(link: &LinkId, node: NodeId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(node.get().to_be_bytes());
    hash.update(link.as_str().as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
