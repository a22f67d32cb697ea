//! Home Assistant's discovery messages: what devices of many makers publish about themselves.
//!
//! A retained message on `<prefix>/<component>/[<node>/]<object>/config` describes one entity: its
//! topics, its words, Jinja templates, and the device that it belongs to; newer senders describe
//! a whole device with its `components` at once. Long and abbreviated keys both occur, and `~`
//! stands for a topic's beginning. [`read`] groups entities by device and writes each device out
//! as settings in the language of `model`, which is what an import registers.
//!
//! What can't be said in that language is left out with a warning, entity by entity, and what it
//! reports can still be looked at: a command whose template needs a function of Home Assistant, a
//! component that is none of `entity`'s. What the Zigbee2MQTT bridge announces is left to its own
//! reader, which can ask devices for their state.
//! Source: Home Assistant's documentation, chapter MQTT.

mod beside;
mod entity;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{Limits, Object, Value};

use crate::device::connector::{Candidate, DeviceSetup};

use super::super::super::settings::shown;
use super::super::model::Model;
use super::super::template::Engine;
use entity::{Entity, Part, parts};
use words::{long_form, with_base};

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const DEPTH_MAX: usize = 16;
/// Messages that are looked at.
pub(crate) const MESSAGES_MAX: usize = 10_000;
/// Topics that tell whether one device is there.
const ALIVE_MAX: usize = 8;
/// Characters of an id.
const NAME_CHARS_MAX: usize = 32;

/// A device as far as its messages have told.
#[derive(Default)]
struct Found {
    name: Option<String>,
    model: Option<String>,
    properties: Object,
    actions: Object,
    /// What each of its entities goes by, without what was there before.
    alive: Vec<words::Availability>,
    warnings: Vec<String>,
}

/// The devices that these messages announce, with what could not be read.
pub(crate) fn read<'a>(
    messages: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> (Vec<Candidate>, Vec<String>) {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut problems = Vec::new();
    for (topic, payload) in messages.take(MESSAGES_MAX) {
        // An empty message takes an announcement back.
        if payload.is_empty() {
            continue;
        }
        if let Err(problem) = read_one(topic, payload, &mut found) {
            problems.push(format!("{}: {problem}", shown(topic)));
        }
    }
    let mut candidates = Vec::new();
    for (address, found) in found {
        // Of one that nothing is left of at least that is said.
        let why: Vec<String> =
            found.warnings.iter().map(|why| format!("{}: {why}", shown(&address))).collect();
        match found.finish(address) {
            Some(candidate) => candidates.push(candidate),
            None => problems.extend(why),
        }
    }
    (candidates, problems)
}

fn read_one(
    topic: &str,
    payload: &[u8],
    found: &mut BTreeMap<String, Found>,
) -> Result<(), String> {
    let parts_of_topic: Vec<&str> = topic.split('/').collect();
    let (component, object_id) = match parts_of_topic.as_slice() {
        [_, component, object, "config"] | [_, component, _, object, "config"] => {
            (*component, *object)
        }
        _ => return Err("the topic is not that of an announcement".to_owned()),
    };
    let limits = Limits { size_bytes_max: MESSAGE_BYTES_MAX, depth_max: DEPTH_MAX };
    let value = Value::parse(payload, limits).map_err(|error| error.to_string())?;
    let Value::Map(message) = value else {
        return Err(format!("an object is expected, this is {}", value.kind()));
    };
    let message = with_base(long_form(&message));
    let origin = message.get("origin").and_then(Value::as_map);
    let sender = origin.and_then(|origin| origin.get("name")).and_then(Value::as_text);
    if sender.is_some_and(|sender| sender.eq_ignore_ascii_case("zigbee2mqtt")) {
        return Err("it is behind Zigbee2MQTT; import it from there".to_owned());
    }
    let device = message.get("device").and_then(Value::as_map).cloned().unwrap_or_default();
    let address = identity(&device, &message).ok_or("nothing in it says which device it is")?;
    let entry = found.entry(address.clone()).or_default();
    entry.describe(&device);
    if component != "device" {
        entry.add_alive(&message, &message);
        entry.add(component, object_id, &address, &message);
        return Ok(());
    }
    let components = message.get("components").and_then(Value::as_map).cloned().unwrap_or_default();
    for (object_id, part) in components.iter() {
        let Some(part) = part.as_map() else {
            entry.warnings.push(format!("{}: it is no object", shown(object_id)));
            continue;
        };
        let mut part = long_form(part);
        // What stands beside the components holds for each of them.
        for shared in ["~", "state_topic", "command_topic"] {
            if part.get(shared).is_none()
                && let Some(value) = message.get(shared)
            {
                part.insert(shared, value.clone());
            }
        }
        let part = with_base(part);
        let platform = part.get("platform").and_then(Value::as_text).unwrap_or_default().to_owned();
        entry.add_alive(&part, &message);
        entry.add(&platform, object_id, &address, &part);
    }
    Ok(())
}

/// What names a device: an identifier, an address of its network, or the entity's own id.
fn identity(device: &Object, message: &Object) -> Option<String> {
    let first = |value: &Value| -> Option<String> {
        if let Value::List(list) = value {
            return list.first().and_then(Value::as_text).map(str::to_owned);
        }
        value.as_text().map(str::to_owned)
    };
    let connection = || {
        let Some(Value::List(connections)) = device.get("connections") else { return None };
        let Some(Value::List(pair)) = connections.first() else { return None };
        pair.get(1).and_then(Value::as_text).map(str::to_owned)
    };
    let identifier = device.get("identifiers").and_then(first);
    identifier.or_else(connection).or_else(|| message.get("unique_id").and_then(first))
}

impl Found {
    fn describe(&mut self, device: &Object) {
        let text = |key: &str| device.get(key).and_then(Value::as_text).map(str::to_owned);
        self.name = self.name.take().or_else(|| text("name"));
        let maker = text("manufacturer").unwrap_or_default();
        let model = text("model").map(|model| format!("{maker} {model}").trim().to_owned());
        self.model = self.model.take().or(model);
    }

    /// Notes what an entity goes by: what is said of itself, or of the whole device.
    fn add_alive(&mut self, entity: &Object, device: &Object) {
        let [own, shared] = [entity, device].map(words::availability);
        let alive = if own.topics.is_empty() { shared } else { own };
        if !alive.topics.is_empty() && !self.alive.contains(&alive) {
            self.alive.push(alive);
        }
    }

    /// What the device as a whole goes by. Where its entities differ that is what all of them go by;
    /// without any such topic one that is there is enough.
    fn availability(&self) -> (Vec<Value>, &'static str) {
        let Some(first) = self.alive.first() else { return (Vec::new(), "all") };
        let is_common = |topic: &&Value| self.alive.iter().all(|one| one.topics.contains(topic));
        let mut topics: Vec<Value> = first.topics.iter().filter(is_common).cloned().collect();
        let mode = if topics.is_empty() { "any" } else { first.mode };
        if topics.is_empty() {
            for topic in self.alive.iter().flat_map(|one| &one.topics) {
                if !topics.contains(topic) {
                    topics.push(topic.clone());
                }
            }
        }
        topics.truncate(ALIVE_MAX);
        (topics, mode)
    }

    /// Adds one entity, or a warning.
    fn add(&mut self, component: &str, object_id: &str, address: &str, message: &Object) {
        let name = property_name(object_id, address, component);
        let parts = parts(component, &name, message).unwrap_or_else(|problem| {
            self.warnings.push(format!("{}: {problem}", shown(object_id)));
            Vec::new()
        });
        let (observed, unheard) = Entity(message).left_over(&name, &parts);
        let unheard = unheard.into_iter().map(|what| format!("{}: {what}", shown(object_id)));
        self.warnings.extend(unheard);
        for part in parts.into_iter().chain(observed) {
            self.add_part(part);
        }
    }

    fn add_part(&mut self, part: Part) {
        let (name, mut members, kind) = match part {
            Part::Property(name, property) => (name, property, "properties"),
            Part::Action(name, action) => (name, action, "actions"),
        };
        if let Some(problem) = problem_of(kind, &name, &members) {
            self.warnings.push(format!("{name}: {problem}"));
            // What can't be commanded may still be looked at.
            if members.remove("write").is_none() || problem_of(kind, &name, &members).is_some() {
                return;
            }
        }
        let all = if kind == "actions" { &mut self.actions } else { &mut self.properties };
        let free = (1..).map(|number| match number {
            1 => name.clone(),
            number => format!("{name}_{number}"),
        });
        if let Some(free) = free.take(100).find(|name| all.get(name).is_none()) {
            all.insert(free, members);
        }
    }

    fn finish(self, address: String) -> Option<Candidate> {
        if self.properties.is_empty() && self.actions.is_empty() {
            return None;
        }
        let mut settings = Object::new();
        let (topics, mode) = self.availability();
        for (field, members) in [("properties", self.properties), ("actions", self.actions)] {
            if !members.is_empty() {
                settings.insert(field, members);
            }
        }
        if topics.len() > 1 {
            settings.insert("availability_mode", mode);
        }
        if !topics.is_empty() {
            settings.insert("availability", topics);
        }
        Some(Candidate {
            name: self.name.unwrap_or_else(|| address.clone()),
            address,
            model: self.model,
            settings,
            warnings: self.warnings,
        })
    }
}

/// Whether one property or action, alone, could be registered.
fn problem_of(kind: &str, name: &str, members: &Object) -> Option<String> {
    let mut all = Object::new();
    all.insert(name, members.clone());
    let mut settings = Object::new();
    settings.insert(kind, all);
    let setup = DeviceSetup {
        id: "candidate".parse().ok()?,
        address: Arc::from("candidate"),
        model: None,
        settings,
    };
    Model::parse(&mut Engine::new(), &setup).err().map(|refusal| refusal.to_string())
}

/// A property's name from the entity's id: without the device's own, in plain characters.
fn property_name(object_id: &str, address: &str, component: &str) -> String {
    let plain = |text: &str| -> String {
        let lower = text.to_ascii_lowercase();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        lower.chars().map(plain).collect()
    };
    let (object_id, address) = (plain(object_id), plain(address));
    let rest = object_id.strip_prefix(&address).unwrap_or(&object_id).trim_matches('_');
    let name: String = rest.chars().take(NAME_CHARS_MAX).collect();
    if name.is_empty() { plain(component) } else { name }
}

#[cfg(test)]
mod tests;
