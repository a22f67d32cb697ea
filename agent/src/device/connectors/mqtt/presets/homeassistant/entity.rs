//! One entity of a discovery message, as properties and actions of a device.

use fleet_state::{Object, Value};

use super::super::super::form::scalar;
use super::super::{object, text};
use super::beside::{Beside, CLIMATE, COVER, FAN, HUMIDIFIER, LIGHT};

/// What an entity becomes.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// A property of this name.
    Property(String, Object),
    /// An action of this name.
    Action(String, Object),
}

/// The words for yes and no that are read, and those that are written.
struct Switching<'a> {
    read: (&'a str, &'a str),
    written: (&'a str, &'a str),
}

/// The parts of an entity.
pub(super) fn parts(component: &str, name: &str, message: &Object) -> Result<Vec<Part>, String> {
    let entity = Entity(message);
    let own = |property| vec![Part::Property(name.to_owned(), property)];
    match component {
        "sensor" => Ok(own(entity.value("state_topic", "value_template", None)?)),
        "binary_sensor" => {
            let words = (entity.word("payload_on", "ON"), entity.word("payload_off", "OFF"));
            let mut property = entity.value("state_topic", "value_template", None)?;
            property.insert("type", "boolean");
            property.insert("map", yes_no(words));
            Ok(own(property))
        }
        "switch" | "siren" => Ok(own(entity.switch()?)),
        "fan" | "humidifier" => {
            let mut parts = own(entity.switch()?);
            let table: &[Beside] = if component == "fan" { &FAN } else { &HUMIDIFIER };
            parts.extend(entity.beside(name, table));
            Ok(parts)
        }
        "light" => entity.light(name),
        "lock" => Ok(own(entity.lock()?)),
        "number" => Ok(own(entity.number()?)),
        "select" => {
            let mut property = entity.value("state_topic", "value_template", Some("command"))?;
            property.insert("type", "string");
            if let Some(options) = entity.0.get("options") {
                property.insert("values", options.clone());
            }
            Ok(own(property))
        }
        "text" => {
            let mut property = entity.value("state_topic", "value_template", Some("command"))?;
            property.insert("type", "string");
            Ok(own(property))
        }
        "button" | "scene" => {
            let (key, default) = if component == "button" {
                ("payload_press", "PRESS")
            } else {
                ("payload_on", "ON")
            };
            let topic = entity.topic("command_topic").ok_or("it has no command topic")?;
            let action =
                object([("topic", text(topic)), ("payload", text(entity.word(key, default)))]);
            Ok(vec![Part::Action(name.to_owned(), action)])
        }
        "valve" if entity.0.get("reports_position") == Some(&Value::Bool(true)) => {
            let mut property = entity.value("state_topic", "value_template", Some("command"))?;
            property.insert("type", "number");
            Ok(own(property))
        }
        "cover" | "valve" => entity.cover(name),
        "climate" | "water_heater" => match entity.beside(name, &CLIMATE) {
            parts if parts.is_empty() => Err("it has no topic".to_owned()),
            parts => Ok(parts),
        },
        other => Err(format!("the component {other:?} is not read")),
    }
}

/// One entity's message, its keys written out.
pub(super) struct Entity<'a>(pub(super) &'a Object);

impl Entity<'_> {
    pub(super) fn topic(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_text)
    }

    pub(super) fn word(&self, key: &str, default: &'static str) -> &str {
        self.topic(key).unwrap_or(default)
    }

    /// A property that is read on one topic and, with the prefix of a command, written on another.
    pub(super) fn value(
        &self,
        topic: &str,
        template: &str,
        command: Option<&str>,
    ) -> Result<Object, String> {
        let read = self.topic(topic).map(|topic| {
            let value = self.topic(template).map(Value::from);
            Value::from(object([("topic", text(topic)), ("value", value)]))
        });
        let write = command.and_then(|command| {
            let topic = self.topic(&format!("{command}_topic"))?;
            let template = self.topic(&format!("{command}_template")).map(Value::from);
            Some(Value::from(object([("topic", text(topic)), ("payload", template)])))
        });
        if read.is_none() && write.is_none() {
            return Err("it has no topic".to_owned());
        }
        let optimistic = self.0.get("optimistic") == Some(&Value::Bool(true));
        let read = read.filter(|_| !(optimistic && write.is_some()));
        Ok(object([("read", read), ("write", write)]))
    }

    fn switch(&self) -> Result<Object, String> {
        // Switches have the one, lights, fans and sirens the other.
        let template = if self.topic("state_value_template").is_some() {
            "state_value_template"
        } else {
            "value_template"
        };
        let written = (self.word("payload_on", "ON"), self.word("payload_off", "OFF"));
        let read = (
            self.topic("state_on").unwrap_or(written.0),
            self.topic("state_off").unwrap_or(written.1),
        );
        self.switching("command", template, &Switching { read, written })
    }

    /// A boolean whose words for reading and writing may differ.
    fn switching(
        &self,
        command: &str,
        template: &str,
        words: &Switching<'_>,
    ) -> Result<Object, String> {
        let mut property = self.value("state_topic", template, Some(command))?;
        property.insert("type", "boolean");
        if words.read == words.written {
            property.insert("map", yes_no(words.read));
            return Ok(property);
        }
        if let Some(Value::Map(mut write)) = property.remove("write") {
            let quoted = |word: &str| Value::from(word).to_json();
            let (on, off) = (quoted(words.written.0), quoted(words.written.1));
            // The map has turned the value into the word that is read.
            let read_on = scalar(words.read.0).to_json();
            write.insert("payload", format!("{{{{ {on} if value == {read_on} else {off} }}}}"));
            property.insert("write", write);
        }
        property.insert("map", yes_no(words.read));
        Ok(property)
    }

    fn lock(&self) -> Result<Object, String> {
        let words = Switching {
            read: (self.word("state_locked", "LOCKED"), self.word("state_unlocked", "UNLOCKED")),
            written: (self.word("payload_lock", "LOCK"), self.word("payload_unlock", "UNLOCK")),
        };
        self.switching("command", "value_template", &words)
    }

    fn number(&self) -> Result<Object, String> {
        let mut property = self.value("state_topic", "value_template", Some("command"))?;
        property.insert("type", "number");
        property.insert("min", self.0.get("min").cloned().unwrap_or(Value::from(1_i64)));
        property.insert("max", self.0.get("max").cloned().unwrap_or(Value::from(100_i64)));
        Ok(property)
    }

    /// A number that some components have beside their main value.
    fn more(&self, name: &str, prefix: &str, called: &str, (min, max): (i64, i64)) -> Option<Part> {
        let state = format!("{prefix}_state_topic");
        let template = format!("{prefix}_value_template");
        self.topic(&format!("{prefix}_command_topic"))?;
        let mut property =
            self.value(&state, &template, Some(&format!("{prefix}_command"))).ok()?;
        property.insert("type", "number");
        property.insert("min", min);
        property.insert("max", max);
        Some(Part::Property(format!("{name}_{called}"), property))
    }

    fn light(&self, name: &str) -> Result<Vec<Part>, String> {
        let scale = match self.0.get("brightness_scale") {
            Some(Value::I64(scale)) => *scale,
            _ => 255,
        };
        if self.topic("schema") == Some("json") {
            return self.json_light(name, scale);
        }
        if self.topic("schema") == Some("template") {
            return Err("a light with the schema template is not read".to_owned());
        }
        let mut parts = vec![Part::Property(name.to_owned(), self.switch()?)];
        parts.extend(self.more(name, "brightness", "brightness", (0, scale)));
        parts.extend(self.beside(name, &LIGHT));
        Ok(parts)
    }

    /// One topic with a JSON object, in either direction.
    fn json_light(&self, name: &str, scale: i64) -> Result<Vec<Part>, String> {
        let command = self.topic("command_topic").ok_or("it has no command topic")?;
        let keyed = |key: &str, form: [(&str, Option<Value>); 3]| {
            let mut property = object(form);
            if let Some(state) = self.topic("state_topic") {
                property.insert("read", object([("topic", text(state)), ("key", text(key))]));
            }
            property.insert("write", object([("topic", text(command)), ("key", text(key))]));
            property
        };
        let map = Some(Value::from(yes_no(("ON", "OFF"))));
        let state = keyed("state", [("type", text("boolean")), ("map", map), ("values", None)]);
        let mut parts = vec![Part::Property(name.to_owned(), state)];
        let dims = self.0.get("brightness") == Some(&Value::Bool(true))
            || matches!(self.0.get("supported_color_modes"), Some(Value::List(modes))
                if modes.iter().any(|mode| mode.as_text() != Some("onoff")));
        if dims {
            let bounds = (Some(Value::from(0_i64)), Some(Value::from(scale)));
            let form = [("type", text("number")), ("min", bounds.0), ("max", bounds.1)];
            let brightness = keyed("brightness", form);
            parts.push(Part::Property(format!("{name}_brightness"), brightness));
        }
        if self.has_color_mode("color_temp") {
            let bound = |key, default: i64| {
                Some(self.0.get(key).cloned().unwrap_or_else(|| Value::from(default)))
            };
            let bounds = (bound("min_mireds", 153), bound("max_mireds", 500));
            let form = [("type", text("number")), ("min", bounds.0), ("max", bounds.1)];
            let white = keyed("color_temp", form);
            parts.push(Part::Property(format!("{name}_color_temp"), white));
        }
        if self.0.get("effect") == Some(&Value::Bool(true)) {
            let form = [
                ("type", text("string")),
                ("values", self.0.get("effect_list").cloned()),
                ("map", None),
            ];
            parts.push(Part::Property(format!("{name}_effect"), keyed("effect", form)));
        }
        Ok(parts)
    }

    /// Whether a light says that it knows this mode.
    pub(super) fn has_color_mode(&self, mode: &str) -> bool {
        matches!(self.0.get("supported_color_modes"), Some(Value::List(modes))
            if modes.iter().any(|known| known.as_text() == Some(mode)))
    }

    fn cover(&self, name: &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        if self.topic("position_topic").is_some() || self.topic("set_position_topic").is_some() {
            let mut property =
                self.value("position_topic", "position_template", Some("set_position"))?;
            property.insert("type", "number");
            for (member, key) in [("min", "position_closed"), ("max", "position_open")] {
                if let Some(bound) = self.0.get(key) {
                    property.insert(member, bound.clone());
                }
            }
            parts.push(Part::Property(format!("{name}_position"), property));
        }
        if self.topic("state_topic").is_some() {
            let property = self.value("state_topic", "value_template", None)?;
            parts.push(Part::Property(name.to_owned(), property));
        }
        parts.extend(self.beside(name, &COVER));
        if let Some(topic) = self.topic("command_topic") {
            for (what, key, default) in [
                ("open", "payload_open", "OPEN"),
                ("close", "payload_close", "CLOSE"),
                ("stop", "payload_stop", "STOP"),
            ] {
                let payload = text(self.word(key, default));
                let action = object([("topic", text(topic)), ("payload", payload)]);
                parts.push(Part::Action(format!("{name}_{what}"), action));
            }
        }
        if parts.is_empty() { Err("it has no topic".to_owned()) } else { Ok(parts) }
    }
}

/// The map of a boolean with these words.
pub(super) fn yes_no((on, off): (&str, &str)) -> Object {
    object([(on, Some(Value::Bool(true))), (off, Some(Value::Bool(false)))])
}
