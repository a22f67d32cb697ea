//! What one node sees of the others: who lives, by which ways, how far behind.
//!
//! Presence is observed, not agreed on: two nodes may see a third one differently, and both be
//! right. So every answer says whose view it is, and times are told as ages (`…_ms`), which need
//! no common clock.

use serde::{Deserialize, Serialize};

/// What one node sees of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMesh {
    /// The node whose view this is.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Its PeerId; absent while it takes no part in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Where it can be reached, as multiaddresses with its PeerId behind.
    pub listening: Vec<String>,
    /// Whether it is connected to NATS.
    pub on_nats: bool,
    /// Its processor's load, in thousandths of one that is just busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_permille: Option<u32>,
    /// The other members, by node id.
    pub peers: Vec<PeerSeen>,
}

/// What a node sees of another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSeen {
    /// The node id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// `alive`, `suspect` or `dead`; absent when the viewer takes no part in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
    /// For how long it has been so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// How long ago it was heard of last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// The ways that lead to it now: `nats`, `mesh`, `both` or `none`.
    pub ways: String,
    /// The way that frames to it take, when there were any: `nats` or `mesh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// Round trip over the mesh, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Entries that the viewer had applied, and it had not, when it last told of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// What it last told of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// Where it may be found, best first, as multiaddresses with its PeerId behind.
    pub addresses: Vec<String>,
}

/// What a node tells the others of itself every two seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// How often it was started.
    pub boot: u64,
    /// Its role.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// What it has applied.
    pub applied: u64,
    /// Whether it is connected to NATS.
    pub on_nats: bool,
    /// Nodes that it is connected to over the mesh.
    pub mesh_nodes: u32,
    /// Its processor's load, in thousandths of one that is just busy.
    pub load_permille: u32,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinged {
    /// The node that pinged.
    pub from: u64,
    /// The node that answered.
    pub to: u64,
    /// The round trip, in microseconds.
    pub rtt_us: u64,
}

/// What an event on `control.events.way.<node>` tells: frames to a node take another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaySwitched {
    /// The node that tells.
    pub node: u64,
    /// The node that frames go to.
    pub to: u64,
    /// The way they take now: `nats` or `mesh`.
    pub way: String,
    /// Why, in words.
    pub reason: String,
    /// Wall time of the node that tells.
    pub wall_time_ms: u64,
}
