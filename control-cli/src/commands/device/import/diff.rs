//! What an import would change: pure, from what a source tells and what the site knows.
//!
//! A device is known by its address on the link, so one that was renamed keeps its id. What an
//! import has registered carries the label `import` with the source's word; only such a device is
//! ever changed by another import, or said to be gone.

use std::collections::{BTreeMap, BTreeSet};

use fleet_protocol::{
    Area,
    look::{CandidateBody, Source},
    record::DeviceBody,
};
use fleet_state::{DeviceId, LinkId, Object, Value};
use serde::Serialize;

use super::ids;
use crate::exit::Stop;

/// The label that names the source of a device.
const IMPORT_LABEL: &str = "import";
/// The label that says who made a device and what it is.
const MODEL_LABEL: &str = "model";
/// Bytes of a label's value, and of a name.
const TEXT_BYTES_MAX: usize = 128;
/// Settings that a source may tell; others are the operator's own, and stay.
const TOLD_SETTINGS: [&str; 8] =
    ["preset", "features", "base", "sleepy", "availability", "properties", "actions", "optimistic"];

/// How a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It would be registered.
    New,
    /// It would be registered anew.
    Changed,
    /// The source doesn't tell of it any more.
    Gone,
    /// It is as the source tells.
    Unchanged,
    /// Somebody registered it without an import; it is left alone.
    ByHand,
}

impl State {
    pub(super) const ALL: [Self; 5] =
        [Self::New, Self::Changed, Self::Gone, Self::Unchanged, Self::ByHand];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Unchanged => "unchanged",
            Self::ByHand => "by hand",
        }
    }
}

/// One device of the diff.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) state: State,
    pub(super) id: String,
    pub(super) address: String,
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    /// What would change, how its id came about, and what its operator should know.
    pub(super) notes: Vec<String>,
    /// What it is registered with, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registered: Option<fleet_protocol::Json>,
    /// At which revision it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u64>,
    /// Why it could not be registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip)]
    pub(super) registration: Option<Registration>,
    #[serde(skip)]
    pub(super) stop: Option<Stop>,
}

/// The command that makes a change.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) id: DeviceId,
    pub(super) body: Object,
}

impl Change {
    /// Whether there is something to do, or was.
    pub(super) fn is_to_do(&self) -> bool {
        matches!(self.state, State::New | State::Changed)
    }
}

/// What is to be imported.
pub(super) struct Wanted<'a> {
    pub(super) link: &'a LinkId,
    pub(super) source: Source,
    pub(super) area: Option<&'a Area>,
    pub(super) found: &'a [CandidateBody],
}

/// The diff, in the order of ids within each state.
pub(super) fn changes(wanted: &Wanted<'_>, known: &[DeviceBody]) -> Vec<Change> {
    let on_link: BTreeMap<String, &DeviceBody> = known
        .iter()
        .filter(|device| device.link.as_deref() == Some(wanted.link.as_str()))
        .map(|device| (device.address.to_ascii_lowercase(), device))
        .collect();
    let mut taken: BTreeSet<String> = known.iter().map(|device| device.id.clone()).collect();
    let mut told = BTreeSet::new();
    let mut changes = Vec::new();
    for candidate in wanted.found {
        let address = candidate.address.to_ascii_lowercase();
        let change = match on_link.get(&address) {
            Some(device) => wanted.known(candidate, device),
            None => wanted.unknown(candidate, &mut taken),
        };
        changes.push(change);
        told.insert(address);
    }
    for (address, device) in &on_link {
        if wanted.is_ours(device) && !told.contains(address) {
            changes.push(gone(device));
        }
    }
    changes.sort_by(|one, other| (one.state as u8, &one.id).cmp(&(other.state as u8, &other.id)));
    changes
}

impl Wanted<'_> {
    fn is_ours(&self, device: &DeviceBody) -> bool {
        device.labels.get(IMPORT_LABEL).is_some_and(|source| source == self.source.as_str())
    }

    fn unknown(&self, candidate: &CandidateBody, taken: &mut BTreeSet<String>) -> Change {
        let asked = ids::of_name(self.area, &candidate.name, &candidate.address);
        let mut change = shown(State::New, asked.clone(), candidate);
        let others = (0..taken.len().saturating_add(1))
            .map(|n| ids::told_apart(&asked, &candidate.address, n));
        let free = std::iter::once(asked.clone()).chain(others).find(|id| !taken.contains(id));
        let Some(id) = free.and_then(|id| id.parse::<DeviceId>().ok()) else {
            change.notes.push("no free id could be made of its name".to_owned());
            return change;
        };
        if id.as_str() != asked {
            change.notes.insert(0, format!("the id {asked} is taken by another device"));
        }
        taken.insert(id.to_string());
        change.id = id.to_string();
        let mut labels = Object::new();
        self.label(&mut labels, candidate);
        let body = self.body(candidate, labels, candidate.settings.0.clone());
        change.registered = Some(fleet_protocol::Json::from(body.clone()));
        change.registration = Some(Registration { id, body });
        change
    }

    fn known(&self, candidate: &CandidateBody, device: &DeviceBody) -> Change {
        let mut change = shown(State::Unchanged, device.id.clone(), candidate);
        change.revision = Some(device.revision);
        if !self.is_ours(device) {
            change.state = State::ByHand;
            change.notes = vec!["it was registered without this import".to_owned()];
            return change;
        }
        let mut labels: Object = device
            .labels
            .iter()
            .map(|(key, text)| (key.as_str().into(), Value::from(text.as_str())))
            .collect();
        let before = labels.clone();
        self.label(&mut labels, candidate);
        let settings = merged(&device.settings.0, &candidate.settings.0);
        let mut news = Vec::new();
        if device.name != short(&candidate.name) {
            news.push(format!("its name was {}", device.name));
        }
        if labels != before {
            news.push("its model".to_owned());
        }
        if settings != device.settings.0 {
            news.extend(differing(&device.settings.0, &settings));
        }
        if news.is_empty() {
            return change;
        }
        let Ok(id) = device.id.parse::<DeviceId>() else { return change };
        change.state = State::Changed;
        change.notes.splice(0..0, news);
        let mut body = self.body(candidate, labels, settings);
        // Registering replaces the whole description: what an import knows nothing of goes along.
        body.insert("address", device.address.as_str());
        if let Some(model) = &device.model {
            body.insert("model", model.0.clone());
        }
        if let Some(policy) = json_of(&device.policy) {
            body.insert("policy", policy);
        }
        change.registered = Some(fleet_protocol::Json::from(body.clone()));
        change.registration = Some(Registration { id, body });
        change
    }

    fn label(&self, labels: &mut Object, candidate: &CandidateBody) {
        labels.insert(IMPORT_LABEL, self.source.as_str());
        if let Some(model) = &candidate.model {
            labels.insert(MODEL_LABEL, short(model));
        }
    }

    fn body(&self, candidate: &CandidateBody, labels: Object, settings: Value) -> Object {
        let mut body = Object::new();
        body.insert("link", self.link.as_str());
        body.insert("address", candidate.address.as_str());
        body.insert("name", short(&candidate.name));
        body.insert("labels", labels);
        body.insert("settings", settings);
        body
    }
}

fn shown(state: State, id: String, candidate: &CandidateBody) -> Change {
    Change {
        state,
        id,
        address: candidate.address.clone(),
        name: candidate.name.clone(),
        model: candidate.model.clone(),
        notes: candidate.warnings.clone(),
        registered: None,
        revision: None,
        error: None,
        registration: None,
        stop: None,
    }
}

fn gone(device: &DeviceBody) -> Change {
    Change {
        state: State::Gone,
        id: device.id.clone(),
        address: device.address.clone(),
        name: device.name.clone(),
        model: device.labels.get(MODEL_LABEL).cloned(),
        notes: vec![format!("forget it with: flotilla device rm {}", device.id)],
        registered: None,
        revision: Some(device.revision),
        error: None,
        registration: None,
        stop: None,
    }
}

/// What the source tells, with the operator's own settings beside it.
fn merged(known: &Value, told: &Value) -> Value {
    let (Value::Map(known), Value::Map(told)) = (known, told) else { return told.clone() };
    let mut merged = told.clone();
    for (key, value) in known.iter().filter(|(key, _)| !TOLD_SETTINGS.contains(&key.as_ref())) {
        merged.insert(key.clone(), value.clone());
    }
    Value::Map(merged)
}

/// The names of settings that differ, as far down as their names tell something.
fn differing(known: &Value, told: &Value) -> Vec<String> {
    let (Value::Map(known), Value::Map(told)) = (known, told) else {
        return vec!["its settings".to_owned()];
    };
    let keys: BTreeSet<_> = known.iter().chain(told.iter()).map(|(key, _)| key).collect();
    let mut names = Vec::new();
    for key in keys {
        match (known.get(key), told.get(key)) {
            (Some(Value::Map(one)), Some(Value::Map(other))) if one != other => {
                let inner: BTreeSet<_> =
                    one.iter().chain(other.iter()).map(|(key, _)| key).collect();
                let inner = inner.into_iter().filter(|inner| one.get(inner) != other.get(inner));
                names.extend(inner.map(|inner| format!("settings.{key}.{inner}")));
            }
            (one, other) if one != other => names.push(format!("settings.{key}")),
            _ => {}
        }
    }
    names
}

/// As much of a text as a name or a label may hold.
fn short(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if short.len().saturating_add(c.len_utf8()) > TEXT_BYTES_MAX {
            break;
        }
        short.push(c);
    }
    short
}

/// A record as a value, without what is absent in it.
fn json_of<T: Serialize>(body: &T) -> Option<Value> {
    let text = serde_json::to_vec(body).ok()?;
    fleet_protocol::Json::parse(&text).ok().map(|json| json.0)
}

#[cfg(test)]
mod tests;
