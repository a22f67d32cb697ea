//! The ways out: what carries sealed frames to other members.
//!
//! A member may be reached in more than one way at a time. The replica asks for the routes of
//! each payload, seals it for each of them, and tells which member it heard on which way, so
//! that whoever chooses knows what works. Choosing is none of the replica's business.

use bytes::Bytes;
use fleet_state::NodeId;

use crate::frame::{Arrival, Class, Path, Route};

/// The routes that one payload takes; all of them carry the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routes([Option<Route>; Path::COUNT]);

impl Routes {
    /// No way at all.
    pub const NONE: Self = Self([None; Path::COUNT]);

    /// One route.
    #[must_use]
    pub const fn one(route: Route) -> Self {
        Self([Some(route), None])
    }

    /// Up to one route per way, the preferred one first.
    #[must_use]
    pub const fn of(first: Option<Route>, second: Option<Route>) -> Self {
        Self([first, second])
    }

    /// The routes, in order of preference.
    pub fn iter(&self) -> impl Iterator<Item = Route> {
        self.0.iter().flatten().copied()
    }
}

/// Sends frames without ever waiting. What can't be sent now is dropped and said.
pub trait Wire {
    /// The ways that something for `to` takes now.
    fn routes(&mut self, to: NodeId, class: Class, now_ms: u64) -> Routes;

    /// Hands a frame over. `false` when it, or one before it, was dropped: a queue is full, the
    /// way is gone.
    fn send(&mut self, route: Route, frame: Bytes) -> bool;

    /// The members to which a way was left since the last call because it had failed: what went
    /// by it is probably lost.
    fn take_left(&mut self) -> Vec<NodeId> {
        Vec::new()
    }

    /// An authentic frame came from a member.
    fn heard(&mut self, _from: NodeId, _arrival: Arrival, _now_ms: u64) {}
}

/// No way at all: for the replay at start.
#[derive(Debug)]
pub(super) struct NoWire;

impl Wire for NoWire {
    fn routes(&mut self, _to: NodeId, _class: Class, _now_ms: u64) -> Routes {
        Routes::NONE
    }

    fn send(&mut self, _route: Route, _frame: Bytes) -> bool {
        false
    }
}
