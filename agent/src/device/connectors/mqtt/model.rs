//! A device's model: which topics it speaks on, in which words.
//!
//! The settings of a device, after a preset has been written out (`presets`), are one small
//! language:
//!
//! ```json
//! {"properties": {
//!    "on": {"type": "boolean", "map": {"ON": true, "OFF": false},
//!           "read":  [{"topic": "stat/{{ address }}/RESULT", "key": "POWER"}],
//!           "write": {"topic": "cmnd/{{ address }}/POWER"},
//!           "get":   {"topic": "cmnd/{{ address }}/POWER", "payload": ""}}},
//!  "actions": {"blink": {"topic": "cmnd/{{ address }}/BLINK", "payload": "{{ args.times }}"}},
//!  "availability": {"topic": "tele/{{ address }}/LWT", "online": "Online", "offline": "Offline"}}
//! ```
//!
//! `key` picks a member out of a JSON payload, or puts one into it, and writes that share a topic
//! become one message; `value` and `payload` are templates; with neither, the payload is the
//! value. [`Model::parse`] checks all of it, renders every template once with a sample and
//! refuses what does not render. It does no I/O.

mod alive;
mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::device::connector::{Access, DeviceSetup, Fence, Profile, Refusal};

use super::super::settings::Fields;
use super::template::{Engine, Names, Template};
use super::{presets, topic};
pub(crate) use alive::{Alive, Said, Together};
pub(crate) use parts::{Action, Asking, Payload, Property, Put, Sink, insert};

/// Properties and actions of one device.
const MEMBERS_MAX: usize = 512;
/// Sources of one property, and topics that tell whether a device is there.
const SOURCES_MAX: usize = 8;

/// What a device is and how it is spoken with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    /// Its properties.
    pub(crate) properties: BTreeMap<Arc<str>, Property>,
    /// Its one-shots.
    pub(crate) actions: BTreeMap<Arc<str>, Action>,
    /// What tells whether it is there.
    pub(crate) alive: Vec<Alive>,
    /// What these mean together.
    pub(crate) together: Together,
    /// After a write it publishes what it was told, before the device has said anything.
    pub(crate) optimistic: bool,
    /// It listens now and then only.
    pub(crate) sleepy: bool,
    /// Others' messages on its command topics are looked at.
    pub(crate) watch: bool,
    /// The base topic of the bridge that it is behind, which knows its name.
    pub(crate) bridge: Option<String>,
    /// What stands before its topics: `{{ base }}`.
    pub(crate) base: String,
}

impl Model {
    /// Reads a device's settings.
    ///
    /// # Errors
    /// What is wrong, in which field.
    pub(crate) fn parse(engine: &mut Engine, device: &DeviceSetup) -> Result<Self, Refusal> {
        let written_out = presets::write_out(device)?;
        let fields = Fields::new("settings", &written_out);
        // Presets are written out by now; the word stays for whoever reads the settings.
        let _preset = fields.text("preset")?;
        let alive = alive::alive(engine, &fields)?;
        let mut model = Self {
            properties: BTreeMap::new(),
            actions: BTreeMap::new(),
            optimistic: fields.flag("optimistic")?.unwrap_or(false),
            sleepy: fields.flag("sleepy")?.unwrap_or(false),
            watch: fields.flag("watch")?.unwrap_or(!alive.is_empty()),
            bridge: fields.text("bridge")?.map(str::to_owned),
            base: fields.text("base")?.unwrap_or_default().to_owned(),
            together: alive::together(&fields)?,
            alive,
        };
        for (name, property) in fields.named("properties")? {
            model.properties.insert(Arc::from(name), Property::parse(engine, property)?);
        }
        for (name, action) in fields.named("actions")? {
            model.actions.insert(Arc::from(name), Action::parse(engine, action)?);
        }
        model.check_sizes(&fields)?;
        fields.finish()?;
        model.check_topics(engine, device)?;
        Ok(model)
    }

    fn check_sizes(&self, fields: &Fields<'_>) -> Result<(), Refusal> {
        if self.properties.is_empty() && self.actions.is_empty() {
            return Err(fields
                .missing("properties")
                .with_hint("name a preset, or say on which topics the device speaks"));
        }
        let members = self.properties.len() + self.actions.len();
        if members > MEMBERS_MAX {
            let problem = format!("{members} properties and actions, the limit is {MEMBERS_MAX}");
            return Err(fields.refuse("properties", problem));
        }
        Ok(())
    }

    /// Renders every topic with what the device has now, or with a stand-in for the name that its
    /// bridge will tell.
    fn check_topics(&self, engine: &Engine, device: &DeviceSetup) -> Result<(), Refusal> {
        let names = self.names(device, Some("name"));
        for (path, template) in self.topics() {
            render_topic(engine, template, &names)
                .map_err(|problem| Refusal::new(path.clone(), problem))
                .and_then(|text| topic::check(&path, &text))?;
        }
        if let Some(bridge) = &self.bridge {
            topic::check("settings.base", bridge)?;
        }
        self.check_separate(engine, &names)
    }

    /// A device that is told on the topic on which it reports would seem to do all it is told.
    fn check_separate(&self, engine: &Engine, names: &Names) -> Result<(), Refusal> {
        for (name, property) in &self.properties {
            let Some(sink) = &property.sink else { continue };
            let told = render_topic(engine, &sink.topic, names);
            let sources = property.sources.iter();
            if sources.map(|source| render_topic(engine, &source.topic, names)).any(|t| t == told) {
                let field = format!("settings.properties.{name}.write.topic");
                return Err(Refusal::new(field, "the property is read on the same topic")
                    .with_hint("its commands would be taken for its reports"));
            }
        }
        Ok(())
    }

    fn topics(&self) -> impl Iterator<Item = (String, &Template)> {
        let properties = self.properties.iter().flat_map(|(name, property)| {
            let at = move |part: &str| format!("settings.properties.{name}.{part}.topic");
            property
                .sources
                .iter()
                .map(move |source| (at("read"), &source.topic))
                .chain(property.sink.iter().map(move |sink| (at("write"), &sink.topic)))
                .chain(property.ask.iter().map(move |ask| (at("get"), &ask.topic)))
        });
        let actions = self
            .actions
            .iter()
            .map(|(name, action)| (format!("settings.actions.{name}.topic"), &action.topic));
        let alive =
            self.alive.iter().map(|alive| ("settings.availability.topic".to_owned(), &alive.topic));
        properties.chain(actions).chain(alive)
    }

    /// What templates of topics see.
    pub(crate) fn names(&self, device: &DeviceSetup, name: Option<&str>) -> Names {
        let names =
            Names::default().with_text("base", &self.base).with_text("address", &device.address);
        name.map_or(names.clone(), |name| names.with_text("name", name))
    }

    /// Whether something tells that the device is there.
    pub(crate) fn is_told(&self) -> bool {
        self.alive.iter().any(|alive| !alive.offline_only)
    }

    /// What can be done with the device.
    pub(crate) fn profile(&self) -> Profile {
        let access = |property: &Property| match (&property.sink, property.sources.is_empty()) {
            (Some(_), false) => Access::Desired,
            (Some(_), true) => Access::WriteOnly,
            (None, _) => Access::Readable,
        };
        let mut warnings = Vec::new();
        if self.alive.is_empty() && self.bridge.is_none() {
            warnings.push(
                "nothing tells whether the device is there: settings.availability is missing, and \
                 one-shots may be sent to nobody"
                    .to_owned(),
            );
        }
        if !self.alive.is_empty() && !self.is_told() {
            warnings.push(
                "only its bridge tells whether the device can be reached, not whether it is there: \
                 switch the bridge's availability on; one-shots may be sent to nobody"
                    .to_owned(),
            );
        }
        if self.sleepy {
            warnings.push(
                "the device sleeps: what is written reaches it when it wakes, so give commands a \
                 TTL of hours"
                    .to_owned(),
            );
        }
        if !self.watch && self.properties.values().any(|property| property.sink.is_some()) {
            warnings.push(
                "commands of others to this device are not seen (settings.watch is off)".to_owned(),
            );
        }
        Profile {
            properties: self
                .properties
                .iter()
                .map(|(name, property)| (Arc::clone(name), access(property)))
                .collect(),
            others: None,
            actions: Some(self.actions.keys().cloned().collect()),
            fence: Fence::Broker,
            warnings,
        }
    }
}

/// Renders a topic.
pub(crate) fn render_topic(
    engine: &Engine,
    template: &Template,
    names: &Names,
) -> Result<String, String> {
    engine.render(template, names).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
