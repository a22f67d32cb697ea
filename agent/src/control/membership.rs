//! Whether this node still belongs to its site, by its own view.
//!
//! A member that is removed while it runs applies the entry that says so, and from then on hears
//! nothing more: its view stays as it was, with the leader of that time in it. It must not answer
//! for the site any more, least of all from that view. Who was away when it was removed is never
//! told; it stays without a leader, and [`super::elsewhere`] tells what that may mean.

use fleet_consensus::View;
use fleet_state::{Revision, Role};

/// What this node is to its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// A member, or one whose state has not come yet.
    Member,
    /// A member that is to be removed.
    Leaving,
    /// No member any more.
    Removed,
}

impl Membership {
    /// What the node of a view is.
    pub(crate) fn of(view: &View) -> Self {
        let node = view.standing.node;
        match view.state.member(&node) {
            Some(member) if member.role == Role::Removed => Self::Removed,
            Some(member) if member.leaving => Self::Leaving,
            Some(_) => Self::Member,
            // A joiner knows nothing before its first snapshot.
            None if view.applied == Revision::NONE => Self::Member,
            None if view.standing.voters.contains(&node) => Self::Member,
            None if view.standing.learners.contains(&node) => Self::Member,
            None => Self::Removed,
        }
    }

    /// What an operator should know, if anything.
    pub(crate) const fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Member => None,
            Self::Leaving => {
                Some("this node is being removed from the site, so it takes no requests")
            }
            Self::Removed => Some(
                "this node was removed from the site, so it takes no requests; stop it, or clear its data directory and join anew with a token",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_consensus::NodeRole;
    use fleet_state::NodeId;

    use crate::metrics::tests::view;

    use super::*;

    #[test]
    fn a_node_knows_whether_it_belongs() {
        let mut view = view(NodeRole::Follower, Some(1));
        assert_eq!(Membership::of(&view), Membership::Member);
        let node = view.standing.node;
        view.state.apply_role(Revision::new(13), node, Role::Removed);
        assert_eq!(Membership::of(&view), Membership::Removed);
        assert!(Membership::Removed.trouble().is_some_and(|said| said.contains("was removed")));
    }

    #[test]
    fn who_is_not_in_the_state_is_no_member_unless_the_state_has_not_come() {
        let mut view = view(NodeRole::Learner, None);
        Arc::make_mut(&mut view.standing).node = NodeId::new(9).unwrap();
        assert_eq!(Membership::of(&view), Membership::Removed);
        Arc::make_mut(&mut view.standing).learners = vec![NodeId::new(9).unwrap()];
        assert_eq!(Membership::of(&view), Membership::Member);
        Arc::make_mut(&mut view.standing).learners.clear();
        view.applied = Revision::NONE;
        assert_eq!(Membership::of(&view), Membership::Member);
    }
}
