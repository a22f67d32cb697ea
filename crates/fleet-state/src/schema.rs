//! What a device's desired state may look like: a closed subset of JSON Schema.
//!
//! A schema is decided in `apply`, so it must come to the same answer on every node, forever. Hence a short list of
//! keywords whose meaning needs no library, no regular expression and no arithmetic: `type`, `enum`, `minimum`,
//! `maximum`, `minLength`, `maxLength`, `properties`, `required`, `additionalProperties` (true or false), and
//! `title` and `description`, which are kept and mean nothing. Any other keyword is refused when the schema is
//! read: a keyword that is silently ignored would be a promise not kept.
//!
//! Lengths count characters. `integer` means a number without fraction, so `1.0` is one; comparisons of
//! integers with floats are exact.
//!
//! Its tests are in `tests/suite/schema.rs`.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::value::{Object, Value};

/// A schema, read and checked. Equal when its source is equal.
#[derive(Debug, Clone)]
pub struct Schema {
    source: Arc<Value>,
    root: Arc<Node>,
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Schema {}

/// Why a value is not a schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the model is not valid at {path}: {reason}")]
pub struct SchemaError {
    /// Where, as a dotted path from `model`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// Why a value does not match a schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path} {reason}")]
pub struct Violation {
    /// Where, as a dotted path from `desired`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "string" => Kind::String,
            "array" => Kind::Array,
            "object" => Kind::Object,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

/// One level of a schema.
#[derive(Debug)]
struct Node {
    kind: Option<Kind>,
    allowed: Option<Vec<Value>>,
    minimum: Option<Value>,
    maximum: Option<Value>,
    length_min: Option<u64>,
    length_max: Option<u64>,
    properties: BTreeMap<Arc<str>, Node>,
    required: BTreeSet<Arc<str>>,
    additional: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            kind: None,
            allowed: None,
            minimum: None,
            maximum: None,
            length_min: None,
            length_max: None,
            properties: BTreeMap::new(),
            required: BTreeSet::new(),
            additional: true,
        }
    }
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// With the place and the reason: an unknown keyword, a wrong operand, or a size beyond the limits of a value.
    pub fn from_value(source: Value) -> Result<Self, SchemaError> {
        let mut path = String::from("model");
        if source.depth(VALUE_DEPTH_MAX) > VALUE_DEPTH_MAX || source.size_bytes() > VALUE_BYTES_MAX
        {
            let limits = format!(
                "larger than {VALUE_BYTES_MAX} bytes or deeper than {VALUE_DEPTH_MAX} levels"
            );
            return Err(SchemaError { path, reason: limits });
        }
        let root = read_node(&source, &mut path)?;
        if root.kind.is_some_and(|kind| kind != Kind::Object) {
            return Err(SchemaError {
                path,
                reason: "a desired state is an object, so `type` is \"object\"".into(),
            });
        }
        Ok(Self { source: Arc::new(source), root: Arc::new(root) })
    }

    /// The value that the schema was read from.
    #[must_use]
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Checks a desired state.
    ///
    /// # Errors
    /// The first violation, in the order of keys.
    pub fn check(&self, desired: &Object) -> Result<(), Violation> {
        check::check_root(&self.root, desired)
    }
}

fn refuse<T>(path: &str, reason: impl Into<String>) -> Result<T, SchemaError> {
    Err(SchemaError { path: path.to_owned(), reason: reason.into() })
}

/// Runs `read` with `step` appended to the path.
fn at<T>(path: &mut String, step: &str, read: impl FnOnce(&mut String) -> T) -> T {
    let before = path.len();
    path.push('.');
    path.extend(step.escape_debug().take(64));
    let result = read(path);
    path.truncate(before);
    result
}

fn read_node(source: &Value, path: &mut String) -> Result<Node, SchemaError> {
    let Some(object) = source.as_map() else {
        return refuse(path, format!("an object was expected, found {}", source.kind()));
    };
    let mut node = Node::default();
    for (keyword, operand) in object.iter() {
        at(path, keyword, |path| read_keyword(&mut node, keyword, operand, path))?;
    }
    if let Some(missing) =
        node.required.iter().find(|name| !node.additional && !node.properties.contains_key(*name))
    {
        return refuse(path, format!("{missing:?} is required but not among the properties"));
    }
    Ok(node)
}

fn read_keyword(
    node: &mut Node,
    keyword: &str,
    operand: &Value,
    path: &mut String,
) -> Result<(), SchemaError> {
    match keyword {
        "type" => {
            let kind = operand.as_text().and_then(Kind::from_name);
            node.kind = Some(
                kind.map_or_else(|| refuse(path, "one of JSON's type names was expected"), Ok)?,
            );
        }
        "enum" => node.allowed = Some(read_allowed(operand, path)?),
        "minimum" => node.minimum = Some(read_number(operand, path)?),
        "maximum" => node.maximum = Some(read_number(operand, path)?),
        "minLength" => node.length_min = Some(read_length(operand, path)?),
        "maxLength" => node.length_max = Some(read_length(operand, path)?),
        "properties" => node.properties = read_properties(operand, path)?,
        "required" => node.required = read_required(operand, path)?,
        "additionalProperties" => {
            let Value::Bool(additional) = operand else {
                return refuse(path, "true or false was expected");
            };
            node.additional = *additional;
        }
        "title" | "description" => {
            if operand.as_text().is_none() {
                return refuse(path, "a text was expected");
            }
        }
        _ => {
            return refuse(
                path,
                "this keyword is not supported; see the list of keywords of a device model",
            );
        }
    }
    Ok(())
}

fn read_allowed(operand: &Value, path: &str) -> Result<Vec<Value>, SchemaError> {
    if let Value::List(allowed) = operand
        && !allowed.is_empty()
    {
        return Ok(allowed.clone());
    }
    refuse(path, "a list with at least one value was expected")
}

fn read_number(operand: &Value, path: &str) -> Result<Value, SchemaError> {
    if matches!(operand, Value::I64(_) | Value::U64(_) | Value::F64(_)) {
        Ok(operand.clone())
    } else {
        refuse(path, "a number was expected")
    }
}

fn read_length(operand: &Value, path: &str) -> Result<u64, SchemaError> {
    let length = if let Value::I64(number) = operand { u64::try_from(*number).ok() } else { None };
    length.map_or_else(|| refuse(path, "a length from 0 up was expected"), Ok)
}

fn read_properties(
    operand: &Value,
    path: &mut String,
) -> Result<BTreeMap<Arc<str>, Node>, SchemaError> {
    let Some(object) = operand.as_map() else {
        return refuse(path, "an object was expected");
    };
    let read = |(name, source): (&Arc<str>, &Value)| {
        at(path, name, |path| read_node(source, path)).map(|node| (name.clone(), node))
    };
    object.iter().map(read).collect()
}

fn read_required(operand: &Value, path: &str) -> Result<BTreeSet<Arc<str>>, SchemaError> {
    let names = if let Value::List(names) = operand { Some(names.iter()) } else { None };
    let texts = names.and_then(|names| {
        names
            .map(|name| if let Value::Text(text) = name { Some(text.clone()) } else { None })
            .collect()
    });
    texts.map_or_else(|| refuse(path, "a list of names was expected"), Ok)
}
