//! A few replicas on disks of memory, joined by wires that lose nothing. Time goes by ticks.
#![allow(dead_code)]

use std::collections::BTreeMap;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use fleet_consensus::frame::{Class, Credential, Path, Route};
use fleet_consensus::replica::{self, Founding, Parts, Routes, Wire};
use fleet_consensus::{CommandEnd, Now, Replica, ReplicaConfig};
use fleet_log::MemoryDisk;
use fleet_state::command::{Command, JoinRequest, NodeKeys};
use fleet_state::credential::{credential_message, join_message, join_proof, token_key};
use fleet_state::{
    Answer, FoundingMember, FoundingParams, FoundingToken, NodeId, NodeName, Outcome, Proposal,
    Role, SiteUid, TokenId,
};

const TICK_MS: u64 = 25;
/// 2026-01-01.
const WALL_START_MS: u64 = 1_767_225_600_000;
const TOKEN: TokenId = TokenId::from_bytes([5; 8]);
/// Ticks that anything may take.
const PATIENCE_TICKS: u64 = 4_000;

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn name(id: u64) -> NodeName {
    format!("gw-{id}").parse().unwrap()
}

fn site_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn uid() -> SiteUid {
    SiteUid::from_bytes([3; 16])
}

fn exchange_secret(id: u64) -> [u8; 32] {
    [id as u8; 32]
}

fn keys(id: u64) -> NodeKeys {
    let secret = x25519_dalek::StaticSecret::from(exchange_secret(id));
    NodeKeys { sign: [id as u8; 32], exchange: x25519_dalek::PublicKey::from(&secret).to_bytes() }
}

fn signature(id: u64) -> [u8; 64] {
    site_key().sign(&credential_message(uid(), node(id), &name(id), &keys(id))).to_bytes()
}

fn parts(id: u64) -> Parts<MemoryDisk> {
    Parts {
        config: ReplicaConfig::new(node(id), uid()),
        site: "hall".parse().unwrap(),
        site_public_key: site_key().verifying_key().to_bytes(),
        site_key: (id == 1).then(site_key),
        exchange_secret: exchange_secret(id),
        boot: 1,
        salt: [id as u8; 8],
        credential: (id > 1).then(|| Credential {
            node: node(id),
            name: name(id),
            keys: keys(id),
            signature: signature(id),
        }),
        log_disk: MemoryDisk::new(),
        snapshot_disk: MemoryDisk::new(),
    }
}

#[derive(Default)]
struct Post(Vec<(NodeId, Path, Bytes)>);

impl Wire for Post {
    fn routes(&mut self, to: NodeId, class: Class, _now_ms: u64) -> Routes {
        let frame_bytes_max = 900_000;
        Routes::one(Route { to, path: Path::Nats, class, frame_bytes_max, unheard: None })
    }

    fn send(&mut self, route: Route, frame: Bytes) -> bool {
        self.0.push((route.to, route.path, frame));
        true
    }
}

/// The site.
pub(crate) struct Hall {
    pub(crate) replicas: BTreeMap<NodeId, Replica<MemoryDisk, u64>>,
    /// Ticks that go by between two turns.
    pub(crate) ticks_per_turn: u64,
    ends: BTreeMap<u64, CommandEnd>,
    now_ms: u64,
    tokens: u64,
}

impl Hall {
    /// One voter, which leads.
    pub(crate) fn found(voters_wanted: u8) -> Self {
        let parts = parts(1);
        let founding = Founding::new(FoundingParams {
            site: parts.site.clone(),
            uid: uid(),
            site_public_key: parts.site_public_key,
            member: FoundingMember { name: name(1), keys: keys(1), credential: signature(1) },
            voters: voters_wanted,
            feature_level: fleet_state::limits::FEATURE_LEVEL,
            token: Some(FoundingToken {
                id: TOKEN,
                key: token_key(&[5; 16]),
                ttl_ms: 86_400_000,
                uses: 64,
                note: "".into(),
            }),
            wall_time_ms: WALL_START_MS,
        });
        replica::found(&parts, &founding).unwrap();
        let mut hall = Self {
            replicas: BTreeMap::new(),
            ticks_per_turn: 1,
            ends: BTreeMap::new(),
            now_ms: 1_000,
            tokens: 0,
        };
        hall.open(parts);
        hall.wait("the founder leads", |hall| hall.leader() == Some(node(1)));
        hall
    }

    /// A site of so many voters.
    pub(crate) fn of(voters: u8) -> Self {
        let mut hall = Self::found(voters);
        for id in 2..=u64::from(voters) {
            hall.join(id);
        }
        hall.wait("all vote", |hall| hall.voters().len() == usize::from(voters));
        hall
    }

    fn open(&mut self, parts: Parts<MemoryDisk>) {
        let id = parts.config.node;
        let opened = Replica::open(parts, self.now()).unwrap();
        self.replicas.insert(id, opened.replica);
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: WALL_START_MS + self.now_ms }
    }

    /// Has a node join and start.
    pub(crate) fn join(&mut self, id: u64) {
        let message = join_message(TOKEN, &name(id), &keys(id));
        let proof = join_proof(&token_key(&[5; 16]), &message);
        let request = JoinRequest { token: TOKEN, name: name(id), keys: keys(id), proof };
        let answer = self.decide(Command::Join(request));
        assert!(matches!(answer.outcome, Outcome::Accepted(_)), "{answer:?}");
        self.wait("it is certified", |hall| {
            let member = hall.reference().state().member(&node(id));
            member.is_some_and(|member| member.credential.is_some())
        });
        let parts = parts(id);
        replica::join(&parts).unwrap();
        self.open(parts);
        self.wait("it is a learner that follows", |hall| {
            hall.replicas[&node(id)]
                .state()
                .member(&node(id))
                .is_some_and(|member| matches!(member.role, Role::Learner | Role::Voter))
        });
    }

    /// Hands a command to a node, and gives the number under which its end is found.
    pub(crate) fn submit(&mut self, at: NodeId, command: Command) -> u64 {
        self.tokens += 1;
        let proposal = Proposal {
            request_id: format!("request-{}", self.tokens).parse().unwrap(),
            if_revision: None,
            actor: None,
            command,
        };
        let deadline_ms = self.now_ms + PATIENCE_TICKS * TICK_MS;
        self.replicas.get_mut(&at).unwrap().handle_submit(&proposal, deadline_ms, self.tokens);
        self.tokens
    }

    pub(crate) fn end(&mut self, token: u64) -> CommandEnd {
        self.wait("the command ends", |hall| hall.ends.contains_key(&token));
        self.ends.remove(&token).unwrap()
    }

    /// Has the leader decide a command, and gives the answer.
    pub(crate) fn decide(&mut self, command: Command) -> Answer {
        let leader = self.leader().unwrap();
        let token = self.submit(leader, command);
        match self.end(token) {
            CommandEnd::Decided(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The node that leads, if the others agree.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = self.replicas.iter().find(|(_, replica)| replica.is_leader());
        let (id, leader) = leads?;
        let term = leader.view().standing.term;
        let agrees = |replica: &Replica<MemoryDisk, u64>| {
            replica.leader() == Some(*id) && replica.view().standing.term == term
        };
        self.replicas.values().all(agrees).then_some(*id)
    }

    fn reference(&self) -> &Replica<MemoryDisk, u64> {
        self.replicas.values().max_by_key(|replica| replica.applied()).unwrap()
    }

    pub(crate) fn voters(&self) -> Vec<NodeId> {
        self.reference().view().standing.voters.clone()
    }

    pub(crate) fn learners(&self) -> Vec<NodeId> {
        self.reference().view().standing.learners.clone()
    }

    pub(crate) fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE_TICKS {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("in vain waited until {what}");
    }

    /// Time goes by, then everything that follows from it happens.
    pub(crate) fn turn(&mut self) {
        self.now_ms += TICK_MS * self.ticks_per_turn;
        let now = self.now();
        for replica in self.replicas.values_mut() {
            replica.handle_tick(now).unwrap();
        }
        self.settle();
    }

    fn settle(&mut self) {
        let now = self.now();
        loop {
            let mut post = Post::default();
            for replica in self.replicas.values_mut() {
                replica.poll(now, &mut post).unwrap();
                let outputs = replica.take_outputs();
                self.ends.extend(outputs.commands);
                if let Some(build) = outputs.build {
                    replica.handle_snapshot_built(build.run().ok()).unwrap();
                }
            }
            let more = self.replicas.values().any(Replica::has_more);
            if post.0.is_empty() && !more {
                return;
            }
            for (to, path, frame) in post.0 {
                if let Some(replica) = self.replicas.get_mut(&to) {
                    replica.handle_frame(&frame, path, now).unwrap();
                }
            }
        }
    }
}
