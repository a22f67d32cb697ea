//! Which topics a link listens to, what a message on them means, and what a wish becomes.
//!
//! [`Wiring`] is the pure heart of the connector: devices in, subscriptions out; a message in,
//! observations out; a write, a question or a one-shot in, messages out. It has no socket and no
//! clock, so its tests are tables of documented payloads.
//!
//! - What the broker kept (retained) is uncertain and stays so.
//! - A payload that is too long, not UTF-8 or not what the model says is a problem, told with
//!   quality bad where the device is known, and changes nothing.
//! - A message of somebody else on a command topic is a foreign write, not a report.
//! - Devices behind a bridge are spoken with by the name that the bridge gives them now; a name
//!   that changes changes the subscriptions.

mod hearing;
mod saying;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::DeviceId;

use crate::device::connector::{Availability, DeviceSetup, Observation, Refusal};

use super::model::{Model, Said, render_topic};
use super::presets::zigbee2mqtt::BridgeDevice;
use super::template::Engine;
pub(crate) use hearing::Incoming;
pub(crate) use saying::{Outgoing, Question};

/// A link's devices and their topics.
pub(crate) struct Wiring {
    engine: Engine,
    devices: BTreeMap<DeviceId, Wired>,
    uses: BTreeMap<String, Vec<Use>>,
    bridges: BTreeMap<String, BTreeMap<Arc<str>, BridgeDevice>>,
}

/// A device and what is known of it now.
struct Wired {
    setup: DeviceSetup,
    model: Model,
    /// What the bridge calls it, for those behind one.
    name: Option<Arc<str>>,
    /// The bridge no longer has it, or doesn't speak with it.
    gone: bool,
    /// What each source of availability said last.
    alive: Said,
    told: Option<Availability>,
}

/// What a topic is listened to for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Use {
    Value { device: DeviceId, property: Arc<str>, source: usize },
    Alive { device: DeviceId, place: usize },
    Command { device: DeviceId },
    Bridge { base: String },
}

impl Wiring {
    /// The wiring of these devices, and those that can't be wired with the reason.
    pub(crate) fn new(devices: Vec<DeviceSetup>) -> (Self, Vec<(DeviceId, Refusal)>) {
        let mut wiring = Self {
            engine: Engine::new(),
            devices: BTreeMap::new(),
            uses: BTreeMap::new(),
            bridges: BTreeMap::new(),
        };
        // Nothing was heard yet.
        let (refused, _none) = wiring.replace(devices);
        (wiring, refused)
    }

    /// Takes other devices, and keeps what is known of bridges and of devices that stay the same.
    /// Gives those that can't be wired, and what is known of new ones already.
    pub(crate) fn replace(
        &mut self,
        devices: Vec<DeviceSetup>,
    ) -> (Vec<(DeviceId, Refusal)>, Vec<Observation>) {
        let mut before = std::mem::take(&mut self.devices);
        let mut refused = Vec::new();
        for setup in devices {
            let id = setup.id.clone();
            if let Some(same) = before.remove(&id).filter(|wired| wired.setup == setup) {
                self.devices.insert(id, same);
                continue;
            }
            match Model::parse(&mut self.engine, &setup) {
                Ok(model) => {
                    let (name, gone, alive, told) = (None, false, Said::default(), None);
                    let wired = Wired { setup, model, name, gone, alive, told };
                    self.devices.insert(id, wired);
                }
                Err(refusal) => refused.push((id, refusal)),
            }
        }
        let bases: BTreeSet<_> =
            self.devices.values().filter_map(|wired| wired.model.bridge.clone()).collect();
        self.bridges.retain(|base, _| bases.contains(base));
        let (mut known, _) = self.name_devices();
        self.connect_topics();
        known.extend(self.tell_new_ones());
        (refused, known)
    }

    /// What a topic said of others counts for a new device that goes by it too: a broker says it once
    /// to each who asks, and this link has asked before.
    fn tell_new_ones(&mut self) -> Vec<Observation> {
        let mut missed = Vec::new();
        for uses in self.uses.values() {
            let rules = uses.iter().filter_map(|item| {
                let Use::Alive { device, place } = item else { return None };
                let wired = self.devices.get(device)?;
                Some((device, *place, wired.model.alive.get(*place)?, wired.alive.of(*place)))
            });
            let (heard, unheard): (Vec<_>, Vec<_>) = rules.partition(|(.., said)| said.is_some());
            for (device, place, rule, _) in unheard {
                let same = heard.iter().find(|(_, _, other, _)| other.reads_like(rule));
                if let Some((.., Some(said))) = same {
                    missed.push((device.clone(), place, *said));
                }
            }
        }
        let mut told = Vec::new();
        for (device, place, said) in missed {
            let Some(wired) = self.devices.get_mut(&device) else { continue };
            wired.alive.take(&wired.model.alive, place, said);
            let news = wired.news();
            told.extend(news.map(|news| Observation::availability(device, news)));
        }
        told
    }

    /// The topics to be subscribed to.
    pub(crate) fn subscriptions(&self) -> BTreeSet<String> {
        self.uses.keys().cloned().collect()
    }

    /// The devices that are heard on a topic.
    pub(crate) fn heard_on(&self, topic: &str) -> BTreeSet<DeviceId> {
        let uses = self.uses.get(topic).into_iter().flatten();
        let devices = uses.filter_map(|item| match item {
            Use::Value { device, .. } | Use::Alive { device, .. } => Some(device.clone()),
            Use::Command { .. } | Use::Bridge { .. } => None,
        });
        devices.collect()
    }

    /// The topics on which this link itself speaks with devices.
    pub(crate) fn is_command_topic(&self, topic: &str) -> bool {
        self.uses
            .get(topic)
            .is_some_and(|uses| uses.iter().any(|item| matches!(item, Use::Command { .. })))
    }

    /// Whether the device publishes what it was told before it has acted.
    pub(crate) fn is_optimistic(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|wired| wired.model.optimistic)
    }

    /// Whether the device can be reached, as far as anybody said.
    pub(crate) fn availability(&self, device: &DeviceId) -> Availability {
        self.devices.get(device).map_or(Availability::Unknown, Wired::availability)
    }

    /// Whether something tells that the device is there at all.
    fn is_told(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|wired| wired.model.is_told())
    }

    /// Gives devices behind bridges the names that their bridges use; tells whose availability
    /// changed by that, and whether a name did.
    fn name_devices(&mut self) -> (Vec<Observation>, bool) {
        let mut changed = Vec::new();
        let mut renamed = false;
        for (id, wired) in &mut self.devices {
            let Some(bridge) = wired.model.bridge.as_ref().and_then(|base| self.bridges.get(base))
            else {
                continue;
            };
            let known = bridge.get(&wired.setup.address);
            let name = known.map(|device| Arc::clone(&device.name));
            renamed |= wired.name != name;
            wired.name = name;
            wired.gone = known.is_none_or(|device| device.out_of_use);
            if let Some(availability) = wired.news() {
                changed.push(Observation::availability(id.clone(), availability));
            }
        }
        (changed, renamed)
    }

    fn connect_topics(&mut self) {
        let mut uses: BTreeMap<String, Vec<Use>> = BTreeMap::new();
        for (id, wired) in &self.devices {
            for (topic, purpose) in wired.uses(id, &self.engine) {
                uses.entry(topic).or_default().push(purpose);
            }
        }
        self.uses = uses;
    }
}

impl Wired {
    fn availability(&self) -> Availability {
        if self.gone {
            return Availability::Offline;
        }
        let Model { alive, together, sleepy, .. } = &self.model;
        self.alive.means(alive, *together, *sleepy)
    }

    /// The availability, when it is not what was told last.
    fn news(&mut self) -> Option<Availability> {
        let now = self.availability();
        let first_and_unknown = self.told.is_none() && now == Availability::Unknown;
        if self.told == Some(now) || first_and_unknown {
            return None;
        }
        self.told = Some(now);
        Some(now)
    }

    /// Its topics. One behind a bridge that hasn't named it yet has those of the bridge only.
    fn uses(&self, id: &DeviceId, engine: &Engine) -> Vec<(String, Use)> {
        let names = self.model.names(&self.setup, self.name.as_deref());
        let mut uses = Vec::new();
        // A template that asks for a name that isn't known yet doesn't render, and has no topic.
        let mut add = |template, purpose| {
            if let Ok(topic) = render_topic(engine, template, &names) {
                uses.push((topic, purpose));
            }
        };
        for (name, property) in &self.model.properties {
            for (source, rule) in property.sources.iter().enumerate() {
                let (device, property) = (id.clone(), Arc::clone(name));
                add(&rule.topic, Use::Value { device, property, source });
            }
        }
        for (place, alive) in self.model.alive.iter().enumerate() {
            add(&alive.topic, Use::Alive { device: id.clone(), place });
        }
        if self.model.watch {
            let sinks =
                self.model.properties.values().filter_map(|property| property.sink.as_ref());
            let topics: Vec<_> = sinks.map(|sink| &sink.topic).collect();
            for (place, topic) in topics.iter().enumerate() {
                if !topics.iter().take(place).any(|before| before == topic) {
                    add(topic, Use::Command { device: id.clone() });
                }
            }
        }
        if let Some(base) = &self.model.bridge {
            uses.push((format!("{base}/bridge/devices"), Use::Bridge { base: base.clone() }));
        }
        uses
    }
}

#[cfg(test)]
mod tests;
