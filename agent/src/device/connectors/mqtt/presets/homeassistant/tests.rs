//! Announcements in the forms that the documentation gives, and in those that senders use.

use super::*;

fn found(messages: &[(&str, &str)]) -> (Vec<Candidate>, Vec<String>) {
    read(messages.iter().map(|(topic, payload)| (*topic, payload.as_bytes())))
}

fn settings(candidate: &Candidate) -> String {
    candidate.settings.to_json()
}

/// Every candidate can be registered as it is.
fn check(candidate: &Candidate) -> Model {
    let setup = DeviceSetup {
        id: "dev".parse().unwrap(),
        address: Arc::from(candidate.address.as_str()),
        model: None,
        settings: candidate.settings.clone(),
    };
    Model::parse(&mut Engine::new(), &setup).unwrap()
}

#[test]
fn entities_of_one_device_become_one_candidate() {
    let (candidates, problems) = found(&[
        (
            "homeassistant/sensor/sensorBedroomT/config",
            r#"{"device_class":"temperature","state_topic":"homeassistant/sensor/sensorBedroom/state",
                "unit_of_measurement":"C","value_template":"{{ value_json.temperature}}",
                "unique_id":"temp01ae","device":{"identifiers":["bedroom01ae"],"name":"Bedroom",
                "manufacturer":"Example sensors Ltd.","model":"Example Sensor"}}"#,
        ),
        (
            "homeassistant/sensor/sensorBedroomH/config",
            r#"{"stat_t":"homeassistant/sensor/sensorBedroom/state","val_tpl":"{{ value_json.humidity}}",
                "uniq_id":"hum01ae","dev":{"ids":["bedroom01ae"]}}"#,
        ),
    ]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(candidates.len(), 1);
    let candidate = &candidates[0];
    assert_eq!((candidate.address.as_str(), candidate.name.as_str()), ("bedroom01ae", "Bedroom"));
    assert_eq!(candidate.model.as_deref(), Some("Example sensors Ltd. Example Sensor"));
    let model = check(candidate);
    let names: Vec<_> = model.properties.keys().map(AsRef::as_ref).collect();
    assert_eq!(names, ["sensorbedroomh", "sensorbedroomt"]);
}

#[test]
fn a_switch_with_a_base_topic_and_availability() {
    let (candidates, _) = found(&[(
        "homeassistant/switch/irrigation/config",
        r#"{"~":"homeassistant/switch/irrigation","name":null,"cmd_t":"~/set","stat_t":"~/state",
            "pl_on":"1","pl_off":"0","stat_on":"running","stat_off":"idle","avty_t":"~/lwt",
            "pl_avail":"up","pl_not_avail":"down","uniq_id":"irr01","dev":{"ids":"garden01"}}"#,
    )]);
    let model = check(&candidates[0]);
    assert_eq!(model.alive.len(), 1);
    assert_eq!(
        settings(&candidates[0]),
        r#"{"availability":[{"offline":"down","online":"up","topic":"homeassistant/switch/irrigation/lwt"}],"properties":{"irrigation":{"map":{"idle":false,"running":true},"read":{"topic":"homeassistant/switch/irrigation/state"},"type":"boolean","write":{"payload":"{{ \"1\" if value == \"running\" else \"0\" }}","topic":"homeassistant/switch/irrigation/set"}}}}"#
    );
}

#[test]
fn each_component() {
    let with = |rest: &str| format!(r#"{{"uniq_id":"x1","dev":{{"ids":["x"]}},{rest}}}"#);
    let cases = [
        (
            "light",
            r#""cmd_t":"l/set","stat_t":"l","bri_cmd_t":"l/b/set","bri_stat_t":"l/b""#,
            "e e_brightness",
            "",
        ),
        (
            "light",
            r#""schema":"json","cmd_t":"l/set","stat_t":"l","brightness":true"#,
            "e e_brightness",
            "",
        ),
        ("binary_sensor", r#""stat_t":"d","pl_on":"open","pl_off":"closed""#, "e", ""),
        ("number", r#""cmd_t":"n/set","stat_t":"n","min":0,"max":7"#, "e", ""),
        ("select", r#""cmd_t":"s/set","stat_t":"s","ops":["a","b"]"#, "e", ""),
        ("text", r#""cmd_t":"t/set""#, "e", ""),
        ("button", r#""cmd_t":"b/set","pl_prs":"GO""#, "", "e"),
        ("lock", r#""cmd_t":"k/set","stat_t":"k""#, "e", ""),
        (
            "cover",
            r#""cmd_t":"c/set","pos_t":"c/p","set_pos_t":"c/p/set""#,
            "e_position",
            "e_close e_open e_stop",
        ),
        (
            "climate",
            r#""temp_cmd_t":"h/set","temp_stat_t":"h","curr_temp_t":"h/c""#,
            "e_current e_temperature",
            "",
        ),
        (
            "fan",
            r#""cmd_t":"f/set","stat_t":"f","pct_cmd_t":"f/p/set","pct_stat_t":"f/p""#,
            "e e_percentage",
            "",
        ),
    ];
    for (component, rest, properties, actions) in cases {
        let topic = format!("homeassistant/{component}/node/e/config");
        let (candidates, problems) = found(&[(&topic, &with(rest))]);
        assert_eq!(problems, Vec::<String>::new(), "{component}");
        assert_eq!(candidates[0].warnings, Vec::<String>::new(), "{component}");
        let model = check(&candidates[0]);
        let join = |keys: Vec<&str>| keys.join(" ");
        let found = join(model.properties.keys().map(AsRef::as_ref).collect());
        assert_eq!(found, properties, "{component}");
        assert_eq!(join(model.actions.keys().map(AsRef::as_ref).collect()), actions, "{component}");
    }
}

#[test]
fn a_whole_device_at_once() {
    let (candidates, problems) = found(&[(
        "homeassistant/device/0AFFD2/config",
        r#"{"dev":{"ids":"ea334450945afc","name":"Kitchen"},"o":{"name":"bla2mqtt","sw":"2.1"},
            "cmps":{"temp":{"p":"sensor","value_template":"{{ value_json.temperature}}","unique_id":"t1"},
                    "hum":{"p":"sensor","value_template":"{{ value_json.humidity}}","unique_id":"h1"}},
            "state_topic":"sensorBedroom/state","qos":2}"#,
    )]);
    assert_eq!((candidates.len(), problems.len()), (1, 0));
    let names: Vec<_> = check(&candidates[0]).properties.into_keys().collect();
    assert_eq!(names, [Arc::from("hum"), Arc::from("temp")]);
}

#[test]
fn what_cannot_be_read_is_said() {
    let (candidates, problems) = found(&[
        ("homeassistant/sensor/a/config", r#"{"stat_t":"a","uniq_id":"a"}"#),
        (
            "homeassistant/sensor/b/config",
            r#"{"stat_t":"b","uniq_id":"a","val_tpl":"{{ states('x') | no_such }}"}"#,
        ),
        ("homeassistant/camera/c/config", r#"{"t":"c","uniq_id":"a"}"#),
        ("homeassistant/sensor/d/config", "{"),
        ("homeassistant/sensor/e/config", r#"{"stat_t":"e"}"#),
        ("homeassistant/sensor/f/config", ""),
        ("homeassistant/config", "{}"),
        (
            "homeassistant/switch/0x1/switch/config",
            r#"{"o":{"name":"Zigbee2MQTT"},"dev":{"ids":["zigbee2mqtt_0x1"]}}"#,
        ),
    ]);
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].warnings.len(), 2, "{:?}", candidates[0].warnings);
    assert_eq!(problems.len(), 4, "{problems:?}");
}
