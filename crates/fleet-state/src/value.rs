//! The JSON type of the replicated state.
//!
//! It is our own, because replicated bytes must depend on nothing but the value: `serde_json` keeps or sorts keys,
//! and reads numbers one way or another, by features that any crate in the build may switch on. Here maps are
//! sorted, integers are i64 or u64 and floats are finite and never -0, so one value has one representation, one
//! text and one encoding.
//!
//! Bytes come in through [`Value::parse`], a strict parser (`parse`), and go out through [`Value::to_json`]
//! (`print`). [`Object::merge_patch`] is RFC 7396 (`patch`). The binary form is in `encode`.
//!
//! Its tests are in `tests/suite/json.rs`: among others a comparison with `serde_json` on random and hostile input.

mod encode;
mod parse;
mod patch;
mod print;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use parse::{Limits, ParseError, ParseErrorKind};

/// A finite float that is never negative zero.
#[derive(Clone, Copy)]
pub struct Finite(f64);

impl Finite {
    /// The number, unless it is not finite. Negative zero becomes zero.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        // `-0.0 == 0.0`, so this catches both and keeps the positive one.
        let number = if number == 0.0 { 0.0 } else { number };
        number.is_finite().then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Finite {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Finite {}

impl fmt::Debug for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A JSON value.
///
/// Two values are equal when they print alike: `1` and `1.0` differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer that fits in i64.
    I64(i64),
    /// An integer above `i64::MAX`. Made by [`Value::from`], which keeps smaller ones in `I64`.
    U64(u64),
    /// A number with a fraction or an exponent.
    F64(Finite),
    /// A text.
    Text(Arc<str>),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Map(Object),
}

impl Value {
    /// The word for the kind of this value, as JSON Schema names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::I64(_) | Value::U64(_) => "integer",
            Value::F64(_) => "number",
            Value::Text(_) => "string",
            Value::List(_) => "array",
            Value::Map(_) => "object",
        }
    }

    /// The object, when it is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Object> {
        if let Value::Map(object) = self { Some(object) } else { None }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// How deep lists and maps are nested: 0 for a scalar. Stops counting above `limit`.
    #[must_use]
    pub fn depth(&self, limit: usize) -> usize {
        let deepest =
            |deepest: usize, value: &Value| deepest.max(value.depth(limit.saturating_sub(1)));
        match self {
            Value::List(_) | Value::Map(_) if limit == 0 => 1,
            Value::List(list) => 1 + list.iter().fold(0, deepest),
            Value::Map(object) => 1 + object.iter().map(|(_, value)| value).fold(0, deepest),
            Value::Null
            | Value::Bool(_)
            | Value::I64(_)
            | Value::U64(_)
            | Value::F64(_)
            | Value::Text(_) => 0,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::I64(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Value::U64(value), Value::I64)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(Arc::from(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(Arc::from(value))
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Value::List(value)
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Value::Map(value)
    }
}

/// A JSON object: sorted by key, bytewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object(BTreeMap<Arc<str>, Value>);

impl Object {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Puts a member and gives back the one it replaces.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(key.into(), value.into())
    }

    /// Takes a member out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    /// The members, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter()
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Arc<str>, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(members: I) -> Self {
        Self(members.into_iter().collect())
    }
}
