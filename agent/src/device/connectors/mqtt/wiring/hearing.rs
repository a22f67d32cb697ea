//! What a message means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::{DeviceId, Object, Value};

use crate::device::connector::{Availability, Observation, Quality};

use super::super::super::settings::shown;
use super::super::PAYLOAD_BYTES_MAX;
use super::super::form::same_word;
use super::super::model::{Payload, Property, Put};
use super::super::presets::zigbee2mqtt::read_devices;
use super::{Use, Wired, Wiring};

/// A message of the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    /// On which topic.
    pub(crate) topic: &'a str,
    /// What it says.
    pub(crate) payload: &'a [u8],
    /// The broker kept it.
    pub(crate) retained: bool,
}

/// What a message meant.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// What it says of devices.
    pub(crate) observations: Vec<Observation>,
    /// The subscriptions are others now.
    pub(crate) rewired: bool,
    /// What was wrong with it.
    pub(crate) problems: Vec<String>,
}

/// What one message says of one device.
#[derive(Default)]
struct News {
    values: Object,
    availability: Option<Availability>,
    commanded: Option<Object>,
    unreadable: bool,
}

impl Wiring {
    /// Takes a message in.
    pub(crate) fn hear(&mut self, message: Incoming<'_>) -> Heard {
        let mut heard = Heard::default();
        let Some(uses) = self.uses.get(message.topic).cloned() else {
            return heard;
        };
        if let Some(base) = uses.iter().find_map(Use::bridge) {
            self.hear_bridge(base.to_owned(), message, &mut heard);
            return heard;
        }
        let mut news: BTreeMap<DeviceId, News> = BTreeMap::new();
        match readable(message.payload) {
            Ok(text) => {
                let mut payload = Payload::new(text);
                for item in &uses {
                    self.hear_one(item, &mut payload, &mut news, &mut heard.problems);
                }
            }
            Err(problem) => {
                heard.problems.push(problem);
                for device in uses.iter().filter_map(Use::speaker) {
                    news.entry(device.clone()).or_default().unreadable = true;
                }
            }
        }
        for problem in &mut heard.problems {
            *problem = format!("{}: {problem}", shown(message.topic));
        }
        for (device, news) in news {
            news.told(&device, message.retained, &mut heard.observations);
        }
        heard
    }

    fn hear_one(
        &mut self,
        item: &Use,
        payload: &mut Payload<'_>,
        news: &mut BTreeMap<DeviceId, News>,
        problems: &mut Vec<String>,
    ) {
        match item {
            Use::Value { device, property, source } => {
                let Some(rule) = self.property(device, property) else {
                    return;
                };
                let value = rule.sources.get(*source).map_or(Ok(None), |source| {
                    let found = source.pick.value_in(&self.engine, payload)?;
                    found.map(|word| rule.form.meant(&word)).transpose()
                });
                let entry = news.entry(device.clone()).or_default();
                match value {
                    Ok(None) => {}
                    Ok(Some(value)) => {
                        entry.values.insert(Arc::clone(property), value);
                    }
                    Err(problem) => {
                        entry.unreadable = true;
                        problems.push(format!("{device} {property}: {problem}"));
                    }
                }
            }
            Use::Alive { device, place } => {
                if let Some(availability) = self.hear_alive(device, *place, payload, problems) {
                    news.entry(device.clone()).or_default().availability = Some(availability);
                }
            }
            Use::Command { device } => {
                let Some(wired) = self.devices.get(device) else {
                    return;
                };
                let commanded = self.commanded(wired, payload);
                // An empty one is a question, to those who are asked on their command topic.
                if !commanded.is_empty() || !payload.text().is_empty() {
                    news.entry(device.clone()).or_default().commanded = Some(commanded);
                }
            }
            Use::Bridge { .. } => {}
        }
    }

    fn hear_alive(
        &mut self,
        device: &DeviceId,
        place: usize,
        payload: &mut Payload<'_>,
        problems: &mut Vec<String>,
    ) -> Option<Availability> {
        let wired = self.devices.get_mut(device)?;
        let rule = wired.model.alive.get(place)?;
        let word = match rule.pick.value_in(&self.engine, payload) {
            Ok(word) => word?,
            Err(problem) => {
                problems.push(format!("{device} availability: {problem}"));
                return None;
            }
        };
        let alive = if same_word(&word, &rule.online) {
            true
        } else if same_word(&word, &rule.offline) {
            false
        } else {
            let word = shown(&word.to_json());
            problems.push(format!("{device} availability: {word} is neither word"));
            return None;
        };
        wired.alive.take(&wired.model.alive, place, alive);
        wired.news()
    }

    /// What somebody else told the device, as far as it can be understood.
    fn commanded(&self, wired: &Wired, payload: &mut Payload<'_>) -> Object {
        let understood = wired.model.properties.iter().filter_map(|(name, property)| {
            let word = self.word_of(property, payload)?;
            Some((Arc::clone(name), property.form.meant(&word).ok()?))
        });
        understood.collect()
    }

    fn word_of(&self, property: &Property, payload: &mut Payload<'_>) -> Option<Value> {
        match &property.sink.as_ref()?.put {
            Put::Whole => Some(payload.scalar()),
            Put::Key(path) => {
                let mut value = payload.json().ok()?;
                for key in path {
                    value = value.as_map()?.get(key)?;
                }
                Some(value.clone())
            }
            Put::Rendered(_) => {
                let put = &property.sink.as_ref()?.put;
                property.form.words().into_iter().find(|word| {
                    put.rendered(&self.engine, word).is_ok_and(|text| text == payload.text())
                })
            }
        }
    }

    fn hear_bridge(&mut self, base: String, message: Incoming<'_>, heard: &mut Heard) {
        match read_devices(message.payload) {
            Ok(devices) => {
                self.bridges.insert(base, devices);
                let (observations, renamed) = self.name_devices();
                heard.observations = observations;
                if renamed {
                    let before: BTreeSet<String> = self.subscriptions();
                    self.connect_topics();
                    heard.rewired = before != self.subscriptions();
                }
            }
            Err(problem) => {
                heard.problems.push(format!("{}: {problem}", shown(message.topic)));
            }
        }
    }

    fn property(&self, device: &DeviceId, property: &str) -> Option<&Property> {
        self.devices.get(device)?.model.properties.get(property)
    }
}

impl Use {
    fn bridge(&self) -> Option<&str> {
        if let Use::Bridge { base } = self { Some(base) } else { None }
    }

    /// The device whose report this would be.
    fn speaker(&self) -> Option<&DeviceId> {
        if let Use::Value { device, .. } = self { Some(device) } else { None }
    }
}

impl News {
    fn told(self, device: &DeviceId, retained: bool, observations: &mut Vec<Observation>) {
        let quality = if self.unreadable && self.values.is_empty() {
            Quality::Bad
        } else if retained || self.unreadable {
            Quality::Uncertain
        } else {
            Quality::Good
        };
        if self.unreadable || self.availability.is_some() || !self.values.is_empty() {
            observations.push(Observation {
                availability: self.availability,
                quality,
                retained,
                ..Observation::fresh(device.clone(), self.values)
            });
        }
        if let Some(values) = self.commanded {
            observations.push(Observation {
                quality: Quality::Uncertain,
                retained,
                foreign_write: true,
                ..Observation::fresh(device.clone(), values)
            });
        }
    }
}

fn readable(payload: &[u8]) -> Result<&str, String> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let found = payload.len();
        return Err(format!("{found} bytes, the limit is {PAYLOAD_BYTES_MAX}"));
    }
    std::str::from_utf8(payload).map_err(|error| format!("the payload is not UTF-8: {error}"))
}
