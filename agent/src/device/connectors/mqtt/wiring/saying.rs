//! What a wish, a question or a one-shot becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::{DeviceId, Object, Value};

use crate::device::connector::{
    Availability, ReadError, ReadErrorKind, WriteError, WriteErrorKind,
};

use super::super::super::settings::shown;
use super::super::model::{Asking, Put, Sink, insert, render_topic};
use super::super::template::{Names, Template};
use super::{Wired, Wiring};

/// A message for the broker. It is never retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// On which topic.
    pub(crate) topic: String,
    /// What it says.
    pub(crate) payload: String,
    /// Whether the broker is to acknowledge it (QoS 1) or not (QoS 0).
    pub(crate) acknowledged: bool,
}

/// A question, and what answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// What is asked for.
    pub(crate) wanted: BTreeSet<Arc<str>>,
    /// The messages.
    pub(crate) messages: Vec<Outgoing>,
}

impl Wiring {
    /// The messages that tell a device these values.
    ///
    /// # Errors
    /// Why they can't be told; nothing has left then.
    pub(crate) fn write(
        &self,
        device: &DeviceId,
        values: &Object,
    ) -> Result<Vec<Outgoing>, WriteError> {
        let wired = self.wired(device)?;
        if wired.gone {
            return Err(offline("the bridge doesn't have the device any more"));
        }
        let names = wired.names();
        let mut alone = Vec::new();
        let mut joined: BTreeMap<String, (Object, bool)> = BTreeMap::new();
        for (name, value) in values.iter() {
            let Some(property) = wired.model.properties.get(name) else {
                return Err(invalid(format!("{device} has no property {}", shown(name))));
            };
            let Some(sink) = &property.sink else {
                return Err(invalid(format!("{name} can be read only")));
            };
            let word = property.form.word_for(value);
            let word = word.map_err(|problem| invalid(format!("{name}: {problem}")))?;
            let topic = self.topic_for(wired, &sink.topic, &names)?;
            match sink {
                Sink { put: Put::Key(path), acknowledged, .. } => {
                    let entry = joined.entry(topic).or_default();
                    insert(&mut entry.0, path, &word);
                    entry.1 |= acknowledged;
                }
                Sink { put, acknowledged, .. } => {
                    let payload = put.rendered(&self.engine, &word);
                    let payload = payload.map_err(|why| invalid(format!("{name}: {why}")))?;
                    alone.push(Outgoing { topic, payload, acknowledged: *acknowledged });
                }
            }
        }
        alone.extend(joined.into_iter().map(|(topic, (object, acknowledged))| Outgoing {
            topic,
            payload: object.to_json(),
            acknowledged,
        }));
        Ok(alone)
    }

    /// The message of a one-shot: QoS 0, and only to a device that is there.
    ///
    /// # Errors
    /// Why it can't be told; nothing has left then.
    pub(crate) fn invoke(
        &self,
        device: &DeviceId,
        action: &str,
        args: &Value,
    ) -> Result<Outgoing, WriteError> {
        let wired = self.wired(device)?;
        let Some(rule) = wired.model.actions.get(action) else {
            let known: Vec<_> = wired.model.actions.keys().map(AsRef::as_ref).collect();
            let known = if known.is_empty() { "it has none".to_owned() } else { known.join(", ") };
            return Err(invalid(format!("{} is none of its actions: {known}", shown(action))));
        };
        self.check_there(device)?;
        let topic = self.topic_for(wired, &rule.topic, &wired.names())?;
        let empty = Value::Map(Object::new());
        let args = if *args == Value::Null { &empty } else { args };
        let payload = self.engine.render(&rule.payload, &Names::default().with("args", args));
        let payload = payload
            .map_err(|error| invalid(format!("the arguments don't fit: {}", error.message())))?;
        Ok(Outgoing { topic, payload, acknowledged: false })
    }

    /// Whether something that may come once only can be handed over now.
    ///
    /// # Errors
    /// What is known of the device instead.
    pub(crate) fn check_there(&self, device: &DeviceId) -> Result<(), WriteError> {
        match self.availability(device) {
            Availability::Online => Ok(()),
            Availability::Unknown if !self.is_told(device) => Ok(()),
            Availability::Unknown => {
                Err(offline("nobody has said yet whether the device is there"))
            }
            Availability::Asleep => Err(offline("the device is asleep")),
            Availability::Offline => Err(offline("the device is offline")),
        }
    }

    /// How a device is asked for these properties, or for all that can be asked for.
    ///
    /// # Errors
    /// Why it can't be asked.
    pub(crate) fn question(&self, device: &DeviceId) -> Result<Question, ReadError> {
        let unsupported = |message: String| ReadError { kind: ReadErrorKind::Unsupported, message };
        let Some(wired) = self.devices.get(device) else {
            return Err(unsupported(format!("{device} is not wired to this link")));
        };
        if wired.gone {
            let message = "the bridge doesn't have the device any more".to_owned();
            return Err(ReadError { kind: ReadErrorKind::Offline, message });
        }
        let mut wanted = BTreeSet::new();
        let mut messages: BTreeMap<String, Outgoing> = BTreeMap::new();
        let mut keys: BTreeMap<String, Object> = BTreeMap::new();
        let names = wired.names();
        for (name, property) in &wired.model.properties {
            let Some(ask) = &property.ask else { continue };
            let topic = render_topic(&self.engine, &ask.topic, &names)
                .map_err(|message| ReadError { kind: ReadErrorKind::Offline, message })?;
            wanted.insert(Arc::clone(name));
            match &ask.payload {
                Asking::Key(path) => {
                    insert(keys.entry(topic).or_default(), path, &Value::from(""));
                }
                Asking::Text(text) => {
                    let payload = text.as_ref().to_owned();
                    let message = Outgoing { topic: topic.clone(), payload, acknowledged: false };
                    messages.insert(topic, message);
                }
            }
        }
        if wanted.is_empty() {
            return Err(unsupported("the device only reports, it can't be asked".to_owned()));
        }
        let with_keys = keys.into_iter().map(|(topic, object)| Outgoing {
            topic,
            payload: object.to_json(),
            acknowledged: false,
        });
        let messages = messages.into_values().chain(with_keys).collect();
        Ok(Question { wanted, messages })
    }

    fn wired(&self, device: &DeviceId) -> Result<&Wired, WriteError> {
        self.devices
            .get(device)
            .ok_or_else(|| invalid(format!("{device} is not wired to this link")))
    }

    fn topic_for(
        &self,
        wired: &Wired,
        template: &Template,
        names: &Names,
    ) -> Result<String, WriteError> {
        render_topic(&self.engine, template, names).map_err(|problem| {
            if wired.model.bridge.is_some() && wired.name.is_none() {
                offline("its bridge hasn't said yet what the device is called")
            } else {
                invalid(problem)
            }
        })
    }
}

impl Wired {
    fn names(&self) -> Names {
        self.model.names(&self.setup, self.name.as_deref())
    }
}

fn offline(message: &str) -> WriteError {
    let message = message.to_owned();
    WriteError { may_have_acted: false, kind: WriteErrorKind::Offline, message }
}

fn invalid(message: String) -> WriteError {
    WriteError { may_have_acted: false, kind: WriteErrorKind::Invalid, message }
}
