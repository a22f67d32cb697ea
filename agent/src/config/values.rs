//! Raw values before their meaning is checked, and their parsing from text.

use super::schema::{KeySpec, Kind};

/// Foreign text is quoted in messages up to this many characters.
const QUOTED_CHARS_MAX: usize = 60;

/// A value of the right kind and within the bounds of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Bool(bool),
    Number(u64),
}

/// Why a raw value isn't one for its key: what is wrong, and what to do.
#[derive(Debug)]
pub(super) struct Misfit {
    pub what: String,
    pub fix: String,
}

impl Misfit {
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// Foreign text as it may stand in a message: escaped and cut.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for (i, c) in text.chars().enumerate() {
        if i == QUOTED_CHARS_MAX {
            out.push('…');
            break;
        }
        out.extend(c.escape_debug());
    }
    out.push('"');
    out
}

/// What a key expects, as a phrase.
pub(super) fn expected(spec: &KeySpec) -> String {
    match spec.kind {
        Kind::Text { .. } => "text in quotes".to_owned(),
        Kind::Path => "a path in quotes".to_owned(),
        Kind::List { .. } => "a list of text, such as [\"a\", \"b\"]".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Number { min, max } => {
            format!("a whole number from {min} to {max}{}", unit_of(spec))
        }
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
    }
}

fn unit_of(spec: &KeySpec) -> &'static str {
    match spec.last().rsplit('_').next() {
        Some("ms") => " (milliseconds)",
        Some("bytes") => " (bytes)",
        _ => "",
    }
}

/// Reads a value as it stands in a variable or behind a flag's `=`.
pub(super) fn parse(spec: &KeySpec, raw: &str) -> Result<Value, Misfit> {
    match spec.kind {
        Kind::Text { .. } | Kind::Path | Kind::Choice(_) => text(spec, raw),
        Kind::List { .. } => {
            let items = raw.split(',').map(|item| item.trim().to_owned()).collect();
            list(spec, items)
        }
        Kind::Bool => match raw {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wrong(spec, &format!("{} is neither true nor false", quoted(raw)))),
        },
        Kind::Number { .. } => match raw.parse::<i128>() {
            Ok(number) => self::number(spec, number),
            Err(_) => Err(wrong(spec, &format!("{} is not a whole number", quoted(raw)))),
        },
    }
}

/// Checks a text against its key.
pub(super) fn text(spec: &KeySpec, raw: &str) -> Result<Value, Misfit> {
    if raw.is_empty() {
        return Err(wrong(spec, "the value is empty"));
    }
    if raw.chars().any(char::is_control) {
        return Err(Misfit::new(
            format!("{} contains a control character", quoted(raw)),
            "write it without tabs, line ends and NUL",
        ));
    }
    let bytes_max = match spec.kind {
        Kind::Text { bytes_max } => bytes_max,
        Kind::Choice(words) if !words.contains(&raw) => {
            return Err(wrong(spec, &format!("{} is not a known word", quoted(raw))));
        }
        Kind::Path | Kind::List { .. } | Kind::Bool | Kind::Number { .. } | Kind::Choice(_) => {
            PATH_BYTES_MAX
        }
    };
    if raw.len() > bytes_max {
        return Err(Misfit::new(
            format!("the value has {} bytes, more than {bytes_max}", raw.len()),
            "write a shorter one",
        ));
    }
    Ok(Value::Text(raw.to_owned()))
}

/// Checks a number against its key.
pub(super) fn number(spec: &KeySpec, raw: i128) -> Result<Value, Misfit> {
    let Kind::Number { min, max } = spec.kind else {
        return Err(wrong(spec, "a number does not fit here"));
    };
    match u64::try_from(raw) {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Number(number)),
        _ => Err(wrong(spec, &format!("{raw} is out of range"))),
    }
}

/// Checks a list of text against its key.
pub(super) fn list(spec: &KeySpec, items: Vec<String>) -> Result<Value, Misfit> {
    let Kind::List { items_max } = spec.kind else {
        return Err(wrong(spec, "a list does not fit here"));
    };
    if items.is_empty() {
        return Err(Misfit::new("the list is empty", "name at least one"));
    }
    if items.len() > items_max {
        return Err(Misfit::new(
            format!("{} items are more than {items_max}", items.len()),
            "name fewer",
        ));
    }
    for (i, item) in items.iter().enumerate() {
        if item.is_empty() {
            return Err(Misfit::new(format!("item {} is empty", i + 1), "remove it"));
        }
        if item.len() > PATH_BYTES_MAX || item.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Misfit::new(
                format!("item {} is too long or holds a space or a control character", i + 1),
                format!("write it without, in at most {PATH_BYTES_MAX} bytes"),
            ));
        }
        if items.iter().take(i).any(|earlier| earlier == item) {
            return Err(Misfit::new(format!("{} stands twice", quoted(item)), "keep one of them"));
        }
    }
    Ok(Value::List(items))
}

/// The refusal of a value that is not what its key expects.
pub(super) fn wrong(spec: &KeySpec, what: &str) -> Misfit {
    Misfit::new(what, format!("set {} to {}", spec.name, expected(spec)))
}

/// Longest path and longest item of a list in bytes, as PATH_MAX on Linux.
const PATH_BYTES_MAX: usize = 4096;

/// A foreign key as it may stand in a message: escaped and cut, without quotes.
pub(super) fn escaped(text: &str) -> String {
    let quoted = quoted(text);
    quoted.trim_matches('"').to_owned()
}
