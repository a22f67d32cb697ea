//! What a property's values look like: to Flotilla and on the wire.
//!
//! Devices say `ON`, `"on"`, `1` or `true` for the same thing. A [`Form`] turns what came over
//! the wire into the property's own kind, and back, and refuses what is neither: a word that is
//! not in the map, a number out of range. So a toggle (`TOGGLE` on a property whose map knows
//! only `ON` and `OFF`) can't be written as a desired state.

use std::sync::Arc;

use fleet_state::{Limits, Value};

use crate::device::connector::Refusal;

use super::super::settings::{Fields, number_of, shown};

/// Entries of a map or a list of values.
const WORDS_MAX: usize = 256;

/// The kinds, as settings name them.
const KINDS: [&str; 5] = ["any", "boolean", "integer", "number", "string"];

/// The kind of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Boolean,
    Integer,
    Number,
    Text,
}

/// How the values of one property are read and written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    kind: Kind,
    /// What stands on the wire, and what it means.
    map: Vec<(Value, Value)>,
    values: Vec<Value>,
    min: Option<f64>,
    max: Option<f64>,
}

impl Form {
    /// Reads `type`, `map`, `values`, `min` and `max`.
    pub(crate) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let kind = match fields.word("type", &KINDS)? {
            Some(1) => Kind::Boolean,
            Some(2) => Kind::Integer,
            Some(3) => Kind::Number,
            Some(4) => Kind::Text,
            _ => Kind::Any,
        };
        let mut form = Self {
            kind,
            map: Vec::new(),
            values: Vec::new(),
            min: fields.number("min")?,
            max: fields.number("max")?,
        };
        if let Some(map) = fields.plain_object("map")? {
            for (wire, value) in map.iter() {
                form.map.push((scalar(wire), value.clone()));
            }
        }
        match fields.get("values") {
            None => {}
            Some(Value::List(list)) => form.values.clone_from(list),
            Some(_) => return Err(fields.refuse("values", "a list is expected")),
        }
        form.check(fields)?;
        Ok(form)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), Refusal> {
        if self.map.len() > WORDS_MAX || self.values.len() > WORDS_MAX {
            return Err(fields.refuse("map", format!("more than {WORDS_MAX} words")));
        }
        for (place, (_, value)) in self.map.iter().enumerate() {
            self.fits(value).map_err(|problem| fields.refuse("map", problem))?;
            let twice = self.map.iter().skip(place + 1).any(|(_, other)| other == value);
            if twice {
                let problem = format!("two words mean {}", value.to_json());
                return Err(fields
                    .refuse("map", problem)
                    .with_hint("what is written must be unambiguous; use a template"));
            }
        }
        for value in &self.values {
            self.fits(value).map_err(|problem| fields.refuse("values", problem))?;
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => Err(fields.refuse("min", "it is above max")),
            _ => Ok(()),
        }
    }

    /// What a value on the wire means.
    ///
    /// # Errors
    /// Why it means nothing here.
    pub(crate) fn meant(&self, wire: &Value) -> Result<Value, String> {
        if let Some((_, value)) = self.map.iter().find(|(word, _)| same_word(word, wire)) {
            return Ok(value.clone());
        }
        if !self.map.is_empty() && !matches!((self.kind, wire), (Kind::Boolean, Value::Bool(_))) {
            return Err(format!("{} is not one of the known words", shown(&wire.to_json())));
        }
        let unusable = || format!("{} is no {}", shown(&wire.to_json()), self.kind_word());
        match (self.kind, wire) {
            (Kind::Any, _)
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Integer, Value::I64(_) | Value::U64(_))
            | (Kind::Number, Value::I64(_) | Value::U64(_) | Value::F64(_))
            | (Kind::Text, Value::Text(_)) => Ok(wire.clone()),
            (Kind::Text, Value::Bool(_) | Value::I64(_) | Value::U64(_) | Value::F64(_)) => {
                Ok(Value::from(wire.to_json()))
            }
            (Kind::Integer, Value::F64(number)) => whole(number.get()).ok_or_else(unusable),
            (Kind::Boolean | Kind::Integer | Kind::Number, Value::Text(text)) => {
                let spelt = scalar(&text.trim().to_ascii_lowercase());
                if spelt.as_text().is_some() { Err(unusable()) } else { self.meant(&spelt) }
            }
            _ => Err(unusable()),
        }
    }

    /// What to put on the wire for a value.
    ///
    /// # Errors
    /// Why it can't be said.
    pub(crate) fn word_for(&self, value: &Value) -> Result<Value, String> {
        self.fits(value)?;
        if self.map.is_empty() {
            return Ok(value.clone());
        }
        let found = self.map.iter().find(|(_, meaning)| meaning == value);
        found.map(|(word, _)| word.clone()).ok_or_else(|| {
            let known: Vec<_> = self.map.iter().map(|(_, value)| value.to_json()).collect();
            format!("{} is not one of {}", shown(&value.to_json()), known.join(", "))
        })
    }

    /// Every word that can stand on the wire, where there are few.
    pub(crate) fn words(&self) -> Vec<Value> {
        if !self.map.is_empty() {
            return self.map.iter().map(|(word, _)| word.clone()).collect();
        }
        match self.kind {
            Kind::Boolean => vec![Value::Bool(true), Value::Bool(false)],
            Kind::Any | Kind::Integer | Kind::Number | Kind::Text => self.values.clone(),
        }
    }

    /// A value that could be written: templates are tried with it.
    pub(crate) fn sample(&self) -> Value {
        if let Some((_, value)) = self.map.first() {
            return value.clone();
        }
        if let Some(value) = self.values.first() {
            return value.clone();
        }
        match self.kind {
            Kind::Boolean => Value::Bool(true),
            Kind::Text => Value::from("text"),
            Kind::Any | Kind::Integer | Kind::Number => {
                self.min.and_then(whole).unwrap_or(Value::I64(1))
            }
        }
    }

    fn fits(&self, value: &Value) -> Result<(), String> {
        let right = match self.kind {
            Kind::Any => *value != Value::Null,
            Kind::Boolean => matches!(value, Value::Bool(_)),
            Kind::Integer => matches!(value, Value::I64(_) | Value::U64(_)),
            Kind::Number => number_of(value).is_some(),
            Kind::Text => matches!(value, Value::Text(_)),
        };
        let text = || shown(&value.to_json());
        if !right {
            return Err(format!("{} is no {}", text(), self.kind_word()));
        }
        if let Some(number) = number_of(value) {
            let low = self.min.filter(|min| number < *min);
            let high = self.max.filter(|max| number > *max);
            if let Some(limit) = low.or(high) {
                return Err(format!("{} is beyond the limit {limit}", text()));
            }
        }
        if !self.values.is_empty() && !self.values.contains(value) {
            let known: Vec<_> = self.values.iter().map(Value::to_json).collect();
            return Err(format!("{} is not one of {}", text(), known.join(", ")));
        }
        Ok(())
    }

    fn kind_word(&self) -> &'static str {
        match self.kind {
            Kind::Any => "value",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Text => "text",
        }
    }
}

/// A text as the JSON scalar that it spells, else as a text.
pub(crate) fn scalar(text: &str) -> Value {
    let limits = Limits { depth_max: 0, ..Limits::default() };
    match Value::parse(text.as_bytes(), limits) {
        Ok(Value::Text(_)) | Err(_) => Value::Text(Arc::from(text)),
        Ok(value) => value,
    }
}

/// Whether two values spell the same word: `1`, `"1"` and `1.0` do, so do `True` and `true`.
pub(crate) fn same_word(one: &Value, other: &Value) -> bool {
    if one == other {
        return true;
    }
    if let (Some(one), Some(other)) = (number_of(one), number_of(other)) {
        return one.total_cmp(&other).is_eq();
    }
    match (one, other) {
        (Value::Text(text), value) | (value, Value::Text(text)) => {
            value.as_text().is_none() && text.eq_ignore_ascii_case(&value.to_json())
        }
        _ => false,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range and the fraction are checked")]
fn whole(number: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let exact = number.fract() == 0.0 && number.abs() <= EXACT;
    exact.then_some(Value::I64(number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_state::Object;

    fn object(json: &str) -> Object {
        let value = Value::parse(json.as_bytes(), Limits::default()).unwrap();
        value.as_map().unwrap().clone()
    }

    fn form(json: &str) -> Form {
        let object = object(json);
        Form::parse(&Fields::new("settings", &object)).unwrap()
    }

    fn json(text: &str) -> Value {
        Value::parse(text.as_bytes(), Limits::default()).unwrap()
    }

    const SWITCH: &str = r#"{"type":"boolean","map":{"ON":true,"OFF":false}}"#;

    #[test]
    fn there_and_back() {
        // Settings, what stands on the wire, what it means; both as JSON.
        let cases = [
            (SWITCH, "\"ON\"", "true"),
            (SWITCH, "\"OFF\"", "false"),
            (r#"{"type":"boolean"}"#, "true", "true"),
            (r#"{"type":"boolean","map":{"1":true,"0":false}}"#, "1", "true"),
            (r#"{"type":"integer","min":0,"max":254}"#, "254", "254"),
            (r#"{"type":"number"}"#, "21.5", "21.5"),
            (r#"{"type":"string","values":["auto","heat"]}"#, "\"heat\"", "\"heat\""),
            ("{}", "{\"x\":1}", "{\"x\":1}"),
        ];
        for (settings, wire, value) in cases {
            let form = form(settings);
            assert_eq!(form.meant(&json(wire)), Ok(json(value)), "{settings}");
            assert_eq!(form.word_for(&json(value)), Ok(json(wire)), "{settings}");
            assert!(form.word_for(&form.sample()).is_ok(), "{settings}");
        }
    }

    #[test]
    fn wire_words_are_taken_generously() {
        let cases = [
            (r#"{"type":"integer"}"#, "\"42\"", "42"),
            (r#"{"type":"integer"}"#, "42.0", "42"),
            (r#"{"type":"number"}"#, "\" 21.5 \"", "21.5"),
            (r#"{"type":"boolean"}"#, "\"True\"", "true"),
            (r#"{"type":"boolean","map":{"1":true,"0":false}}"#, "\"0\"", "false"),
            (r#"{"type":"string"}"#, "7", "\"7\""),
            (SWITCH, "true", "true"),
        ];
        for (settings, wire, value) in cases {
            assert_eq!(form(settings).meant(&json(wire)), Ok(json(value)), "{settings} {wire}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (settings, wire) in [
            (SWITCH, "\"TOGGLE\""),
            (SWITCH, "1"),
            (r#"{"type":"integer"}"#, "1.5"),
            (r#"{"type":"integer"}"#, "\"\""),
            (r#"{"type":"number"}"#, "\"warm\""),
            (r#"{"type":"number"}"#, "[1]"),
            (r#"{"type":"boolean"}"#, "\"ON\""),
        ] {
            assert!(form(settings).meant(&json(wire)).is_err(), "{settings} {wire}");
        }
        for (settings, value) in [
            (SWITCH, "\"TOGGLE\""),
            (SWITCH, "\"ON\""),
            (r#"{"type":"integer","min":0,"max":254}"#, "255"),
            (r#"{"type":"integer"}"#, "1.5"),
            (r#"{"type":"string","values":["a"]}"#, "\"b\""),
            ("{}", "null"),
        ] {
            assert!(form(settings).word_for(&json(value)).is_err(), "{settings} {value}");
        }
    }

    #[test]
    fn ambiguous_or_wrong_maps_are_refused() {
        for bad in [
            r#"{"type":"boolean","map":{"ON":true,"On":true}}"#,
            r#"{"type":"boolean","map":{"ON":1}}"#,
            r#"{"type":"integer","min":3,"max":2}"#,
            r#"{"type":"colour"}"#,
            r#"{"values":"a"}"#,
        ] {
            let object = object(bad);
            assert!(Form::parse(&Fields::new("s", &object)).is_err(), "{bad}");
        }
    }
}
