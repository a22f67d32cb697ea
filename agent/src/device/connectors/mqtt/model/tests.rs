//! Tables of settings that are taken or refused.

use fleet_state::{Limits, Object, Value};

use super::*;

pub(crate) fn object(json: &str) -> Object {
    let value = Value::parse(json.as_bytes(), Limits::default()).unwrap();
    value.as_map().unwrap().clone()
}

pub(crate) fn setup(id: &str, address: &str, settings: &str) -> DeviceSetup {
    DeviceSetup {
        id: id.parse().unwrap(),
        address: Arc::from(address),
        model: None,
        settings: object(settings),
    }
}

pub(super) fn parse(settings: &str) -> Result<Model, Refusal> {
    Model::parse(&mut Engine::new(), &setup("lamp", "lamp1", settings))
}

#[test]
fn what_is_written_out_in_full_is_taken() {
    let model = parse(
        r#"{"properties": {
             "on": {"type": "boolean", "map": {"ON": true, "OFF": false},
                    "read": [{"topic": "stat/{{ address }}/RESULT", "key": "POWER"}],
                    "write": {"topic": "cmnd/{{ address }}/POWER"},
                    "get": {"topic": "cmnd/{{ address }}/POWER"}},
             "level": {"type": "integer", "write": {"topic": "l", "payload": "{{ value * 2 }}"}},
             "warm": {"type": "number", "read": {"topic": "t", "value": "{{ value_json.t }}"}}},
           "actions": {"blink": {"topic": "blink", "payload": "{{ args.times }}"}},
           "availability": {"topic": "tele/{{ address }}/LWT", "online": "Online", "offline": "Offline"}}"#,
    )
    .unwrap();
    let profile = model.profile();
    assert_eq!(profile.access("on"), Some(Access::Desired));
    assert_eq!(profile.access("level"), Some(Access::WriteOnly));
    assert_eq!(profile.access("warm"), Some(Access::Readable));
    assert_eq!(profile.access("cold"), None);
    assert!(profile.actions.unwrap().contains("blink"));
    assert_eq!(profile.fence, Fence::Broker);
    assert_eq!(profile.warnings, Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_refused_with_its_field() {
    let cases = [
        ("{}", "settings.properties"),
        (r#"{"preset": "zigbee3mqtt"}"#, "settings.preset"),
        (r#"{"preset": 7}"#, "settings.preset"),
        (r#"{"properties": {"on": {}}}"#, "settings.properties.on.read"),
        (
            r#"{"properties": {"on": {"read": {"topic": "a/+"}}}}"#,
            "settings.properties.on.read.topic",
        ),
        (r#"{"properties": {"on": {"read": {"topic": ""}}}}"#, "settings.properties.on.read.topic"),
        (
            r#"{"properties": {"on": {"read": {"topic": "{{ nobody }}"}}}}"#,
            "settings.properties.on.read.topic",
        ),
        (
            r#"{"properties": {"on": {"read": {"topic": "a", "value": "{{ value"}}}}"#,
            "settings.properties.on.read.value",
        ),
        (
            r#"{"properties": {"on": {"read": {"topic": "a", "value": "{{ value | nosuch }}"}}}}"#,
            "settings.properties.on.read.value",
        ),
        (
            r#"{"properties": {"on": {"read": {"topic": "a", "key": "x..y"}}}}"#,
            "settings.properties.on.read.key",
        ),
        (
            r#"{"properties": {"on": {"read": {"topic": "a", "key": "x", "value": "y"}}}}"#,
            "settings.properties.on.read.value",
        ),
        (
            r#"{"properties": {"on": {"write": {"topic": "a", "payload": "{{ vlaue }}"}}}}"#,
            "settings.properties.on.write.payload",
        ),
        (
            r#"{"properties": {"on": {"write": {"topic": "a", "payload": "{{ value | toyson }}"}}}}"#,
            "settings.properties.on.write.payload",
        ),
        (
            r#"{"properties": {"on": {"write": {"topic": "a", "payload": "ON"}}}}"#,
            "settings.properties.on.write.payload",
        ),
        (
            r#"{"properties": {"on": {"write": {"topic": "a", "qos": 2}}}}"#,
            "settings.properties.on.write.qos",
        ),
        (
            r#"{"properties": {"on": {"write": {"topic": "a", "retain": true}}}}"#,
            "settings.properties.on.write.retain",
        ),
        (
            r#"{"properties": {"on": {"read": {"topic": "a"}, "write": {"topic": "a"}}}}"#,
            "settings.properties.on.write.topic",
        ),
        (
            r#"{"properties": {"on": {"write": {"topic": "a"}, "get": {"topic": "b"}}}}"#,
            "settings.properties.on.get",
        ),
        (
            r#"{"properties": {"on": {"read": {"topic": "a"}, "tpye": "boolean"}}}"#,
            "settings.properties.on.tpye",
        ),
        (r#"{"properties": {"on": {"read": {"topic": "a"}}}, "actoins": {}}"#, "settings.actoins"),
        (
            r#"{"actions": {"x": {"topic": "a", "payload": "{% if %}"}}}"#,
            "settings.actions.x.payload",
        ),
        (
            r#"{"actions": {"x": {"topic": "a"}}, "availability": {"topic": "b", "online": "y", "offline": "y"}}"#,
            "settings.availability.offline",
        ),
        (r#"{"preset": "tasmota", "relays": 9}"#, "settings.relays"),
        (r#"{"preset": "tasmota", "full_topic": "%topic%/"}"#, "settings.full_topic"),
        (r#"{"preset": "tasmota", "relais": 1}"#, "settings.relais"),
        (r#"{"preset": "shelly"}"#, "settings.generation"),
        (r#"{"preset": "zigbee2mqtt"}"#, "address"),
    ];
    for (settings, field) in cases {
        let refusal = parse(settings).expect_err(settings);
        assert_eq!(refusal.field, field, "{settings}: {refusal}");
    }
}

#[test]
fn what_an_operator_should_know_is_said() {
    let warnings = |settings: &str| parse(settings).unwrap().profile().warnings.join("\n");
    let blind = warnings(r#"{"properties": {"on": {"write": {"topic": "a"}}}}"#);
    assert!(blind.contains("availability is missing") && blind.contains("not seen"), "{blind}");
    let asleep = warnings(r#"{"sleepy": true, "properties": {"t": {"read": {"topic": "a"}}}}"#);
    assert!(asleep.contains("TTL"), "{asleep}");
    let unchecked = warnings(
        r#"{"properties": {"t": {"read": {"topic": "a"}}},
            "availability": {"topic": "bridge", "offline_only": true}}"#,
    );
    assert!(unchecked.contains("only its bridge tells"), "{unchecked}");
}
