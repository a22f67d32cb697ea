//! Nodes of a made-up site, and payloads of every kind, for the tests of frames.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use fleet_consensus::frame::{
    Append, AppendResponse, Ballot, BallotAnswer, Beat, Class, ConfChange, Credential,
    EntryPayload, FrameCodec, FrameIdentity, LogEntry, MessageKind, Opened, Path, Payload,
    RaftMessage, RefuseReason, Refused, Reject, Route, SealError, SnapshotEnd, SnapshotId,
    SnapshotOffer, SnapshotRef,
};
use fleet_state::{NodeId, NodeKeys, NodeName, SiteUid, credential::credential_message};
use x25519_dalek::{PublicKey, StaticSecret};

pub const WIDE: usize = 1024 * 1024;

/// Where the fields of a clear header are.
pub mod at {
    use std::ops::Range;

    pub const SITE: Range<usize> = 4..20;
    pub const FROM: Range<usize> = 20..28;
    pub const TO: Range<usize> = 28..36;
    pub const SEQUENCE: Range<usize> = 62..70;
    pub const FRAGMENT: Range<usize> = 70..72;
    pub const TOTAL: Range<usize> = 74..78;
    pub const HAS_CREDENTIAL: usize = 78;
}

pub fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub fn site() -> SiteUid {
    SiteUid::from_bytes([7; 16])
}

pub fn site_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn secret(id: u64) -> [u8; 32] {
    let mut bytes = [0x40; 32];
    bytes[8..16].copy_from_slice(&id.to_le_bytes());
    bytes
}

pub fn keys(id: u64) -> NodeKeys {
    NodeKeys {
        sign: SigningKey::from_bytes(&secret(id)).verifying_key().to_bytes(),
        exchange: PublicKey::from(&StaticSecret::from(secret(id))).to_bytes(),
    }
}

pub fn credential_by(key: &SigningKey, uid: SiteUid, id: u64) -> Credential {
    let name: NodeName = format!("gate-{id}").parse().unwrap();
    let keys = keys(id);
    let signature = key.sign(&credential_message(uid, node(id), &name, &keys)).to_bytes();
    Credential { node: node(id), name, keys, signature }
}

pub fn credential(id: u64) -> Credential {
    credential_by(&site_key(), site(), id)
}

pub fn identity(id: u64, boot: u64) -> FrameIdentity {
    let mut salt = [3; 8];
    salt[0] = u8::try_from(boot & 0xff).unwrap();
    FrameIdentity {
        site: site(),
        site_public_key: site_key().verifying_key().to_bytes(),
        me: node(id),
        boot,
        salt,
        exchange_secret: secret(id),
        credential: None,
    }
}

/// A node that knows the others from their records.
pub fn codec(id: u64, boot: u64, others: &[u64]) -> FrameCodec {
    let mut codec = FrameCodec::new(identity(id, boot)).unwrap();
    for other in others {
        codec.upsert(node(*other), &keys(*other)).unwrap();
    }
    codec
}

pub fn hello(boot: u64) -> Payload {
    Payload::Hello { boot, applied: 1 }
}

pub fn route(to: u64) -> Route {
    Route {
        to: node(to),
        path: Path::Nats,
        class: Class::Normal,
        frame_bytes_max: WIDE,
        unheard: None,
    }
}

pub fn seal(codec: &mut FrameCodec, to: u64, payload: &Payload) -> Bytes {
    let mut pieces = codec.seal(route(to), payload, 0).unwrap();
    assert_eq!(pieces.len(), 1);
    pieces.remove(0)
}

pub fn try_seal(
    codec: &mut FrameCodec,
    to: u64,
    payload: &Payload,
) -> Result<Vec<Bytes>, SealError> {
    codec.seal(route(to), payload, 0)
}

pub fn open(codec: &mut FrameCodec, bytes: &[u8]) -> Result<Option<Opened>, Refused> {
    codec.open(bytes, Path::Nats, 0)
}

/// Two nodes that have greeted each other, so that each takes everything from the other.
pub fn acquainted(a: u64, b: u64) -> (FrameCodec, FrameCodec) {
    let mut left = codec(a, 1, &[b]);
    let mut right = codec(b, 1, &[a]);
    greet(&mut left, a, &mut right, b);
    (left, right)
}

/// One greeting there and one back.
pub fn greet(left: &mut FrameCodec, a: u64, right: &mut FrameCodec, b: u64) {
    let there = seal(left, b, &hello(1));
    open(right, &there).unwrap().unwrap();
    let back = seal(right, a, &hello(1));
    open(left, &back).unwrap().unwrap();
    // Both are sealed for a start that the other knows by now.
    left.take_greetings(0);
    right.take_greetings(0);
}

pub fn message(from: u64, to: u64, term: u64, kind: MessageKind) -> RaftMessage {
    RaftMessage { to: node(to), from: node(from), term, kind }
}

pub fn entry(index: u64, term: u64, bytes: usize) -> LogEntry {
    let payload = match bytes {
        0 => EntryPayload::Empty,
        len => EntryPayload::Normal(vec![index as u8; len].into()),
    };
    LogEntry { index, term, payload }
}

pub fn conf_entry(index: u64, term: u64, change: ConfChange) -> LogEntry {
    LogEntry { index, term, payload: EntryPayload::ConfChange(change) }
}

/// One message of each kind, with every field set.
pub fn every_message(from: u64, to: u64) -> Vec<RaftMessage> {
    let ballot =
        Ballot { index: 12, log_term: 4, commit: 9, commit_term: 3, priority: -2, transfer: true };
    let quiet = Ballot { priority: 0, transfer: false, ..ballot };
    let answer = BallotAnswer { reject: true, commit: 9, commit_term: 3 };
    let beat = Beat { commit: 11, context: Bytes::from_static(b"read 17") };
    let reject = Reject { hint: 5, log_term: 2, request_snapshot: 4 };
    let entries = vec![
        entry(8, 3, 0),
        entry(9, 3, 40),
        conf_entry(10, 4, ConfChange::AddLearner(node(5))),
        conf_entry(11, 4, ConfChange::AddVoter(node(5))),
        conf_entry(12, 4, ConfChange::Remove(node(2))),
    ];
    let offer = SnapshotOffer {
        index: 100,
        term: 4,
        voters: vec![node(1), node(2), node(3)],
        learners: vec![node(4)],
        file: SnapshotRef { size_bytes: 4096, checksum: [5; 32] },
    };
    [
        MessageKind::Append(Append { index: 7, log_term: 3, commit: 6, entries }),
        MessageKind::Append(Append { index: 7, log_term: 3, commit: 7, entries: Vec::new() }),
        MessageKind::AppendResponse(AppendResponse { index: 12, commit: 9, reject: None }),
        MessageKind::AppendResponse(AppendResponse { index: 12, commit: 9, reject: Some(reject) }),
        MessageKind::Vote(ballot),
        MessageKind::Vote(Ballot { priority: 3, ..quiet }),
        MessageKind::VoteResponse(answer),
        MessageKind::PreVote(quiet),
        MessageKind::PreVoteResponse(BallotAnswer { reject: false, commit: 0, commit_term: 0 }),
        MessageKind::Heartbeat(beat.clone()),
        MessageKind::HeartbeatResponse(Beat { context: Bytes::new(), ..beat }),
        MessageKind::Snapshot(offer),
        MessageKind::TimeoutNow,
    ]
    .into_iter()
    .map(|kind| message(from, to, 4, kind))
    .collect()
}

/// One payload of each kind.
pub fn every_payload(from: u64, to: u64) -> Vec<Payload> {
    let id = SnapshotId { index: 100, term: 4, checksum: [6; 32] };
    vec![
        Payload::Raft(every_message(from, to)),
        Payload::Propose(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")]),
        Payload::ProposeRefused {
            request_ids: vec![
                "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".parse().unwrap(),
                "retry:7".parse().unwrap(),
            ],
            reason: RefuseReason::NotLeader,
            leader: Some(node(3)),
        },
        Payload::ProposeRefused {
            request_ids: Vec::new(),
            reason: RefuseReason::Busy,
            leader: None,
        },
        Payload::ProposeRefused {
            request_ids: vec!["full".parse().unwrap()],
            reason: RefuseReason::LowSpace,
            leader: Some(node(1)),
        },
        Payload::ReadWant { ids: vec![1, u64::MAX] },
        Payload::ReadGrant { ids: vec![1, 2], index: 44 },
        Payload::ReadRefused { ids: vec![3] },
        Payload::SnapshotWant { id, offset: 4096, len: 128 },
        Payload::SnapshotChunk { id, offset: 4096, total: 5000, bytes: vec![1; 128].into() },
        Payload::SnapshotDone { index: 100, end: SnapshotEnd::Installed },
        Payload::SnapshotDone { index: 100, end: SnapshotEnd::Declined },
        Payload::SnapshotDone { index: 100, end: SnapshotEnd::Unusable },
        Payload::SiteKeyWant,
        Payload::SiteKeyGrant { key: [8; 32] },
        Payload::Digest { index: 100, digest: [4; 32] },
        Payload::Hello { boot: 3, applied: 99 },
        Payload::TransferWant { to: Some(node(3)) },
        Payload::TransferWant { to: None },
        Payload::Observed { bytes: Bytes::from_static(b"[]") },
        Payload::LogTimeWant { asked_ms: 7, feature_level: 1 },
        Payload::LogTimeTold { asked_ms: 7, log_ms: u64::MAX },
    ]
}

/// A small generator for loops whose seed is fixed: xorshift64*.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}
