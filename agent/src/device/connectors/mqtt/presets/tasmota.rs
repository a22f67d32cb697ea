//! Tasmota's topics: `cmnd/…` to say something, `stat/…` for what became of it, `tele/…` for
//! what is so; `tele/…/LWT` tells whether the device is there.
//!
//! The device's address is its topic. The words of the preset: `relays` (0 to 8, 1 unless said),
//! `dimmer`, `sensors` (a name and where it stands in `tele/…/SENSOR`, such as
//! `{"power": "ENERGY.Power"}`) and `full_topic` where the device has another than
//! `%prefix%/%topic%/`. Relays become `on`, or `on1`, `on2`, … Its answers come from the device
//! itself, so nothing here is optimistic: an empty command asks, and `stat/…/RESULT` answers.
//! Source: Tasmota's documentation, chapters MQTT and Commands.

use fleet_state::{Object, Value};

use crate::device::connector::{DeviceSetup, Refusal};

use super::super::super::settings::{Fields, shown};
use super::{object, on_off, text};

const OWN: &[&str] = &["relays", "dimmer", "sensors", "full_topic"];
const RELAYS_MAX: i64 = 8;

/// The settings in full, and the words that are the preset's own.
pub(super) fn write_out(
    device: &DeviceSetup,
) -> Result<(Object, &'static [&'static str]), Refusal> {
    let fields = Fields::new("settings", &device.settings);
    let relays = fields.whole("relays", 0..=RELAYS_MAX)?.unwrap_or(1);
    let dimmer = fields.flag("dimmer")?.unwrap_or(false);
    let full = fields.text("full_topic")?.unwrap_or("%prefix%/%topic%/");
    if !full.contains("%prefix%") || !full.contains("%topic%") {
        return Err(fields
            .refuse("full_topic", format!("{} lacks %prefix% or %topic%", shown(full)))
            .with_hint("copy it from the device's MQTT settings"));
    }
    let slash = if full.ends_with('/') { "" } else { "/" };
    let topic = |prefix: &str, rest: &str| {
        let full = full.replace("%prefix%", prefix).replace("%topic%", "{{ address }}");
        format!("{full}{slash}{rest}")
    };
    let mut properties = Object::new();
    let mut actions = Object::new();
    for relay in 1..=relays {
        let number = if relays == 1 { String::new() } else { relay.to_string() };
        let power = format!("POWER{number}");
        let map = on_off("ON", "OFF");
        let property = commanded(&topic, &power, [("type", text("boolean")), ("map", map)]);
        properties.insert(format!("on{number}"), property);
        let toggle = [("topic", text(topic("cmnd", &power))), ("payload", text("TOGGLE"))];
        actions.insert(format!("toggle{number}"), object(toggle));
    }
    if dimmer {
        let bounds = (Some(Value::I64(0)), Some(Value::I64(100)));
        let form = [("type", text("integer")), ("min", bounds.0), ("max", bounds.1)];
        properties.insert("dimmer", commanded(&topic, "Dimmer", form));
    }
    if let Some(sensors) = fields.plain_object("sensors")? {
        for (name, key) in sensors.iter() {
            let Some(key) = key.as_text() else {
                return Err(fields.refuse("sensors", format!("{} has no path", shown(name))));
            };
            let read = object([("topic", text(topic("tele", "SENSOR"))), ("key", text(key))]);
            properties.insert(name.as_ref(), object([("read", Some(read.into()))]));
        }
    }
    let alive = object([
        ("topic", text(topic("tele", "LWT"))),
        ("online", text("Online")),
        ("offline", text("Offline")),
    ]);
    let settings = object([
        ("properties", Some(properties.into())),
        ("actions", Some(actions.into())),
        ("availability", Some(alive.into())),
    ]);
    Ok((settings, OWN))
}

/// A property that a command sets and, said empty, asks for.
fn commanded<const N: usize>(
    topic: &impl Fn(&str, &str) -> String,
    command: &str,
    form: [(&str, Option<Value>); N],
) -> Object {
    let read = |prefix: &str, rest: &str| {
        Value::from(object([("topic", text(topic(prefix, rest))), ("key", text(command))]))
    };
    let mut property = object(form);
    property.insert("read", vec![read("stat", "RESULT"), read("tele", "STATE")]);
    property.insert("write", object([("topic", text(topic("cmnd", command)))]));
    property.insert("get", object([("topic", text(topic("cmnd", command)))]));
    property
}
