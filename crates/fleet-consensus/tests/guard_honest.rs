//! A site of real replicas behind guards, with a network that loses, repeats and reorders, nodes that stop and start,
//! and a configuration that changes: what honest nodes say is never taken for a lie, and the site agrees in the end.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod guard_support;

use std::collections::BTreeMap;

use fleet_consensus::{
    frame::{ConfChange, MessageKind, RaftMessage},
    guard::{Objection, Refusal},
};
use guard_support::{Noise, Replica, node};

struct Site {
    replicas: BTreeMap<u64, Replica>,
    network: Vec<RaftMessage>,
    noise: Noise,
    refusals: BTreeMap<&'static str, usize>,
    proposed: u64,
    snapshots: usize,
}

const VOTERS: [u64; 3] = [1, 2, 3];
const JOINERS: [u64; 2] = [4, 5];

impl Site {
    fn new(seed: u64) -> Self {
        let mut replicas: BTreeMap<u64, Replica> =
            VOTERS.iter().map(|id| (*id, Replica::founding(*id, &VOTERS))).collect();
        replicas.extend(JOINERS.iter().map(|id| (*id, Replica::new(*id, &[], &[]))));
        let noise = Noise(seed);
        Self {
            replicas,
            network: Vec::new(),
            noise,
            refusals: BTreeMap::new(),
            proposed: 0,
            snapshots: 0,
        }
    }

    fn collect(&mut self) {
        for replica in self.replicas.values_mut() {
            self.network.append(&mut replica.sent);
        }
    }

    fn deliver(&mut self, at: usize) {
        let message = self.network.remove(at);
        let (from, to) = (message.from.get(), message.to.get());
        let Some(replica) = self.replicas.get_mut(&to) else { return };
        let handover = message.kind == MessageKind::TimeoutNow;
        let snapshot = matches!(message.kind, MessageKind::Snapshot(_));
        let (kind, index) = (message.kind.as_str(), replica.last_index());
        match replica.deliver(from, message.clone()) {
            Ok(()) => {}
            // Late by nature: the network repeats and reorders. Everything else would be an honest node refused.
            Err(Objection::Refused(
                refusal @ (Refusal::StaleReject
                | Refusal::StaleAnswer
                | Refusal::NotInConfiguration
                | Refusal::TooOften),
            )) => *self.refusals.entry(refusal.as_str()).or_default() += 1,
            // The node restarted and has not heard its leader again, or hasn't applied its own promotion: the library
            // would not follow either. The handover is given up and repeated.
            Err(Objection::Refused(Refusal::NotTheLeader | Refusal::NotAVoter)) if handover => {}
            Err(other) => {
                panic!("{kind} from {from} to {to} (last index {index}): {other}: {message:?}")
            }
        }
        if snapshot {
            self.snapshots += 1;
            self.report_snapshot(from, to, raft::SnapshotStatus::Finish);
        }
    }

    /// The bytes of a snapshot travel outside of raft; here they always arrive when the offer does.
    fn report_snapshot(&mut self, from: u64, to: u64, status: raft::SnapshotStatus) {
        if let Some(leader) = self.replicas.get_mut(&from) {
            leader.raw.report_snapshot(to, status);
            leader.settle();
        }
    }

    fn lose(&mut self, at: usize) {
        let lost = self.network.remove(at);
        if matches!(lost.kind, MessageKind::Snapshot(_)) {
            self.report_snapshot(lost.from.get(), lost.to.get(), raft::SnapshotStatus::Failure);
        }
    }

    fn leader(&self) -> Option<u64> {
        let leaders = self.replicas.values().filter(|replica| replica.is_leader());
        leaders.max_by_key(|replica| replica.term()).map(|replica| replica.id)
    }

    fn step(&mut self) {
        self.collect();
        let ids: Vec<u64> = self.replicas.keys().copied().collect();
        let some = ids[self.noise.below(ids.len() as u64) as usize];
        match self.noise.below(100) {
            0..=29 => self.replicas.get_mut(&some).unwrap().tick(),
            30..=84 if !self.network.is_empty() => self.something_arrives(),
            85..=93 => self.someone_proposes(),
            94..=95 => self.someone_changes_the_configuration(),
            96 if self.noise.one_in(4) => self.replicas.get_mut(&some).unwrap().restart(),
            97 if self.noise.one_in(3) => self.leader_hands_over(some),
            98 if self.noise.one_in(2) => self.someone_compacts(some),
            _ => {}
        }
    }

    fn something_arrives(&mut self) {
        // Mostly the oldest; sometimes any.
        let len = self.network.len() as u64;
        let at = if self.noise.one_in(4) { self.noise.below(len) as usize } else { 0 };
        if self.noise.one_in(12) {
            self.lose(at);
        } else {
            if self.noise.one_in(12) {
                let again = self.network[at].clone();
                self.network.push(again);
            }
            self.deliver(at);
        }
        // A queue is bounded.
        while self.network.len() > 400 {
            self.lose(0);
        }
    }

    fn someone_proposes(&mut self) {
        if let Some(id) = self.leader() {
            self.proposed += 1;
            let size = 1 + self.noise.below(600) as usize;
            let mut data = self.proposed.to_be_bytes().to_vec();
            data.resize(8 + size, 7);
            self.replicas.get_mut(&id).unwrap().propose(&data);
        }
    }

    fn someone_changes_the_configuration(&mut self) {
        let Some(id) = self.leader() else { return };
        let target = 1 + self.noise.below(5);
        let leader = self.replicas.get_mut(&id).unwrap();
        let (voter, learner) =
            (leader.conf.voters.contains(&target), leader.conf.learners.contains(&target));
        let change = match (voter, learner) {
            (true, _) if target != id && leader.conf.voters.len() > 3 => {
                ConfChange::Remove(node(target))
            }
            (false, true) => ConfChange::AddVoter(node(target)),
            (false, false) => ConfChange::AddLearner(node(target)),
            _ => return,
        };
        leader.propose_change(change);
    }

    fn leader_hands_over(&mut self, to: u64) {
        if let Some(id) = self.leader() {
            let leader = self.replicas.get_mut(&id).unwrap();
            leader.raw.transfer_leader(to);
            leader.settle();
        }
    }

    fn someone_compacts(&mut self, id: u64) {
        let replica = self.replicas.get_mut(&id).unwrap();
        let applied = replica.applied;
        if applied > 20 && replica.raw.raft.raft_log.first_index() < applied - 10 {
            replica.storage.wl().compact(applied - 10).unwrap();
        }
    }

    /// The network is whole again: one leader, and the same log everywhere.
    fn heal(&mut self) {
        for _ in 0..400 {
            for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                self.replicas.get_mut(&id).unwrap().tick();
            }
            self.collect();
            while !self.network.is_empty() {
                self.deliver(0);
                self.collect();
            }
        }
        let id = self.leader().expect("a healed site has a leader");
        let before = self.replicas[&id].committed();
        assert!(self.replicas.get_mut(&id).unwrap().propose(b"the last"));
        self.collect();
        while !self.network.is_empty() {
            self.deliver(0);
            self.collect();
        }
        let leader = &self.replicas[&id];
        assert_eq!(leader.committed(), before + 1, "a healed site commits");
        let (conf, committed) = (leader.conf.clone(), leader.committed());
        for replica in self.replicas.values() {
            if conf.voters.contains(&replica.id) || conf.learners.contains(&replica.id) {
                assert_eq!(replica.last_index(), committed, "node {}", replica.id);
                let first = replica
                    .raw
                    .raft
                    .raft_log
                    .first_index()
                    .max(leader.raw.raft.raft_log.first_index());
                assert_eq!(replica.log(first), leader.log(first), "node {}", replica.id);
            }
        }
    }
}

fn run(seed: u64, steps: usize) -> Site {
    let mut site = Site::new(seed);
    for _ in 0..steps {
        site.step();
    }
    site.heal();
    site
}

#[test]
fn honest_nodes_are_never_refused_and_agree() {
    let (mut snapshots, mut refusals, mut proposed) = (0, BTreeMap::<&str, usize>::new(), 0);
    for seed in 1..=24u64 {
        let site = run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 6_000);
        snapshots += site.snapshots;
        proposed += site.proposed;
        for (word, count) in site.refusals {
            *refusals.entry(word).or_default() += count;
        }
    }
    // The faults did fire.
    assert!(snapshots > 20, "{snapshots} snapshots");
    assert!(proposed > 2_000, "{proposed} proposals");
    assert!(refusals.get("stale_reject").is_some_and(|count| *count > 0), "{refusals:?}");
}

#[test]
fn a_joiner_without_a_configuration_follows() {
    let mut site = Site::new(11);
    site.heal();
    let id = site.leader().unwrap();
    for joiner in JOINERS {
        assert!(
            site.replicas
                .get_mut(&id)
                .unwrap()
                .propose_change(ConfChange::AddLearner(node(joiner)))
        );
        site.heal();
        let id = site.leader().unwrap();
        assert!(
            site.replicas.get_mut(&id).unwrap().propose_change(ConfChange::AddVoter(node(joiner)))
        );
        site.heal();
    }
    assert_eq!(site.replicas[&5].conf.voters.len(), 5);
    assert_eq!(site.refusals, BTreeMap::new());
}
