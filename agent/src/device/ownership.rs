//! Who owns which link: decided by the leader, carried out through the log.
//!
//! Every node runs this; only the leader acts, and without a majority nothing that it proposes
//! is committed. A link without an owner goes to the node that it is wanted on, else to the
//! first of its candidates by rendezvous hashing over (link, node), so that the loss of a node
//! moves its links and no others. A link is taken from an owner only when that owner's lease is
//! over for certain: no read barrier asked for since [`LEASE_MS`] and a margin for clocks that
//! run apart. Who comes back gets nothing back by itself; `link move` does that.
//!
//! Gossip and presence have no say here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet_consensus::{NodeRole, View};
use fleet_state::{AgentCommand, Link, LinkId, Member, NodeId, Outcome, Placement};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, MissedTickBehavior};

use super::lease::LEASE_MS;
use super::metrics::DeviceMetrics;
use crate::consensus::{Handle, Submitted};

/// Clocks may run apart by a twentieth, and a turn of the loop may be late.
const MARGIN_MS: u64 = LEASE_MS / 20 + 150;
/// A node that asked for no read barrier for so long has no lease.
const SILENT_MS: u64 = LEASE_MS + MARGIN_MS;
/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A link that was let go isn't given back to the same node for so long, if another one fits.
const REST_MS: u64 = 5_000;
/// How long one assignment may take until it is looked at again.
const ASSIGN_WITHIN: Duration = Duration::from_secs(2);
/// Assignments begun in one look.
const ASSIGNMENTS_PER_LOOK: usize = 64;
/// The label of a placement that every node has: its name.
const NODE_LABEL: &str = "node";

/// A change of owner that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub link: LinkId,
    pub expect_epoch: u64,
    pub owner: NodeId,
    /// From whom it is taken.
    pub from: Option<NodeId>,
}

/// Who let go of what lately.
#[derive(Debug, Default)]
pub(super) struct Resting(BTreeMap<LinkId, (NodeId, u64)>);

impl Resting {
    /// Notes the owners there are, and forgets links that are gone.
    pub(super) fn note(&mut self, view: &View, now_ms: u64) {
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

/// Gives links to nodes, as long as the process lives.
pub(super) async fn assign(handle: Handle, metrics: DeviceMetrics) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resting = Resting::default();
    loop {
        looks.tick().await;
        let view = handle.view();
        let now_ms = handle.clock().now_ms();
        let mut due = due(&view, &resting, now_ms);
        resting.note(&view, now_ms);
        due.truncate(ASSIGNMENTS_PER_LOOK);
        if !due.is_empty() {
            carry_out_all(&handle, &metrics, due).await;
        }
    }
}

/// Seizes the nodes that something is taken from, gives it to others, and answers them again.
async fn carry_out_all(handle: &Handle, metrics: &DeviceMetrics, due: Vec<Assignment>) {
    let silent: BTreeSet<NodeId> = due.iter().filter_map(|assignment| assignment.from).collect();
    let mut seized = BTreeSet::new();
    for node in silent {
        if handle.seize(node, SILENT_MS).await {
            seized.insert(node);
        }
    }
    let safe = |assignment: &Assignment| assignment.from.is_none_or(|from| seized.contains(&from));
    let ends = due.into_iter().filter(safe).map(|due| carry_out(handle, metrics, due));
    let decided = futures_util::future::join_all(ends).await;
    // What is not decided may be committed yet: then the bound on seizing answers them again.
    if decided.iter().all(|decided| *decided) {
        for node in seized {
            handle.resume(node).await;
        }
    }
}

/// Gives one link to a node; `true` when the log has decided.
async fn carry_out(handle: &Handle, metrics: &DeviceMetrics, assignment: Assignment) -> bool {
    let Assignment { link, expect_epoch, owner, from } = assignment;
    tracing::info!(
        %link,
        owner = owner.get(),
        from = from.map(NodeId::get),
        epoch = expect_epoch,
        "a link is given to a node"
    );
    let command = AgentCommand::LinkAssign { link: link.clone(), expect_epoch, owner: Some(owner) };
    match handle.submit_own(command, Instant::now() + ASSIGN_WITHIN).await {
        Submitted::Decided(answer) => {
            if from.is_some() && matches!(answer.outcome, Outcome::Accepted(_)) {
                metrics.takeovers.inc();
            }
            true
        }
        end @ (Submitted::Busy { .. }
        | Submitted::NoLeader
        | Submitted::Unknown
        | Submitted::Stopping) => {
            tracing::debug!(%link, ?end, "an assignment is looked at again");
            false
        }
    }
}

/// The changes of owner that are due, if this node leads.
pub(super) fn due(view: &View, resting: &Resting, now_ms: u64) -> Vec<Assignment> {
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
    let wired = matches!(link.spec.placement, Placement::On(_));
    if wired && !gone {
        return false;
    }
    if owner == view.standing.node {
        // The leader hears its own barriers without asking; it lets go by itself.
        return false;
    }
    let silent_ms = view.standing.leases.silent_ms(owner, now_ms);
    silent_ms.is_some_and(|silent_ms| silent_ms > SILENT_MS)
}

/// The nodes that could own a link now.
fn candidates(view: &View, link: &Link) -> Vec<NodeId> {
    let standing = &view.standing;
    let is_there = |node: NodeId| {
        let active = |member: &&fleet_consensus::MemberProgress| member.node == node;
        node == standing.node
            || standing.progress.iter().find(active).is_some_and(|member| member.active)
    };
    let fits = |member: &Member| match &link.spec.placement {
        Placement::On(name) => member.name == *name,
        Placement::Any { labels } => {
            !member.draining
                && labels.iter().all(|(key, value)| {
                    key.as_ref() == NODE_LABEL && value.as_ref() == member.name.as_str()
                })
        }
    };
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
