//! Linearizable reads: the leader confirms by a round of heartbeats that it still leads, and
//! the read waits until the index committed by then is applied where the read is answered.
//!
//! Reads of one node join in rounds. The leader runs ReadIndex for its own reads and for
//! those that followers ask for in frames; a follower keeps its reads under numbers of its
//! own and trusts only a grant from the leader that it asked. Raft drops a ReadIndex without
//! a word when the leader has not committed in its term or has lost its majority, so each
//! round is asked again with a fresh context until the reads' deadlines.

use std::collections::BTreeMap;

use fleet_state::NodeId;

use crate::config::{READ_RETRY_MS, READ_ROUNDS_MAX, READS_MAX};

/// How a read barrier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The view now holds everything committed before the read was asked for.
    Ready,
    /// No leader was known until the deadline.
    NoLeader,
    /// The leader did not confirm before the deadline.
    Deadline,
    /// Too many reads wait.
    Busy,
}

#[derive(Debug)]
struct Read<T> {
    token: T,
    deadline_ms: u64,
}

/// Reads that one ReadIndex round serves.
#[derive(Debug)]
struct Round<T> {
    own: Vec<Read<T>>,
    remote: Vec<(NodeId, Vec<u64>)>,
    asked_ms: u64,
}

/// What a follower asked its leader for.
#[derive(Debug)]
struct Asked<T> {
    read: Read<T>,
    leader: NodeId,
    asked_ms: u64,
}

/// A grant to be sent to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) to: NodeId,
    pub(crate) ids: Vec<u64>,
    pub(crate) index: u64,
}

#[derive(Debug)]
pub(crate) struct Reads<T> {
    fresh: Vec<Read<T>>,
    fresh_remote: Vec<(NodeId, Vec<u64>)>,
    rounds: BTreeMap<u64, Round<T>>,
    asked: BTreeMap<u64, Asked<T>>,
    confirmed: BTreeMap<u64, Vec<Read<T>>>,
    next_id: u64,
    len: usize,
}

impl<T> Reads<T> {
    /// `first_id` must differ from start to start, so that a late grant fits nothing.
    pub(crate) fn new(first_id: u64) -> Self {
        Self {
            fresh: Vec::new(),
            fresh_remote: Vec::new(),
            rounds: BTreeMap::new(),
            asked: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            next_id: first_id,
            len: 0,
        }
    }

    pub(crate) fn add(&mut self, token: T, deadline_ms: u64) -> Result<(), (T, ReadEnd)> {
        if self.len >= READS_MAX {
            return Err((token, ReadEnd::Busy));
        }
        self.len += 1;
        self.fresh.push(Read { token, deadline_ms });
        Ok(())
    }

    /// Whether nobody waits for a read.
    pub(crate) fn is_idle(&self) -> bool {
        self.len == 0 && self.fresh_remote.is_empty() && self.rounds.is_empty()
    }

    /// A follower asks. Beyond the bound it is not heard and asks again.
    pub(crate) fn add_remote(&mut self, from: NodeId, ids: Vec<u64>) {
        if self.fresh_remote.len() < READS_MAX {
            self.fresh_remote.push((from, ids));
        }
    }

    /// As leader: the context of a round to begin now, if there is anything to ask.
    pub(crate) fn begin_round(&mut self, now_ms: u64) -> Option<u64> {
        let idle = self.fresh.is_empty() && self.fresh_remote.is_empty();
        if idle || self.rounds.len() >= READ_ROUNDS_MAX {
            return None;
        }
        let id = self.take_id();
        let round = Round {
            own: std::mem::take(&mut self.fresh),
            remote: std::mem::take(&mut self.fresh_remote),
            asked_ms: now_ms,
        };
        self.rounds.insert(id, round);
        Some(id)
    }

    /// As leader: a round was confirmed at `index`.
    pub(crate) fn round_confirmed(&mut self, id: u64, index: u64) -> Vec<Grant> {
        let Some(round) = self.rounds.remove(&id) else {
            return Vec::new();
        };
        self.confirmed.entry(index).or_default().extend(round.own);
        round.remote.into_iter().map(|(to, ids)| Grant { to, ids, index }).collect()
    }

    /// As follower: the numbers to ask `leader` for now.
    pub(crate) fn take_to_ask(&mut self, leader: NodeId, now_ms: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        for read in std::mem::take(&mut self.fresh) {
            let id = self.take_id();
            let asked = Asked { read, leader, asked_ms: now_ms };
            self.asked.insert(id, asked);
            ids.push(id);
        }
        // A follower of a former time has nothing to grant.
        self.fresh_remote.clear();
        ids
    }

    /// As follower: the leader that was asked grants these at `index`.
    pub(crate) fn granted(&mut self, from: NodeId, ids: &[u64], index: u64) {
        for id in ids {
            let ours = self.asked.get(id).is_some_and(|asked| asked.leader == from);
            if let Some(asked) = ours.then(|| self.asked.remove(id)).flatten() {
                self.confirmed.entry(index).or_default().push(asked.read);
            }
        }
    }

    /// Puts back what must be asked again: rounds and questions that are too old, or that
    /// went to another leader than `leader`, or all rounds when this node does not lead.
    pub(crate) fn retry(&mut self, leads: bool, leader: Option<NodeId>, now_ms: u64) {
        let old = |asked_ms: u64| now_ms.saturating_sub(asked_ms) >= READ_RETRY_MS;
        let stale: Vec<u64> = self
            .rounds
            .iter()
            .filter(|(_, round)| !leads || old(round.asked_ms))
            .map(|(id, _)| *id)
            .collect();
        for round in stale.iter().filter_map(|id| self.rounds.remove(id)) {
            self.fresh.extend(round.own);
            if leads {
                self.fresh_remote.extend(round.remote);
            }
        }
        let stale: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| Some(asked.leader) != leader || old(asked.asked_ms))
            .map(|(id, _)| *id)
            .collect();
        let again = stale.iter().filter_map(|id| self.asked.remove(id));
        self.fresh.extend(again.map(|asked| asked.read));
    }

    /// Reads whose index is applied now.
    pub(crate) fn take_ready(&mut self, applied: u64) -> Vec<T> {
        let later = self.confirmed.split_off(&(applied + 1));
        let ready = std::mem::replace(&mut self.confirmed, later);
        let tokens: Vec<T> = ready.into_values().flatten().map(|read| read.token).collect();
        self.len -= tokens.len();
        tokens
    }

    /// Ends those whose deadline has passed.
    pub(crate) fn expire(&mut self, leader_known: bool, now_ms: u64) -> Vec<(T, ReadEnd)> {
        let end = if leader_known { ReadEnd::Deadline } else { ReadEnd::NoLeader };
        let mut ended = Vec::new();
        let mut sift = |reads: &mut Vec<Read<T>>| {
            let (over, kept) =
                std::mem::take(reads).into_iter().partition(|read| read.deadline_ms <= now_ms);
            *reads = kept;
            let over: Vec<Read<T>> = over;
            ended.extend(over.into_iter().map(|read| (read.token, end)));
        };
        sift(&mut self.fresh);
        for round in self.rounds.values_mut() {
            sift(&mut round.own);
        }
        for reads in self.confirmed.values_mut() {
            sift(reads);
        }
        let over: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.read.deadline_ms <= now_ms)
            .map(|(id, _)| *id)
            .collect();
        let asked = over.iter().filter_map(|id| self.asked.remove(id));
        ended.extend(asked.map(|asked| (asked.read.token, end)));
        self.len -= ended.len();
        ended
    }

    /// Ends all, as when the node stops.
    pub(crate) fn end_all(&mut self) -> Vec<(T, ReadEnd)> {
        self.expire(true, u64::MAX)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

#[cfg(test)]
mod tests;
