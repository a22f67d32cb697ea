//! All ways out, as the replica sees them: asks the choice and sends by what it says.

use std::sync::Arc;

use bytes::Bytes;
use fleet_consensus::frame::{Arrival, Class, Path, Route};
use fleet_consensus::{Routes, Wire};
use fleet_state::NodeId;

use super::choice::{ChoiceConfig, Choices, NatsState, Open, Switch, WayMode};
use super::mesh::MeshWay;
use super::nats::NatsWay;
use super::table::{WaySwitch, WayTeller};
use crate::metrics::{Metrics, Way};
use crate::nats::LinkState;

/// What is known of ways is told at most so often, unless one changes.
const TELL_EVERY_MS: u64 = 1_000;

/// The ways of this node; owned by the loop.
#[derive(Debug)]
pub struct Ways {
    nats: Option<NatsWay>,
    mesh: Option<MeshWay>,
    choices: Choices,
    teller: WayTeller,
    tell_due_ms: u64,
    /// Nodes to which a way was left because it had failed; no longer than nodes.
    left: Vec<NodeId>,
    metrics: Metrics,
}

/// What the ways of a node are made from.
#[derive(Debug)]
pub struct WayParts {
    /// Frames over NATS; a site can do without.
    pub nats: Option<NatsWay>,
    /// Frames over the mesh; with NATS, a node can do without.
    pub mesh: Option<MeshWay>,
    /// When ways are changed.
    pub config: ChoiceConfig,
    /// Whom to tell.
    pub teller: WayTeller,
    /// Counters.
    pub metrics: Metrics,
}

impl Ways {
    /// The ways of a node.
    #[must_use]
    pub fn new(parts: WayParts) -> Self {
        let WayParts { nats, mesh, config, teller, metrics } = parts;
        let choices = Choices::new(config);
        Self { nats, mesh, choices, teller, tell_due_ms: 0, left: Vec::new(), metrics }
    }

    fn open(&self, to: NodeId) -> Open {
        let nats = match self.nats.as_ref().map(NatsWay::state) {
            Some(LinkState::Connected) => NatsState::Up,
            Some(LinkState::LameDuck) => NatsState::Leaving,
            Some(LinkState::Disconnected) | None => NatsState::Down,
        };
        Open { nats, mesh: self.mesh.as_ref().is_some_and(|mesh| mesh.is_open(to)) }
    }

    fn route(&self, path: Path, to: NodeId, class: Class, now_ms: u64) -> Option<Route> {
        let route = match path {
            Path::Nats => self.nats.as_ref().map(|nats| nats.route(to, class)),
            Path::Mesh => self.mesh.as_ref().map(|mesh| mesh.route(to, class)),
        };
        // The other side can't see what does not arrive here.
        route.map(|route| Route { unheard: self.choices.unheard(to, now_ms), ..route })
    }

    fn say(&mut self, node: NodeId, switch: Switch) {
        let (way, reason) = (switch.to.as_str(), switch.why.as_str());
        tracing::info!(node = node.get(), way, reason, "way changed");
        self.metrics.way_switches.get_or_create(&Way { way }).inc();
        let _dropped =
            self.teller.switches.try_send(WaySwitch { to: node, way: switch.to, reason });
        self.tell_due_ms = 0;
        if switch.why.is_failure() && !self.left.contains(&node) {
            self.left.push(node);
        }
    }

    fn tell(&mut self, now_ms: u64) {
        if now_ms < self.tell_due_ms {
            return;
        }
        self.tell_due_ms = now_ms.saturating_add(TELL_EVERY_MS);
        self.teller.table.send_replace(Arc::new(self.choices.seen()));
    }
}

impl Wire for Ways {
    fn routes(&mut self, to: NodeId, class: Class, now_ms: u64) -> Routes {
        let open = self.open(to);
        let (chosen, switch) = self.choices.choose(to, open, now_ms);
        if let Some(switch) = switch {
            self.say(to, switch);
        }
        let chosen = match class {
            Class::Bulk => self.choices.for_bulk(to, open, now_ms).or(chosen),
            Class::Urgent | Class::Normal => {
                if let Some(path) = chosen {
                    self.choices.used(to, path);
                }
                chosen
            }
        };
        self.tell(now_ms);
        let chosen = chosen.and_then(|path| self.route(path, to, class, now_ms));
        if class != Class::Urgent || self.choices.mode() != WayMode::Auto {
            return Routes::of(chosen, None);
        }
        let nats = (open.nats != NatsState::Down).then_some(Path::Nats);
        let mesh = open.mesh.then_some(Path::Mesh);
        let second = [nats, mesh]
            .into_iter()
            .flatten()
            .find(|path| chosen.is_none_or(|route| route.path != *path))
            .and_then(|path| self.route(path, to, class, now_ms));
        Routes::of(chosen, second)
    }

    fn send(&mut self, route: Route, frame: Bytes) -> bool {
        match route.path {
            Path::Nats => self.nats.as_mut().is_some_and(|nats| nats.send(route, frame)),
            Path::Mesh => self.mesh.as_ref().is_some_and(|mesh| mesh.send(route, frame)),
        }
    }

    fn take_left(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.left)
    }

    fn heard(&mut self, from: NodeId, arrival: Arrival, now_ms: u64) {
        self.choices.heard(from, arrival, now_ms);
        self.tell(now_ms);
    }
}
