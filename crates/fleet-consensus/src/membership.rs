//! What the leader does next about membership: a pure decision, one step at a time.
//!
//! The replicated member records say what should be (who joined, who is to be removed, who
//! is wanted as a voter); the applied Raft configuration says what is. The leader takes one
//! step towards agreement, waits until it is applied, and looks again. A new leader needs no
//! memory of what the former one was doing.
//!
//! - A joiner gets its credential first, then it becomes a learner.
//! - Learners that have caught up become voters so that the number of voters is odd: the
//!   second gateway stays a standby until there is a third. Two voters fail more often than one.
//! - A voter is removed, or loses its vote because fewer are wanted, only while those that stay
//!   are a live majority among themselves. Dead ones go first: they can only be missed.
//! - Who can't go yet keeps nobody else from going.
//! - A leader that is to be removed hands leadership over first. It never takes its own vote away.

use std::cmp::Reverse;

use fleet_state::limits::VOTERS_MAX;
use fleet_state::{NodeId, Role};

use crate::config::CAUGHT_UP_ENTRIES;
use crate::seeded;

/// One member as the replicated state and raft's progress show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberFacts {
    /// The member.
    pub node: NodeId,
    /// Its role in the replicated record.
    pub role: Role,
    /// Whether the operator wants it removed.
    pub leaving: bool,
    /// Whether its credential is in the state.
    pub certified: bool,
    /// Whether its program reads what the site has, as it told this leader.
    pub reads_enough: bool,
    /// Whether the operator named it as a voter.
    pub wanted_voter: bool,
    /// Whether it is a voter of the applied configuration.
    pub is_voter: bool,
    /// Whether it is a learner of the applied configuration.
    pub is_learner: bool,
    /// Whether it answered within the last election timeout; true for this node itself.
    pub active: bool,
    /// Index known to be in its log; 0 while nothing is known of it.
    pub matched: u64,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipStep {
    /// Put a member's credential into the state.
    Certify(NodeId),
    /// Begin to replicate to a joiner.
    AddLearner(NodeId),
    /// Give a learner a vote.
    Promote(NodeId),
    /// Take a voter's vote away; it goes on as a learner.
    Demote(NodeId),
    /// Take a member out of the configuration.
    Remove(NodeId),
    /// Lead no more: this node is to be removed.
    HandOver(NodeId),
}

/// The step to take, if any. `me` leads; `last_index` is the end of its log.
#[must_use]
pub fn next_step(
    me: NodeId,
    members: &[MemberFacts],
    voters_wanted: usize,
    last_index: u64,
) -> Option<MembershipStep> {
    removal(me, members)
        .or_else(|| admission(members))
        .or_else(|| demotion(me, members, voters_wanted, last_index))
        .or_else(|| promotion(members, voters_wanted, last_index))
}

/// Whether the voters that stay when `leaving` goes are a live majority among themselves.
#[must_use]
pub fn can_spare(members: &[MemberFacts], leaving: NodeId) -> bool {
    let staying = members.iter().filter(|m| m.is_voter && m.node != leaving);
    let (count, live) = staying
        .fold((0, 0), |(count, live), member| (count + 1, live + usize::from(member.active)));
    count > 0 && live >= raft::majority(count)
}

impl MemberFacts {
    /// Whether it lacks no more than a few entries. One of which nothing is known lacks all.
    fn is_caught_up(&self, last_index: u64) -> bool {
        self.matched > 0 && self.matched.saturating_add(CAUGHT_UP_ENTRIES) >= last_index
    }
}

fn removal(me: NodeId, members: &[MemberFacts]) -> Option<MembershipStep> {
    let going = members
        .iter()
        .filter(|m| m.leaving && (m.is_voter || m.is_learner))
        .filter(|m| !m.is_voter || can_spare(members, m.node))
        .min_by_key(|m| (m.node == me, m.active, m.node))?;
    if going.node == me && !seeded::on("removed-leader-goes-on") {
        let heir = members
            .iter()
            .filter(|m| m.is_voter && m.active && m.node != me && !m.leaving)
            .max_by_key(|m| m.matched)?;
        return Some(MembershipStep::HandOver(heir.node));
    }
    Some(MembershipStep::Remove(going.node))
}

/// Fewer voters are wanted than there are.
fn demotion(
    me: NodeId,
    members: &[MemberFacts],
    voters_wanted: usize,
    last_index: u64,
) -> Option<MembershipStep> {
    let staying = || members.iter().filter(|m| m.is_voter && !m.leaving);
    if staying().count() <= voters_wanted {
        return None;
    }
    staying()
        .filter(|m| m.node != me && can_spare(members, m.node))
        .min_by_key(|m| (m.active, m.is_caught_up(last_index), Reverse(m.node)))
        .map(|m| MembershipStep::Demote(m.node))
}

fn admission(members: &[MemberFacts]) -> Option<MembershipStep> {
    let joiner = members
        .iter()
        .find(|m| !m.leaving && m.role == Role::Joining && !m.is_voter && !m.is_learner)?;
    Some(if joiner.certified {
        MembershipStep::AddLearner(joiner.node)
    } else {
        MembershipStep::Certify(joiner.node)
    })
}

fn promotion(
    members: &[MemberFacts],
    voters_wanted: usize,
    last_index: u64,
) -> Option<MembershipStep> {
    let ready: Vec<&MemberFacts> = members
        .iter()
        .filter(|m| {
            m.is_learner && !m.leaving && m.active && m.reads_enough && m.is_caught_up(last_index)
        })
        .collect();
    let voters = members.iter().filter(|m| m.is_voter).count();
    // Counting those that will go, or a replacement would make the number even.
    let leaving = members.iter().filter(|m| m.is_voter && m.leaving).count();
    let staying = voters - leaving;
    // One that goes may be replaced before it is gone, but they must not pile up.
    if staying >= voters_wanted || voters > usize::from(VOTERS_MAX) {
        return None;
    }
    if let Some(named) = ready.iter().find(|m| m.wanted_voter) {
        return Some(MembershipStep::Promote(named.node));
    }
    let needed = if staying % 2 == 0 { 1 } else { 2 };
    let allowed = staying + needed <= voters_wanted;
    let first = ready.first()?;
    (allowed && ready.len() >= needed).then_some(MembershipStep::Promote(first.node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn voter(id: u64) -> MemberFacts {
        MemberFacts {
            node: node(id),
            role: Role::Voter,
            leaving: false,
            certified: true,
            reads_enough: true,
            wanted_voter: false,
            is_voter: true,
            is_learner: false,
            active: true,
            matched: 1_000,
        }
    }

    fn learner(id: u64) -> MemberFacts {
        MemberFacts { role: Role::Learner, is_voter: false, is_learner: true, ..voter(id) }
    }

    fn joiner(id: u64) -> MemberFacts {
        MemberFacts {
            role: Role::Joining,
            is_voter: false,
            certified: false,
            matched: 0,
            ..voter(id)
        }
    }

    fn step(members: &[MemberFacts], wanted: usize) -> Option<MembershipStep> {
        next_step(node(1), members, wanted, 1_000)
    }

    #[test]
    fn a_joiner_is_certified_then_added() {
        let mut members = [voter(1), joiner(2)];
        assert_eq!(step(&members, 5), Some(MembershipStep::Certify(node(2))));
        members[1].certified = true;
        assert_eq!(step(&members, 5), Some(MembershipStep::AddLearner(node(2))));
    }

    #[test]
    fn voters_grow_in_pairs() {
        assert_eq!(step(&[voter(1), learner(2)], 5), None);
        let three = [voter(1), learner(2), learner(3)];
        assert_eq!(step(&three, 5), Some(MembershipStep::Promote(node(2))));
        let halfway = [voter(1), voter(2), learner(3)];
        assert_eq!(step(&halfway, 5), Some(MembershipStep::Promote(node(3))));
        let full = [voter(1), voter(2), voter(3), learner(4), learner(5)];
        assert_eq!(step(&full, 3), None);
        assert_eq!(step(&full, 5), Some(MembershipStep::Promote(node(4))));
    }

    #[test]
    fn a_learner_that_lags_or_is_silent_is_not_promoted() {
        let mut lagging = learner(2);
        lagging.matched = 1_000 - CAUGHT_UP_ENTRIES - 1;
        let mut silent = learner(3);
        silent.active = false;
        assert_eq!(step(&[voter(1), lagging, silent, learner(4)], 5), None);
    }

    #[test]
    fn a_learner_of_which_nothing_is_known_is_not_promoted_at_a_young_site() {
        let mut unknown = learner(2);
        unknown.matched = 0;
        let members = [voter(1), unknown, learner(3)];
        assert_eq!(next_step(node(1), &members, 5, 9), None);
    }

    #[test]
    fn a_named_learner_is_promoted_alone() {
        let mut named = learner(2);
        named.wanted_voter = true;
        assert_eq!(step(&[voter(1), named], 5), Some(MembershipStep::Promote(node(2))));
    }

    #[test]
    fn a_dead_voter_is_removed_and_replaced_by_a_standby() {
        let mut dead = voter(3);
        dead.active = false;
        dead.leaving = true;
        let members = [voter(1), voter(2), dead, learner(4)];
        assert_eq!(step(&members, 3), Some(MembershipStep::Remove(node(3))));
        let after = [voter(1), voter(2), learner(4)];
        assert_eq!(step(&after, 3), Some(MembershipStep::Promote(node(4))));
    }

    #[test]
    fn a_live_voter_stays_while_the_rest_would_lose_its_majority() {
        let mut dead = voter(3);
        dead.active = false;
        let mut leaving = voter(2);
        leaving.leaving = true;
        assert_eq!(step(&[voter(1), leaving, dead], 3), None);
    }

    #[test]
    fn one_that_cannot_go_keeps_nobody_else_from_going() {
        let (mut dead, mut leaving, mut guest) = (voter(3), voter(2), learner(5));
        dead.active = false;
        leaving.leaving = true;
        guest.leaving = true;
        guest.active = false;
        // Without voter 2 only one of two would live; the learner is missed by nobody.
        let members = [voter(1), leaving, dead, guest];
        assert_eq!(step(&members, 3), Some(MembershipStep::Remove(node(5))));
        // Nor does it keep joiners out.
        let members = [voter(1), leaving, dead, joiner(6)];
        assert_eq!(step(&members, 3), Some(MembershipStep::Certify(node(6))));
        // The dead one goes before the live one, though its id is higher; then the live one can.
        dead.leaving = true;
        assert_eq!(step(&[voter(1), leaving, dead], 3), Some(MembershipStep::Remove(node(3))));
        assert_eq!(step(&[voter(1), leaving], 3), Some(MembershipStep::Remove(node(2))));
    }

    #[test]
    fn a_leaving_leader_goes_last() {
        let (mut me, mut other) = (voter(1), voter(3));
        me.leaving = true;
        other.leaving = true;
        let members = [me, voter(2), other];
        assert_eq!(step(&members, 3), Some(MembershipStep::Remove(node(3))));
        assert_eq!(step(&members[..2], 3), Some(MembershipStep::HandOver(node(2))));
    }

    #[test]
    fn voters_beyond_the_wanted_number_lose_their_votes() {
        let mut five = [voter(1), voter(2), voter(3), voter(4), voter(5)];
        assert_eq!(step(&five, 5), None);
        assert_eq!(step(&five, 3), Some(MembershipStep::Demote(node(5))));
        five[2].matched = 1_000 - CAUGHT_UP_ENTRIES - 1;
        assert_eq!(step(&five, 3), Some(MembershipStep::Demote(node(3))));
        five[1].active = false;
        assert_eq!(step(&five, 3), Some(MembershipStep::Demote(node(2))));
        // On to the wanted number, through an even one, and no further.
        let four = [voter(1), voter(2), voter(3), voter(4), learner(5)];
        assert_eq!(step(&four, 3), Some(MembershipStep::Demote(node(4))));
        let three = [voter(1), voter(2), voter(3), learner(4), learner(5)];
        assert_eq!(step(&three, 3), None);
        let two = [voter(1), voter(2), learner(3)];
        assert_eq!(step(&two, 1), Some(MembershipStep::Demote(node(2))));
        assert_eq!(step(&[voter(1), learner(2), learner(3)], 1), None);
    }

    #[test]
    fn no_vote_is_taken_that_the_rest_needs_nor_the_leaders_own() {
        let (mut two, mut three) = (voter(2), voter(3));
        three.active = false;
        assert_eq!(step(&[voter(1), two, three], 1), Some(MembershipStep::Demote(node(3))));
        two.active = false;
        // Three of five are dead: nothing can be committed, and nothing is tried.
        let members = [voter(1), two, three, voter(4), MemberFacts { active: false, ..voter(5) }];
        assert_eq!(step(&members, 1), None);
        let leads_5 = next_step(node(5), &[voter(1), voter(5)], 1, 1_000);
        assert_eq!(leads_5, Some(MembershipStep::Demote(node(1))));
    }

    #[test]
    fn a_named_learner_waits_for_its_place() {
        let mut named = learner(4);
        named.wanted_voter = true;
        assert_eq!(step(&[voter(1), voter(2), voter(3), named], 3), None);
        assert_eq!(step(&[voter(1), voter(2), named], 3), Some(MembershipStep::Promote(node(4))));
        // Voters that can't go yet may be replaced before they are gone, but must not pile up.
        let mut many: Vec<MemberFacts> = (1..=8).map(voter).collect();
        for leaving in &mut many[1..5] {
            leaving.leaving = true;
            leaving.active = false;
        }
        for silent in &mut many[5..8] {
            silent.active = false;
        }
        many.push(MemberFacts { wanted_voter: true, ..learner(9) });
        assert_eq!(step(&many, 7), None);
    }

    #[test]
    fn the_last_voter_is_never_removed() {
        let mut only = voter(1);
        only.leaving = true;
        assert_eq!(step(&[only], 3), None);
    }

    #[test]
    fn a_leaving_leader_hands_over_to_the_most_caught_up() {
        let mut me = voter(1);
        me.leaving = true;
        let mut ahead = voter(3);
        ahead.matched = 1_001;
        let members = [me, voter(2), ahead];
        assert_eq!(step(&members, 3), Some(MembershipStep::HandOver(node(3))));
    }

    #[test]
    fn quorum_arithmetic_from_one_to_seven() {
        // Voters; their majority; how many may fail while the rest still decides; and how many of
        // the others may be dead while one is let go, after which the rest must be a live majority
        // among themselves. The last voter is never let go.
        let table: [(u64, usize, u64, Option<u64>); 7] = [
            (1, 1, 0, None),
            (2, 2, 0, Some(0)),
            (3, 2, 1, Some(0)),
            (4, 3, 1, Some(1)),
            (5, 3, 2, Some(1)),
            (6, 4, 2, Some(2)),
            (7, 4, 3, Some(2)),
        ];
        for (voters, majority, may_fail, dead_beside) in table {
            let count = usize::try_from(voters).unwrap();
            assert_eq!(raft::majority(count), majority, "of {voters}");
            assert_eq!(count - majority, usize::try_from(may_fail).unwrap(), "of {voters}");
            for dead in 0..voters {
                for is_live in [true, false] {
                    let mut members: Vec<MemberFacts> = (1..=voters).map(voter).collect();
                    members[0].active = is_live;
                    for silent in members.iter_mut().rev().take(usize::try_from(dead).unwrap()) {
                        silent.active = false;
                    }
                    // Learners neither help nor hinder.
                    members.push(learner(9));
                    let may = dead_beside.is_some_and(|most| dead <= most);
                    let spared = can_spare(&members, node(1));
                    assert_eq!(spared, may, "one of {voters}, {dead} others dead, live: {is_live}");
                }
            }
        }
    }
}
