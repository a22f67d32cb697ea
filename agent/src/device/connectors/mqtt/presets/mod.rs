//! Presets: kinds of devices whose topics everybody knows.
//!
//! A preset is a pure function from a few words (`"preset": "tasmota", "relays": 2`) to the
//! settings that say the same in full, in the language of `model`. So there is one reader of
//! settings, one test of each preset is a look at what it writes out, and what a preset lacks can
//! be said beside it: `properties`, `actions` and the other fields of the user's win over those
//! of the preset.
//!
//! `zigbee2mqtt` follows the bridge's `exposes` and `access` bits, `tasmota` and `shelly` the
//! documented topics of these firmwares, `homeassistant` reads discovery messages of whatever
//! announces itself; it is used when importing and writes full settings, so it is no word here.

pub(crate) mod homeassistant;
pub(crate) mod shelly;
pub(crate) mod tasmota;
pub(crate) mod zigbee2mqtt;

use std::sync::Arc;

use fleet_state::{Object, Value};

use crate::device::connector::{DeviceSetup, Refusal};

use super::super::settings::shown;

/// The presets, by their words.
const PRESETS: [&str; 3] = ["zigbee2mqtt", "tasmota", "shelly"];

/// A device's settings in full.
///
/// # Errors
/// What is wrong with the words of its preset.
pub(crate) fn write_out(device: &DeviceSetup) -> Result<Object, Refusal> {
    let Some(word) = word_of(device) else {
        return Ok(device.settings.clone());
    };
    let (preset, own) = match word.as_ref() {
        "zigbee2mqtt" => zigbee2mqtt::write_out(device)?,
        "tasmota" => tasmota::write_out(device)?,
        "shelly" => shelly::write_out(device)?,
        other => {
            let problem = format!("{} is no preset", shown(other));
            return Err(Refusal::new("settings.preset", problem).with_hint(format!(
                "known are {}; without one, say the topics in settings.properties",
                PRESETS.join(", ")
            )));
        }
    };
    Ok(overlaid(preset, &device.settings, own))
}

/// The preset of a device: said in its settings, or the first word of its model.
fn word_of(device: &DeviceSetup) -> Option<Arc<str>> {
    match device.settings.get("preset") {
        Some(Value::Text(word)) => return Some(Arc::clone(word)),
        // Whoever reads the settings next refuses it.
        Some(_) => return None,
        None => {}
    }
    let first = device.model.as_ref()?.split('/').next()?.to_ascii_lowercase();
    PRESETS.contains(&first.as_str()).then(|| Arc::from(first))
}

/// The user's fields over those of the preset, without the preset's `own` words.
fn overlaid(mut preset: Object, settings: &Object, own: &[&str]) -> Object {
    for (field, value) in settings.iter().filter(|(field, _)| !own.contains(&field.as_ref())) {
        match (preset.remove(field), value) {
            (Some(Value::Map(mut members)), Value::Map(more)) => {
                for (name, member) in more.iter() {
                    members.insert(Arc::clone(name), member.clone());
                }
                preset.insert(Arc::clone(field), members);
            }
            _ => {
                preset.insert(Arc::clone(field), value.clone());
            }
        }
    }
    preset
}

/// An object of these members; those without a value are left out.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Object {
    members.into_iter().filter_map(|(key, value)| Some((Arc::from(key), value?))).collect()
}

/// A text as a member's value.
fn text(text: impl Into<String>) -> Option<Value> {
    Some(Value::from(text.into()))
}

/// A map between words and yes or no.
fn on_off(on: &str, off: &str) -> Option<Value> {
    Some(Value::from(object([(on, Some(Value::Bool(true))), (off, Some(Value::Bool(false)))])))
}

#[cfg(test)]
mod tests;
