//! What the choice of ways knows, for people: which way frames to each node take, and when the node
//! was heard on which.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_consensus::frame::Path;
use fleet_state::NodeId;
use tokio::sync::{mpsc, watch};

/// Changes of ways that may wait to be told.
const SWITCHES_MAX: usize = 64;

/// What is known of the ways to one node. Times are milliseconds of this node's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaySeen {
    /// The way that the last frame to it took.
    pub way: Option<Path>,
    /// When it was heard over NATS.
    pub nats_ms: Option<u64>,
    /// When it was heard over the mesh.
    pub mesh_ms: Option<u64>,
}

/// What is known of the ways to all nodes.
pub type WayTable = Arc<BTreeMap<NodeId, WaySeen>>;

/// Frames to a node take another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaySwitch {
    /// The node.
    pub to: NodeId,
    /// The way they take now.
    pub way: Path,
    /// Why, in words.
    pub reason: &'static str,
}

/// The side that tells; owned by the loop.
#[derive(Debug)]
pub struct WayTeller {
    pub(super) table: watch::Sender<WayTable>,
    pub(super) switches: mpsc::Sender<WaySwitch>,
}

/// The side that listens.
#[derive(Debug)]
pub struct WayNews {
    /// The newest table, at most a second old.
    pub table: watch::Receiver<WayTable>,
    /// Every change of ways, once; the newest are left out when nobody takes them.
    pub switches: mpsc::Receiver<WaySwitch>,
}

/// Both sides.
#[must_use]
pub fn way_news() -> (WayTeller, WayNews) {
    let (table, table_seen) = watch::channel(WayTable::default());
    let (switches, switches_seen) = mpsc::channel(SWITCHES_MAX);
    (WayTeller { table, switches }, WayNews { table: table_seen, switches: switches_seen })
}
