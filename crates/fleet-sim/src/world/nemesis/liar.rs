//! A member that lies: it seals messages that no honest node sends, each of which the guard of the
//! receiver must refuse.
//!
//! Only such lies are told. What a member may say it can also say wrongly (Raft is not made for
//! traitors), and no guard can tell.

use bytes::Bytes;
use fleet_consensus::frame::limits::TERM_MAX;
use fleet_consensus::frame::{
    Append, AppendResponse, Beat, Class, FrameCodec, FrameIdentity, MessageKind, Path, Payload,
    RaftMessage, Route, SnapshotOffer, SnapshotRef,
};
use fleet_state::NodeId;

use super::super::World;
use crate::invariants::Violation;
use crate::network::Flight;

/// Further than any log of a simulated site reaches.
const FAR: u64 = 1_000_000;
/// Further than the guard lets a term jump.
const TERM_FAR: u64 = 2_000_000;

impl World {
    /// Somebody lies to somebody else; `false` where nobody would listen.
    pub(super) fn tell_a_lie(&mut self, target: NodeId) -> Result<bool, Violation> {
        let Some((term, leader)) = self.nodes.get(&target).and_then(|node| {
            let replica = node.replica.as_ref()?;
            // Who just joined knows of no term, and can only believe.
            let knows = !replica.view().standing.voters.is_empty();
            knows.then_some(())?;
            Some((replica.term_and_commit().0, replica.leader()?))
        }) else {
            return Ok(false);
        };
        let (voters, _) = self.invariants.membership.newest();
        let liars: Vec<NodeId> =
            voters.into_iter().filter(|id| *id != target && *id != leader).collect();
        let Some(liar) = self.random.pick(&liars).copied() else {
            return Ok(false);
        };
        let lie = self.draw_lie(liar, target, term);
        let Some(frame) = self.seal_as(liar, target, &Payload::Raft(vec![lie])) else {
            return Ok(false);
        };
        let flight = Flight { from: liar, to: target, path: Path::Mesh, bytes: frame };
        self.receive(flight)?;
        Ok(true)
    }

    fn draw_lie(&mut self, liar: NodeId, target: NodeId, term: u64) -> RaftMessage {
        let honest = RaftMessage { to: target, from: liar, term, kind: MessageKind::TimeoutNow };
        let beat = |commit| MessageKind::Heartbeat(Beat { commit, context: Bytes::new() });
        match self.random.below(8) {
            0 => honest,
            1 => RaftMessage { kind: beat(FAR), ..honest },
            2 => RaftMessage { kind: beat(0), term: term + TERM_FAR, ..honest },
            3 => RaftMessage { kind: beat(0), term: TERM_MAX + 1, ..honest },
            4 => RaftMessage {
                kind: MessageKind::AppendResponse(AppendResponse {
                    index: FAR,
                    commit: 0,
                    reject: None,
                }),
                ..honest
            },
            5 => RaftMessage {
                kind: MessageKind::Append(Append {
                    index: FAR,
                    log_term: term,
                    commit: FAR,
                    entries: Vec::new(),
                }),
                ..honest
            },
            6 => RaftMessage {
                kind: MessageKind::Snapshot(SnapshotOffer {
                    index: FAR,
                    term,
                    voters: vec![liar],
                    learners: Vec::new(),
                    file: SnapshotRef { size_bytes: 1, checksum: [0; 32] },
                }),
                ..honest
            },
            _ => RaftMessage { kind: beat(0), to: liar, ..honest },
        }
    }

    /// A frame as the node's own process could seal it, on a lane that it hardly uses.
    fn seal_as(&self, from: NodeId, to: NodeId, payload: &Payload) -> Option<Bytes> {
        let (mut liar, mut receiver) = (self.codec_of(from, to)?, self.codec_of(to, from)?);
        let lane = |to| Route {
            to,
            path: Path::Mesh,
            class: Class::Bulk,
            frame_bytes_max: 65_536,
            unheard: None,
        };
        // What the receiver says of itself tells in which of its starts it is.
        let hello = Payload::Hello { boot: self.nodes.get(&to)?.boot, applied: 0 };
        let greeting = receiver.seal(lane(from), &hello, self.now_ms).ok()?.pop()?;
        liar.open(&greeting, Path::Mesh, self.now_ms).ok()?;
        // A higher number than before is news on that lane.
        for _ in 0..self.nemesis.strikes {
            liar.seal(lane(to), &hello, self.now_ms).ok()?;
        }
        liar.seal(lane(to), payload, self.now_ms).ok()?.pop()
    }

    fn codec_of(&self, node: NodeId, other: NodeId) -> Option<FrameCodec> {
        let (node, other) = (self.nodes.get(&node)?, self.nodes.get(&other)?);
        let mut codec = FrameCodec::new(FrameIdentity {
            site: self.site.uid,
            site_public_key: self.site.key.verifying_key().to_bytes(),
            me: node.id,
            boot: node.boot,
            salt: node.salt(),
            exchange_secret: node.secrets.exchange,
            credential: node.credential.clone(),
        })
        .ok()?;
        codec.upsert(other.id, &other.secrets.public()).ok()?;
        Some(codec)
    }
}
