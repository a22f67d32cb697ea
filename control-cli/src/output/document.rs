//! Values as JSON and YAML, indented by two spaces.

use std::fmt::Write as _;

use fleet_state::Value;

/// A value as JSON over several lines.
pub(super) fn json(value: &Value) -> String {
    let mut text = String::new();
    write_json(&mut text, value, 0);
    text.push('\n');
    tamed(text)
}

fn write_json(text: &mut String, value: &Value, depth: usize) {
    let inner = "  ".repeat(depth.saturating_add(1));
    let outer = "  ".repeat(depth);
    match value {
        Value::List(items) if !items.is_empty() => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                let _ = write!(text, "{}\n{inner}", if at == 0 { "" } else { "," });
                write_json(text, item, depth.saturating_add(1));
            }
            let _ = write!(text, "\n{outer}]");
        }
        Value::Map(object) if !object.is_empty() => {
            text.push('{');
            for (at, (key, item)) in object.iter().enumerate() {
                let _ =
                    write!(text, "{}\n{inner}{}: ", if at == 0 { "" } else { "," }, quoted(key));
                write_json(text, item, depth.saturating_add(1));
            }
            let _ = write!(text, "\n{outer}}}");
        }
        Value::Null
        | Value::Bool(_)
        | Value::I64(_)
        | Value::U64(_)
        | Value::F64(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => text.push_str(&value.to_json()),
    }
}

/// A value as YAML in block style.
pub(super) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(&mut text, value, 0);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    tamed(text)
}

/// Writes a value; the cursor stands where a block may begin.
fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::List(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push_str(&indent);
                }
                text.push_str("- ");
                write_yaml(text, item, depth.saturating_add(1));
                end_line(text);
            }
        }
        Value::Map(object) if !object.is_empty() => {
            for (at, (key, item)) in object.iter().enumerate() {
                if at > 0 {
                    text.push_str(&indent);
                }
                text.push_str(&scalar(key));
                text.push(':');
                if is_block(item) {
                    let _ = write!(text, "\n{indent}  ");
                    write_yaml(text, item, depth.saturating_add(1));
                } else {
                    text.push(' ');
                    write_yaml(text, item, depth.saturating_add(1));
                }
                end_line(text);
            }
        }
        Value::Text(word) => text.push_str(&scalar(word)),
        Value::Null
        | Value::Bool(_)
        | Value::I64(_)
        | Value::U64(_)
        | Value::F64(_)
        | Value::List(_)
        | Value::Map(_) => text.push_str(&value.to_json()),
    }
}

fn end_line(text: &mut String) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::List(items) => !items.is_empty(),
        Value::Map(object) => !object.is_empty(),
        Value::Null
        | Value::Bool(_)
        | Value::I64(_)
        | Value::U64(_)
        | Value::F64(_)
        | Value::Text(_) => false,
    }
}

/// A text, plain where no reader of any version of YAML could take it for something else.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let rest =
        text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if first && rest && !word { text.to_owned() } else { quoted(text) }
}

/// A text in double quotes; JSON's escapes are YAML's too.
fn quoted(text: &str) -> String {
    Value::from(text).to_json()
}

/// A document in which nothing but line ends drives a terminal. JSON lets C1 controls and direction marks
/// pass; they can only stand inside quotes, where an escape means the same.
pub(super) fn tamed(text: String) -> String {
    let hidden = |c: char| c != '\n' && is_hidden(c);
    if !text.contains(hidden) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a terminal would act on a character instead of showing it.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use fleet_protocol::Json;

    use super::*;

    fn value(text: &str) -> Value {
        Json::parse(text.as_bytes()).expect(text).0
    }

    const SAMPLE: &str = r#"{"a":[1,{"b":2,"c":[]},[3,4]],"d":{},"e":{"f":null,"on":"on"},"g":"hall.b","h":"10.0","i":"","j":"a b: #c","k":18446744073709551615}"#;

    #[test]
    fn json_reads_back() {
        let text = json(&value(SAMPLE));
        assert_eq!(value(&text), value(SAMPLE));
        assert_eq!(json(&value(r#"{"a":[1]}"#)), "{\n  \"a\": [\n    1\n  ]\n}\n");
        assert_eq!(json(&value("[]")), "[]\n");
    }

    #[test]
    fn yaml_is_a_block_and_reads_back() {
        let text = yaml(&value(SAMPLE));
        let expected = "a:\n  - 1\n  - b: 2\n    c: []\n  - - 3\n    - 4\nd: {}\ne:\n  f: null\n  \"on\": \"on\"\ng: hall.b\nh: \"10.0\"\ni: \"\"\nj: \"a b: #c\"\nk: 18446744073709551615\n";
        assert_eq!(text, expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(crate::file::read(&path).unwrap(), value(SAMPLE));
        assert_eq!(yaml(&value("\"x\"")), "x\n");
        assert_eq!(yaml(&value("[{\"a\":1}]")), "- a: 1\n");
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_control() {
        let hostile = Value::from("a\u{1b}[31m\u{9b}\u{202e}b");
        for text in [json(&hostile), yaml(&hostile)] {
            assert!(
                !text.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}'),
                "{text:?}"
            );
        }
    }
}
