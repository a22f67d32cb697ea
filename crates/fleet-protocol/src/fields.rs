//! Reads the fields of a JSON object one by one, with messages that name the field.
//!
//! User data is parsed by `fleet_state::Value` alone, which is strict about duplicate keys and
//! numbers; this module only takes known fields out of it and refuses unknown ones.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use fleet_state::{IdError, Object, Value};

use crate::{ErrorCode, Failure, hex, suggest};

/// The fields of one object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    /// How the object is called in messages, as in `item 3`.
    what: &'a str,
    object: &'a Object,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which must be an object with no fields but the `known` ones.
    pub(crate) fn of(what: &'a str, value: &'a Value, known: &[&str]) -> Result<Self, Failure> {
        let Value::Map(object) = value else {
            return Err(Failure::malformed(format!(
                "{what} must be a JSON object, not {}",
                value.kind()
            )));
        };
        for (name, _) in object.iter() {
            if !known.contains(&name.as_ref()) {
                let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                let suggestion = suggest::did_you_mean(name, known.iter().copied());
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Failure::malformed(format!(
                    "{what} has an unknown field \"{shown}\"{suggestion}"
                ))
                .with_hint(format!("Known fields: {known}.")));
            }
        }
        Ok(Self { what, object })
    }

    /// The field as it is; `null` counts as absent.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !matches!(value, Value::Null))
    }

    /// An absent field's failure.
    pub(crate) fn missing(&self, name: &str) -> Failure {
        Failure::malformed(format!("{} has no field \"{name}\", which is required", self.what))
    }

    /// A failure about one field.
    pub(crate) fn wrong(&self, name: &str, why: &str) -> Failure {
        Failure::malformed(format!("field \"{name}\" of {}: {why}", self.what))
    }

    fn must_be(&self, name: &str, wanted: &str, value: &Value) -> Failure {
        self.wrong(name, &format!("must be {wanted}, not {}", value.kind()))
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Failure> {
        self.value(name)
            .map(|value| value.as_text().ok_or_else(|| self.must_be(name, "a text", value)))
            .transpose()
    }

    /// A text of at most so many bytes, or the empty one.
    pub(crate) fn text_up_to(
        &self,
        name: &str,
        size_bytes_max: usize,
    ) -> Result<Arc<str>, Failure> {
        let text = self.text(name)?.unwrap_or("");
        if text.len() > size_bytes_max {
            let why = format!("is {} bytes long; at most {size_bytes_max} are allowed", text.len());
            return Err(Failure { code: ErrorCode::TooLarge, ..self.wrong(name, &why) });
        }
        Ok(Arc::from(text))
    }

    /// An id of some kind.
    pub(crate) fn id<T: FromStr<Err = IdError>>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.text(name)?
            .map(|text| text.parse().map_err(|error: IdError| self.wrong(name, &error.to_string())))
            .transpose()
    }

    /// An id that must be there.
    pub(crate) fn required_id<T: FromStr<Err = IdError>>(&self, name: &str) -> Result<T, Failure> {
        self.id(name)?.ok_or_else(|| self.missing(name))
    }

    /// A whole number of at most `max`.
    pub(crate) fn whole(&self, name: &str, max: u64) -> Result<Option<u64>, Failure> {
        self.whole_from(name, 0, max)
    }

    /// A whole number between `min` and `max`, both allowed.
    pub(crate) fn whole_from(
        &self,
        name: &str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, Failure> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        if !matches!(value, Value::I64(_) | Value::U64(_)) {
            return Err(self.must_be(name, "a whole number", value));
        }
        // Its one printed form is also how it is read; a sign or a size beyond u64 fails.
        match value.to_json().parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(name, &format!("must be between {min} and {max}, not {value}"))),
        }
    }

    /// True, or false when absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.must_be(name, "true or false", other)),
        }
    }

    /// An object, or the empty one.
    pub(crate) fn object(&self, name: &str) -> Result<Object, Failure> {
        match self.value(name) {
            None => Ok(Object::default()),
            Some(Value::Map(object)) => Ok(object.clone()),
            Some(other) => Err(self.must_be(name, "an object", other)),
        }
    }

    /// A list of texts, or the empty one.
    pub(crate) fn text_list(&self, name: &str) -> Result<Vec<Arc<str>>, Failure> {
        let Some(value) = self.value(name) else {
            return Ok(Vec::new());
        };
        let wrong = || self.must_be(name, "a list of texts", value);
        let Value::List(list) = value else {
            return Err(wrong());
        };
        list.iter().map(|item| item.as_text().map(Arc::from).ok_or_else(wrong)).collect()
    }

    /// An object of texts, or the empty one.
    pub(crate) fn texts(&self, name: &str) -> Result<BTreeMap<Arc<str>, Arc<str>>, Failure> {
        let Some(value) = self.value(name) else {
            return Ok(BTreeMap::new());
        };
        let Value::Map(object) = value else {
            return Err(self.must_be(name, "an object of texts", value));
        };
        let entry = |(key, value): (&Arc<str>, &Value)| {
            let text = value.as_text().ok_or_else(|| {
                let key: String = key.chars().take(64).flat_map(char::escape_debug).collect();
                self.wrong(
                    name,
                    &format!("the value of \"{key}\" must be a text, not {}", value.kind()),
                )
            })?;
            Ok((key.clone(), Arc::from(text)))
        };
        object.iter().map(entry).collect()
    }

    /// An object of texts, in which `null` says that a key is to go. It must be there.
    pub(crate) fn texts_or_null(
        &self,
        name: &str,
    ) -> Result<BTreeMap<Arc<str>, Option<Arc<str>>>, Failure> {
        let value = self.value(name).ok_or_else(|| self.missing(name))?;
        let wrong = |value: &Value| {
            self.must_be(name, "an object of texts, or null to take one away", value)
        };
        let Value::Map(object) = value else {
            return Err(wrong(value));
        };
        let entry = |(key, value): (&Arc<str>, &Value)| {
            let text = value.as_text().map(Arc::from);
            if text.is_none() && !matches!(value, Value::Null) {
                return Err(wrong(value));
            }
            Ok((key.clone(), text))
        };
        object.iter().map(entry).collect()
    }

    /// `N` bytes in hex that must be there.
    pub(crate) fn required_bytes<const N: usize>(&self, name: &str) -> Result<[u8; N], Failure> {
        let text = self.text(name)?.ok_or_else(|| self.missing(name))?;
        hex::decode(text).ok_or_else(|| {
            self.wrong(name, &format!("must be {} lower-case hexadecimal digits", N * 2))
        })
    }
}
