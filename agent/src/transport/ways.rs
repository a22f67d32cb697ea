//! All ways out, as the replica sees them: asks the choice and sends by what it says.

use bytes::Bytes;
use fleet_consensus::frame::{Class, Path, Route};
use fleet_consensus::{Routes, Wire};
use fleet_state::NodeId;

use super::choice::{ChoiceConfig, Choices, NatsState, Open, Switch, WayMode};
use super::mesh::MeshWay;
use super::nats::NatsWay;
use crate::metrics::{Metrics, Way};
use crate::nats::LinkState;

/// The ways of this node; owned by the loop.
#[derive(Debug)]
pub struct Ways {
    nats: NatsWay,
    mesh: Option<MeshWay>,
    choices: Choices,
    metrics: Metrics,
}

impl Ways {
    /// The ways of a node; without a mesh, NATS alone.
    #[must_use]
    pub fn new(
        nats: NatsWay,
        mesh: Option<MeshWay>,
        config: ChoiceConfig,
        metrics: Metrics,
    ) -> Self {
        Self { nats, mesh, choices: Choices::new(config), metrics }
    }

    fn open(&self, to: NodeId) -> Open {
        let nats = match self.nats.state() {
            LinkState::Connected => NatsState::Up,
            LinkState::LameDuck => NatsState::Leaving,
            LinkState::Disconnected => NatsState::Down,
        };
        Open { nats, mesh: self.mesh.as_ref().is_some_and(|mesh| mesh.is_open(to)) }
    }

    fn route(&self, path: Path, to: NodeId, class: Class) -> Option<Route> {
        match path {
            Path::Nats => Some(self.nats.route(to, class)),
            Path::Mesh => self.mesh.as_ref().map(|mesh| mesh.route(to, class)),
        }
    }

    fn say(&self, node: NodeId, switch: Switch) {
        let way = switch.to.as_str();
        tracing::info!(node = node.get(), way, reason = switch.why.as_str(), "way changed");
        self.metrics.way_switches.get_or_create(&Way { way }).inc();
    }
}

impl Wire for Ways {
    fn routes(&mut self, to: NodeId, class: Class, now_ms: u64) -> Routes {
        let open = self.open(to);
        let (chosen, switch) = self.choices.choose(to, open, now_ms);
        if let Some(switch) = switch {
            self.say(to, switch);
        }
        let chosen = chosen.and_then(|path| self.route(path, to, class));
        if class != Class::Urgent || self.choices.mode() != WayMode::Auto {
            return Routes::of(chosen, None);
        }
        let nats = (open.nats != NatsState::Down).then_some(Path::Nats);
        let mesh = open.mesh.then_some(Path::Mesh);
        let second = [nats, mesh]
            .into_iter()
            .flatten()
            .find(|path| chosen.is_none_or(|route| route.path != *path))
            .and_then(|path| self.route(path, to, class));
        Routes::of(chosen, second)
    }

    fn send(&mut self, route: Route, frame: Bytes) -> bool {
        match route.path {
            Path::Nats => self.nats.send(route, frame),
            Path::Mesh => self.mesh.as_ref().is_some_and(|mesh| mesh.send(route, frame)),
        }
    }

    fn heard(&mut self, from: NodeId, path: Path, now_ms: u64) {
        self.choices.heard(from, path, now_ms);
    }
}
