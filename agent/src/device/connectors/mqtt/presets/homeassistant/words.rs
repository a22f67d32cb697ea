//! Keys of discovery messages: long and short, with and without a base topic.

use std::sync::Arc;

use fleet_state::{Object, Value};

/// Abbreviations of the keys that are read here.
const SHORT: [(&str, &str); 58] = [
    ("avty", "availability"),
    ("avty_t", "availability_topic"),
    ("avty_tpl", "availability_template"),
    ("bri_cmd_t", "brightness_command_topic"),
    ("bri_cmd_tpl", "brightness_command_template"),
    ("bri_scl", "brightness_scale"),
    ("bri_stat_t", "brightness_state_topic"),
    ("bri_val_tpl", "brightness_value_template"),
    ("cmd_t", "command_topic"),
    ("cmd_tpl", "command_template"),
    ("cmps", "components"),
    ("cns", "connections"),
    ("curr_temp_t", "current_temperature_topic"),
    ("curr_temp_tpl", "current_temperature_template"),
    ("dev", "device"),
    ("ids", "identifiers"),
    ("mdl", "model"),
    ("mf", "manufacturer"),
    ("mode_cmd_t", "mode_command_topic"),
    ("mode_cmd_tpl", "mode_command_template"),
    ("mode_stat_t", "mode_state_topic"),
    ("mode_stat_tpl", "mode_state_template"),
    ("o", "origin"),
    ("ops", "options"),
    ("opt", "optimistic"),
    ("p", "platform"),
    ("pct_cmd_t", "percentage_command_topic"),
    ("pct_cmd_tpl", "percentage_command_template"),
    ("pct_stat_t", "percentage_state_topic"),
    ("pct_val_tpl", "percentage_value_template"),
    ("pl_avail", "payload_available"),
    ("pl_cls", "payload_close"),
    ("pl_lock", "payload_lock"),
    ("pl_not_avail", "payload_not_available"),
    ("pl_off", "payload_off"),
    ("pl_on", "payload_on"),
    ("pl_open", "payload_open"),
    ("pl_prs", "payload_press"),
    ("pl_stop", "payload_stop"),
    ("pl_unlk", "payload_unlock"),
    ("pos_t", "position_topic"),
    ("pos_tpl", "position_template"),
    ("set_pos_t", "set_position_topic"),
    ("set_pos_tpl", "set_position_template"),
    ("stat_locked", "state_locked"),
    ("stat_off", "state_off"),
    ("stat_on", "state_on"),
    ("stat_t", "state_topic"),
    ("stat_unlocked", "state_unlocked"),
    ("stat_val_tpl", "state_value_template"),
    ("sup_clrm", "supported_color_modes"),
    ("t", "topic"),
    ("temp_cmd_t", "temperature_command_topic"),
    ("temp_cmd_tpl", "temperature_command_template"),
    ("temp_stat_t", "temperature_state_topic"),
    ("temp_stat_tpl", "temperature_state_template"),
    ("uniq_id", "unique_id"),
    ("val_tpl", "value_template"),
];

/// Objects whose own keys are abbreviated as well.
const INNER: [&str; 3] = ["availability", "device", "origin"];

/// A message with its keys written out.
pub(super) fn long_form(message: &Object) -> Object {
    message
        .iter()
        .map(|(key, value)| {
            let long = SHORT.iter().find(|(short, _)| *short == key.as_ref());
            let key = long.map_or_else(|| Arc::clone(key), |(_, long)| Arc::from(*long));
            let value =
                if INNER.contains(&key.as_ref()) { long_inner(value) } else { value.clone() };
            (key, value)
        })
        .collect()
}

fn long_inner(value: &Value) -> Value {
    if let Value::List(list) = value {
        return Value::List(list.iter().map(long_inner).collect());
    }
    value.as_map().map_or_else(|| value.clone(), |object| Value::Map(long_form(object)))
}

/// A message with its base topic put where `~` stands for it.
pub(super) fn with_base(message: Object) -> Object {
    let Some(base) = message.get("~").and_then(Value::as_text).map(str::to_owned) else {
        return message;
    };
    message.iter().map(|(key, value)| (Arc::clone(key), based(key, value, &base))).collect()
}

fn based(key: &str, value: &Value, base: &str) -> Value {
    if let Value::List(list) = value {
        return Value::List(list.iter().map(|value| based(key, value, base)).collect());
    }
    if let Value::Map(object) = value
        && key == "availability"
    {
        let members = object.iter();
        let members = members.map(|(key, value)| (Arc::clone(key), based(key, value, base)));
        return Value::Map(members.collect());
    }
    let Some(text) = value.as_text().filter(|_| key.ends_with("topic")) else {
        return value.clone();
    };
    let text = text.strip_prefix('~').map(|rest| format!("{base}{rest}")).unwrap_or_else(|| {
        text.strip_suffix('~').map_or_else(|| text.to_owned(), |start| format!("{start}{base}"))
    });
    Value::from(text)
}

/// What a message says of availability, in the words of `model`.
pub(super) fn availability(message: &Object) -> Vec<Value> {
    let one = |object: &Object, topic: &str, template: &str| -> Option<Value> {
        let mut alive = Object::new();
        alive.insert("topic", object.get(topic)?.clone());
        for (from, to) in [
            (template, "value"),
            ("payload_available", "online"),
            ("payload_not_available", "offline"),
        ] {
            if let Some(value) = object.get(from) {
                alive.insert(to, value.clone());
            }
        }
        Some(Value::Map(alive))
    };
    let mut all: Vec<Value> =
        one(message, "availability_topic", "availability_template").into_iter().collect();
    match message.get("availability") {
        Some(Value::List(list)) => {
            let objects = list.iter().filter_map(Value::as_map);
            all.extend(objects.filter_map(|object| one(object, "topic", "value_template")));
        }
        Some(Value::Map(object)) => all.extend(one(object, "topic", "value_template")),
        _ => {}
    }
    all
}
