//! Changes of who belongs to the site.

use fleet_state::NodeId;

use super::super::World;
use crate::node::Life;

/// A change of who belongs to the site.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Join,
    Remove,
    Wipe,
    Voters,
}

impl World {
    /// Whether learners are about to become voters. With two voters nobody can be spared.
    fn voters_will_grow(&self) -> bool {
        let (voters, learners) = self.invariants.membership.newest();
        let wanted = self.invariants.states.reference().map_or(0, |(s, _)| s.voters_wanted());
        let grows = voters.len() + 2 <= usize::from(wanted) && learners.len() >= 2;
        let one_more = voters.len() % 2 == 0 && !learners.is_empty();
        one_more || grows
    }

    /// One change at a time, and never so that fewer than a majority could come back.
    fn may_change(&mut self, change: Change, node: NodeId) -> bool {
        let (voters, learners) = self.invariants.membership.newest();
        let keys = self.nodes.values().filter(|n| n.life != Life::Gone && n.site_key.is_some());
        let keepers = keys.filter(|n| n.id != node && voters.contains(&n.id)).count();
        if matches!(change, Change::Wipe | Change::Remove) && keepers == 0 {
            // Who holds the only copy of the site key must not be lost.
            return false;
        }
        let settled = self.operator_idle()
            && self
                .invariants
                .states
                .reference()
                .is_some_and(|(state, _)| state.members().all(|m| !m.leaving || !m.is_live()))
            && voters.iter().chain(&learners).all(|id| {
                let node = self.nodes.get(id);
                node.is_some_and(|node| node.life != Life::Gone && node.doubt.is_none())
            });
        // A configuration helps those only who know that it is in force: until the voters do,
        // they elect under the one before, which may not bear the loss of a node.
        let at = self.invariants.membership.newest_index();
        let known = voters.iter().all(|id| {
            let replica = self.nodes.get(id).and_then(|node| node.replica.as_ref());
            replica.is_some_and(|replica| replica.applied().get() >= at)
        });
        if !settled || (change == Change::Wipe && !known) {
            return false;
        }
        let live = voters.len() + learners.len();
        let few = match change {
            Change::Remove => live < 4,
            Change::Wipe => voters.len() < 3,
            Change::Join | Change::Voters => false,
        };
        if few && !self.voters_will_grow() {
            self.invite();
        }
        !(few || change == Change::Wipe && self.voters_will_grow())
    }

    /// Whether the site bears the loss of a node's disk.
    pub(super) fn may_lose(&mut self, node: NodeId) -> bool {
        self.may_change(Change::Wipe, node)
    }

    /// A node is lost for good; another one takes its place.
    pub(in super::super) fn replace(&mut self, node: NodeId) {
        self.wipe(node);
        self.remove(node);
        self.invite();
    }

    pub(super) fn change_membership(&mut self, change: Change, node: NodeId) -> bool {
        if !self.may_change(change, node) {
            return false;
        }
        match change {
            Change::Join => self.invite(),
            Change::Remove => self.remove(node),
            Change::Voters => {
                let live = self.nodes.values().filter(|node| node.life != Life::Gone).count();
                let wanted: &[u8] = if live > 6 { &[3, 5, 7] } else { &[3, 5] };
                let wanted = self.random.pick(wanted).copied().unwrap_or(3);
                self.set_voters(wanted);
            }
            Change::Wipe => self.replace(node),
        }
        true
    }
}
