//! Values as they are typed: `on=true`, `speed=250`, `mode=auto`, `'{"a":[1,2]}'`.
//!
//! What reads as a JSON value is one; anything else is a text. What was surely meant as JSON and is
//! not (an open brace, a number out of range, `NaN`, `0x10`) is an error rather than a text nobody
//! wanted.

use fleet_state::{Limits, Object, ParseError, ParseErrorKind, Value};

use crate::exit::Stop;

/// The value of a word.
pub(crate) fn guess(text: &str) -> Result<Value, Stop> {
    let error = match Value::parse(text.as_bytes(), Limits::default()) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(stop) = too_large(&error, &format!("\"{}\"", shown(text))) {
        return Err(stop);
    }
    if matches!(error.kind, ParseErrorKind::NumberRange) {
        return Err(Stop::usage(format!("\"{}\" cannot be a value: {}", shown(text), error.kind)));
    }
    if looks_like_number(text) {
        return Err(Stop::usage(format!(
            "\"{}\" reads like a number and is none in JSON, so it would be stored as a text",
            shown(text)
        ))
        .with_hint(format!(
            "Write the number as 12, -3, 0.5 or 1e6; for the text, quote it: '\"{}\"'",
            shown(text)
        )));
    }
    if text.trim_start().starts_with(['{', '[', '"']) {
        return Err(Stop::usage(format!("\"{}\" is {error}", shown(text))));
    }
    Ok(Value::from(text))
}

/// The end for a text that is larger or deeper than a value may be.
pub(crate) fn too_large(error: &ParseError, what: &str) -> Option<Stop> {
    match error.kind {
        ParseErrorKind::TooLarge { .. } => {
            Some(Stop::too_large(format!("{what} is too large: {}", error.kind)))
        }
        ParseErrorKind::TooDeep { .. } => Some(Stop::too_large(format!(
            "{what} is {}, at line {}, column {}",
            error.kind, error.line, error.column
        ))),
        ParseErrorKind::Expected { .. }
        | ParseErrorKind::Trailing
        | ParseErrorKind::DuplicateKey { .. }
        | ParseErrorKind::NumberRange
        | ParseErrorKind::ByteOrderMark
        | ParseErrorKind::Utf8
        | ParseErrorKind::Control
        | ParseErrorKind::Surrogate => None,
    }
}

/// What other languages read as a number: `NaN`, `Infinity`, `0x10`, `007`, `+1`, `.5`.
fn looks_like_number(text: &str) -> bool {
    let unsigned = text.trim().trim_start_matches(['+', '-']);
    let radix = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    let coded = radix.iter().any(|(prefix, radix)| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(*radix)))
    });
    coded || unsigned.parse::<f64>().is_ok()
}

/// An object from words: one JSON object, or any number of `key=value`.
pub(crate) fn object(words: &[String]) -> Result<Object, Stop> {
    if let [only] = words
        && only.trim_start().starts_with('{')
    {
        let value = guess(only)?;
        let not_an_object = || Stop::usage(format!("{} is not an object", value.kind()));
        return value.as_map().cloned().ok_or_else(not_an_object);
    }
    let mut object = Object::new();
    for word in words {
        let (key, value) = pair(word)?;
        if object.insert(key, guess(value)?).is_some() {
            return Err(Stop::usage(format!("\"{}\" is given twice", shown(key))));
        }
    }
    Ok(object)
}

/// The two sides of `key=value`.
pub(crate) fn pair(word: &str) -> Result<(&str, &str), Stop> {
    word.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
        Stop::usage(format!("\"{}\" is not of the form key=value", shown(word))).with_hint(
            "For example: on=true speed=250 mode=auto, or one JSON object: '{\"on\":true}'.",
        )
    })
}

/// A word as it may be shown: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().count() > 60 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_become_values() {
        let cases = [
            ("true", "true"),
            ("null", "null"),
            ("250", "250"),
            ("-1", "-1"),
            ("21.50", "21.5"),
            ("1e3", "1000.0"),
            ("18446744073709551615", "18446744073709551615"),
            ("auto", "\"auto\""),
            ("", "\"\""),
            ("10.0.0.1", "\"10.0.0.1\""),
            ("2026-01-01", "\"2026-01-01\""),
            ("0xyz", "\"0xyz\""),
            ("nano", "\"nano\""),
            ("\"NaN\"", "\"NaN\""),
            ("\"007\"", "\"007\""),
            ("1,5", "\"1,5\""),
            ("\"250\"", "\"250\""),
            ("[1, 2]", "[1,2]"),
            ("{\"a\":null}", "{\"a\":null}"),
            ("True", "\"True\""),
            ("a b", "\"a b\""),
            ("-", "\"-\""),
            ("-0", "0"),
        ];
        for (word, expected) in cases {
            assert_eq!(guess(word).unwrap().to_json(), expected, "{word}");
        }
    }

    #[test]
    fn what_was_meant_as_json_is_not_taken_as_text() {
        let long = "x".repeat(40_000);
        for word in [
            "{\"a\":",
            "[1,",
            "\"open",
            "{a:1}",
            "{\"a\":1,\"a\":2}",
            "1e309",
            "18446744073709551616",
            "NaN",
            "nan",
            "-Infinity",
            "inf",
            "0x10",
            "-0X1f",
            "0b1",
            "007",
            "+1",
            ".5",
            "1.",
        ] {
            let stop = guess(word).unwrap_err();
            assert_eq!(stop.exit, Exit::Usage, "{word}");
            assert!(stop.message.len() < 400);
        }
        assert!(guess("0x10").unwrap_err().hint.unwrap().contains("'\"0x10\"'"));
        for word in [long, "[".repeat(40)] {
            let stop = guess(&word).unwrap_err();
            assert_eq!(stop.exit, Exit::Rejected, "{}", stop.message);
            assert!(stop.message.len() < 400 && !stop.message.contains("not valid"));
        }
    }

    #[test]
    fn words_become_objects() {
        assert_eq!(
            object(&words(&["on=true", "mode=auto", "eq=a=b", "gone=null"])).unwrap().to_json(),
            r#"{"eq":"a=b","gone":null,"mode":"auto","on":true}"#
        );
        assert_eq!(object(&words(&["{\"on\":true}"])).unwrap().to_json(), "{\"on\":true}");
        for bad in [&["on"][..], &["=1"], &["a=1", "a=2"], &["{\"a\":1}", "b=2"], &["a=[1"]] {
            assert_eq!(object(&words(bad)).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
        let stop = object(&words(&["\u{1b}[31m"])).unwrap_err();
        assert!(!stop.message.contains('\u{1b}'), "{}", stop.message);
    }
}
