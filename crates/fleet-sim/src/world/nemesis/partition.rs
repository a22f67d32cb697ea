//! Ways that are closed.

use fleet_state::NodeId;

use super::super::{Event, World};
use crate::node::Life;

/// How often ways close, one after the other.
const FLAPS: u32 = 12;

/// How ways are closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Split,
    Isolate,
    OneWay,
    Bridge,
    Ring,
    /// Two nodes hear one other only, which all the rest hear too.
    TwoLeaves,
}

impl World {
    pub(super) fn heal_later(&mut self) {
        let ms = self.random.between(50, 4_000);
        self.queue.push(self.now_ms + ms, Event::Heal);
    }

    /// Closes ways; `false` where there were none to close.
    pub(super) fn partition(&mut self, shape: Shape, center: NodeId) -> bool {
        let mut nodes: Vec<NodeId> =
            self.nodes.values().filter(|n| n.life != Life::Gone).map(|n| n.id).collect();
        self.random.shuffle(&mut nodes);
        let half = nodes.len() / 2;
        let leaves: Vec<NodeId> =
            nodes.iter().copied().filter(|id| *id != center).take(2).collect();
        let pairs = nodes.iter().enumerate().flat_map(|(at, one)| {
            nodes.iter().enumerate().skip(at + 1).map(move |(to, other)| (at, *one, to, *other))
        });
        let mut any_closed = false;
        for (at, one, to, other) in pairs {
            let apart = (at < half) != (to < half);
            let closed = match shape {
                Shape::Split | Shape::OneWay => apart,
                Shape::Isolate => one == center || other == center,
                // The node at `half` is the bridge.
                Shape::Bridge => apart && to != half,
                Shape::Ring => to - at != 1 && to - at != nodes.len() - 1,
                Shape::TwoLeaves => {
                    let leaf = leaves.contains(&one) || leaves.contains(&other);
                    leaf && one != center && other != center
                }
            };
            any_closed |= closed;
            if closed {
                self.network.cut(one, other);
            }
            if closed && shape != Shape::OneWay {
                self.network.cut(other, one);
            }
        }
        if any_closed {
            self.heal_later();
        }
        any_closed
    }

    /// Ways begin to open and close; `false` where there are none.
    pub(super) fn start_flapping(&mut self) -> bool {
        let possible = self.running().len() > 1;
        if possible {
            self.flap(FLAPS);
        }
        possible
    }

    pub(in super::super) fn flap(&mut self, left: u32) {
        self.network.heal();
        if left == 0 || self.nemesis.stopped {
            return;
        }
        let mut running = self.running();
        self.random.shuffle(&mut running);
        if let [one, other, ..] = *running {
            self.network.cut_both(one, other);
        }
        let ms = self.random.between(50, 500);
        self.queue.push(self.now_ms + ms, Event::Flap(left - 1));
    }

    /// The NATS server is gone for a while, or for ever so long that nobody counts on it.
    pub(super) fn take_server_down(&mut self) -> bool {
        if self.swarm.ways < 2 {
            return false;
        }
        self.network.set_server_down();
        self.heal_later();
        true
    }
}
