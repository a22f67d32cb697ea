//! Writing JSON: compact, one text per value.

use std::fmt::{self, Write};

use super::{Object, Value};

impl Value {
    /// The value as compact JSON. [`Value::parse`] gives the same value back.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text);
        text
    }

    /// Appends the value as compact JSON.
    pub fn write_json(&self, text: &mut String) {
        // Writing into a string cannot fail.
        let _ = write_value(self, text);
    }

    /// The size of the value as compact JSON, without writing it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let mut size = Size(0);
        let _ = write_value(self, &mut size);
        size.0
    }
}

impl Object {
    /// The object as compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        let _ = write_object(self, &mut text);
        text
    }

    /// The size of the object as compact JSON, without writing it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let mut size = Size(0);
        let _ = write_object(self, &mut size);
        size.0
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(self, f)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_object(self, f)
    }
}

/// Counts what is written to it.
struct Size(usize);

impl Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.len());
        Ok(())
    }
}

fn write_value(value: &Value, out: &mut dyn Write) -> fmt::Result {
    match value {
        Value::Null => out.write_str("null"),
        Value::Bool(true) => out.write_str("true"),
        Value::Bool(false) => out.write_str("false"),
        Value::I64(number) => write!(out, "{number}"),
        Value::U64(number) => write!(out, "{number}"),
        // The shortest digits that read back as the same float, always with a point or an exponent.
        Value::F64(number) => write!(out, "{:?}", number.get()),
        Value::Text(text) => write_text(text, out),
        Value::List(list) => {
            out.write_char('[')?;
            for (position, item) in list.iter().enumerate() {
                if position > 0 {
                    out.write_char(',')?;
                }
                write_value(item, out)?;
            }
            out.write_char(']')
        }
        Value::Map(object) => write_object(object, out),
    }
}

fn write_object(object: &Object, out: &mut dyn Write) -> fmt::Result {
    out.write_char('{')?;
    for (position, (key, value)) in object.iter().enumerate() {
        if position > 0 {
            out.write_char(',')?;
        }
        write_text(key, out)?;
        out.write_char(':')?;
        write_value(value, out)?;
    }
    out.write_char('}')
}

fn write_text(text: &str, out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.write_str(text.get(plain_from..at).unwrap_or_default())?;
        plain_from = at + 1;
        match byte {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            control => write!(out, "\\u{control:04x}")?,
        }
    }
    out.write_str(text.get(plain_from..).unwrap_or_default())?;
    out.write_char('"')
}
