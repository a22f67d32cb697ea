//! What a node says of itself.

use fleet_consensus::NodeRole;
use fleet_state::NodeId;
use fleet_state::codec::{DecodeError, Reader, Writer};

/// Bytes of a message; the codec below never makes more.
pub(in crate::mesh) const BEAT_BYTES_MAX: usize = 128;

const VERSION: u8 = 2;

/// What a node says of itself every now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The node.
    pub node: NodeId,
    /// How often it was started.
    pub boot: u64,
    /// Counts its messages since then.
    pub sequence: u64,
    /// Its role.
    pub role: NodeRole,
    /// Its term.
    pub term: u64,
    /// What it has applied.
    pub applied: u64,
    /// Whether it is connected to NATS.
    pub on_nats: bool,
    /// Nodes that it is connected to over the mesh.
    pub mesh_nodes: u32,
    /// How busy its machine is, in thousandths of one that is just busy.
    pub load_permille: u32,
}

const fn code_of(role: NodeRole) -> u8 {
    match role {
        NodeRole::Leader => 0,
        NodeRole::Follower => 1,
        NodeRole::Candidate => 2,
        NodeRole::PreCandidate => 3,
        NodeRole::Learner => 4,
    }
}

const fn role_of(code: u8) -> Option<NodeRole> {
    match code {
        0 => Some(NodeRole::Leader),
        1 => Some(NodeRole::Follower),
        2 => Some(NodeRole::Candidate),
        3 => Some(NodeRole::PreCandidate),
        4 => Some(NodeRole::Learner),
        _ => None,
    }
}

impl Beat {
    /// The bytes on the topic.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(VERSION);
        writer.u64(self.node.get());
        writer.u64(self.boot);
        writer.u64(self.sequence);
        writer.u8(code_of(self.role));
        writer.u64(self.term);
        writer.u64(self.applied);
        writer.bool(self.on_nats);
        writer.u32(self.mesh_nodes);
        writer.u32(self.load_permille);
        writer.into_vec()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is none of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BEAT_BYTES_MAX {
            return Err(DecodeError::Invalid { what: "presence size" });
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(DecodeError::Invalid { what: "presence version" });
        }
        let node = NodeId::new(reader.u64()?).ok_or(DecodeError::Invalid { what: "node" })?;
        let beat = Self {
            node,
            boot: reader.u64()?,
            sequence: reader.u64()?,
            role: role_of(reader.u8()?).ok_or(DecodeError::Invalid { what: "role" })?,
            term: reader.u64()?,
            applied: reader.u64()?,
            on_nats: reader.bool()?,
            mesh_nodes: reader.u32()?,
            load_permille: reader.u32()?,
        };
        reader.finish()?;
        Ok(beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat() -> Beat {
        Beat {
            node: NodeId::new(3).unwrap(),
            boot: u64::MAX,
            sequence: u64::MAX,
            role: NodeRole::PreCandidate,
            term: u64::MAX,
            applied: u64::MAX,
            on_nats: true,
            mesh_nodes: u32::MAX,
            load_permille: u32::MAX,
        }
    }

    #[test]
    fn messages_come_back_and_fit() {
        for role in [NodeRole::Leader, NodeRole::Follower, NodeRole::Candidate, NodeRole::Learner] {
            let said = Beat { role, ..beat() };
            assert_eq!(Beat::decode(&said.encode()).unwrap(), said);
        }
        assert!(beat().encode().len() <= BEAT_BYTES_MAX);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = beat().encode();
        for cut in 0..good.len() {
            assert!(Beat::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut long = good.clone();
        long.push(0);
        assert!(Beat::decode(&long).is_err());
        assert!(Beat::decode(&vec![1; 100_000]).is_err());
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[at] = byte;
                let _no_panic = Beat::decode(&bad);
            }
        }
    }
}
