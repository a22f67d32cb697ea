//! Frames over the mesh: the sending side.
//!
//! Frames go into a bounded queue per node and class, of which a task of the mesh writes them
//! to a stream. A node that is not connected has no queue, so nothing waits for it and nothing
//! stale is delivered when it comes back. What arrives is put into the inbox by the mesh.

use bytes::Bytes;
use fleet_consensus::frame::{Class, Path, Route};
use fleet_state::NodeId;
use tokio::sync::watch;

use crate::mesh::{FRAME_BYTES_PREFERRED, LaneTable};
use crate::metrics::{Metrics, Way};

const WAY: Way = Way { way: "mesh" };

/// The sending side; owned by the loop.
#[derive(Debug)]
pub struct MeshWay {
    lanes: watch::Receiver<LaneTable>,
    metrics: Metrics,
}

impl MeshWay {
    /// Sends to the nodes in the table.
    #[must_use]
    pub const fn new(lanes: watch::Receiver<LaneTable>, metrics: Metrics) -> Self {
        Self { lanes, metrics }
    }

    /// Whether a node is connected. When the mesh has ended, nobody writes what is queued.
    pub(super) fn is_open(&self, node: NodeId) -> bool {
        self.lanes.has_changed().is_ok() && self.lanes.borrow().contains_key(&node)
    }

    /// The route to a node.
    #[expect(clippy::unused_self, reason = "every way answers for itself")]
    pub(super) const fn route(&self, to: NodeId, class: Class) -> Route {
        Route { to, path: Path::Mesh, class, frame_bytes_max: FRAME_BYTES_PREFERRED, unheard: None }
    }

    /// Queues a frame; `false` when older ones were dropped for it, or the node is gone.
    pub(super) fn send(&self, route: Route, frame: Bytes) -> bool {
        let lanes = self.lanes.borrow().get(&route.to).cloned();
        let Some(lanes) = lanes.filter(|_| self.is_open(route.to)) else {
            return false;
        };
        let dropped = lanes.queue(route.class).push(frame);
        self.metrics.frames_sent.get_or_create(&WAY).inc();
        if dropped > 0 {
            let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
            self.metrics.frames_dropped.get_or_create(&WAY).inc_by(dropped);
        }
        dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::mesh::NodeLanes;

    #[test]
    fn a_mesh_that_has_ended_is_no_way() {
        let node = NodeId::new(2).unwrap();
        let table = BTreeMap::from([(node, Arc::new(NodeLanes::default()))]);
        let (lanes, seen) = watch::channel(LaneTable::from(table));
        let way = MeshWay::new(seen, Metrics::new());
        let route = way.route(node, Class::Normal);
        assert!(way.is_open(node) && way.send(route, Bytes::from_static(b"x")));
        assert!(!way.is_open(NodeId::new(3).unwrap()));
        drop(lanes);
        assert!(!way.is_open(node) && !way.send(route, Bytes::from_static(b"x")));
    }
}
