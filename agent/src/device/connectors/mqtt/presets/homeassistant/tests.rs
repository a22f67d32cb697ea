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
fn what_a_device_goes_by() {
    let entity = |id: &str, rest: &str| {
        let topic = format!("homeassistant/switch/{id}/config");
        let common = format!(r#""uniq_id":"{id}","cmd_t":"{id}/set","stat_t":"{id}""#);
        (topic, format!(r#"{{{common},"dev":{{"ids":"garden"}}{rest}}}"#))
    };
    let one = r#","avty":[{"t":"bridge"},{"t":"a"}]"#;
    let all = r#","avty":[{"t":"bridge"},{"t":"a"}],"avty_mode":"all""#;
    let any = r#","avty":[{"t":"bridge"},{"t":"a"}],"availability_mode":"any""#;
    let cases = [
        (vec![""], None, vec![]),
        (vec![r#","avty_t":"a""#], None, vec!["a"]),
        (vec![one], Some("latest"), vec!["bridge", "a"]),
        (vec![all], Some("all"), vec!["bridge", "a"]),
        (vec![any], Some("any"), vec!["bridge", "a"]),
        (vec![all, all, ""], Some("all"), vec!["bridge", "a"]),
        // Its parts say it for themselves: what all of them go by counts, or any.
        (vec![all, r#","avty":[{"t":"bridge"},{"t":"b"}]"#], None, vec!["bridge"]),
        (vec![r#","avty_t":"a""#, r#","avty_t":"b""#], Some("any"), vec!["a", "b"]),
    ];
    for (entities, mode, topics) in cases {
        let messages = entities.iter().enumerate();
        let messages: Vec<_> = messages.map(|(at, rest)| entity(&format!("e{at}"), rest)).collect();
        let messages: Vec<_> =
            messages.iter().map(|(topic, text)| (topic.as_str(), text.as_str())).collect();
        let (candidates, problems) = found(&messages);
        assert!(problems.is_empty(), "{entities:?}: {problems:?}");
        let settings = &candidates[0].settings;
        check(&candidates[0]);
        let said = settings.get("availability_mode").and_then(Value::as_text);
        assert_eq!(said, mode, "{entities:?}");
        let Some(Value::List(alive)) = settings.get("availability") else {
            assert!(topics.is_empty(), "{entities:?}");
            continue;
        };
        let names = alive.iter().filter_map(|one| one.as_map()?.get("topic")?.as_text());
        assert_eq!(names.collect::<Vec<_>>(), topics, "{entities:?}");
    }
    // What a whole device says holds for those of its components that say nothing else.
    let (candidates, _) = found(&[(
        "homeassistant/device/garden/config",
        r#"{"dev":{"ids":"garden"},"avty_t":"lwt","cmps":{
            "e1":{"p":"switch","cmd_t":"a/set","stat_t":"a"},
            "e2":{"p":"switch","cmd_t":"b/set","stat_t":"b","avty_t":"b/there"}}}"#,
    )]);
    let settings = settings(&candidates[0]);
    assert!(settings.contains(r#""availability_mode":"any""#), "{settings}");
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
        (
            "siren",
            r#""cmd_t":"s/set","stat_t":"s","stat_val_tpl":"{{ value_json.state }}""#,
            "e",
            "",
        ),
        ("scene", r#""cmd_t":"s/set","pl_on":"evening""#, "", "e"),
        ("valve", r#""cmd_t":"v/set","stat_t":"v","reports_position":true"#, "e", ""),
        ("valve", r#""cmd_t":"v/set","stat_t":"v""#, "e", "e_close e_open e_stop"),
        (
            "humidifier",
            r#""cmd_t":"h/set","stat_t":"h","hum_cmd_t":"h/hum/set","hum_stat_t":"h/hum",
               "mode_cmd_t":"h/mode/set","mode_stat_t":"h/mode","modes":["eco","boost"]"#,
            "e e_humidity e_mode",
            "",
        ),
        (
            "water_heater",
            r#""mode_cmd_t":"w/mode/set","mode_stat_t":"w/mode","modes":["off","eco"],
               "temp_cmd_t":"w/temp/set","temp_stat_t":"w/temp","min_temp":40,"max_temp":60"#,
            "e_mode e_temperature",
            "",
        ),
        (
            "light",
            r#""schema":"json","cmd_t":"l/set","stat_t":"l","sup_clrm":["color_temp"],
               "brightness":true,"effect":true,"fx_list":["fire"]"#,
            "e e_brightness e_color_temp e_effect",
            "",
        ),
        (
            "light",
            r#""cmd_t":"l/set","stat_t":"l","clr_temp_cmd_t":"l/w/set","clr_temp_stat_t":"l/w",
               "fx_cmd_t":"l/fx/set","fx_stat_t":"l/fx","fx_list":["fire","rain"]"#,
            "e e_color_temp e_effect",
            "",
        ),
        ("button", r#""cmd_t":"b/set","pl_prs":"GO""#, "", "e"),
        ("lock", r#""cmd_t":"k/set","stat_t":"k""#, "e", ""),
        (
            "cover",
            r#""cmd_t":"c/set","pos_t":"c/p","set_pos_t":"c/p/set","tilt_cmd_t":"c/t/set",
               "tilt_status_t":"c/t","tilt_min":0,"tilt_max":180,"pos_open":100,"pos_clsd":0"#,
            "e_position e_tilt",
            "e_close e_open e_stop",
        ),
        (
            "climate",
            r#""temp_cmd_t":"h/set","temp_stat_t":"h","curr_temp_t":"h/c","act_t":"h/a",
               "temp_hi_cmd_t":"h/hi/set","temp_lo_cmd_t":"h/lo/set","mode_cmd_t":"h/m/set",
               "modes":["off","heat"],"fan_mode_cmd_t":"h/f/set","fan_mode_stat_t":"h/f",
               "swing_mode_cmd_t":"h/s/set","pr_mode_cmd_t":"h/p/set","pr_modes":["eco"]"#,
            "e_action e_current e_fan_mode e_mode e_preset_mode e_swing_mode e_temperature \
             e_temperature_high e_temperature_low",
            "",
        ),
        (
            "fan",
            r#""cmd_t":"f/set","stat_t":"f","pct_cmd_t":"f/p/set","pct_stat_t":"f/p",
               "osc_cmd_t":"f/o/set","osc_stat_t":"f/o","pr_mode_cmd_t":"f/m/set",
               "pr_mode_stat_t":"f/m","pr_modes":["auto","whoosh"],"dir_cmd_t":"f/d/set",
               "dir_stat_t":"f/d""#,
            "e e_direction e_oscillation e_percentage e_preset_mode",
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
fn a_fan_as_the_documentation_has_it() {
    let (candidates, problems) = found(&[(
        "homeassistant/fan/bedroom/config",
        r#"{"name":"Bedroom Fan","uniq_id":"fan1","dev":{"ids":"fan1"},
            "state_topic":"bedroom_fan/on/state","command_topic":"bedroom_fan/on/set",
            "state_value_template":"{{ value_json.state }}",
            "oscillation_state_topic":"bedroom_fan/oscillation/state",
            "oscillation_command_topic":"bedroom_fan/oscillation/set",
            "percentage_state_topic":"bedroom_fan/speed/percentage_state",
            "percentage_command_topic":"bedroom_fan/speed/percentage",
            "payload_on":"true","payload_off":"false","speed_range_min":1,"speed_range_max":10}"#,
    )]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(candidates[0].warnings, Vec::<String>::new());
    check(&candidates[0]);
    let properties = candidates[0].settings.get("properties").unwrap().as_map().unwrap();
    let member = |property: &str| properties.get(property).unwrap().to_json();
    assert_eq!(
        member("bedroom"),
        r#"{"map":{"false":false,"true":true},"read":{"topic":"bedroom_fan/on/state","value":"{{ value_json.state }}"},"type":"boolean","write":{"topic":"bedroom_fan/on/set"}}"#
    );
    assert!(member("bedroom_oscillation").contains(r#""oscillate_off":false,"oscillate_on":true"#));
    assert!(member("bedroom_percentage").contains(r#""max":10,"min":0"#));
}

#[test]
fn what_cannot_be_commanded_can_be_looked_at() {
    let with = |rest: &str| format!(r#"{{"uniq_id":"x1","dev":{{"ids":["x"]}},{rest}}}"#);
    // The component, what it says, the properties that become of it, and a word of each warning.
    let cases: [(&str, &str, &str, &[&str]); 8] = [
        (
            "alarm_control_panel",
            r#""stat_t":"a","cmd_t":"a/set""#,
            "e",
            &["not read", "command_topic"],
        ),
        (
            "vacuum",
            r#""stat_t":"v","cmd_t":"v/set","send_cmd_t":"v/x""#,
            "e",
            &["not read", "nothing is commanded on its command_topic", "send_command_topic"],
        ),
        ("event", r#""stat_t":"b","evt_typ":["press"]"#, "e", &["not read"]),
        ("device_tracker", r#""stat_t":"p","pl_home":"home""#, "e", &["not read"]),
        ("update", r#""stat_t":"u","val_tpl":"{{ value_json.installed }}""#, "e", &["not read"]),
        (
            "light",
            r#""schema":"template","stat_t":"l","cmd_t":"l/set","stat_tpl":"{{ value.split(',')[0] }}""#,
            "e",
            &["schema template", "command_topic"],
        ),
        (
            "light",
            r#""cmd_t":"l/set","stat_t":"l","rgb_cmd_t":"l/c/set","rgb_stat_t":"l/c""#,
            "e e_rgb",
            &["rgb_command_topic"],
        ),
        (
            "number",
            r#""cmd_t":"n/set","stat_t":"n","cmd_tpl":"{{ value | no_such }}""#,
            "e",
            &["e: "],
        ),
    ];
    for (component, rest, properties, warnings) in cases {
        let topic = format!("homeassistant/{component}/node/e/config");
        let (candidates, problems) = found(&[(&topic, &with(rest))]);
        assert_eq!(problems, Vec::<String>::new(), "{component}");
        let told = &candidates[0].warnings;
        assert_eq!(told.len(), warnings.len(), "{component}: {told:?}");
        for (told, word) in told.iter().zip(warnings) {
            assert!(told.contains(word), "{component}: {told} lacks {word}");
        }
        let model = check(&candidates[0]);
        let found: Vec<&str> = model.properties.keys().map(AsRef::as_ref).collect();
        assert_eq!(found.join(" "), properties, "{component}");
        let is_written = |name: &str| model.properties.get(name).unwrap().sink.is_some();
        let last = found.last().unwrap();
        assert!(!is_written(last) && model.actions.is_empty(), "{component}: {last} is commanded");
    }
}

#[test]
fn a_device_of_which_nothing_can_be_used_is_not_passed_over_in_silence() {
    let (candidates, problems) = found(&[
        ("homeassistant/camera/c/config", r#"{"t":"c","uniq_id":"cam"}"#),
        ("homeassistant/tag/t/config", r#"{"t":"t","dev":{"ids":"reader"}}"#),
        ("homeassistant/device/d/config", r#"{"dev":{"ids":"odd"},"cmps":{"a":7}}"#),
    ]);
    assert_eq!(candidates, []);
    assert_eq!(problems.len(), 3, "{problems:?}");
    for (problem, word) in problems.iter().zip(["camera", "no object", "tag"]) {
        assert!(problem.contains(word), "{problem} lacks {word}");
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
