//! Commands that wait for their end on this node.
//!
//! A waiter is keyed by its request id and holds the encoded command, so that it can be
//! proposed again to another leader with the same id. It ends in exactly one answer:
//! *decided* when an entry with the very same command is applied here, or at its deadline
//! *no leader* if the command never left this node, else *unknown*. It never ends in silence.
//!
//! The token `T` is whoever waits (a channel's end in the agent, a number in the simulator);
//! it is given back with the answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use fleet_state::{Answer, NodeId, RequestId};

use crate::config::{RELAY_RETRY_MS, WAITERS_BYTES_MAX, WAITERS_MAX};
use crate::seeded;

/// Waiters with the same request id; retries of one client, or a client's mistake.
const SAME_ID_MAX: usize = 8;

/// How a command ended on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandEnd {
    /// The log has decided.
    Decided(Answer),
    /// It was not taken in; nothing was proposed by this attempt.
    Busy(&'static str),
    /// No leader was known until the deadline; nothing was proposed by this attempt.
    NoLeader,
    /// The deadline passed; the command may take effect yet.
    Unknown,
}

/// Where a command was last handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nowhere yet, or it has to be handed on again.
    Due,
    /// To Raft on this node, in this term.
    Proposed { term: u64 },
    /// To the leader, in a frame.
    Relayed { leader: NodeId, at_ms: u64 },
}

#[derive(Debug)]
struct Waiter<T> {
    token: T,
    encoded: Bytes,
    deadline_ms: u64,
    sent: Sent,
    attempts: u32,
    /// The copy that was handed on last; see [`Due`].
    copy: u64,
    /// The term in which this node, as its leader, may propose it; otherwise nobody may.
    bound: Option<u64>,
}

/// A command to be handed to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: RequestId,
    pub(crate) encoded: Bytes,
    /// Tells this handing on from all others, so that a refusal ends nobody else's attempt:
    /// several may wait under one id, and another one's copy may be in the log.
    pub(crate) copy: u64,
}

/// All waiters of a node.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    by_id: BTreeMap<RequestId, Vec<Waiter<T>>>,
    len: usize,
    bytes: usize,
    /// Ids with a waiter that is `Due`; an id may stand here twice, or in vain.
    due: Vec<RequestId>,
    earliest_deadline_ms: u64,
    copies: u64,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            len: 0,
            bytes: 0,
            due: Vec::new(),
            earliest_deadline_ms: u64::MAX,
            copies: 0,
        }
    }
}

impl<T> Waiters<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes a command in, or gives the token back with the reason why not.
    pub(crate) fn add(
        &mut self,
        id: RequestId,
        encoded: Bytes,
        deadline_ms: u64,
        token: T,
    ) -> Result<(), (T, CommandEnd)> {
        let bytes = self.bytes.saturating_add(encoded.len());
        if self.len >= WAITERS_MAX || bytes > WAITERS_BYTES_MAX {
            let why = "too many commands are waiting on this agent";
            return Err((token, CommandEnd::Busy(why)));
        }
        let same = self.by_id.entry(id.clone()).or_default();
        if same.len() >= SAME_ID_MAX {
            let why = "too many attempts with this request id are waiting on this agent";
            return Err((token, CommandEnd::Busy(why)));
        }
        same.push(Waiter {
            token,
            encoded,
            deadline_ms,
            sent: Sent::Due,
            attempts: 0,
            copy: 0,
            bound: None,
        });
        self.len += 1;
        self.bytes = bytes;
        self.due.push(id);
        self.earliest_deadline_ms = self.earliest_deadline_ms.min(deadline_ms);
        Ok(())
    }

    /// What the newest waiter of this id wants was judged by the leader of this term, and is
    /// proposed by it or not at all.
    pub(crate) fn bind(&mut self, id: &RequestId, term: u64) {
        if let Some(waiter) = self.by_id.get_mut(id).and_then(|same| same.last_mut()) {
            waiter.bound = Some(term);
        }
    }

    /// Commands to hand to the leader now. They count as handed on to `leader` in `term`
    /// (to Raft itself where the leader is this node).
    pub(crate) fn take_due(
        &mut self,
        me: NodeId,
        leader: NodeId,
        term: u64,
        now_ms: u64,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for id in std::mem::take(&mut self.due) {
            let same = self.by_id.get_mut(&id).into_iter().flatten();
            let may = |w: &Waiter<T>| w.bound.is_none_or(|bound| leader == me && term == bound);
            for waiter in same.filter(|w| w.sent == Sent::Due && may(w)) {
                waiter.sent = if leader == me {
                    Sent::Proposed { term }
                } else {
                    Sent::Relayed { leader, at_ms: now_ms }
                };
                waiter.attempts += 1;
                self.copies += 1;
                waiter.copy = self.copies;
                let (id, encoded) = (id.clone(), waiter.encoded.clone());
                due.push(Due { id, encoded, copy: waiter.copy });
            }
        }
        due
    }

    /// An entry was applied: gives back who waited for this very command. `entry` is the
    /// encoded entry, which ends with the encoded command.
    pub(crate) fn decide(&mut self, id: &RequestId, entry: &[u8]) -> Vec<T> {
        let Some(same) = self.by_id.get_mut(id) else {
            return Vec::new();
        };
        let mut decided = Vec::new();
        let mut kept = Vec::new();
        for waiter in same.drain(..) {
            if entry.ends_with(&waiter.encoded) {
                self.bytes -= waiter.encoded.len();
                decided.push(waiter.token);
            } else {
                kept.push(waiter);
            }
        }
        self.len -= decided.len();
        if kept.is_empty() {
            self.by_id.remove(id);
        } else {
            *same = kept;
        }
        decided
    }

    /// The leader, another node, did not take it in. A first attempt ends as busy; a later one
    /// goes on waiting, because an earlier attempt may be in the log. So do all where several
    /// wait under one id: the refusal doesn't say whose copy it is for.
    pub(crate) fn refuse(&mut self, id: &RequestId, why: &'static str) -> Option<(T, CommandEnd)> {
        match self.by_id.get(id)?.as_slice() {
            [lone] if lone.attempts <= 1 || seeded::on("refusal-after-unknown-is-final") => {
                self.end(id, 0, why)
            }
            _ => None,
        }
    }

    /// Raft on this node has no room for this copy. Ends its waiter as busy, if that was its
    /// only attempt.
    pub(crate) fn refuse_copy(
        &mut self,
        id: &RequestId,
        copy: u64,
        why: &'static str,
    ) -> Option<(T, CommandEnd)> {
        let same = self.by_id.get(id)?;
        let at = same.iter().position(|waiter| waiter.copy == copy && waiter.attempts <= 1)?;
        self.end(id, at, why)
    }

    fn end(&mut self, id: &RequestId, at: usize, why: &'static str) -> Option<(T, CommandEnd)> {
        let same = self.by_id.get_mut(id)?;
        let ended = (at < same.len()).then(|| same.remove(at))?;
        if same.is_empty() {
            self.by_id.remove(id);
        }
        self.len -= 1;
        self.bytes -= ended.encoded.len();
        Some((ended.token, CommandEnd::Busy(why)))
    }

    /// Raft on this node did not take this copy, because the node does not lead: its waiter is
    /// due again. Other attempts under the same id may be in the log and are left alone.
    pub(crate) fn not_taken(&mut self, id: &RequestId, copy: u64) {
        let same = self.by_id.get_mut(id).into_iter().flatten();
        for waiter in same.filter(|waiter| waiter.copy == copy && waiter.sent != Sent::Due) {
            waiter.sent = Sent::Due;
            waiter.attempts = waiter.attempts.saturating_sub(1);
            self.due.push(id.clone());
        }
    }

    /// Marks what must be handed on again: the leader or the term is another one, or a relay
    /// has been without an end for too long.
    pub(crate) fn mark_due(&mut self, me: NodeId, leader: Option<NodeId>, term: u64, now_ms: u64) {
        let Some(leader) = leader else {
            return;
        };
        self.mark_where(|sent| match sent {
            Sent::Due => false,
            Sent::Proposed { term: then } => leader != me || then != term,
            Sent::Relayed { leader: then, at_ms } => {
                then != leader || now_ms.saturating_sub(at_ms) >= RELAY_RETRY_MS
            }
        });
    }

    /// What was relayed to this node is probably lost.
    pub(crate) fn relayed_in_vain(&mut self, node: NodeId) {
        self.mark_where(|sent| matches!(sent, Sent::Relayed { leader, .. } if leader == node));
    }

    /// Forgets where everything was handed to, as after a snapshot install.
    pub(crate) fn mark_all_due(&mut self) {
        self.mark_where(|sent| sent != Sent::Due);
    }

    fn mark_where(&mut self, lost: impl Fn(Sent) -> bool) {
        for (id, same) in &mut self.by_id {
            let mut any = false;
            for waiter in same.iter_mut().filter(|waiter| lost(waiter.sent)) {
                waiter.sent = Sent::Due;
                any = true;
            }
            if any {
                self.due.push(id.clone());
            }
        }
    }

    /// Ends those whose deadline has passed.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<(T, CommandEnd)> {
        if now_ms < self.earliest_deadline_ms {
            return Vec::new();
        }
        self.end_where(|waiter_deadline_ms| waiter_deadline_ms <= now_ms)
    }

    /// Ends all, as when the node stops.
    pub(crate) fn end_all(&mut self) -> Vec<(T, CommandEnd)> {
        self.end_where(|_| true)
    }

    fn end_where(&mut self, over: impl Fn(u64) -> bool) -> Vec<(T, CommandEnd)> {
        let mut ended = Vec::new();
        let (mut earliest, mut ended_bytes) = (u64::MAX, 0);
        self.by_id.retain(|_, same| {
            let mut kept = Vec::new();
            for waiter in same.drain(..) {
                if over(waiter.deadline_ms) {
                    let end = if waiter.attempts == 0 || seeded::on("timeout-called-refusal") {
                        CommandEnd::NoLeader
                    } else {
                        CommandEnd::Unknown
                    };
                    ended_bytes += waiter.encoded.len();
                    ended.push((waiter.token, end));
                } else {
                    earliest = earliest.min(waiter.deadline_ms);
                    kept.push(waiter);
                }
            }
            *same = kept;
            !same.is_empty()
        });
        self.len -= ended.len();
        self.bytes -= ended_bytes;
        self.earliest_deadline_ms = earliest;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn id() -> RequestId {
        "request-1".parse().expect("a valid id")
    }

    fn waiters(tokens: &[u32]) -> Waiters<u32> {
        let mut waiters = Waiters::default();
        for token in tokens {
            waiters.add(id(), Bytes::from_static(b"x"), 1_000, *token).expect("room");
        }
        waiters
    }

    fn take_due(waiters: &mut Waiters<u32>, leader: u64, term: u64) -> Vec<u64> {
        let due = waiters.take_due(node(1), node(leader), term, 0);
        due.into_iter().map(|due| due.copy).collect()
    }

    fn ends(waiters: &mut Waiters<u32>) -> Vec<(u32, CommandEnd)> {
        let mut ended = waiters.end_all();
        ended.sort_by_key(|(token, _)| *token);
        ended
    }

    #[test]
    fn commands_wait_within_a_budget_of_bytes() {
        let mut waiters = Waiters::default();
        let large = Bytes::from(vec![0; 256 * 1024]);
        let fit = WAITERS_BYTES_MAX / large.len();
        let name = |n: usize| -> RequestId { format!("request-{n}").parse().expect("an id") };
        for n in 0..fit {
            waiters.add(name(n), large.clone(), 1_000 + n as u64, n).expect("room");
        }
        let (token, end) = waiters.add(name(fit), large.clone(), 1, fit).unwrap_err();
        assert!(token == fit && matches!(end, CommandEnd::Busy(_)));
        // Each end gives back what it took: decided, refused, at the deadline.
        assert_eq!(waiters.decide(&name(7), &large).len(), 1);
        waiters.add(name(fit), large.clone(), 1_000, fit).expect("room again");
        waiters.take_due(node(1), node(2), 1, 0);
        assert!(waiters.refuse(&name(8), "busy").is_some());
        waiters.add(name(8), large.clone(), 1_000, 8).expect("room again");
        assert_eq!(waiters.expire(1_005).len(), 8);
        assert_eq!(waiters.bytes, (fit - 8) * large.len());
        waiters.end_all();
        assert_eq!((waiters.len(), waiters.bytes), (0, 0));
    }

    #[test]
    fn what_went_by_a_way_that_failed_is_due_at_once() {
        let mut waiters = waiters(&[1]);
        assert_eq!(take_due(&mut waiters, 2, 1), [1]);
        waiters.relayed_in_vain(node(3));
        assert!(take_due(&mut waiters, 2, 1).is_empty(), "another node's way");
        waiters.relayed_in_vain(node(2));
        assert_eq!(take_due(&mut waiters, 2, 1), [2]);
        // A command that was handed on again is never called refused.
        assert_eq!(waiters.refuse(&id(), "busy"), None);
        assert_eq!(ends(&mut waiters), [(1, CommandEnd::Unknown)]);
    }

    #[test]
    fn what_a_leader_judged_is_proposed_by_it_in_that_term_or_not_at_all() {
        let bound = || {
            let mut waiters = waiters(&[1]);
            waiters.bind(&id(), 3);
            waiters
        };
        assert_eq!(take_due(&mut bound(), 1, 3).len(), 1, "it leads in that term");
        assert_eq!(take_due(&mut bound(), 2, 4), [], "another one leads");
        assert_eq!(take_due(&mut bound(), 1, 5), [], "it leads again");
    }

    #[test]
    fn a_refusal_from_afar_ends_a_lone_first_attempt_only() {
        let mut lone = waiters(&[1]);
        take_due(&mut lone, 2, 1);
        assert_eq!(lone.refuse(&id(), "busy"), Some((1, CommandEnd::Busy("busy"))));
        assert_eq!((lone.refuse(&id(), "busy"), lone.len()), (None, 0));

        let mut two = waiters(&[1, 2]);
        take_due(&mut two, 2, 1);
        assert_eq!(two.refuse(&id(), "busy"), None);
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn a_refusal_of_a_copy_ends_its_waiter_and_no_other() {
        let mut waiters = waiters(&[1, 2]);
        let copies = take_due(&mut waiters, 1, 1);
        assert_eq!(
            waiters.refuse_copy(&id(), copies[1], "busy"),
            Some((2, CommandEnd::Busy("busy")))
        );
        assert_eq!(waiters.refuse_copy(&id(), 99, "busy"), None);
        // A second attempt of the other goes on, because the first may be in the log.
        waiters.mark_due(node(1), Some(node(1)), 2, 0);
        let copies = take_due(&mut waiters, 1, 2);
        assert_eq!(waiters.refuse_copy(&id(), copies[0], "busy"), None);
        assert_eq!(ends(&mut waiters), [(1, CommandEnd::Unknown)]);
    }

    #[test]
    fn what_was_handed_on_before_stays_unknown_when_raft_here_declines_a_copy() {
        // Relayed to another leader, or proposed here in this very term.
        for (leader, term) in [(2, 1), (1, 2)] {
            let mut waiters = waiters(&[1]);
            take_due(&mut waiters, leader, term);
            waiters.add(id(), Bytes::from_static(b"x"), 2_000, 2).expect("room");
            let copies = take_due(&mut waiters, 1, 2);
            assert_eq!(copies.len(), 1);
            waiters.not_taken(&id(), copies[0]);
            // It is due again; the other one is not.
            assert_eq!(take_due(&mut waiters, 1, 2).len(), 1);
            waiters.not_taken(&id(), copies[0] + 1);
            assert_eq!(
                ends(&mut waiters),
                [(1, CommandEnd::Unknown), (2, CommandEnd::NoLeader)],
                "{leader}"
            );
        }
    }
}
