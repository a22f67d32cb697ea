//! What one node is asked about itself, and what it says.

use fleet_state::NodeId;
use serde::{Deserialize, Serialize};

use crate::{
    Failure, NodeVerb, command, fields::Fields, limits::SNAPSHOT_CHUNK_BYTES_MAX, look::NodeLook,
};

/// Reply header of a snapshot chunk: the snapshot's index.
pub const SNAPSHOT_INDEX_HEADER: &str = "Flotilla-Snapshot-Index";
/// Reply header of a snapshot chunk: where in the file it begins.
pub const SNAPSHOT_OFFSET_HEADER: &str = "Flotilla-Snapshot-Offset";
/// Reply header of a snapshot chunk: the whole file's size.
pub const SNAPSHOT_SIZE_HEADER: &str = "Flotilla-Snapshot-Size";

/// A question to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeRequest {
    /// How it is; answered with a [`NodeStatus`].
    Status,
    /// A piece of a snapshot; answered with its raw bytes and the three snapshot headers.
    SnapshotChunk {
        /// Which snapshot.
        index: u64,
        /// Where the piece begins.
        offset: u64,
        /// How long it may be; the node may send less, and sends nothing at the end of the file.
        length: u32,
    },
    /// What it sees of the others; answered with a [`NodeMesh`](crate::mesh::NodeMesh).
    Mesh,
    /// What it did without a majority; answered with a
    /// [`NodePartition`](crate::local::NodePartition).
    Partition,
    /// A round trip to another node; answered with a [`Pinged`](crate::mesh::Pinged).
    Ping {
        /// The other node.
        to: NodeId,
    },
    /// What it finds along a link that it owns; answered with a [`Looked`](crate::look::Looked).
    Look(NodeLook),
}

/// The role of a node that was removed from its site.
pub const ROLE_REMOVED: &str = "removed";

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its node id.
    pub node: u64,
    /// The site.
    pub site: String,
    /// The site's uid; another uid under the same name is another site.
    pub uid: String,
    /// Version of the agent.
    pub version: String,
    /// How often it was started.
    pub boot: u64,
    /// Milliseconds since it was started.
    pub uptime_ms: u64,
    /// `leader`, `follower`, `candidate`, `pre_candidate` or `learner`; `removed` when it knows that it
    /// is no member any more.
    pub role: String,
    /// Its Raft term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// Last entry it applied.
    pub applied: u64,
    /// Last entry it knows to be committed.
    pub commit: u64,
    /// First entry in its log.
    pub first_index: u64,
    /// Last entry in its log.
    pub last_index: u64,
    /// Index of its newest snapshot.
    pub snapshot_index: u64,
    /// Bytes of its log and snapshots on disk.
    pub storage_bytes: u64,
    /// Digest over all sections of the state at `applied`.
    pub digest: String,
    /// Name of the NATS server it is connected to.
    pub nats_server: Option<String>,
    /// Whether it takes commands and queries.
    pub intake: bool,
    /// What is wrong with it, in a sentence each; empty when all is well.
    pub troubles: Vec<String>,
}

impl NodeRequest {
    pub(crate) fn parse(verb: NodeVerb, payload: &[u8]) -> Result<Self, Failure> {
        let body = command::options_json(payload)?;
        match verb {
            NodeVerb::Status => Fields::of("the request", &body, &[]).map(|_| Self::Status),
            NodeVerb::Mesh => Fields::of("the request", &body, &[]).map(|_| Self::Mesh),
            NodeVerb::Partition => Fields::of("the request", &body, &[]).map(|_| Self::Partition),
            NodeVerb::Ping => {
                let fields = Fields::of("the request", &body, &["node"])?;
                let to = fields.whole_from("node", 1, u64::MAX)?.and_then(NodeId::new);
                to.map(|to| Self::Ping { to }).ok_or_else(|| fields.missing("node"))
            }
            NodeVerb::Look => NodeLook::parse(&body).map(Self::Look),
            NodeVerb::Snapshot => {
                let fields = Fields::of("the request", &body, &["index", "offset", "length"])?;
                let index =
                    fields.whole("index", u64::MAX)?.ok_or_else(|| fields.missing("index"))?;
                let offset = fields.whole("offset", u64::MAX)?.unwrap_or(0);
                let length = fields
                    .whole_from("length", 1, u64::from(SNAPSHOT_CHUNK_BYTES_MAX))?
                    .and_then(|length| u32::try_from(length).ok())
                    .unwrap_or(SNAPSHOT_CHUNK_BYTES_MAX);
                Ok(Self::SnapshotChunk { index, offset, length })
            }
        }
    }

    /// The payload that asks for this.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        match self {
            Self::Status | Self::Mesh | Self::Partition => Vec::new(),
            Self::Look(look) => look.to_payload(),
            Self::Ping { to } => format!("{{\"node\":{to}}}").into_bytes(),
            Self::SnapshotChunk { index, offset, length } => {
                format!("{{\"index\":{index},\"offset\":{offset},\"length\":{length}}}")
                    .into_bytes()
            }
        }
    }

    /// Where it is asked.
    #[must_use]
    pub fn verb(&self) -> NodeVerb {
        match self {
            Self::Status => NodeVerb::Status,
            Self::SnapshotChunk { .. } => NodeVerb::Snapshot,
            Self::Mesh => NodeVerb::Mesh,
            Self::Partition => NodeVerb::Partition,
            Self::Ping { .. } => NodeVerb::Ping,
            Self::Look(_) => NodeVerb::Look,
        }
    }
}
