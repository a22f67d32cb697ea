//! Links and devices of the simulated site, and what clients want of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::command::{DriftPolicy, LinkSpec, Mode, OnDrift, Placement, Policy};
use fleet_state::{Command, DeviceId, DeviceSpec, FleetState, LinkId, Object, RequestId, Stage};

use super::World;
use crate::node::Node;
use crate::random::Random;

/// Time limits of wishes and one-shots.
const TTL_MS: (u64, u64) = (50, 8_000);
/// One-shots of which one may be cancelled.
const RECENT_MAX: usize = 16;

impl World {
    /// Has links and devices registered, and written to.
    pub(super) fn register_field(&mut self) {
        for link in 0..self.swarm.links {
            let id = link_id(link);
            let spec = LinkSpec {
                connector: Arc::from("simulated"),
                address: Arc::from("here"),
                placement: Placement::Any { labels: BTreeMap::new() },
                name: Arc::from(""),
                labels: BTreeMap::new(),
                settings: Object::new(),
            };
            self.push_command(Command::LinkRegister { id: id.clone(), spec });
            for device in 0..self.swarm.devices_per_link {
                let id_of = device_id(link, device);
                // Every second one is held to what is wished of it.
                let on_drift =
                    if device.is_multiple_of(2) { OnDrift::Enforce } else { OnDrift::Report };
                let drift = DriftPolicy { on_drift, settle_ms: 200, tolerance: None };
                let policy = Arc::new(Policy { drift, ..Policy::default() });
                let spec = DeviceSpec { link: Some(id.clone()), policy, ..DeviceSpec::default() };
                self.push_command(Command::DeviceRegister { id: id_of.clone(), spec });
                self.push_command(Command::DeviceMode { id: id_of, mode: Mode::Auto });
            }
        }
    }

    /// Nobody works on the devices any more, and something is wished of each for good.
    pub fn wish_for_good(&mut self) {
        for link in 0..self.swarm.links {
            for device in 0..self.swarm.devices_per_link {
                let id = device_id(link, device);
                let mut patch = Object::new();
                patch.insert("level", self.random.below(100));
                self.push_command(Command::DeviceRelease { id: id.clone() });
                self.push_command(Command::DeviceUpdate { id, patch, ttl_ms: None });
            }
        }
    }

    /// What is missing until each link has an owner that runs, each device is what is wished of it and
    /// the log says so, and each one-shot has ended.
    #[must_use]
    pub fn why_field_waits(&self, state: &FleetState) -> Option<String> {
        for link in state.links() {
            let owner = link.owner.and_then(|owner| self.node(owner));
            if !owner.is_some_and(Node::is_running) {
                return Some(format!("link {} has no owner that runs: {:?}", link.id, link.owner));
            }
            for device in state.devices_of(&link.id) {
                if let Some(open) = state.invocations_open(&device.id).next() {
                    return Some(format!("{} is still {}", open.id, open.stage.as_str()));
                }
                for (property, wish) in device.wishes.iter() {
                    let stage = state.wish_stage(&device.id, wish.revision);
                    let is = self.field.value(&device.id, property);
                    let is_so = stage == Some(Stage::Verified) && is == Some(&wish.value);
                    // What has a time limit may have ended otherwise, and is not tried again.
                    let ended = matches!(stage, Some(Stage::Unknown | Stage::Failed));
                    let is_told = is_so || (ended && wish.ttl.is_some());
                    if !is_told {
                        let why = state.wish_failure(&device.id, wish.revision);
                        return Some(format!(
                            "{property} of {} is {is:?}: {} of r{} is {stage:?}: {why:?}; {:?} of {:?}",
                            device.id,
                            wish.value,
                            wish.revision,
                            self.field.devices().find(|(id, _)| **id == device.id),
                            device.wishes
                        ));
                    }
                }
            }
        }
        None
    }

    /// What a client wants of a device on a link, if there is one.
    pub(super) fn draw_device_command(
        &mut self,
        number: u64,
        request: &RequestId,
    ) -> Option<Command> {
        if self.swarm.links == 0 {
            return None;
        }
        let link = self.random.below(self.swarm.links);
        let id = device_id(link, self.random.below(self.swarm.devices_per_link));
        let ttl_ms = draw_ttl(&mut self.random);
        Some(match self.random.below(20) {
            0..=8 => {
                let mut patch = Object::new();
                patch.insert(if number.is_multiple_of(3) { "angle" } else { "level" }, number);
                Command::DeviceUpdate { id, patch, ttl_ms }
            }
            9..=15 => {
                if self.recent_one_shots.len() >= RECENT_MAX {
                    self.recent_one_shots.remove(0);
                }
                self.recent_one_shots.push(request.clone());
                let (action, args) = (Arc::from("ring"), Object::new());
                Command::DeviceInvoke { id, action, args, ttl_ms }
            }
            16 => {
                let request = self.random.pick(&self.recent_one_shots).cloned()?;
                Command::CommandCancel { request }
            }
            17 => {
                let running = self.running();
                let to = self.random.pick(&running).copied();
                let to = to.and_then(|to| self.node(to)).map(|node| node.secrets.name.clone());
                Command::LinkMove { id: link_id(link), to }
            }
            18 => Command::DeviceHold { id, reason: Arc::from("somebody works on it") },
            _ => Command::DeviceRelease { id },
        })
    }
}

fn draw_ttl(random: &mut Random) -> Option<u64> {
    let (least, most) = TTL_MS;
    random.per_mille(600).then(|| random.between(least, most))
}

fn link_id(number: u64) -> LinkId {
    format!("field.link-{number}").parse().expect("a valid id")
}

fn device_id(link: u64, number: u64) -> DeviceId {
    format!("field.device-{link}-{number}").parse().expect("a valid id")
}
