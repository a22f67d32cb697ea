//! What the sending side of frames sees of the mesh: the nodes that are connected now, and a
//! queue per class for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_consensus::frame::Class;
use fleet_state::NodeId;

use super::frames::{FrameQueue, QueueBounds};

/// What may wait for a stream, by class. Heartbeats older than a few beats help nobody; entries
/// and proposals come in bursts; a snapshot is asked for in windows by its receiver.
const URGENT: QueueBounds = QueueBounds { frames_max: 64, bytes_max: 1024 * 1024 };
const NORMAL: QueueBounds = QueueBounds { frames_max: 1_024, bytes_max: 16 * 1024 * 1024 };
const BULK: QueueBounds = QueueBounds { frames_max: 128, bytes_max: 16 * 1024 * 1024 };

/// The queues to one node.
#[derive(Debug)]
pub struct NodeLanes {
    urgent: FrameQueue,
    normal: FrameQueue,
    bulk: FrameQueue,
}

impl Default for NodeLanes {
    fn default() -> Self {
        Self {
            urgent: FrameQueue::new(URGENT),
            normal: FrameQueue::new(NORMAL),
            bulk: FrameQueue::new(BULK),
        }
    }
}

impl NodeLanes {
    /// The queue of a class.
    #[must_use]
    pub fn queue(&self, class: Class) -> &FrameQueue {
        match class {
            Class::Urgent => &self.urgent,
            Class::Normal => &self.normal,
            Class::Bulk => &self.bulk,
        }
    }
}

/// The nodes that are connected now.
pub type LaneTable = Arc<BTreeMap<NodeId, Arc<NodeLanes>>>;
