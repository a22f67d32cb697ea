//! Zigbee2MQTT: a bridge that speaks for many devices, under names that people change.
//!
//! A device's address is its `ieee_address`, which nobody changes; its topic is the friendly name
//! that `<base>/bridge/devices` gives for it, followed when it is renamed or removed. The words
//! of the preset: `base` (`zigbee2mqtt` unless said), `availability` (`false` where the bridge
//! doesn't check it, so that only the bridge's own state tells, and only of what can't be reached), and `features`: what the bridge
//! `exposes`, by property, with the fields that it uses itself:
//!
//! ```json
//! {"state": {"type": "binary", "access": 7, "value_on": "ON", "value_off": "OFF"},
//!  "brightness": {"type": "numeric", "access": 7, "value_min": 0, "value_max": 254},
//!  "effect": {"type": "enum", "access": 2, "values": ["blink", "breathe"]}}
//! ```
//!
//! The bridge's own `exposes` list does as well, as it stands in `bridge/devices`.
//!
//! `access` decides: bit 1 it is published, bit 2 it can be set, bit 3 it can be asked for. What
//! can be set only is an action. The bridge publishes what it was told before the device has
//! answered (`optimistic`), so only an answer to `<name>/get` counts as the device's word.
//! Source: Zigbee2MQTT's documentation, chapters Exposes and MQTT topics and messages.

mod bridge;

use std::sync::Arc;

use fleet_state::{Object, Value};

use crate::device::connector::{DeviceSetup, Refusal};

use super::super::super::settings::{Fields, shown};
use super::{object, text};
pub(crate) use bridge::{BridgeDevice, LIST_BYTES_MAX, read_devices};

/// The base topic unless another is said.
pub(crate) const BASE: &str = "zigbee2mqtt";
const OWN: &[&str] = &["features", "exposes", "availability"];

const PUBLISHED: i64 = 1;
const SETTABLE: i64 = 2;
const GETTABLE: i64 = 4;
const ACCESS_MAX: i64 = 7;

/// The kinds of features, as the bridge names them.
const TYPES: [&str; 6] = ["binary", "numeric", "enum", "text", "composite", "list"];

/// Either form in which the bridge tells whether something is there.
const STATE: &str =
    "{{ value_json.state if value_json is defined and value_json is mapping else value }}";

/// The settings in full, and the words that are the preset's own.
pub(super) fn write_out(
    device: &DeviceSetup,
) -> Result<(Object, &'static [&'static str]), Refusal> {
    check_address(&device.address)?;
    let fields = Fields::new("settings", &device.settings);
    let base = fields.text("base")?.unwrap_or(BASE);
    let mut properties = Object::new();
    let mut actions = Object::new();
    let exposed = match fields.get("exposes") {
        None => Object::new(),
        Some(Value::List(exposes)) => features_of(exposes),
        Some(_) => return Err(fields.refuse("exposes", "a list is expected")),
    };
    let holder = object([("features", Some(exposed.into()))]);
    let exposed = Fields::new("settings.exposes", &holder);
    for (name, feature) in exposed.named("features")?.into_iter().chain(fields.named("features")?) {
        let access = feature.whole("access", 0..=ACCESS_MAX)?.unwrap_or(PUBLISHED);
        let form = form(&feature)?;
        match access {
            0 => {}
            SETTABLE => {
                actions.insert(name, action(name));
            }
            access => {
                properties.insert(name, property(name, access, form));
            }
        }
        feature.finish()?;
    }
    let checked = match fields.get("availability") {
        None | Some(Value::Bool(true)) => true,
        Some(Value::Bool(false)) => false,
        Some(_) => {
            return Err(fields
                .refuse("availability", "true or false is expected here")
                .with_hint("the topics are the bridge's; false where it doesn't check devices"));
        }
    };
    let alive = |topic: &str| object([("topic", text(topic)), ("value", text(STATE))]);
    let mut bridge = alive("{{ base }}/bridge/state");
    if !checked {
        bridge.insert("offline_only", true);
    }
    let mut availability = vec![Value::from(bridge)];
    if checked {
        availability.push(Value::from(alive("{{ base }}/{{ name }}/availability")));
    }
    let settings = object([
        ("base", text(base)),
        ("bridge", text(base)),
        ("optimistic", Some(Value::Bool(true))),
        ("watch", Some(Value::Bool(true))),
        ("properties", Some(properties.into())),
        ("actions", Some(actions.into())),
        ("availability", Some(availability.into())),
    ]);
    Ok((settings, OWN))
}

fn check_address(address: &str) -> Result<(), Refusal> {
    let digits = address.strip_prefix("0x").unwrap_or_default();
    let right = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right {
        return Ok(());
    }
    let problem = format!("{} is no ieee_address", shown(address));
    Err(Refusal::new("address", problem)
        .with_hint("0x and 16 hexadecimal digits; the friendly name may change and isn't used"))
}

/// A feature's values in the words of `form`.
fn form(feature: &Fields<'_>) -> Result<Object, Refusal> {
    let kind = feature.word("type", &TYPES)?;
    let on = feature.get("value_on").cloned();
    let off = feature.get("value_off").cloned();
    let min = feature.number("value_min")?.and(feature.get("value_min").cloned());
    let max = feature.number("value_max")?.and(feature.get("value_max").cloned());
    let values = feature.get("values").cloned();
    let _unit = feature.text("unit")?;
    let written = |word: &Value| word.as_text().map_or_else(|| word.to_json(), str::to_owned);
    Ok(match kind {
        Some(0) => {
            let map = match (on, off) {
                (Some(on), Some(off)) if !matches!(on, Value::Bool(_)) => {
                    super::on_off(&written(&on), &written(&off))
                }
                _ => None,
            };
            object([("type", text("boolean")), ("map", map)])
        }
        Some(1) => object([("type", text("number")), ("min", min), ("max", max)]),
        Some(2) => object([("type", text("string")), ("values", values)]),
        Some(3) => object([("type", text("string"))]),
        _ => Object::new(),
    })
}

fn property(name: &str, access: i64, mut form: Object) -> Object {
    let with_key = |topic: &str| object([("topic", text(topic)), ("key", text(name))]);
    form.insert("read", with_key("{{ base }}/{{ name }}"));
    if access & SETTABLE != 0 {
        form.insert("write", with_key("{{ base }}/{{ name }}/set"));
    }
    if access & GETTABLE != 0 {
        form.insert("get", with_key("{{ base }}/{{ name }}/get"));
    }
    form
}

fn action(name: &str) -> Object {
    // The key is written into a JSON text by hand, so it is quoted by JSON's own rules.
    let key = Value::from(name).to_json();
    object([
        ("topic", text("{{ base }}/{{ name }}/set")),
        ("payload", text(format!("{{{key}: {{{{ args.value | tojson }}}}}}"))),
    ])
}

/// An `exposes` list as the `features` of this preset.
pub(crate) fn features_of(exposes: &[Value]) -> Object {
    let mut features = Object::new();
    collect(exposes, &mut features);
    features
}

/// Fields of an exposed feature that this preset reads.
const KEPT: [&str; 8] =
    ["type", "access", "value_on", "value_off", "value_min", "value_max", "values", "unit"];

fn collect(exposes: &[Value], features: &mut Object) {
    for item in exposes.iter().filter_map(Value::as_map) {
        let property = item.get("property").and_then(Value::as_text);
        let inner = match item.get("features") {
            Some(Value::List(inner)) => Some(inner.as_slice()),
            _ => None,
        };
        let kind = item.get("type").and_then(Value::as_text).unwrap_or_default();
        match (property, inner) {
            // A light, switch, lock, cover, fan or climate only groups its features.
            (_, Some(inner)) if !TYPES.contains(&kind) => collect(inner, features),
            (Some(property), inner) if TYPES.contains(&kind) => {
                let mut feature: Object = KEPT
                    .iter()
                    .filter_map(|key| Some((Arc::from(*key), item.get(key)?.clone())))
                    .collect();
                if feature.get("access").is_none()
                    && let Some(access) = inner.and_then(widest_access)
                {
                    feature.insert("access", access);
                }
                features.insert(property, feature);
            }
            _ => {}
        }
    }
}

/// A composite without access of its own may do what its parts may.
fn widest_access(features: &[Value]) -> Option<i64> {
    features
        .iter()
        .filter_map(|feature| {
            let access = feature.as_map()?.get("access")?;
            if let Value::I64(access) = access { Some(*access) } else { None }
        })
        .reduce(|one, other| one | other)
}
