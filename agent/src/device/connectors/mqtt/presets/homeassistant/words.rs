//! Keys of discovery messages: long and short, with and without a base topic.

use std::sync::Arc;

use fleet_state::{Object, Value};

/// Abbreviations of the keys that are read here.
const SHORT: [(&str, &str); 109] = [
    ("act_t", "action_topic"),
    ("act_tpl", "action_template"),
    ("avty", "availability"),
    ("avty_mode", "availability_mode"),
    ("avty_t", "availability_topic"),
    ("avty_tpl", "availability_template"),
    ("bri_cmd_t", "brightness_command_topic"),
    ("bri_cmd_tpl", "brightness_command_template"),
    ("bri_scl", "brightness_scale"),
    ("bri_stat_t", "brightness_state_topic"),
    ("bri_val_tpl", "brightness_value_template"),
    ("clr_temp_cmd_t", "color_temp_command_topic"),
    ("clr_temp_cmd_tpl", "color_temp_command_template"),
    ("clr_temp_stat_t", "color_temp_state_topic"),
    ("clr_temp_val_tpl", "color_temp_value_template"),
    ("cmd_t", "command_topic"),
    ("cmd_tpl", "command_template"),
    ("cmps", "components"),
    ("cns", "connections"),
    ("curr_hum_t", "current_humidity_topic"),
    ("curr_hum_tpl", "current_humidity_template"),
    ("curr_temp_t", "current_temperature_topic"),
    ("curr_temp_tpl", "current_temperature_template"),
    ("dev", "device"),
    ("dir_cmd_t", "direction_command_topic"),
    ("dir_cmd_tpl", "direction_command_template"),
    ("dir_stat_t", "direction_state_topic"),
    ("dir_val_tpl", "direction_value_template"),
    ("fx_cmd_t", "effect_command_topic"),
    ("fx_cmd_tpl", "effect_command_template"),
    ("fx_list", "effect_list"),
    ("fx_stat_t", "effect_state_topic"),
    ("fx_val_tpl", "effect_value_template"),
    ("hum_cmd_t", "target_humidity_command_topic"),
    ("hum_cmd_tpl", "target_humidity_command_template"),
    ("hum_stat_t", "target_humidity_state_topic"),
    ("hum_state_tpl", "target_humidity_state_template"),
    ("ids", "identifiers"),
    ("max_hum", "max_humidity"),
    ("max_mirs", "max_mireds"),
    ("mdl", "model"),
    ("mf", "manufacturer"),
    ("min_hum", "min_humidity"),
    ("min_mirs", "min_mireds"),
    ("mode_cmd_t", "mode_command_topic"),
    ("mode_cmd_tpl", "mode_command_template"),
    ("mode_stat_t", "mode_state_topic"),
    ("mode_stat_tpl", "mode_state_template"),
    ("o", "origin"),
    ("ops", "options"),
    ("opt", "optimistic"),
    ("osc_cmd_t", "oscillation_command_topic"),
    ("osc_cmd_tpl", "oscillation_command_template"),
    ("osc_stat_t", "oscillation_state_topic"),
    ("osc_val_tpl", "oscillation_value_template"),
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
    ("pl_osc_off", "payload_oscillation_off"),
    ("pl_osc_on", "payload_oscillation_on"),
    ("pl_prs", "payload_press"),
    ("pl_stop", "payload_stop"),
    ("pl_unlk", "payload_unlock"),
    ("pos_clsd", "position_closed"),
    ("pos_open", "position_open"),
    ("pos_t", "position_topic"),
    ("pos_tpl", "position_template"),
    ("pr_mode_cmd_t", "preset_mode_command_topic"),
    ("pr_mode_cmd_tpl", "preset_mode_command_template"),
    ("pr_mode_stat_t", "preset_mode_state_topic"),
    ("pr_mode_val_tpl", "preset_mode_value_template"),
    ("pr_modes", "preset_modes"),
    ("set_pos_t", "set_position_topic"),
    ("set_pos_tpl", "set_position_template"),
    ("spd_rng_max", "speed_range_max"),
    ("stat_locked", "state_locked"),
    ("stat_off", "state_off"),
    ("stat_on", "state_on"),
    ("stat_t", "state_topic"),
    ("stat_tpl", "state_template"),
    ("stat_unlocked", "state_unlocked"),
    ("stat_val_tpl", "state_value_template"),
    ("sup_clrm", "supported_color_modes"),
    ("t", "topic"),
    ("temp_cmd_t", "temperature_command_topic"),
    ("temp_cmd_tpl", "temperature_command_template"),
    ("temp_hi_cmd_t", "temperature_high_command_topic"),
    ("temp_hi_cmd_tpl", "temperature_high_command_template"),
    ("temp_hi_stat_t", "temperature_high_state_topic"),
    ("temp_hi_stat_tpl", "temperature_high_state_template"),
    ("temp_lo_cmd_t", "temperature_low_command_topic"),
    ("temp_lo_cmd_tpl", "temperature_low_command_template"),
    ("temp_lo_stat_t", "temperature_low_state_topic"),
    ("temp_lo_stat_tpl", "temperature_low_state_template"),
    ("temp_stat_t", "temperature_state_topic"),
    ("temp_stat_tpl", "temperature_state_template"),
    ("tilt_status_t", "tilt_status_topic"),
    ("tilt_status_tpl", "tilt_status_template"),
    ("uniq_id", "unique_id"),
    ("val_tpl", "value_template"),
];

/// What the others end in: `swing_mode_cmd_t` is `swing_mode_command_topic`.
const ENDS: [(&str, &str); 5] = [
    ("_cmd_t", "_command_topic"),
    ("_cmd_tpl", "_command_template"),
    ("_stat_t", "_state_topic"),
    ("_stat_tpl", "_state_template"),
    ("_val_tpl", "_value_template"),
];

/// Objects whose own keys are abbreviated as well.
const INNER: [&str; 3] = ["availability", "device", "origin"];

/// A message with its keys written out.
pub(super) fn long_form(message: &Object) -> Object {
    message
        .iter()
        .map(|(key, value)| {
            let key = long_key(key);
            let value =
                if INNER.contains(&key.as_ref()) { long_inner(value) } else { value.clone() };
            (key, value)
        })
        .collect()
}

fn long_key(key: &Arc<str>) -> Arc<str> {
    if let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == key.as_ref()) {
        return Arc::from(*long);
    }
    let ends = ENDS.iter().find_map(|(short, long)| Some((key.strip_suffix(short)?, long)));
    ends.map_or_else(|| Arc::clone(key), |(start, long)| Arc::from(format!("{start}{long}")))
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

/// What several topics mean together unless a message says otherwise.
const MODE: &str = "latest";

/// The topics that tell whether something is there, and what they mean together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Availability {
    pub(super) topics: Vec<Value>,
    pub(super) mode: &'static str,
}

/// What a message says of availability, in the words of `model`.
pub(super) fn availability(message: &Object) -> Availability {
    let mode = message.get("availability_mode").and_then(Value::as_text);
    let mode = ["all", "any"].into_iter().find(|word| mode == Some(*word)).unwrap_or(MODE);
    Availability { topics: topics(message), mode }
}

fn topics(message: &Object) -> Vec<Value> {
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
