//! Deciding whether a desired state matches.

use std::cmp::Ordering;

use super::{Kind, Node, Violation, at};
use crate::value::{Object, Value};

const SHOWN_BYTES: usize = 60;

pub(super) fn check_root(node: &Node, desired: &Object) -> Result<(), Violation> {
    let mut path = String::from("desired");
    if node.allowed.is_some() {
        // Only an `enum` at the root needs the object as a value.
        return check(node, &Value::Map(desired.clone()), &mut path);
    }
    check_object(node, desired, &mut path)
}

fn violation<T>(path: &str, reason: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { path: path.to_owned(), reason: reason.into() })
}

fn check(node: &Node, value: &Value, path: &mut String) -> Result<(), Violation> {
    if let Some(kind) = node.kind.filter(|kind| !is_kind(*kind, value)) {
        return violation(path, format!("must be of type {}, found {}", kind.name(), value.kind()));
    }
    if let Some(allowed) = &node.allowed
        && !allowed.iter().any(|allowed| same(allowed, value))
    {
        return violation(path, format!("must be one of {}", shown(&Value::List(allowed.clone()))));
    }
    match value {
        Value::I64(_) | Value::U64(_) | Value::F64(_) => check_range(node, value, path),
        Value::Text(text) => check_length(node, text, path),
        Value::Map(object) => check_object(node, object, path),
        Value::Null | Value::Bool(_) | Value::List(_) => Ok(()),
    }
}

fn check_range(node: &Node, value: &Value, path: &str) -> Result<(), Violation> {
    if let Some(minimum) =
        node.minimum.as_ref().filter(|minimum| compare(value, minimum) == Ordering::Less)
    {
        return violation(path, format!("must be at least {minimum}, found {value}"));
    }
    if let Some(maximum) =
        node.maximum.as_ref().filter(|maximum| compare(value, maximum) == Ordering::Greater)
    {
        return violation(path, format!("must be at most {maximum}, found {value}"));
    }
    Ok(())
}

fn check_length(node: &Node, text: &str, path: &str) -> Result<(), Violation> {
    if node.length_min.is_none() && node.length_max.is_none() {
        return Ok(());
    }
    let length = text.chars().count() as u64;
    if let Some(limit) = node.length_min.filter(|limit| length < *limit) {
        return violation(path, format!("must have at least {limit} characters, found {length}"));
    }
    if let Some(limit) = node.length_max.filter(|limit| length > *limit) {
        return violation(path, format!("must have at most {limit} characters, found {length}"));
    }
    Ok(())
}

fn check_object(node: &Node, object: &Object, path: &mut String) -> Result<(), Violation> {
    if let Some(missing) = node.required.iter().find(|name| object.get(name).is_none()) {
        return violation(path, format!("must have a member {missing:?}"));
    }
    for (name, value) in object.iter() {
        match node.properties.get(name) {
            Some(property) => at(path, name, |path| check(property, value, path))?,
            None if node.additional => {}
            None => {
                return at(path, name, |path| violation(path, "is not in the device's model"));
            }
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    let text = value.to_json();
    if text.len() <= SHOWN_BYTES {
        return text;
    }
    let cut: String = text.chars().take(SHOWN_BYTES).collect();
    format!("{cut}…")
}

fn is_kind(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Null => matches!(value, Value::Null),
        Kind::Boolean => matches!(value, Value::Bool(_)),
        Kind::Integer => match value {
            Value::F64(number) => number.get().trunc() == number.get(),
            Value::I64(_) | Value::U64(_) => true,
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => false,
        },
        Kind::Number => matches!(value, Value::I64(_) | Value::U64(_) | Value::F64(_)),
        Kind::String => matches!(value, Value::Text(_)),
        Kind::Array => matches!(value, Value::List(_)),
        Kind::Object => matches!(value, Value::Map(_)),
    }
}

/// Equal as JSON Schema means it: numbers by what they are worth.
fn same(one: &Value, other: &Value) -> bool {
    let numbers = is_kind(Kind::Number, one) && is_kind(Kind::Number, other);
    if numbers { compare(one, other) == Ordering::Equal } else { one == other }
}

enum Number {
    Whole(i128),
    Float(f64),
}

fn number(value: &Value) -> Number {
    match value {
        Value::I64(number) => Number::Whole(i128::from(*number)),
        Value::U64(number) => Number::Whole(i128::from(*number)),
        Value::F64(number) => Number::Float(number.get()),
        // Callers pass numbers only.
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            Number::Whole(0)
        }
    }
}

/// Compares two numbers exactly.
fn compare(one: &Value, other: &Value) -> Ordering {
    match (number(one), number(other)) {
        (Number::Whole(one), Number::Whole(other)) => one.cmp(&other),
        (Number::Float(one), Number::Float(other)) => compare_floats(one, other),
        (Number::Whole(one), Number::Float(other)) => compare_mixed(one, other),
        (Number::Float(one), Number::Whole(other)) => compare_mixed(other, one).reverse(),
    }
}

/// Finite floats are always comparable, and none is a negative zero.
fn compare_floats(one: f64, other: f64) -> Ordering {
    one.partial_cmp(&other).unwrap_or(Ordering::Equal)
}

/// A 64-bit integer against a float, without rounding the integer: the cast to i128 is exact within its range and
/// saturates beyond, where every 64-bit integer is nearer to zero anyway.
fn compare_mixed(whole: i128, float: f64) -> Ordering {
    let towards_zero = float.trunc();
    whole.cmp(&(towards_zero as i128)).then_with(|| compare_floats(towards_zero, float))
}
