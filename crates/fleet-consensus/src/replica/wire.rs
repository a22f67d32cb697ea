//! The way out: what carries sealed frames to other members.

use bytes::Bytes;
use fleet_state::NodeId;

use crate::frame::{Class, Route};

/// Sends frames without ever waiting. What can't be sent now is dropped and said.
pub trait Wire {
    /// The way to `to` now; `None` when there is none.
    fn route(&mut self, to: NodeId, class: Class) -> Option<Route>;

    /// Hands a frame over. `false` when it was dropped: a queue is full, the way is gone.
    fn send(&mut self, route: Route, frame: Bytes) -> bool;
}

/// No way at all: for the replay at start.
#[derive(Debug)]
pub(super) struct NoWire;

impl Wire for NoWire {
    fn route(&mut self, _to: NodeId, _class: Class) -> Option<Route> {
        None
    }

    fn send(&mut self, _route: Route, _frame: Bytes) -> bool {
        false
    }
}
