//! Reading the settings of links and devices: once, strictly, with the field in every refusal.
//!
//! Settings are a JSON object that only the connector understands. [`Fields`] walks one object:
//! every field that is read is ticked off, and [`Fields::finish`] refuses what is left, with the
//! nearest known word, so that a misspelt `tolerence` is a refusal and not a default. The path
//! of a refusal is written as the user would write it: `settings.registers.speed.scale`.
//!
//! It knows nothing of MQTT or Modbus, reads no file and no clock.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use fleet_state::{Object, Value};

use crate::device::connector::Refusal;

/// Similarity above which a word is offered instead of an unknown one.
const SIMILAR: f64 = 0.7;
/// Characters of a user's text that a refusal repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// One object of settings.
pub(crate) struct Fields<'a> {
    path: String,
    object: &'a Object,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The object at `path`.
    pub(crate) fn new(path: impl Into<String>, object: &'a Object) -> Self {
        Self { path: path.into(), object, known: RefCell::default() }
    }

    /// The path of a field of it.
    pub(crate) fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// A refusal of one of its fields.
    pub(crate) fn refuse(&self, field: &str, problem: impl Into<String>) -> Refusal {
        Refusal::new(self.at(field), problem)
    }

    /// A field, unless it is absent or null.
    pub(crate) fn get(&self, field: &'static str) -> Option<&'a Value> {
        self.known.borrow_mut().insert(field);
        self.object.get(field).filter(|value| **value != Value::Null)
    }

    /// A text.
    pub(crate) fn text(&self, field: &'static str) -> Result<Option<&'a str>, Refusal> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_kind(field, "a text", other)),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, field: &'static str) -> Result<&'a str, Refusal> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    /// One of the words, as its place in the list.
    pub(crate) fn word(
        &self,
        field: &'static str,
        words: &[&'static str],
    ) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        words.iter().position(|word| *word == text).map(Some).ok_or_else(|| {
            self.refuse(field, format!("{} is not one of {}", shown(text), words.join(", ")))
                .with_hint(near(text, words.iter().copied()))
        })
    }

    /// A yes or no.
    pub(crate) fn flag(&self, field: &'static str) -> Result<Option<bool>, Refusal> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong_kind(field, "true or false", other)),
        }
    }

    /// A whole number in a range.
    pub(crate) fn whole(
        &self,
        field: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Refusal> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::I64(number)) if range.contains(number) => Ok(Some(*number)),
            Some(Value::I64(number)) => Err(self.refuse(
                field,
                format!("{number} is outside {} to {}", range.start(), range.end()),
            )),
            Some(other) => Err(self.wrong_kind(field, "a whole number", other)),
        }
    }

    /// A number.
    pub(crate) fn number(&self, field: &'static str) -> Result<Option<f64>, Refusal> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => {
                number_of(value).map(Some).ok_or_else(|| self.wrong_kind(field, "a number", value))
            }
        }
    }

    /// An object in it.
    pub(crate) fn object(&self, field: &'static str) -> Result<Option<Fields<'a>>, Refusal> {
        Ok(self.plain_object(field)?.map(|object| Fields::new(self.at(field), object)))
    }

    /// An object in it whose keys are the user's own words.
    pub(crate) fn plain_object(&self, field: &'static str) -> Result<Option<&'a Object>, Refusal> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Map(object)) => Ok(Some(object)),
            Some(other) => Err(self.wrong_kind(field, "an object", other)),
        }
    }

    /// One object or a list of them.
    pub(crate) fn objects(&self, field: &'static str) -> Result<Vec<Fields<'a>>, Refusal> {
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Map(object)) => Ok(vec![Fields::new(self.at(field), object)]),
            Some(Value::List(list)) => list
                .iter()
                .enumerate()
                .map(|(place, item)| {
                    let object = item
                        .as_map()
                        .ok_or_else(|| self.wrong_kind(field, "a list of objects", item))?;
                    Ok(Fields::new(format!("{}[{place}]", self.at(field)), object))
                })
                .collect(),
            Some(other) => Err(self.wrong_kind(field, "an object or a list of them", other)),
        }
    }

    /// Its members, all of them objects with names of the user's own.
    pub(crate) fn named(&self, field: &'static str) -> Result<Vec<(&'a str, Fields<'a>)>, Refusal> {
        let Some(object) = self.plain_object(field)? else {
            return Ok(Vec::new());
        };
        object
            .iter()
            .map(|(name, item)| {
                let path = format!("{}.{name}", self.at(field));
                let Some(object) = item.as_map() else {
                    let problem = format!("an object is expected, this is {}", described(item));
                    return Err(Refusal::new(path, problem));
                };
                Ok((name.as_ref(), Fields::new(path, object)))
            })
            .collect()
    }

    /// Refuses a field that must be there.
    pub(crate) fn missing(&self, field: &str) -> Refusal {
        self.refuse(field, "it is missing")
    }

    /// Refuses what nobody has read.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        let known = self.known.into_inner();
        match self.object.iter().find(|(key, _)| !known.contains(key.as_ref())) {
            None => Ok(()),
            Some((key, _)) => Err(Refusal::new(
                format!("{}.{key}", self.path),
                "there is no such field".to_owned(),
            )
            .with_hint(near(key, known.iter().copied()))),
        }
    }

    fn wrong_kind(&self, field: &str, wanted: &str, found: &Value) -> Refusal {
        self.refuse(field, format!("{wanted} is expected, this is {}", described(found)))
    }
}

/// A number, whatever its form.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "settings and device values are small")]
        Value::I64(number) => Some(*number as f64),
        #[expect(clippy::cast_precision_loss, reason = "settings and device values are small")]
        Value::U64(number) => Some(*number as f64),
        Value::F64(number) => Some(number.get()),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// A user's text as it may stand in a message: quoted, escaped, cut.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

fn described(value: &Value) -> String {
    if let Some(text) = value.as_text() {
        return format!("the text {}", shown(text));
    }
    let text = value.to_json();
    format!("{} {}", value.kind(), text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

fn near<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let best = known
        .clone()
        .map(|other| (strsim::jaro_winkler(word, other), other))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match best {
        Some((_, other)) => format!("is {other} meant?"),
        None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_state::Limits;

    fn object(json: &str) -> Object {
        let value = Value::parse(json.as_bytes(), Limits::default()).unwrap();
        value.as_map().unwrap().clone()
    }

    #[test]
    fn a_misspelt_field_is_refused_with_the_right_one() {
        let settings = object(r#"{"tolerence": 1}"#);
        let fields = Fields::new("settings", &settings);
        assert_eq!(fields.number("tolerance").unwrap(), None);
        assert_eq!(
            fields.finish().unwrap_err().to_string(),
            "settings.tolerence: there is no such field; is tolerance meant?"
        );
    }

    #[test]
    fn kinds_and_ranges_are_checked() {
        let settings = object(r#"{"a": "x", "b": 7, "c": {"d": [1]}, "e": null, "w": "bigg"}"#);
        let fields = Fields::new("settings", &settings);
        assert!(fields.whole("a", 0..=9).unwrap_err().problem.contains("the text \"x\""));
        assert_eq!(fields.whole("b", 0..=9).unwrap(), Some(7));
        assert!(fields.whole("b", 0..=6).unwrap_err().problem.contains("outside 0 to 6"));
        assert!(fields.text("b").is_err());
        assert!(fields.flag("b").is_err());
        assert_eq!(fields.text("e").unwrap(), None);
        let inner = fields.object("c").unwrap().unwrap();
        assert_eq!(inner.objects("d").err().unwrap().field, "settings.c.d");
        let refusal = fields.word("w", &["big", "little"]).unwrap_err();
        assert_eq!(refusal.hint.unwrap(), "is big meant?");
    }
}
