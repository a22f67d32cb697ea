//! The JSON type: parsing against `serde_json`, printing, merge patch.

use fleet_state::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};
use fleet_state::{Finite, Limits, ParseErrorKind, Value};
use proptest::prelude::*;

use crate::generate;
use crate::site::{json, object};

fn parse(text: &[u8]) -> Result<Value, fleet_state::ParseError> {
    Value::parse(text, Limits::default())
}

/// The same value as `serde_json` has it, or `None` where we are stricter on purpose.
fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (Value::Null, serde_json::Value::Null) => true,
        (Value::Bool(one), serde_json::Value::Bool(other)) => one == other,
        (Value::I64(one), serde_json::Value::Number(other)) => {
            other.as_i64() == Some(*one) || (*one == 0 && other.as_f64() == Some(0.0))
        }
        (Value::U64(one), serde_json::Value::Number(other)) => other.as_u64() == Some(*one),
        (Value::F64(one), serde_json::Value::Number(other)) => {
            // Without its feature `float_roundtrip`, serde_json is off in the last places.
            let other = other.as_f64().unwrap();
            one.get() == other || (one.get() - other).abs() <= one.get().abs() * 1e-13
        }
        (Value::Text(one), serde_json::Value::String(other)) => one.as_ref() == other,
        (Value::List(one), serde_json::Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), serde_json::Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| {
                    other.get(key.as_ref()).is_some_and(|other| same(value, other))
                })
        }
        _ => false,
    }
}

const TAKEN: &[&str] = &[
    "null",
    " true ",
    "false",
    "0",
    "-0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "1.0",
    "-0.0",
    "1e3",
    "1E+3",
    "1e-7",
    "0.1",
    "123456789.123456789",
    "1e308",
    "5e-324",
    "1e-400",
    "\"\"",
    "\"a\"",
    "\"\\u0041\\n\\/\\\\\\\"\\b\\f\\r\\t\"",
    "\"\\ud83d\\udca1\"",
    "\"💡\"",
    "\"\\u0000\"",
    "[]",
    "[ ]",
    "[1,[2,[3]]]",
    "{}",
    "{ }",
    "{\"a\":1,\"b\":{\"a\":null}}",
    "\t\r\n 1 \n",
    "{\"\":1}",
    "\"\u{7f}\"",
];

const REFUSED: &[&str] = &[
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x10",
    "1_000",
    "'a'",
    "\"",
    "\"\\\"",
    "\"\\x41\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"a\nb\"",
    "\"a\tb\"",
    "\"\0\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{",
    "}",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{a:1}",
    "{1:1}",
    "{\"a\" 1}",
    "1 2",
    "{} []",
    "// c\n1",
    "/* c */1",
    "1;",
    "\u{a0}1",
    "tru",
    "[1}",
    "{\"a\":1]",
];

#[test]
fn a_table_of_texts_is_taken_and_refused_as_by_serde_json() {
    for text in TAKEN {
        let ours = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(same(&ours, &theirs), "{text}: {ours:?} and {theirs:?}");
        assert_eq!(json(&ours.to_json()), ours, "{text}");
        assert_eq!(ours.size_bytes(), ours.to_json().len());
    }
    for text in REFUSED {
        assert!(parse(text.as_bytes()).is_err(), "{text} was taken");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
    }
}

#[test]
fn stricter_than_serde_json() {
    let kind = |text: &[u8]| parse(text).unwrap_err().kind;
    assert_eq!(
        kind(b"{\"a\":1,\"b\":2,\"a\":3}"),
        ParseErrorKind::DuplicateKey { key: "\"a\"".into() }
    );
    assert_eq!(
        kind(b"{\"a\":1,\"\\u0061\":3}"),
        ParseErrorKind::DuplicateKey { key: "\"a\"".into() }
    );
    for text in ["18446744073709551616", "-9223372036854775809", "1e309", "-1e309"] {
        assert_eq!(kind(text.as_bytes()), ParseErrorKind::NumberRange, "{text}");
    }
    assert_eq!(kind(&format!("1{}", "0".repeat(400)).into_bytes()), ParseErrorKind::NumberRange);
    for text in
        ["\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\ud800x\"", "\"\\ud800\\n\""]
    {
        assert_eq!(kind(text.as_bytes()), ParseErrorKind::Surrogate, "{text}");
    }
    assert_eq!(kind(b"\xef\xbb\xbf1"), ParseErrorKind::ByteOrderMark);
    assert_eq!(kind(b"\"\xff\""), ParseErrorKind::Utf8);
    assert_eq!(kind(b"\"\xc0\x80\""), ParseErrorKind::Utf8);
    assert_eq!(kind(b"\"\xed\xa0\x80\""), ParseErrorKind::Utf8);
    assert_eq!(kind(b"\xff\xfe1\0"), ParseErrorKind::Utf8);
}

#[test]
fn the_error_says_where() {
    let error = parse(b"{\n  \"on\": true,\n  \"level\": 1x\n}").unwrap_err();
    assert_eq!((error.line, error.column, error.offset), (3, 13, 28));
    assert_eq!(
        error.to_string(),
        "not valid JSON at line 3, column 13: a comma or the end of the object was expected here"
    );
    let error = parse(b"").unwrap_err();
    assert_eq!((error.line, error.column, error.offset), (1, 1, 0));
    let long = format!("{{\"{0}\":1,\"{0}\":2}}", "k\u{1b}".repeat(1000));
    let message = Value::parse(long.replace('\u{1b}', "\\u001b").as_bytes(), Limits::default())
        .unwrap_err()
        .to_string();
    assert!(message.len() < 500 && message.chars().all(|c| !c.is_control()), "{message}");
}

#[test]
fn bounds() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    assert_eq!(parse(&deep(VALUE_DEPTH_MAX)).unwrap().depth(VALUE_DEPTH_MAX), VALUE_DEPTH_MAX);
    assert_eq!(
        parse(&deep(VALUE_DEPTH_MAX + 1)).unwrap_err().kind,
        ParseErrorKind::TooDeep { limit: VALUE_DEPTH_MAX }
    );
    let limits = Limits { size_bytes_max: 10_000_000, depth_max: 32 };
    assert!(Value::parse(&b"[".repeat(1_000_000), limits).is_err());
    assert!(Value::parse(&b"{\"a\":".repeat(1_000_000), limits).is_err());
    let large = format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX)).into_bytes();
    assert!(matches!(parse(&large).unwrap_err().kind, ParseErrorKind::TooLarge { .. }));
}

#[test]
fn numbers_have_one_form() {
    assert_eq!(json("-0"), Value::I64(0));
    assert_eq!(json("-0.0"), Value::F64(Finite::new(0.0).unwrap()));
    assert_eq!(json("-0.0").to_json(), "0.0");
    assert_eq!(json("9223372036854775808"), Value::U64(1 << 63));
    assert_eq!(Value::from(7u64), Value::I64(7));
    assert_ne!(json("1"), json("1.0"));
    assert_eq!(
        json("1e400e".trim_end_matches('e').replace("400", "3").as_str()).to_json(),
        "1000.0"
    );
    assert!(Finite::new(f64::NAN).is_none() && Finite::new(f64::INFINITY).is_none());
}

#[test]
fn merge_patch_as_in_the_rfc() {
    // The object cases of RFC 7396, appendix A.
    for (before, patch, after) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        (r#"{"a":"x"}"#, r#"{"a":{"b":null,"c":1}}"#, r#"{"a":{"c":1}}"#),
    ] {
        assert_eq!(
            object(before).merge_patch(&object(patch)).to_json(),
            after,
            "{before} + {patch}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_printed_reads_back(value in generate::value()) {
        let text = value.to_json();
        prop_assert_eq!(value.size_bytes(), text.len());
        let limits = Limits { size_bytes_max: usize::MAX, depth_max: 32 };
        prop_assert_eq!(Value::parse(text.as_bytes(), limits).unwrap(), value.clone());
        let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(same(&value, &theirs), "{} {}", text, theirs);
    }

    #[test]
    fn floats_round_trip(bits: u64) {
        if let Some(finite) = Finite::new(f64::from_bits(bits)) {
            let text = Value::F64(finite).to_json();
            prop_assert_eq!(json(&text), Value::F64(finite));
        }
    }

    #[test]
    fn mangled_json_is_judged_as_by_serde_json(
        value in generate::value(), at: prop::sample::Index, byte in prop::sample::select(b"{}[]\",:\\0123eE+-.tfnu \n\x00\x80".to_vec()), how in 0..3,
    ) {
        let mut text = value.to_json().into_bytes();
        let at = at.index(text.len());
        match how {
            0 => text[at] = byte,
            1 => text.insert(at, byte),
            _ => { text.remove(at); }
        }
        let ours = parse(&text);
        match (&ours, serde_json::from_slice::<serde_json::Value>(&text)) {
            (Ok(ours), Ok(theirs)) => prop_assert!(same(ours, &theirs)),
            (Ok(ours), Err(error)) => prop_assert!(false, "{:?} {}", ours, error),
            (Err(error), Ok(theirs)) => prop_assert!(
                matches!(error.kind, ParseErrorKind::DuplicateKey { .. } | ParseErrorKind::NumberRange),
                "{:?} {}", error, theirs
            ),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn random_bytes_never_panic(text: Vec<u8>) {
        let _ = parse(&text);
    }

    #[test]
    fn a_patch_applied_twice_changes_nothing_more(before in generate::object(), patch in generate::object()) {
        let once = before.merge_patch(&patch);
        prop_assert_eq!(once.merge_patch(&patch), once);
    }
}
