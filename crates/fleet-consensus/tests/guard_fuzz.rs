//! Made-up messages of authenticated nodes, close to what the receiver's state makes plausible, in any order: whatever
//! the guard lets pass, the library survives. Seeds are fixed; a failure names its own.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod guard_support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use fleet_consensus::{
    frame::{
        Append, AppendResponse, Ballot, BallotAnswer, Beat, ConfChange, EntryPayload, LogEntry,
        MessageKind, RaftMessage, Reject, limits,
    },
    guard::Objection,
};
use guard_support::{Noise, Replica, message, node, offer};

/// A number around one of those that matter, rarely far away.
fn near(noise: &mut Noise, marks: &[u64]) -> u64 {
    match noise.below(40) {
        0 => noise.next(),
        1 => u64::MAX - noise.below(3),
        2 => limits::INDEX_MAX - noise.below(3),
        _ => {
            let mark = marks[noise.below(marks.len() as u64) as usize];
            (mark + noise.below(5)).saturating_sub(2)
        }
    }
}

struct Liar {
    noise: Noise,
    indexes: Vec<u64>,
    terms: Vec<u64>,
}

impl Liar {
    fn look_at(&mut self, replica: &Replica) {
        self.indexes = vec![
            0,
            replica.committed(),
            replica.last_index(),
            replica.raw.raft.raft_log.first_index(),
        ];
        self.terms = vec![replica.term(), replica.raw.raft.raft_log.last_term()];
    }

    fn index(&mut self) -> u64 {
        near(&mut self.noise, &self.indexes)
    }

    fn term(&mut self) -> u64 {
        near(&mut self.noise, &self.terms)
    }

    fn entries(&mut self, after: u64, log_term: u64) -> Vec<LogEntry> {
        let count = self.noise.below(5);
        let mut index = after;
        let mut term = log_term;
        (0..count)
            .map(|_| {
                index = index.wrapping_add(1);
                term = term.wrapping_add(self.noise.below(6) / 5);
                if self.noise.one_in(60) {
                    index = self.index();
                }
                let id = node(1 + self.noise.below(6));
                let payload = match self.noise.below(12) {
                    0 => EntryPayload::Empty,
                    1 => EntryPayload::ConfChange(ConfChange::AddLearner(id)),
                    2 => EntryPayload::ConfChange(ConfChange::AddVoter(id)),
                    3 => EntryPayload::ConfChange(ConfChange::Remove(id)),
                    _ => EntryPayload::Normal(vec![1; 1 + self.noise.below(20) as usize].into()),
                };
                LogEntry { index, term, payload }
            })
            .collect()
    }

    /// The true term at an index half of the time, or appends would hardly ever match.
    fn log_term(&mut self, replica: &Replica, index: u64) -> u64 {
        let true_term = replica.raw.raft.raft_log.term(index).unwrap_or(0);
        if self.noise.one_in(3) { self.term() } else { true_term }
    }

    fn kind(&mut self, replica: &Replica) -> MessageKind {
        let ballot = Ballot {
            index: self.index(),
            log_term: self.term(),
            commit: self.index(),
            commit_term: self.term(),
            priority: self.noise.next() as i64,
            transfer: self.noise.one_in(4),
        };
        let answer = BallotAnswer {
            reject: self.noise.one_in(2),
            commit: self.index(),
            commit_term: self.term(),
        };
        let beat = Beat {
            commit: self.index(),
            context: Bytes::from(vec![1; self.noise.below(3) as usize]),
        };
        match self.noise.below(20) {
            0..=7 => {
                let index = self.index();
                let log_term = self.log_term(replica, index);
                let entries = self.entries(index, log_term);
                MessageKind::Append(Append { index, log_term, commit: self.index(), entries })
            }
            8..=10 => MessageKind::AppendResponse(self.append_response()),
            11 => MessageKind::Vote(ballot),
            12 => MessageKind::PreVote(ballot),
            13 => MessageKind::VoteResponse(answer),
            14 => MessageKind::PreVoteResponse(answer),
            15..=16 => MessageKind::Heartbeat(beat),
            17 => MessageKind::HeartbeatResponse(beat),
            18 => {
                let mut voters: Vec<u64> = (1..=4).filter(|_| self.noise.one_in(2)).collect();
                voters.push(1 + self.noise.below(6));
                let learners: Vec<u64> = (1..=5).filter(|_| self.noise.one_in(4)).collect();
                MessageKind::Snapshot(offer(self.index(), self.term(), &voters, &learners))
            }
            _ => MessageKind::TimeoutNow,
        }
    }

    fn append_response(&mut self) -> AppendResponse {
        let rejects = self.noise.one_in(2);
        let reject = Reject {
            hint: self.index(),
            log_term: self.term(),
            request_snapshot: if self.noise.one_in(8) { self.index() } else { 0 },
        };
        AppendResponse {
            index: self.index(),
            commit: self.index(),
            reject: rejects.then_some(reject),
        }
    }

    fn lie(&mut self, replica: &Replica) -> RaftMessage {
        self.look_at(replica);
        let from = if self.noise.one_in(3) {
            replica.raw.raft.leader_id.max(1)
        } else {
            1 + self.noise.below(5)
        };
        let term = if self.noise.one_in(3) { self.term() } else { replica.term() };
        let kind = self.kind(replica);
        message(from, replica.id, term, kind)
    }
}

/// Half of the time this node tries to lead, so that answers are looked at as well.
fn live(replica: &mut Replica, noise: &mut Noise) {
    match noise.below(20) {
        0 | 1 => replica.tick(),
        2 => {
            for _ in 0..30 {
                replica.tick();
            }
        }
        3 if replica.is_leader() => {
            replica.propose(b"x");
        }
        4 if replica.is_leader() => {
            replica.propose_change(ConfChange::AddLearner(node(1 + noise.below(5))));
        }
        5 if !replica.is_leader() && replica.raw.raft.promotable() => {
            let _ = replica.raw.campaign();
            replica.settle();
            let term = replica.term();
            for id in [1, 2, 3, 4] {
                let granted = BallotAnswer { reject: false, commit: 0, commit_term: 0 };
                let pre = message(id, replica.id, term + 1, MessageKind::PreVoteResponse(granted));
                let vote = message(id, replica.id, term + 1, MessageKind::VoteResponse(granted));
                let _ = replica.deliver(id, pre);
                let _ = replica.deliver(id, vote);
            }
        }
        _ => {}
    }
    replica.take_sent();
}

/// What a refused message must not change: what is durable, who leads, the log's end, and what is believed
/// of the others.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    term: u64,
    vote: u64,
    leader: u64,
    role: raft::StateRole,
    last: (u64, u64),
    committed: u64,
    /// What each node has of the log and is sent next, where it is a member.
    progress: [Option<(u64, u64)>; NODES],
}

/// Nodes that speak or are spoken of, 1 and up.
const NODES: usize = 5;

fn standing(replica: &Replica) -> Standing {
    let raft = &replica.raw.raft;
    let progress = |at: usize| {
        let progress = raft.prs().get(at as u64 + 1)?;
        Some((progress.matched, progress.next_idx))
    };
    Standing {
        term: raft.term,
        vote: raft.vote,
        leader: raft.leader_id,
        role: raft.state,
        last: (replica.last_index(), raft.raft_log.last_term()),
        committed: replica.committed(),
        progress: std::array::from_fn(progress),
    }
}

fn run(seed: u64, steps: usize) -> (usize, usize, usize) {
    let noise = Noise(seed);
    let mut liar = Liar { noise, indexes: Vec::new(), terms: Vec::new() };
    let mut replica = Replica::new(2, &[1, 2, 3], &[4]);
    let (mut passed, mut refused, mut led) = (0, 0, 0);
    for step in 0..steps {
        live(&mut replica, &mut liar.noise);
        led += usize::from(replica.is_leader());
        let lie = liar.lie(&replica);
        let from = lie.from.get();
        let shown = lie.clone();
        let before = standing(&replica);
        let end = catch_unwind(AssertUnwindSafe(|| replica.deliver(from, lie)));
        match end {
            Ok(Ok(())) => passed += 1,
            Ok(Err(Objection::Refused(refusal))) => {
                refused += 1;
                let after = standing(&replica);
                assert_eq!(
                    before, after,
                    "seed {seed:#x}, step {step}: {shown:?} was refused ({refusal:?}) and changed this"
                );
            }
            // The agent stops here; go on with another node.
            Ok(Err(Objection::Quarantine(_))) => replica = Replica::new(2, &[1, 2, 3], &[4]),
            Err(_) => panic!(
                "seed {seed:#x}, step {step}: the library panicked at {shown:?}; before: {before:?}"
            ),
        }
        replica.take_sent();
    }
    (passed, refused, led)
}

#[test]
fn what_passes_the_guard_the_library_survives() {
    let (mut passed, mut refused, mut led) = (0, 0, 0);
    for seed in 1..=60u64 {
        let counts = run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1_500);
        passed += counts.0;
        refused += counts.1;
        led += counts.2;
    }
    // Enough of both, or nothing was tried.
    assert!(passed > 10_000, "{passed} passed");
    assert!(refused > 10_000, "{refused} refused");
    assert!(led > 1_000, "{led} steps as leader");
}

/// As above, as many as are asked for: `make hostile MESSAGES=100000000`. Parts of it that begin at
/// different seeds add up: each says which was its last.
#[test]
#[ignore = "takes as long as it is asked to"]
fn hostile_messages_without_end() {
    const STEPS: usize = 1_500;
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let wanted = usize::try_from(asked("HOSTILE_MESSAGES").unwrap_or(1_000_000)).unwrap();
    let first = 1_000_000 + asked("HOSTILE_SEED").unwrap_or(0);
    let (mut passed, mut refused, mut seed) = (0, 0, first);
    while passed + refused < wanted {
        seed += 1;
        let counts = run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), STEPS);
        passed += counts.0;
        refused += counts.1;
    }
    println!(
        "{} messages: {passed} passed, {refused} refused and without effect; seeds up to {}",
        passed + refused,
        seed - 1_000_000
    );
}
