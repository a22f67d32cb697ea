//! Device models: which are taken, and what they let through.

use fleet_state::Schema;

use crate::site::{json, object};

fn schema(text: &str) -> Schema {
    Schema::from_value(json(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn unknown_keywords_and_wrong_operands_are_refused() {
    for (text, place) in [
        ("1", "at model:"),
        (r#"{"pattern":"a"}"#, "at model.pattern:"),
        (r#"{"$ref":"a"}"#, "at model.$ref:"),
        (r#"{"type":"array"}"#, "at model:"),
        (r#"{"type":"float"}"#, "at model.type:"),
        (r#"{"type":["object"]}"#, "at model.type:"),
        (r#"{"properties":{"a":{"minimum":"1"}}}"#, "at model.properties.a.minimum:"),
        (r#"{"properties":{"a":{"minLength":-1}}}"#, "at model.properties.a.minLength:"),
        (r#"{"properties":{"a":{"maxLength":1.0}}}"#, "at model.properties.a.maxLength:"),
        (r#"{"properties":{"a":{"enum":[]}}}"#, "at model.properties.a.enum:"),
        (r#"{"properties":{"a":true}}"#, "at model.properties.a:"),
        (r#"{"properties":[]}"#, "at model.properties:"),
        (r#"{"required":"a"}"#, "at model.required:"),
        (r#"{"required":[1]}"#, "at model.required:"),
        (r#"{"additionalProperties":{}}"#, "at model.additionalProperties:"),
        (r#"{"additionalProperties":false,"required":["a"]}"#, "at model:"),
        (r#"{"title":1}"#, "at model.title:"),
    ] {
        let error = Schema::from_value(json(text)).unwrap_err().to_string();
        assert!(error.contains(place), "{text}: {error}");
    }
}

#[test]
fn a_table_of_checks() {
    let whole = r#"{"type":"object","title":"t","properties":{"on":{"type":"boolean"},
        "level":{"type":"integer","minimum":0,"maximum":100},"t":{"type":"number","minimum":-1.5},
        "mode":{"enum":["a",1,null]},"name":{"type":"string","minLength":1,"maxLength":3},
        "in":{"properties":{"x":{"type":"null"}},"required":["x"],"additionalProperties":false},
        "list":{"type":"array"}},"required":["on"],"additionalProperties":false}"#;
    let schema = schema(whole);
    assert_eq!(*schema.source(), json(whole));
    for (desired, violation) in [
        (r#"{"on":true}"#, ""),
        ("{}", "desired must have a member \"on\""),
        (r#"{"on":1}"#, "desired.on must be of type boolean, found integer"),
        (r#"{"on":true,"x":1}"#, "desired.x is not in the device's model"),
        (r#"{"on":true,"level":0}"#, ""),
        (r#"{"on":true,"level":100.0}"#, ""),
        (r#"{"on":true,"level":0.5}"#, "desired.level must be of type integer, found number"),
        (r#"{"on":true,"level":-1}"#, "desired.level must be at least 0, found -1"),
        (r#"{"on":true,"level":101}"#, "desired.level must be at most 100, found 101"),
        (r#"{"on":true,"level":18446744073709551615}"#, "desired.level must be at most 100"),
        (r#"{"on":true,"t":-1.5}"#, ""),
        (r#"{"on":true,"t":-2}"#, "desired.t must be at least -1.5, found -2"),
        (r#"{"on":true,"mode":1.0}"#, ""),
        (r#"{"on":true,"mode":null}"#, ""),
        (r#"{"on":true,"mode":"b"}"#, "desired.mode must be one of [\"a\",1,null]"),
        (r#"{"on":true,"name":"äöü"}"#, ""),
        (r#"{"on":true,"name":""}"#, "desired.name must have at least 1 characters, found 0"),
        (r#"{"on":true,"name":"abcd"}"#, "desired.name must have at most 3 characters, found 4"),
        (r#"{"on":true,"in":{"x":null}}"#, ""),
        (r#"{"on":true,"in":{}}"#, "desired.in must have a member \"x\""),
        (r#"{"on":true,"in":{"x":1}}"#, "desired.in.x must be of type null, found integer"),
        (r#"{"on":true,"in":7}"#, ""),
        (r#"{"on":true,"list":{}}"#, "desired.list must be of type array, found object"),
    ] {
        let found = schema
            .check(&object(desired))
            .map_or_else(|error| error.to_string(), |()| String::new());
        assert!(
            if violation.is_empty() { found.is_empty() } else { found.starts_with(violation) },
            "{desired}: {found}"
        );
    }
}

#[test]
fn integers_and_floats_are_compared_exactly() {
    // 2^53 + 1 has no float of its own; rounding it would let it through.
    let schema = schema(r#"{"properties":{"a":{"maximum":9007199254740992.0}}}"#);
    assert!(schema.check(&object(r#"{"a":9007199254740992}"#)).is_ok());
    assert!(schema.check(&object(r#"{"a":9007199254740993}"#)).is_err());
    let schema = self::schema(
        r#"{"properties":{"a":{"minimum":1e300},"b":{"minimum":-1e300},"c":{"minimum":-0.5}}}"#,
    );
    assert!(schema.check(&object(r#"{"a":18446744073709551615}"#)).is_err());
    assert!(schema.check(&object(r#"{"b":-9223372036854775808}"#)).is_ok());
    assert!(schema.check(&object(r#"{"c":0}"#)).is_ok());
    assert!(schema.check(&object(r#"{"c":-1}"#)).is_err());
}
