//! What some components have beside their main value, as tables: a fan's oscillation, the modes of
//! a thermostat, a light's white.

use fleet_state::{Object, Value};

use super::super::text;
use super::entity::{Entity, Part, yes_no};

/// One such value, by the keys that describe it.
pub(super) struct Beside {
    /// What is put behind the entity's name.
    called: &'static str,
    /// The topic where it is reported.
    state: &'static str,
    /// The template that takes it out there.
    template: &'static str,
    /// What the keys for commanding it begin with, where it can be commanded.
    command: Option<&'static str>,
    /// What its values look like.
    form: Form,
}

/// What values look like.
enum Form {
    /// As they come.
    Any,
    /// Numbers between the values of two keys, or those beside them, if there are any.
    Number([(&'static str, Option<i64>); 2]),
    /// The words of a list under this key, if it is there.
    Words(&'static str),
    /// The words of two keys for yes and no, with their defaults.
    YesNo([(&'static str, &'static str); 2]),
}

macro_rules! beside {
    ($called:literal, $state:literal, $template:literal, $command:expr, $form:expr) => {
        Beside {
            called: $called,
            state: $state,
            template: $template,
            command: $command,
            form: $form,
        }
    };
}

/// Without bounds of its own: whether it is Celsius is not said.
const DEGREES: Form = Form::Number([("min_temp", None), ("max_temp", None)]);
const HUMIDITY: Form = Form::Number([("min_humidity", Some(0)), ("max_humidity", Some(100))]);

/// Of a thermostat, and of a water heater.
#[rustfmt::skip]
pub(super) const CLIMATE: [Beside; 11] = [
    beside!("temperature", "temperature_state_topic", "temperature_state_template", Some("temperature_command"), DEGREES),
    beside!("temperature_high", "temperature_high_state_topic", "temperature_high_state_template", Some("temperature_high_command"), DEGREES),
    beside!("temperature_low", "temperature_low_state_topic", "temperature_low_state_template", Some("temperature_low_command"), DEGREES),
    beside!("humidity", "target_humidity_state_topic", "target_humidity_state_template", Some("target_humidity_command"), HUMIDITY),
    beside!("mode", "mode_state_topic", "mode_state_template", Some("mode_command"), Form::Words("modes")),
    beside!("fan_mode", "fan_mode_state_topic", "fan_mode_state_template", Some("fan_mode_command"), Form::Words("fan_modes")),
    beside!("swing_mode", "swing_mode_state_topic", "swing_mode_state_template", Some("swing_mode_command"), Form::Words("swing_modes")),
    beside!("preset_mode", "preset_mode_state_topic", "preset_mode_value_template", Some("preset_mode_command"), Form::Words("preset_modes")),
    beside!("current", "current_temperature_topic", "current_temperature_template", None, Form::Any),
    beside!("current_humidity", "current_humidity_topic", "current_humidity_template", None, Form::Any),
    beside!("action", "action_topic", "action_template", None, Form::Any),
];

/// Of a fan.
#[rustfmt::skip]
pub(super) const FAN: [Beside; 4] = [
    beside!("percentage", "percentage_state_topic", "percentage_value_template", Some("percentage_command"), Form::Number([("", Some(0)), ("speed_range_max", Some(100))])),
    beside!("oscillation", "oscillation_state_topic", "oscillation_value_template", Some("oscillation_command"),
            Form::YesNo([("payload_oscillation_on", "oscillate_on"), ("payload_oscillation_off", "oscillate_off")])),
    beside!("preset_mode", "preset_mode_state_topic", "preset_mode_value_template", Some("preset_mode_command"), Form::Words("preset_modes")),
    beside!("direction", "direction_state_topic", "direction_value_template", Some("direction_command"), Form::Any),
];

/// Of a humidifier or dehumidifier.
#[rustfmt::skip]
pub(super) const HUMIDIFIER: [Beside; 4] = [
    beside!("humidity", "target_humidity_state_topic", "target_humidity_state_template", Some("target_humidity_command"), HUMIDITY),
    beside!("mode", "mode_state_topic", "mode_state_template", Some("mode_command"), Form::Words("modes")),
    beside!("current", "current_humidity_topic", "current_humidity_template", None, Form::Any),
    beside!("action", "action_topic", "action_template", None, Form::Any),
];

/// Of a light, but for its colours: those are commanded by templates of several values.
#[rustfmt::skip]
pub(super) const LIGHT: [Beside; 2] = [
    beside!("color_temp", "color_temp_state_topic", "color_temp_value_template", Some("color_temp_command"), Form::Number([("min_mireds", Some(153)), ("max_mireds", Some(500))])),
    beside!("effect", "effect_state_topic", "effect_value_template", Some("effect_command"), Form::Words("effect_list")),
];

/// Of a cover with slats.
#[rustfmt::skip]
pub(super) const COVER: [Beside; 1] = [
    beside!("tilt", "tilt_status_topic", "tilt_status_template", Some("tilt_command"), Form::Number([("tilt_min", Some(0)), ("tilt_max", Some(100))])),
];

/// Modes of a light that says its colour in several values at once.
const COLOURS: [&str; 5] = ["hs", "xy", "rgb", "rgbw", "rgbww"];

impl Entity<'_> {
    /// Those of a table that this entity has.
    pub(super) fn beside(&self, name: &str, table: &[Beside]) -> Vec<Part> {
        let part = |beside: &Beside| {
            let property = self.value(beside.state, beside.template, beside.command).ok()?;
            let property = self.formed(property, &beside.form);
            Some(Part::Property(format!("{name}_{}", beside.called), property))
        };
        table.iter().filter_map(part).collect()
    }

    fn formed(&self, mut property: Object, form: &Form) -> Object {
        match form {
            Form::Any => {}
            Form::Number(bounds) => {
                property.insert("type", "number");
                for (member, (key, default)) in ["min", "max"].into_iter().zip(bounds) {
                    let bound = self.0.get(key).cloned();
                    if let Some(bound) = bound.or(default.map(Value::from)) {
                        property.insert(member, bound);
                    }
                }
            }
            Form::Words(list) => {
                property.insert("type", "string");
                if let Some(words @ Value::List(_)) = self.0.get(list) {
                    property.insert("values", words.clone());
                }
            }
            Form::YesNo([(on, on_default), (off, off_default)]) => {
                property.insert("type", "boolean");
                let words = (self.word(on, on_default), self.word(off, off_default));
                property.insert("map", yes_no(words));
            }
        }
        property
    }

    /// What is left of an entity that could not be read as what it is, or not wholly: each value
    /// that it reports and that no part speaks of, to be looked at and no more. And what it could
    /// be commanded to that no part does.
    pub(super) fn left_over(&self, name: &str, parts: &[Part]) -> (Vec<Part>, Vec<String>) {
        let spoken: Vec<&str> = parts.iter().flat_map(Part::topics).collect();
        let (mut observed, mut unheard) = (Vec::new(), Vec::new());
        if COLOURS.iter().any(|mode| self.has_color_mode(mode)) {
            unheard.push("its colour is not read".to_owned());
        }
        for (key, topic) in self.0.iter() {
            let Some(topic) = topic.as_text().filter(|topic| !spoken.contains(topic)) else {
                continue;
            };
            if let Some(prefix) = key.strip_suffix("state_topic") {
                let prefix = prefix.trim_end_matches('_');
                let property = Object::from_iter([("read".into(), self.seen(prefix, topic))]);
                let name = format!("{name}_{prefix}");
                observed.push(Part::Property(name.trim_end_matches('_').to_owned(), property));
            } else if key.ends_with("command_topic") {
                unheard.push(format!("nothing is commanded on its {key}"));
            }
        }
        (observed, unheard)
    }

    /// Where a value is read that is called so.
    fn seen(&self, prefix: &str, topic: &str) -> Value {
        let templates = if prefix.is_empty() {
            ["value_template", "state_value_template", "state_template"].map(str::to_owned)
        } else {
            ["value_template", "state_template", "template"].map(|key| format!("{prefix}_{key}"))
        };
        let template = templates.iter().find_map(|key| self.topic(key));
        let members = [("topic", text(topic)), ("value", template.map(Value::from))];
        Value::from(super::super::object(members))
    }
}

impl Part {
    /// The topics that it speaks of.
    fn topics(&self) -> Vec<&str> {
        match self {
            Part::Property(_, property) => ["read", "write"]
                .iter()
                .filter_map(|key| topic_of(property.get(key)?.as_map()?))
                .collect(),
            Part::Action(_, action) => topic_of(action).into_iter().collect(),
        }
    }
}

fn topic_of(object: &Object) -> Option<&str> {
    object.get("topic")?.as_text()
}
