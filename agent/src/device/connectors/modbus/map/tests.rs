//! Tables of maps that are taken or refused.

use std::sync::Arc;

use fleet_state::Limits;

use super::super::register::BitWrite;
use super::*;

pub(crate) fn setup(id: &str, unit: &str, settings: &str) -> DeviceSetup {
    let value = Value::parse(settings.as_bytes(), Limits::default()).unwrap();
    DeviceSetup {
        id: id.parse().unwrap(),
        address: Arc::from(unit),
        model: None,
        settings: value.as_map().unwrap().clone(),
    }
}

fn parse(settings: &str) -> Result<Map, Refusal> {
    Map::parse(&setup("drive", "1", settings))
}

const DRIVE: &str = r#"{
    "word_order": "little",
    "groups": {"fast": {"interval_ms": 100, "block_max": 10, "gap_max": 2}},
    "registers": {
        "speed": {"table": "holding", "address": 100, "type": "u16", "scale": 0.1, "unit": "Hz",
                  "access": "read_write", "min": 0, "max": 50, "group": "fast",
                  "read_from": {"address": 110}},
        "energy": {"table": "input", "address": 0, "type": "u32"},
        "running": {"table": "discrete", "address": 0},
        "light": {"table": "coil", "address": 0, "access": "read_write"},
        "alarm": {"table": "holding", "address": 1, "bit": 3},
        "enable": {"table": "holding", "address": 1, "bit": 4, "access": "read_write",
                   "bit_write": "mask"},
        "limit": {"table": "holding", "address": 30, "type": "i16", "access": "read_write",
                  "nonvolatile": {"writes_per_day": 24}},
        "command": {"table": "holding", "address": 50, "type": "u16", "access": "action"},
        "answer": {"table": "holding", "address": 51, "type": "u16"}},
    "actions": {
        "blink": {"pulse": {"register": "light", "width_ms": 50}},
        "home": {"handshake": {"command": "command", "value": 5, "acknowledge": "answer", "reset": 0}},
        "move": {"write": {"command": {"arg": "position"}}}}}"#;

#[test]
fn a_whole_map() {
    let map = parse(DRIVE).unwrap();
    let profile = map.profile();
    assert_eq!(profile.access("speed"), Some(Access::Desired));
    assert_eq!(profile.access("energy"), Some(Access::Readable));
    assert_eq!(profile.access("command"), None);
    assert_eq!(profile.actions.unwrap().len(), 3);
    assert_eq!(profile.fence, Fence::Lease);
    assert_eq!(profile.warnings, ["limit wears out: 24 writes a day at most"]);
    assert_eq!(map.registers["enable"].bit_write, Some(BitWrite::Mask));
    assert!(map.registers["energy"].coding.low_word_first);
    assert_eq!(map.registers["speed"].read_from.address, 110);
}

#[test]
fn the_same_as_toml() {
    let toml = r#"
        [registers.speed]
        table = "holding"
        address = 100
        type = "u16"
        scale = 0.1
    "#;
    let settings = Value::from(toml).to_json();
    let written = parse(&format!(r#"{{"map_toml": {settings}}}"#)).unwrap();
    let json = r#"{"registers": {"speed":
        {"table": "holding", "address": 100, "type": "u16", "scale": 0.1}}}"#;
    assert_eq!(written, parse(json).unwrap());
    for bad in ["registers = 7", "[registers", "[registers.a]\nx = 1979-05-27", "a = inf"] {
        let settings = Value::from(bad).to_json();
        let refusal = parse(&format!(r#"{{"map_toml": {settings}}}"#)).unwrap_err();
        assert!(refusal.field.starts_with("settings.map_toml"), "{bad}: {refusal}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_field() {
    let one = |register: &str| format!(r#"{{"registers": {{"r": {register}}}}}"#);
    let two = |a: &str, b: &str| format!(r#"{{"registers": {{"a": {a}, "b": {b}}}}}"#);
    let word = r#"{"table": "holding", "address": 10, "type": "u32"}"#;
    let bit = r#"{"table": "holding", "address": 0, "bit": 3}"#;
    let cases = [
        ("{}".to_owned(), "settings.registers"),
        (one("{}"), "settings.registers.r.table"),
        (
            one(r#"{"table": "holdings", "address": 0, "type": "u16"}"#),
            "settings.registers.r.table",
        ),
        (one(r#"{"table": "holding", "type": "u16"}"#), "settings.registers.r.address"),
        (
            one(r#"{"table": "holding", "address": 400101, "type": "u16"}"#),
            "settings.registers.r.address",
        ),
        (
            one(r#"{"table": "holding", "address": -1, "type": "u16"}"#),
            "settings.registers.r.address",
        ),
        (
            one(r#"{"table": "holding", "address": 65535, "type": "u32"}"#),
            "settings.registers.r.address",
        ),
        (one(r#"{"table": "holding", "address": 0}"#), "settings.registers.r.type"),
        (one(r#"{"table": "holding", "address": 0, "type": "u24"}"#), "settings.registers.r.type"),
        (one(r#"{"table": "holding", "address": 0, "type": "bool"}"#), "settings.registers.r.type"),
        (one(r#"{"table": "coil", "address": 0, "type": "u16"}"#), "settings.registers.r.type"),
        (one(r#"{"table": "coil", "address": 0, "bit": 1}"#), "settings.registers.r.bit"),
        (
            one(r#"{"table": "holding", "address": 0, "type": "text"}"#),
            "settings.registers.r.length",
        ),
        (
            one(r#"{"table": "input", "address": 0, "type": "u16", "access": "write"}"#),
            "settings.registers.r.access",
        ),
        (
            one(r#"{"table": "holding", "address": 0, "bit": 1, "access": "write"}"#),
            "settings.registers.r.bit_write",
        ),
        (
            one(r#"{"table": "holding", "address": 0, "type": "u16", "bit_write": "mask"}"#),
            "settings.registers.r.bit_write",
        ),
        (
            one(r#"{"table": "holding", "address": 0, "type": "u16", "scale": 0}"#),
            "settings.registers.r.scale",
        ),
        (one(r#"{"table": "coil", "address": 0, "scale": 2}"#), "settings.registers.r.scale"),
        (
            one(r#"{"table": "holding", "address": 0, "type": "u16", "min": 2, "max": 1}"#),
            "settings.registers.r.min",
        ),
        (
            one(r#"{"table": "holding", "address": 0, "type": "u16", "group": "fast"}"#),
            "settings.registers.r.group",
        ),
        (
            one(r#"{"table": "holding", "address": 0, "type": "u16", "tolerence": 1}"#),
            "settings.registers.r.tolerence",
        ),
        (
            one(
                r#"{"table": "holding", "address": 0, "type": "u16", "nonvolatile": {"writes_per_day": 5}}"#,
            ),
            "settings.registers.r.nonvolatile",
        ),
        (
            two(word, r#"{"table": "holding", "address": 11, "type": "u16"}"#),
            "settings.registers.b.address",
        ),
        (two(bit, bit), "settings.registers.b.address"),
        (
            two(bit, r#"{"table": "holding", "address": 0, "type": "u16"}"#),
            "settings.registers.b.address",
        ),
        (
            two(
                word,
                r#"{"table": "holding", "address": 50, "type": "u16", "read_from": {"address": 10}}"#,
            ),
            "settings.registers.b.address",
        ),
        (
            r#"{"registers": {}, "groups": {"g": {"interval_ms": 1}}}"#.to_owned(),
            "settings.groups.g.interval_ms",
        ),
    ];
    for (settings, field) in cases {
        let refusal = parse(&settings).expect_err(&settings);
        assert_eq!(refusal.field, field, "{settings}: {refusal}");
    }
    for unit in ["0", "248", "256", "x", ""] {
        assert_eq!(Map::parse(&setup("d", unit, DRIVE)).unwrap_err().field, "address");
    }
}

#[test]
fn actions_that_cannot_be_are_refused() {
    let with = |action: &str| {
        format!(
            r#"{{"registers": {{"c": {{"table": "holding", "address": 0, "type": "u16", "access": "action"}},
                 "s": {{"table": "input", "address": 0, "type": "u16"}}}}, "actions": {{"x": {action}}}}}"#
        )
    };
    for (action, field) in [
        ("{}", "settings.actions.x.write"),
        (r#"{"write": {}}"#, "settings.actions.x.write"),
        (r#"{"write": {"s": 1}}"#, "settings.actions.x.write.s"),
        (r#"{"write": {"nope": 1}}"#, "settings.actions.x.write.nope"),
        (r#"{"write": {"c": 65536}}"#, "settings.actions.x.write"),
        (r#"{"pulse": {"register": "c", "width_ms": 9000}}"#, "settings.actions.x.pulse.width_ms"),
        (
            r#"{"handshake": {"command": "c", "value": 1, "acknowledge": "nope"}}"#,
            "settings.actions.x.handshake.acknowledge",
        ),
        (
            r#"{"handshake": {"command": "c", "acknowledge": "s"}}"#,
            "settings.actions.x.handshake.value",
        ),
    ] {
        assert_eq!(parse(&with(action)).unwrap_err().field, field, "{action}");
    }
    assert!(
        parse(&with(r#"{"handshake": {"command": "c", "value": 1, "acknowledge": "s"}}"#)).is_ok()
    );
}

#[test]
fn a_watchdog_has_registers_of_its_own() {
    let with = |watchdog: &str| {
        parse(&format!(
            r#"{{"registers": {{
                "speed": {{"table": "holding", "address": 0, "type": "u16", "access": "read_write"}},
                "beat": {{"table": "holding", "address": 1, "type": "u16", "access": "action"}},
                "wait": {{"table": "holding", "address": 2, "type": "u16", "access": "action"}}}},
              "watchdog": {watchdog}}}"#
        ))
    };
    let map = with(r#"{"arm": {"wait": 50}, "register": "beat", "values": [1, 2]}"#).unwrap();
    let watchdog = map.watchdog.unwrap();
    assert_eq!(watchdog.arm, [(Arc::from("wait"), Value::from(50_i64))]);
    assert_eq!(watchdog.values, [Value::from(1_i64), Value::from(2_i64)]);
    assert_eq!(watchdog.refresh, Duration::from_secs(1));
    for (wrong, field) in [
        (r#"{"values": [1]}"#, "register"),
        (r#"{"register": "bat", "values": [1]}"#, "register"),
        (r#"{"register": "speed", "values": [1]}"#, "register"),
        (r#"{"register": "beat"}"#, "values"),
        (r#"{"register": "beat", "values": 1}"#, "values"),
        (r#"{"register": "beat", "values": [65536]}"#, "values"),
        (r#"{"register": "beat", "values": [1], "arm": {"beat": 1}}"#, "arm.beat"),
        (r#"{"register": "beat", "values": [1], "arm": {"speed": 1}}"#, "arm.speed"),
        (r#"{"register": "beat", "values": [1], "arm": {"wait": -1}}"#, "arm.wait"),
        (r#"{"register": "beat", "values": [1], "refresh_ms": 5}"#, "refresh_ms"),
        (r#"{"register": "beat", "values": [1], "refresh": 500}"#, "refresh"),
    ] {
        assert_eq!(with(wrong).unwrap_err().field, format!("settings.watchdog.{field}"), "{wrong}");
    }
}
