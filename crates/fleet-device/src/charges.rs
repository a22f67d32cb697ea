//! The links that a node works on, each in one epoch.
//!
//! Work on a link begins once in an epoch: it never begins again in one in which it has ended,
//! panicked, or was under way in an earlier start of the process. What such a run may have handed
//! over nobody knows, so the link is given back and comes again, here or elsewhere, in a new epoch.
//! What an earlier start owned is known from a read barrier, which sees everything that start could
//! have acted on; until it is answered no work begins at all.

use std::collections::{BTreeMap, BTreeSet};

use fleet_state::{FleetState, LinkId, NodeId};

/// A link in an epoch.
pub type Charge = (LinkId, u64);

/// What a node works on, and what it will not work on any more.
#[derive(Debug)]
pub struct Charges {
    node: NodeId,
    running: BTreeMap<LinkId, u64>,
    over: BTreeSet<Charge>,
}

/// What a look at the state asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Work on these begins now.
    pub start: Vec<Charge>,
    /// Work on these is to end.
    pub let_go: Vec<LinkId>,
    /// There is a link that is written to by lease.
    pub lease_wanted: bool,
}

impl Charges {
    /// After a start of the process, with the state of its first read barrier.
    #[must_use]
    pub fn after_barrier(node: NodeId, state: &FleetState) -> Self {
        let owned = state.links().filter(|link| link.owner == Some(node));
        let over = owned.map(|link| (link.id.clone(), link.epoch)).collect();
        Self { node, running: BTreeMap::new(), over }
    }

    /// Nothing is known, and nothing is worked on: the process ends before it was told.
    #[must_use]
    pub fn none(node: NodeId) -> Self {
        Self { node, running: BTreeMap::new(), over: BTreeSet::new() }
    }

    /// What the state asks for. What is to start counts as under way.
    pub fn follow(&mut self, state: &FleetState) -> Turn {
        let mut turn = Turn::default();
        for link in state.links().filter(|link| link.owner == Some(self.node)) {
            turn.lease_wanted |= !link.unleased;
            let charge = (link.id.clone(), link.epoch);
            if self.over.contains(&charge) {
                continue;
            }
            match self.running.get(&link.id) {
                None => {
                    self.running.insert(link.id.clone(), link.epoch);
                    turn.start.push(charge);
                }
                Some(epoch) if *epoch != link.epoch || link.releasing => {
                    turn.let_go.push(link.id.clone());
                }
                Some(_) => {}
            }
        }
        for id in self.running.keys() {
            if state.link(id).is_none_or(|link| link.owner != Some(self.node)) {
                turn.let_go.push(id.clone());
            }
        }
        self.over.retain(|(id, epoch)| state.link(id).is_some_and(|link| link.epoch <= *epoch));
        turn
    }

    /// Work has ended, for whatever reason: not again in this epoch.
    pub fn ended(&mut self, charge: Charge) {
        self.running.remove(&charge.0);
        self.over.insert(charge);
    }

    /// Whether work on a link in this epoch is not to begin any more.
    #[must_use]
    pub fn is_over(&self, charge: &Charge) -> bool {
        self.over.contains(charge)
    }

    /// The links that are worked on.
    pub fn running(&self) -> impl Iterator<Item = &LinkId> {
        self.running.keys()
    }

    /// What this node owns and does not work on: it is to be given back.
    #[must_use]
    pub fn to_release(&self, state: &FleetState) -> Vec<Charge> {
        let owned = |(id, epoch): &&Charge| {
            let owner = |link: &std::sync::Arc<fleet_state::Link>| {
                link.owner == Some(self.node) && link.epoch == *epoch
            };
            state.link(id).is_some_and(owner)
        };
        let idle = |(id, _): &&Charge| !self.running.contains_key(id);
        self.over.iter().filter(owned).filter(idle).cloned().collect()
    }
}
