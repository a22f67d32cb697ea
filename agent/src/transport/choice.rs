//! Which way frames to a node take: pure, with time as an argument.
//!
//! NATS is preferred while it works. It does not work for a node when the client says that it
//! is disconnected or that its server is about to go, when the node goes on speaking over the
//! mesh and not over NATS, or when the node says that this is what it sees of us: a way that
//! carries one direction only looks whole from the side that hears. The way back is slower on
//! purpose: NATS must have carried the node's frames without a gap for a while, and longer each
//! time that it did not last, or a flapping server would make the frames flap.
//!
//! What is urgent is never chosen for: it goes by every way that is open. That keeps elections
//! and leases alive through any change of ways, and is what proves the ways: a frame that came
//! by one way and whose copy is missing on the other is evidence, everything else goes by one
//! way and proves only that this one works.
//!
//! Silence is measured in evidence, not by the clock: each frame whose copy is missing counts
//! for one heartbeat at most. A pause of any length, of this node or of the other one, is at
//! most one heartbeat of it, whichever way is looked at first afterwards; and two nodes that
//! have nothing to say to each other are silent on both ways, which says nothing about either.
//! Tests: the tables in `choice/tests.rs`.

mod lane;

use std::collections::BTreeMap;

use fleet_consensus::frame::{Arrival, Path};
use fleet_state::NodeId;

use self::lane::Lane;
use super::table::WaySeen;

/// Nodes that are followed at most; ids come from the replicated members, which are fewer.
const NODES_MAX: usize = 1_024;

/// Which ways may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayMode {
    /// NATS while it works, the mesh as soon as it does not.
    Auto,
    /// Only NATS.
    Nats,
    /// Only the mesh.
    Mesh,
}

/// When ways are changed.
#[derive(Clone, Copy, Debug)]
pub struct ChoiceConfig {
    /// Which ways may be used.
    pub mode: WayMode,
    /// Two heartbeats: what a node that speaks may at most stay silent on a way that works.
    pub silent_ms: u64,
    /// NATS is taken again after it has carried a node's frames for this long.
    pub back_ms: u64,
}

/// What the NATS client says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NatsState {
    /// It is connected.
    Up,
    /// Its server is about to go: frames still pass, and soon won't.
    Leaving,
    /// It is not connected.
    Down,
}

/// Which ways to a node are open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// The connection to NATS.
    pub(super) nats: NatsState,
    /// Whether the node is connected over the mesh.
    pub(super) mesh: bool,
}

/// Why the way was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// NATS is disconnected.
    NatsDown,
    /// The NATS server is about to go.
    NatsLeaving,
    /// The node is not heard over NATS and is over the mesh.
    NatsSilent,
    /// The node says that it hears this one over the mesh and not over NATS.
    NatsUnheard,
    /// NATS has carried the node's frames for long enough.
    NatsProven,
    /// NATS is connected, and the node has nothing to say on either way.
    NothingSaid,
    /// The node is not connected over the mesh any more.
    MeshDown,
    /// The node is not heard over the mesh and is over NATS.
    MeshSilent,
    /// The node says that it hears this one over NATS and not over the mesh.
    MeshUnheard,
}

impl Why {
    /// Whether the way that is left may have lost what it was given.
    #[must_use]
    pub(super) const fn is_failure(self) -> bool {
        match self {
            Self::NatsDown
            | Self::NatsSilent
            | Self::NatsUnheard
            | Self::MeshDown
            | Self::MeshSilent
            | Self::MeshUnheard => true,
            Self::NatsLeaving | Self::NothingSaid | Self::NatsProven => false,
        }
    }

    /// The reason in words, for the log.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NatsDown => "NATS is disconnected",
            Self::NatsLeaving => "the NATS server is about to go",
            Self::NatsSilent => "the node is heard over the mesh and not over NATS",
            Self::NatsUnheard => "the node hears this one over the mesh and not over NATS",
            Self::NothingSaid => "NATS is connected and nothing is said on either way",
            Self::NatsProven => "NATS carries the node's frames again",
            Self::MeshDown => "the node is not connected over the mesh",
            Self::MeshSilent => "the node is heard over NATS and not over the mesh",
            Self::MeshUnheard => "the node hears this one over NATS and not over the mesh",
        }
    }
}

/// A change of the way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    /// The new way.
    pub(super) to: Path,
    /// Why.
    pub(super) why: Why,
}

impl ChoiceConfig {
    const fn heartbeat_ms(&self) -> u64 {
        self.silent_ms / 2
    }

    /// A node that says nothing for longer has nothing to say.
    const fn gap_ms(&self) -> u64 {
        self.silent_ms.saturating_mul(2)
    }
}

/// The ways to all nodes.
#[derive(Debug)]
pub(super) struct Choices {
    config: ChoiceConfig,
    lanes: BTreeMap<NodeId, Lane>,
}

impl Choices {
    /// Nothing is known of any node yet.
    #[must_use]
    pub(super) const fn new(config: ChoiceConfig) -> Self {
        Self { config, lanes: BTreeMap::new() }
    }

    /// Which ways may be used.
    #[must_use]
    pub(super) const fn mode(&self) -> WayMode {
        self.config.mode
    }

    /// An authentic frame came from a node.
    pub(super) fn heard(&mut self, from: NodeId, arrival: Arrival, now_ms: u64) {
        let config = self.config;
        if let Some(lane) = self.lane(from) {
            lane.note(arrival, now_ms, &config);
        }
    }

    /// The way on which nothing of a node is heard, though the other one carries its frames: to
    /// be told to it.
    pub(super) fn unheard(&self, of: NodeId, now_ms: u64) -> Option<Path> {
        let lane = self.lanes.get(&of).filter(|_| self.config.mode == WayMode::Auto)?;
        let silent = |path: &Path| lane.is_silent(*path, now_ms, &self.config);
        [Path::Nats, Path::Mesh].into_iter().find(silent)
    }

    /// The way for what is large and not in a hurry: the mesh keeps it apart from heartbeats and
    /// at its rate, which NATS does not. `None` when there is nothing to choose.
    pub(super) fn for_bulk(&self, to: NodeId, open: Open, now_ms: u64) -> Option<Path> {
        let lane = self.lanes.get(&to);
        let fails = lane.is_some_and(|lane| {
            lane.is_silent(Path::Mesh, now_ms, &self.config)
                || lane.is_unheard(Path::Mesh, now_ms, &self.config)
        });
        (self.config.mode == WayMode::Auto && open.mesh && !fails).then_some(Path::Mesh)
    }

    /// The way to take to a node, `None` while none is open, and whether that is a change.
    pub(super) fn choose(
        &mut self,
        to: NodeId,
        open: Open,
        now_ms: u64,
    ) -> (Option<Path>, Option<Switch>) {
        let nats = (open.nats != NatsState::Down).then_some(Path::Nats);
        let mesh = open.mesh.then_some(Path::Mesh);
        match self.config.mode {
            WayMode::Nats => return (nats, None),
            WayMode::Mesh => return (mesh, None),
            WayMode::Auto => {}
        }
        let config = self.config;
        let Some(lane) = self.lane(to) else {
            return (nats.or(mesh), None);
        };
        let switch = lane
            .next(open, now_ms, &config)
            .map(|why| Switch { to: lane.change(why, now_ms, &config), why });
        let way = match lane.way {
            Path::Nats => nats,
            Path::Mesh => mesh,
        };
        (way, switch)
    }

    /// What is known of every node.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, WaySeen> {
        let seen = |lane: &Lane| WaySeen {
            way: lane.used,
            nats_ms: lane.nats.last_ms,
            mesh_ms: lane.mesh.last_ms,
        };
        self.lanes.iter().map(|(node, lane)| (*node, seen(lane))).collect()
    }

    /// Frames to a node went by a way.
    pub(super) fn used(&mut self, to: NodeId, path: Path) {
        if let Some(lane) = self.lane(to) {
            lane.used = Some(path);
        }
    }

    fn lane(&mut self, node: NodeId) -> Option<&mut Lane> {
        if self.lanes.len() >= NODES_MAX && !self.lanes.contains_key(&node) {
            // Ids are given once: the one that was silent for longest is no member any more.
            let (silent, _) = self.lanes.iter().min_by_key(|(_, lane)| lane.heard_ms())?;
            let silent = *silent;
            self.lanes.remove(&silent);
        }
        Some(self.lanes.entry(node).or_insert(Lane::new(Path::Nats, &self.config)))
    }
}

#[cfg(test)]
mod tests;
