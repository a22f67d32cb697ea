//! Shelly's topics, of both kinds of firmware.
//!
//! The device's address is its MQTT prefix: `shelly1-A4CF12` for generation 1 (its topics stand
//! below `shellies/`), `shellyplus1-a8032abe54dc` for generation 2 and later. The words of the
//! preset: `generation` (1, or 2 for everything newer), `relays` (1 to 4), `meter`.
//!
//! Both report what the relay does, not what it was told, so nothing here is optimistic.
//! Generation 1 is asked with `update` on its command topic; generation 2 with `status_update`,
//! and takes plain commands only when "Enable MQTT Control" is on.
//! Source: Shelly's API documentation, generation 1 and generation 2, chapters MQTT.

use fleet_state::{Object, Value};

use crate::device::connector::{DeviceSetup, Refusal};

use super::super::super::settings::Fields;
use super::{object, on_off, text};

const OWN: &[&str] = &["generation", "relays", "meter"];
const RELAYS_MAX: i64 = 4;
const GENERATION_MAX: i64 = 4;

/// The settings in full, and the words that are the preset's own.
pub(super) fn write_out(
    device: &DeviceSetup,
) -> Result<(Object, &'static [&'static str]), Refusal> {
    let fields = Fields::new("settings", &device.settings);
    let generation = fields.whole("generation", 1..=GENERATION_MAX)?.ok_or_else(|| {
        fields.missing("generation").with_hint("1, or 2 for Plus, Pro, Gen3 and Gen4 devices")
    })?;
    let relays = fields.whole("relays", 1..=RELAYS_MAX)?.unwrap_or(1);
    let meter = fields.flag("meter")?.unwrap_or(false);
    let mut properties = Object::new();
    let mut actions = Object::new();
    for relay in 0..relays {
        let number = if relays == 1 { String::new() } else { relay.to_string() };
        let topics = if generation == 1 { first(relay) } else { second(relay) };
        properties.insert(format!("on{number}"), topics.relay);
        if meter {
            properties.insert(format!("power{number}"), topics.power);
        }
        actions.insert(format!("toggle{number}"), topics.toggle);
        if let Some(pulse) = topics.pulse {
            actions.insert(format!("pulse{number}"), pulse);
        }
    }
    let prefix = if generation == 1 { "shellies/{{ address }}" } else { "{{ address }}" };
    let alive = object([
        ("topic", text(format!("{prefix}/online"))),
        ("online", text("true")),
        ("offline", text("false")),
    ]);
    let settings = object([
        ("properties", Some(properties.into())),
        ("actions", Some(actions.into())),
        ("availability", Some(alive.into())),
    ]);
    Ok((settings, OWN))
}

/// What one relay has.
struct Topics {
    relay: Object,
    power: Object,
    toggle: Object,
    pulse: Option<Object>,
}

fn first(relay: i64) -> Topics {
    let state = format!("shellies/{{{{ address }}}}/relay/{relay}");
    let get = || {
        let command = text("shellies/{{ address }}/command");
        Some(Value::from(object([("topic", command), ("payload", text("update"))])))
    };
    let command = format!("{state}/command");
    Topics {
        relay: object([
            ("type", text("boolean")),
            ("map", on_off("on", "off")),
            ("read", Some(object([("topic", text(state.clone()))]).into())),
            ("write", Some(object([("topic", text(command.clone()))]).into())),
            ("get", get()),
        ]),
        power: object([
            ("type", text("number")),
            ("read", Some(object([("topic", text(format!("{state}/power")))]).into())),
            ("get", get()),
        ]),
        toggle: object([("topic", text(command)), ("payload", text("toggle"))]),
        pulse: None,
    }
}

fn second(relay: i64) -> Topics {
    let status = format!("{{{{ address }}}}/status/switch:{relay}");
    let command = format!("{{{{ address }}}}/command/switch:{relay}");
    let read = |key| Some(object([("topic", text(status.clone())), ("key", text(key))]).into());
    let get = || {
        let command = text("{{ address }}/command");
        Some(Value::from(object([("topic", command), ("payload", text("status_update"))])))
    };
    // Commands say on and off, the status says true and false.
    let payload = text("{{ 'on' if value else 'off' }}");
    Topics {
        relay: object([
            ("type", text("boolean")),
            ("read", read("output")),
            (
                "write",
                Some(object([("topic", text(command.clone())), ("payload", payload)]).into()),
            ),
            ("get", get()),
        ]),
        power: object([("type", text("number")), ("read", read("apower")), ("get", get())]),
        toggle: object([("topic", text(command.clone())), ("payload", text("toggle"))]),
        pulse: Some(object([
            ("topic", text(command)),
            ("payload", text("on,{{ args.seconds | float }}")),
        ])),
    }
}
