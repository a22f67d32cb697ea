//! Lists in YAML or JSON, from a file or from standard input.
//!
//! What a file is, is decided before it is read, and never by what it fails at: one named `*.json` is
//! JSON, one named `*.yaml` or `*.yml` is YAML, and anything else is JSON when it begins with `{` or
//! `[`, and YAML when not. YAML finds a meaning for most of what is wrong with JSON, so trying one
//! after the other would store values that nobody wrote.
//!
//! YAML is read with serde-saphyr: kept up by its authors, without unsafe code of its own, strict
//! about duplicate keys, and with a budget for everything that a hostile document could make large.
//! (serde_yaml and its forks rest on a translated C library that nobody maintains.) Of YAML's habits
//! only those of version 1.2 are on: `on`, `yes` and `no` are texts, as people who name a property
//! `on` expect; `0x10` is 16, and `1_000` is 1000.

use std::{fmt, io::Read, path::Path, sync::Arc};

use fleet_state::{Limits, Object, Value};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::{
    exit::{Exit, Stop},
    value,
};

/// Largest file.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most things in one file.
const ITEMS_MAX: usize = 250_000;
/// Nodes of a YAML document; a device has about ten.
const YAML_NODES_MAX: usize = 8_000_000;
/// Nesting: a list of things, each holding a value of the deepest kind.
const DEPTH_MAX: usize = 40;

/// From here on, up or down, YAML's whole numbers are no longer kept exactly: 2^63. Those up to 2^64
/// come as what they are.
const WHOLE_MIN: f64 = 9_223_372_036_854_775_808.0;
const WHOLE_TOO_LARGE: &str = "whole numbers go from -9223372036854775808 to 18446744073709551615; a larger one with a point or an exponent can be given in JSON";

/// The objects of a list.
pub(crate) fn objects(path: &Path) -> Result<Vec<Object>, Stop> {
    let name = display(path);
    let Value::List(items) = read(path)? else {
        return Err(Stop::usage(format!("{name} must hold a list of objects")).with_hint(
            "For example: [{\"id\":\"hall2.lamp-1\"}], or the same in YAML: - id: hall2.lamp-1",
        ));
    };
    if items.is_empty() {
        return Err(Stop::usage(format!("{name} holds 0 items; allowed are 1 to {ITEMS_MAX}")));
    }
    if items.len() > ITEMS_MAX {
        return Err(Stop::too_large(format!(
            "{name} holds {} items; allowed are 1 to {ITEMS_MAX}",
            items.len()
        )));
    }
    let object = |(at, item): (usize, Value)| {
        let number = at.saturating_add(1);
        item.as_map().cloned().ok_or_else(|| {
            Stop::usage(format!("item {number} of {name} is {} and not an object", item.kind()))
        })
    };
    items.into_iter().enumerate().map(object).collect()
}

/// One value in YAML or JSON.
pub(crate) fn read(path: &Path) -> Result<Value, Stop> {
    let bytes = bytes(path)?;
    let name = display(path);
    let text =
        str::from_utf8(&bytes).map_err(|_| Stop::usage(format!("{name} is not UTF-8 text")))?;
    if is_json(path, text) {
        let limits = Limits { size_bytes_max: bytes.len(), depth_max: DEPTH_MAX };
        return Value::parse(&bytes, limits).map_err(|error| {
            value::too_large(&error, &name)
                .unwrap_or_else(|| Stop::usage(format!("{name} is {error}")))
        });
    }
    yaml(text).map_err(|error| Stop::usage(format!("{name} is not valid YAML: {error}")))
}

/// Whether it is JSON, by its name, and where that says nothing by its beginning.
fn is_json(path: &Path, text: &str) -> bool {
    let named = |ending: &str| path.extension().is_some_and(|it| it.eq_ignore_ascii_case(ending));
    if named("yaml") || named("yml") {
        return false;
    }
    named("json") || text.trim_start().starts_with(['[', '{'])
}

/// What a path is called in messages.
pub(crate) fn display(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string().escape_debug().to_string()
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn bytes(path: &Path) -> Result<Vec<u8>, Stop> {
    let name = display(path);
    let failed =
        |error: std::io::Error| Stop::new(Exit::Usage, format!("{name} cannot be read: {error}"));
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX.saturating_add(1);
    if is_stdin(path) {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(failed)?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Stop::too_large(format!(
            "{name} is larger than {} MiB",
            FILE_BYTES_MAX / 1024 / 1024
        )));
    }
    Ok(bytes)
}

fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: YAML_NODES_MAX,
            max_events: YAML_NODES_MAX.saturating_mul(2),
            max_documents: 1,
        },
    };
    serde_saphyr::from_str_with_options::<Loose>(text, options)
        .map(|loose| loose.0)
        .map_err(|error| error.to_string())
}

/// Any value of a format that knows its own types.
struct Loose(Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor).map(Loose)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // What a whole number becomes that is too large for one; it would be stored as another.
        if value.fract() == 0.0 && value.abs() >= WHOLE_MIN {
            return Err(E::custom(WHOLE_TOO_LARGE));
        }
        fleet_state::Finite::new(value)
            .map(Value::F64)
            .ok_or_else(|| E::custom("a number that is not finite is not a value"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Loose(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, Loose(value))) = entries.next_entry::<String, Loose>()? {
            if object.insert(Arc::<str>::from(key.as_str()), value).is_some() {
                return Err(A::Error::custom(format!(
                    "the key {} stands twice",
                    key.escape_debug()
                )));
            }
        }
        Ok(Value::Map(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Value, Stop> {
        read_named("list", text)
    }

    fn read_named(name: &str, text: &str) -> Result<Value, Stop> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn what_is_wrong_as_json_is_not_taken_for_yaml() {
        for value in
            ["18446744073709551616", "NaN", "tru", "0x10", "1_000", "01", "'a'", "1e400", "on"]
        {
            let (list, object) = (format!("[{value}]"), format!(" {{\"a\": {value}}}"));
            for text in [&list, &object] {
                for name in ["list", "list.json", "list.JSON"] {
                    let stop = read_named(name, text).expect_err(text);
                    assert_eq!(stop.exit, Exit::Usage, "{name}: {text}");
                    assert!(stop.message.contains("line 1"), "{name}: {text}: {}", stop.message);
                }
            }
            assert!(read_named("value.json", value).is_err(), "{value}");
        }
        // Who says that it is YAML gets YAML, also in flow style.
        let flow = read_named("list.yaml", "[{id: hall2.lamp-1, n: 0x10}]").unwrap();
        assert_eq!(flow, read_text(r#"[{"id":"hall2.lamp-1","n":16}]"#).unwrap());
    }

    #[test]
    fn whole_numbers_are_kept_exactly_or_refused() {
        for text in ["18446744073709551616", "-9223372036854775809", "99999999999999999999999"] {
            let stop = read_text(&format!("- {text}\n")).expect_err(text);
            assert!(stop.message.contains("whole numbers go from"), "{text}: {}", stop.message);
        }
        for text in ["18446744073709551615", "-9223372036854775808", "9007199254740993"] {
            let list = read_text(&format!("- {text}\n")).unwrap();
            assert_eq!(list.to_json(), format!("[{text}]"));
        }
        assert_eq!(read_text("- 2.0e3\n").unwrap(), read_text("[2.0e3]").unwrap());
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "- id: hall2.lamp-1\n  labels: {line: \"1\", on: yes}\n  model:\n    \"on\": {type: boolean}\n    n: [1, -2, 2.5, 18446744073709551615, true, null, ~]\n";
        let json = r#"[{"id":"hall2.lamp-1","labels":{"line":"1","on":"yes"},"model":{"on":{"type":"boolean"},"n":[1,-2,2.5,18446744073709551615,true,null,null]}}]"#;
        assert_eq!(read_text(yaml).unwrap(), read_text(json).unwrap());
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let cases = [
            ("- a: 1\n  a: 2\n", "a"),
            ("[{\"a\":1,\"a\":2}]", "twice"),
            ("[1, ", "line 1"),
            ("a: [1\n", "YAML"),
            ("a: .nan\n", "YAML"),
            ("--- 1\n--- 2\n", "YAML"),
        ];
        for (text, expected) in cases {
            let stop = read_text(text).expect_err(text);
            assert_eq!(stop.exit, Exit::Usage);
            assert!(stop.message.contains(expected), "{text}: {}", stop.message);
        }
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        assert!(read_text(bomb).is_err());
        assert_eq!(read_text(&"[".repeat(100_000)).unwrap_err().exit, Exit::Rejected);
        assert!(read(Path::new("/nowhere/at/all")).unwrap_err().message.contains("cannot be read"));
    }

    #[test]
    fn lists_hold_objects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        for (text, expected) in
            [("{}", "a list of objects"), ("[]", "0 items"), ("[{}, 1]", "item 2")]
        {
            std::fs::write(&path, text).unwrap();
            let stop = objects(&path).expect_err(text);
            assert!(stop.message.contains(expected), "{text}: {}", stop.message);
        }
    }
}
