//! A real replica of `raft` in memory, with the guard before it or without.
#![allow(dead_code, unreachable_pub)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use fleet_consensus::{
    NodeRole,
    frame::{
        Append, AppendResponse, Ballot, BallotAnswer, Beat, ConfChange, EntryPayload, LogEntry,
        MessageKind, RaftMessage, Reject, SnapshotOffer, SnapshotRef,
    },
    guard::{Guard, GuardView, Objection, Refusal},
};
use fleet_state::NodeId;
use raft::{
    Config, RawNode, StateRole,
    eraftpb::{ConfState, Entry, Message, MessageType, Snapshot},
    storage::MemStorage,
};

pub fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().map(|id| node(*id)).collect()
}

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// A generator whose seed is fixed: xorshift64*.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// One node: `raft` with a memory for a disk, and the guard.
pub struct Replica {
    pub id: u64,
    pub raw: RawNode<MemStorage>,
    pub storage: MemStorage,
    pub guard: Guard,
    pub conf: ConfState,
    pub applied: u64,
    pub now_ms: u64,
    /// What it wants sent.
    pub sent: Vec<RaftMessage>,
    /// Changes of the configuration that the library would not apply.
    pub odd_changes: usize,
}

fn config(id: u64, applied: u64) -> Config {
    // The library draws election timeouts from a random source of its own; with a range of one value nothing is left
    // to chance, and a seed says all.
    let election_tick = 10 + 3 * (id as usize);
    Config {
        id,
        election_tick: 10,
        heartbeat_tick: 2,
        applied,
        max_size_per_msg: 2048,
        max_inflight_msgs: 16,
        check_quorum: true,
        pre_vote: true,
        min_election_tick: election_tick,
        max_election_tick: election_tick + 1,
        batch_append: true,
        ..Config::default()
    }
}

impl Replica {
    pub fn new(id: u64, voters: &[u64], learners: &[u64]) -> Self {
        let storage = if voters.is_empty() {
            MemStorage::new()
        } else {
            MemStorage::new_with_conf_state((voters.to_vec(), learners.to_vec()))
        };
        let conf = ConfState::from((voters.to_vec(), learners.to_vec()));
        Self::open(id, storage, conf, 0)
    }

    /// A voter of a site that was founded as ours are: by a snapshot at index 1, which every joiner gets.
    pub fn founding(id: u64, voters: &[u64]) -> Self {
        let conf = ConfState::from((voters.to_vec(), Vec::new()));
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = 1;
        snapshot.mut_metadata().term = 1;
        snapshot.mut_metadata().set_conf_state(conf.clone());
        let storage = MemStorage::new();
        storage.wl().apply_snapshot(snapshot).unwrap();
        Self::open(id, storage, conf, 1)
    }

    fn open(id: u64, storage: MemStorage, conf: ConfState, applied: u64) -> Self {
        let raw = RawNode::new(&config(id, applied), storage.clone(), &logger()).unwrap();
        let guard = Guard::new();
        Self { id, raw, storage, guard, conf, applied, now_ms: 0, sent: Vec::new(), odd_changes: 0 }
    }

    /// Stops and starts again with what is on its disk.
    pub fn restart(&mut self) {
        *self = Self::open(self.id, self.storage.clone(), self.conf.clone(), self.applied);
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// What the guard says of a message in a frame of this sender.
    pub fn check(&mut self, sender: u64, message: &RaftMessage) -> Result<(), Objection> {
        let raft = &self.raw.raft;
        let (voters, learners) = (nodes(&self.conf.voters), nodes(&self.conf.learners));
        let progress = raft.prs().get(message.from.get()).map(|progress| progress.matched);
        let view = GuardView {
            me: node(self.id),
            term: raft.term,
            leader: NodeId::new(raft.leader_id),
            role: match raft.state {
                StateRole::Leader => NodeRole::Leader,
                StateRole::Candidate => NodeRole::Candidate,
                StateRole::PreCandidate => NodeRole::PreCandidate,
                StateRole::Follower => NodeRole::Follower,
            },
            last_index: raft.raft_log.last_index(),
            voters: &voters,
            learners: &learners,
            matched: progress.filter(|_| raft.state == StateRole::Leader),
        };
        self.guard.check(message, node(sender), &view, self.now_ms)
    }

    /// The guard, then the library, then what is ready.
    pub fn deliver(&mut self, sender: u64, message: RaftMessage) -> Result<(), Objection> {
        self.check(sender, &message)?;
        if let MessageKind::Snapshot(offer) = &message.kind
            && offer.index <= self.committed()
        {
            // No news; see `check_offer`.
            return Ok(());
        }
        let _ = self.raw.step(message.into_raft());
        self.settle();
        Ok(())
    }

    /// The library without a guard. False when it panicked.
    pub fn survives_bare(&mut self, message: Message) -> bool {
        catch_unwind(AssertUnwindSafe(|| {
            let _ = self.raw.step(message);
            self.settle();
        }))
        .is_ok()
    }

    /// Elections, heartbeats and a proposal still work.
    pub fn tick(&mut self) {
        self.now_ms += 25;
        self.raw.tick();
        self.settle();
    }

    pub fn settle(&mut self) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            self.send(ready.take_messages());
            if !ready.snapshot().is_empty() {
                let snapshot = ready.snapshot().clone();
                self.applied = snapshot.get_metadata().index;
                self.conf = snapshot.get_metadata().get_conf_state().clone();
                self.storage.wl().apply_snapshot(snapshot).unwrap();
            }
            self.storage.wl().append(ready.entries()).unwrap();
            if let Some(hard) = ready.hs() {
                self.storage.wl().set_hardstate(hard.clone());
            }
            self.send(ready.take_persisted_messages());
            self.apply(ready.take_committed_entries());
            let mut light = self.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.storage.wl().mut_hard_state().commit = commit;
            }
            self.send(light.take_messages());
            self.apply(light.take_committed_entries());
            self.raw.advance_apply();
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied = entry.index;
            if let EntryPayload::ConfChange(change) = LogEntry::from_raft(entry).unwrap().payload {
                match self.raw.apply_conf_change(&change.to_raft()) {
                    Ok(conf) => {
                        self.conf = conf.clone();
                        self.storage.wl().set_conf_state(conf);
                        // A leader that applied its own removal panics at its next commit, and a follower
                        // that has messages of a leader left panics too.
                        if self.is_leader() && self.raw.raft.prs().get(self.id).is_none() {
                            let term = self.term();
                            self.raw.raft.become_follower(term, raft::INVALID_ID);
                            self.raw.raft.msgs.clear();
                        }
                    }
                    Err(_) => self.odd_changes += 1,
                }
            }
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for mut message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let file = SnapshotRef { size_bytes: 1, checksum: [0; 32] };
                message.mut_snapshot().data = file.encode().into();
            }
            // A follower forwards some messages to its leader; they never leave the node.
            if let Ok(message) = RaftMessage::from_raft(message) {
                self.sent.push(message);
            }
        }
    }

    pub fn propose(&mut self, data: &[u8]) -> bool {
        let taken = self.raw.propose(Vec::new(), data.to_vec()).is_ok();
        self.settle();
        taken
    }

    pub fn propose_change(&mut self, change: ConfChange) -> bool {
        let taken = self.raw.propose_conf_change(change.encode(), change.to_raft()).is_ok();
        self.settle();
        taken
    }

    pub fn take_sent(&mut self) -> Vec<RaftMessage> {
        std::mem::take(&mut self.sent)
    }

    /// Its log from `first` on, as index, term and data.
    pub fn log(&self, first: u64) -> Vec<(u64, u64, Vec<u8>)> {
        let all = self.raw.raft.raft_log.all_entries();
        all.into_iter()
            .filter(|entry| entry.index >= first)
            .map(|entry| (entry.index, entry.term, entry.data.to_vec()))
            .collect()
    }
}

/// Node 2 of voters 1 to 3, follower of leader 1 in term 5, with four entries of which three are committed.
pub fn follower() -> Replica {
    let mut replica = Replica::new(2, &[1, 2, 3], &[]);
    let entries = (1..=4).map(|index| normal(index, 5)).collect();
    let append = Append { index: 0, log_term: 0, commit: 3, entries };
    replica.deliver(1, message(1, 2, 5, MessageKind::Append(append))).unwrap();
    assert_eq!((replica.last_index(), replica.committed(), replica.term()), (4, 3, 5));
    replica.take_sent();
    replica
}

/// Node 1 of voters 1 to 3, leader in term 1, with an entry of its own that nobody else has yet.
pub fn leader() -> Replica {
    let mut replica = Replica::new(1, &[1, 2, 3], &[]);
    replica.raw.campaign().unwrap();
    replica.settle();
    for kind in [MessageKind::PreVoteResponse(granted()), MessageKind::VoteResponse(granted())] {
        replica.deliver(2, message(2, 1, 1, kind)).unwrap();
    }
    assert!(replica.is_leader());
    assert!(replica.propose(b"one"));
    assert_eq!((replica.last_index(), replica.committed(), replica.term()), (2, 0, 1));
    replica.take_sent();
    replica
}

pub fn granted() -> BallotAnswer {
    BallotAnswer { reject: false, commit: 0, commit_term: 0 }
}

pub fn message(from: u64, to: u64, term: u64, kind: MessageKind) -> RaftMessage {
    RaftMessage { to: node(to), from: node(from), term, kind }
}

pub fn normal(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, payload: EntryPayload::Normal(index.to_be_bytes().to_vec().into()) }
}

pub fn heartbeat(commit: u64) -> MessageKind {
    MessageKind::Heartbeat(Beat { commit, context: bytes::Bytes::new() })
}

pub fn append(index: u64, log_term: u64, commit: u64, entries: Vec<LogEntry>) -> MessageKind {
    MessageKind::Append(Append { index, log_term, commit, entries })
}

pub fn acknowledge(index: u64) -> MessageKind {
    MessageKind::AppendResponse(AppendResponse { index, commit: 0, reject: None })
}

pub fn reject(index: u64, hint: u64, log_term: u64) -> MessageKind {
    let reject = Reject { hint, log_term, request_snapshot: 0 };
    MessageKind::AppendResponse(AppendResponse { index, commit: 0, reject: Some(reject) })
}

pub fn ballot(index: u64, log_term: u64) -> Ballot {
    Ballot { index, log_term, commit: 0, commit_term: 0, priority: 0, transfer: false }
}

pub fn offer(index: u64, term: u64, voters: &[u64], learners: &[u64]) -> SnapshotOffer {
    SnapshotOffer {
        index,
        term,
        voters: nodes(voters),
        learners: nodes(learners),
        file: SnapshotRef { size_bytes: 1, checksum: [0; 32] },
    }
}

pub fn is_empty(snapshot: &Snapshot) -> bool {
    snapshot.is_empty()
}

pub fn refused(refusal: Refusal) -> Result<(), Objection> {
    Err(Objection::Refused(refusal))
}

/// A follower that goes on as if nothing had happened: it takes what its leader sends.
pub fn lives_on(mut replica: Replica) {
    assert_eq!((replica.term(), replica.last_index(), replica.committed()), (5, 4, 3));
    assert_eq!(replica.raw.raft.leader_id, 1);
    let next = append(4, 5, 5, vec![normal(5, 5)]);
    replica.deliver(1, message(1, 2, 5, next)).unwrap();
    assert_eq!((replica.last_index(), replica.committed(), replica.applied), (5, 5, 5));
    // And it can be elected once the leader is gone.
    for _ in 0..60 {
        replica.tick();
    }
    assert_eq!(replica.raw.raft.state, StateRole::PreCandidate);
}

/// A leader that goes on: it commits once a follower acknowledges.
pub fn leads_on(mut replica: Replica) {
    assert!(replica.is_leader());
    assert_eq!((replica.term(), replica.last_index(), replica.committed()), (1, 2, 0));
    replica.deliver(2, message(2, 1, 1, acknowledge(2))).unwrap();
    assert_eq!((replica.committed(), replica.applied), (2, 2));
    assert!(replica.propose(b"two"));
}

pub fn guarded(
    mut replica: Replica,
    sender: u64,
    hostile: &RaftMessage,
    expected: Refusal,
) -> Replica {
    assert_eq!(replica.deliver(sender, hostile.clone()), refused(expected));
    replica
}
