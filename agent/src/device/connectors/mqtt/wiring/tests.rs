//! Documented payloads in, observations out; wishes in, messages out.

use super::super::model::tests::{object, setup};
use super::hearing::Heard;
use super::*;
use crate::device::connector::{Quality, ReadErrorKind, WriteErrorKind};
use fleet_state::Value;

const LAMP: &str = "0x00158d00018255df";
const FEATURES: &str = r#"{"preset": "zigbee2mqtt", "features": {
    "state": {"type": "binary", "access": 7, "value_on": "ON", "value_off": "OFF"},
    "brightness": {"type": "numeric", "access": 7, "value_min": 0, "value_max": 254},
    "linkquality": {"type": "numeric", "access": 1, "unit": "lqi"},
    "effect": {"type": "enum", "access": 2, "values": ["blink"]}}}"#;

fn wiring(devices: Vec<DeviceSetup>) -> Wiring {
    let (wiring, refused) = Wiring::new(devices);
    assert!(refused.is_empty(), "{refused:?}");
    wiring
}

fn lamp() -> Wiring {
    wiring(vec![setup("lamp", LAMP, FEATURES)])
}

fn named(wiring: &mut Wiring, name: &str) -> Heard {
    let list = format!(
        r#"[{{"ieee_address": "{LAMP}", "type": "Router", "friendly_name": "{name}",
             "interview_completed": true}}]"#
    );
    say(wiring, "zigbee2mqtt/bridge/devices", &list, true)
}

fn say(wiring: &mut Wiring, topic: &str, payload: &str, retained: bool) -> Heard {
    wiring.hear(Incoming { topic, payload: payload.as_bytes(), retained })
}

/// What was heard, as `device {values} quality availability flags`, one line each.
fn lines(heard: &Heard) -> Vec<String> {
    let line = |seen: &Observation| {
        let availability = seen.availability.map_or("-", Availability::as_str);
        let flags = match (seen.retained, seen.foreign_write) {
            (false, false) => "",
            (true, false) => " retained",
            (false, true) => " foreign",
            (true, true) => " retained foreign",
        };
        let quality = seen.quality.as_str();
        format!("{} {} {quality} {availability}{flags}", seen.device, seen.values.to_json())
    };
    heard.observations.iter().map(line).collect()
}

#[test]
fn a_device_behind_a_bridge_is_known_by_its_address() {
    let mut wiring = lamp();
    let before: Vec<_> = wiring.subscriptions().into_iter().collect();
    assert_eq!(before, ["zigbee2mqtt/bridge/devices", "zigbee2mqtt/bridge/state"]);
    let on = object(r#"{"state": true}"#);
    let id = "lamp".parse().unwrap();
    assert_eq!(wiring.write(&id, &on).unwrap_err().kind, WriteErrorKind::Offline);

    assert!(named(&mut wiring, "hall/lamp").rewired);
    assert!(wiring.subscriptions().contains("zigbee2mqtt/hall/lamp"));
    let told = wiring.write(&id, &object(r#"{"state": true, "brightness": 20}"#)).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].topic, "zigbee2mqtt/hall/lamp/set");
    assert_eq!(told[0].payload, r#"{"brightness":20,"state":"ON"}"#);
    let asked = wiring.question(&id).unwrap();
    assert_eq!(asked.messages[0].topic, "zigbee2mqtt/hall/lamp/get");
    assert_eq!(asked.messages[0].payload, r#"{"brightness":"","state":""}"#);
    assert!(!asked.wanted.contains("linkquality"));

    // Renamed: other topics. The same list again: nothing.
    assert!(named(&mut wiring, "door").rewired);
    assert_eq!(wiring.write(&id, &on).unwrap()[0].topic, "zigbee2mqtt/door/set");
    assert!(!named(&mut wiring, "door").rewired);

    // Removed: away.
    let heard = say(&mut wiring, "zigbee2mqtt/bridge/devices", "[]", true);
    assert_eq!(lines(&heard), ["lamp {} good offline"]);
    assert_eq!(wiring.write(&id, &on).unwrap_err().kind, WriteErrorKind::Offline);
    assert_eq!(wiring.question(&id).unwrap_err().kind, ReadErrorKind::Offline);
}

#[test]
fn zigbee2mqtt_reports() {
    let mut wiring = lamp();
    named(&mut wiring, "lamp");
    let cases = [
        ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#, true, vec![]),
        (
            "zigbee2mqtt/lamp/availability",
            r#"{"state":"online"}"#,
            true,
            vec!["lamp {} uncertain online retained"],
        ),
        (
            "zigbee2mqtt/lamp",
            r#"{"brightness":20,"linkquality":98,"state":"ON","update":{"state":"idle"}}"#,
            false,
            vec![r#"lamp {"brightness":20,"linkquality":98,"state":true} good -"#],
        ),
        (
            "zigbee2mqtt/lamp",
            r#"{"state":"OFF"}"#,
            true,
            vec![r#"lamp {"state":false} uncertain - retained"#],
        ),
        ("zigbee2mqtt/lamp", r#"{"state":null,"other":1}"#, false, vec![]),
        ("zigbee2mqtt/lamp", "not json", false, vec!["lamp {} bad -"]),
        ("zigbee2mqtt/lamp", "", false, vec!["lamp {} bad -"]),
        (
            "zigbee2mqtt/lamp",
            r#"{"state":"BROKEN","brightness":7}"#,
            false,
            vec![r#"lamp {"brightness":7} uncertain -"#],
        ),
        (
            "zigbee2mqtt/lamp/set",
            r#"{"state":"OFF"}"#,
            false,
            vec![r#"lamp {"state":false} uncertain - foreign"#],
        ),
        (
            "zigbee2mqtt/lamp/set",
            r#"{"state":"TOGGLE"}"#,
            true,
            vec!["lamp {} uncertain - retained foreign"],
        ),
        ("zigbee2mqtt/lamp/availability", "offline", false, vec!["lamp {} good offline"]),
        ("zigbee2mqtt/lamp/availability", "online", false, vec!["lamp {} good online"]),
        ("zigbee2mqtt/lamp/availability", "what", false, vec![]),
        ("zigbee2mqtt/bridge/state", "offline", false, vec!["lamp {} good offline"]),
        ("elsewhere", "1", false, vec![]),
    ];
    for (topic, payload, retained, wanted) in cases {
        let heard = say(&mut wiring, topic, payload, retained);
        assert_eq!(lines(&heard), wanted, "{topic} {payload}");
    }
}

#[test]
fn what_is_too_long_or_no_text_is_refused() {
    let mut wiring = lamp();
    named(&mut wiring, "lamp");
    let long = vec![b' '; super::super::PAYLOAD_BYTES_MAX + 1];
    for payload in [long.as_slice(), b"\xff\xfe", b"{\"state\":\"\xc3\x28\"}"] {
        let heard = wiring.hear(Incoming { topic: "zigbee2mqtt/lamp", payload, retained: false });
        assert_eq!(heard.observations.len(), 1);
        assert_eq!(heard.observations[0].quality, Quality::Bad);
        assert!(heard.observations[0].values.is_empty());
        assert_eq!(heard.problems.len(), 1);
    }
    let deep = "[".repeat(10_000);
    assert_eq!(lines(&say(&mut wiring, "zigbee2mqtt/lamp", &deep, false)), ["lamp {} bad -"]);
}

#[test]
fn tasmota_and_shelly_reports() {
    let mut wiring = wiring(vec![
        setup("plug", "plug", r#"{"preset": "tasmota", "sensors": {"power": "ENERGY.Power"}}"#),
        setup("one", "shelly1-A4", r#"{"preset": "shelly", "generation": 1, "meter": true}"#),
        setup("two", "shellyplus1-a8", r#"{"preset": "shelly", "generation": 2, "meter": true}"#),
    ]);
    let cases = [
        ("tele/plug/LWT", "Online", true, vec!["plug {} uncertain online retained"]),
        ("stat/plug/RESULT", r#"{"POWER":"ON"}"#, false, vec![r#"plug {"on":true} good -"#]),
        ("stat/plug/RESULT", r#"{"Command":"Unknown"}"#, false, vec![]),
        (
            "tele/plug/STATE",
            r#"{"Time":"2024-01-03T20:45:37","Uptime":"1T20:45:37","POWER":"OFF","Wifi":{"RSSI":70}}"#,
            false,
            vec![r#"plug {"on":false} good -"#],
        ),
        (
            "tele/plug/SENSOR",
            r#"{"Time":"2024-01-03T20:45:37","ENERGY":{"Total":3.185,"Power":12}}"#,
            false,
            vec![r#"plug {"power":12} good -"#],
        ),
        ("cmnd/plug/POWER", "TOGGLE", false, vec!["plug {} uncertain - foreign"]),
        ("cmnd/plug/POWER", "OFF", false, vec![r#"plug {"on":false} uncertain - foreign"#]),
        ("shellies/shelly1-A4/online", "true", true, vec!["one {} uncertain online retained"]),
        ("shellies/shelly1-A4/relay/0", "on", false, vec![r#"one {"on":true} good -"#]),
        (
            "shellies/shelly1-A4/relay/0/power",
            "27.81",
            false,
            vec![r#"one {"power":27.81} good -"#],
        ),
        ("shellies/shelly1-A4/relay/0", "overpower", false, vec!["one {} bad -"]),
        (
            "shellyplus1-a8/status/switch:0",
            r#"{"id":0,"source":"MQTT","output":true,"apower":8.9,"temperature":{"tC":46.4}}"#,
            false,
            vec![r#"two {"on":true,"power":8.9} good -"#],
        ),
        (
            "shellyplus1-a8/command/switch:0",
            "off",
            false,
            vec![r#"two {"on":false} uncertain - foreign"#],
        ),
    ];
    for (topic, payload, retained, wanted) in cases {
        let heard = say(&mut wiring, topic, payload, retained);
        assert_eq!(lines(&heard), wanted, "{topic} {payload}");
    }
}

#[test]
fn wishes_in_each_preset() {
    let mut wiring = wiring(vec![
        setup("plug", "plug", r#"{"preset": "tasmota"}"#),
        setup("one", "shelly1-A4", r#"{"preset": "shelly", "generation": 1}"#),
        setup("two", "shellyplus1-a8", r#"{"preset": "shelly", "generation": 2}"#),
    ]);
    let cases = [
        ("plug", "cmnd/plug/POWER", "ON", "cmnd/plug/POWER", ""),
        (
            "one",
            "shellies/shelly1-A4/relay/0/command",
            "on",
            "shellies/shelly1-A4/command",
            "update",
        ),
        ("two", "shellyplus1-a8/command/switch:0", "on", "shellyplus1-a8/command", "status_update"),
    ];
    for (id, topic, payload, asked, question) in cases {
        let id = id.parse().unwrap();
        let told = wiring.write(&id, &object(r#"{"on": true}"#)).unwrap();
        assert_eq!((told[0].topic.as_str(), told[0].payload.as_str()), (topic, payload));
        assert!(told[0].acknowledged);
        let question_of = wiring.question(&id).unwrap();
        let message = &question_of.messages[0];
        assert_eq!((message.topic.as_str(), message.payload.as_str()), (asked, question));
    }
    let id = "two".parse().unwrap();
    for bad in [r#"{"on": "TOGGLE"}"#, r#"{"on": 1}"#, r#"{"off": true}"#, r#"{"on": null}"#] {
        let error = wiring.write(&id, &object(bad)).unwrap_err();
        assert_eq!(error.kind, WriteErrorKind::Invalid, "{bad}");
        assert!(!error.may_have_acted);
    }
    // A one-shot waits for somebody to say that the device is there, and has QoS 0.
    let args = Value::from(object(r#"{"seconds": 2}"#));
    let error = wiring.invoke(&id, "pulse", &args).unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Offline, false));
    say(&mut wiring, "shellyplus1-a8/online", "true", true);
    let shot = wiring.invoke(&id, "pulse", &args).unwrap();
    assert_eq!((shot.payload.as_str(), shot.acknowledged), ("on,2.0", false));
    assert_eq!(
        wiring.invoke(&id, "pulse", &Value::Null).unwrap_err().kind,
        WriteErrorKind::Invalid
    );
    assert_eq!(wiring.invoke(&id, "nope", &Value::Null).unwrap_err().kind, WriteErrorKind::Invalid);
    say(&mut wiring, "shellyplus1-a8/online", "false", false);
    assert_eq!(wiring.invoke(&id, "pulse", &args).unwrap_err().kind, WriteErrorKind::Offline);
}

#[test]
fn a_bridge_that_does_not_look_after_its_devices_says_only_what_cannot_be_reached() {
    let settings = FEATURES.replacen('{', r#"{"availability": false, "#, 1);
    let mut wiring = wiring(vec![setup("lamp", LAMP, &settings)]);
    named(&mut wiring, "lamp");
    let id = "lamp".parse().unwrap();
    let state = "zigbee2mqtt/bridge/state";
    let heard = say(&mut wiring, state, r#"{"state":"online"}"#, true);
    assert_eq!(lines(&heard), Vec::<String>::new());
    assert_eq!(wiring.availability(&id), Availability::Unknown);
    assert!(wiring.check_there(&id).is_ok(), "nothing tells whether it is there");
    let heard = say(&mut wiring, state, r#"{"state":"offline"}"#, false);
    assert_eq!(lines(&heard), ["lamp {} good offline"]);
    assert_eq!(wiring.check_there(&id).unwrap_err().kind, WriteErrorKind::Offline);
    let heard = say(&mut wiring, state, r#"{"state":"online"}"#, false);
    assert_eq!(lines(&heard), ["lamp {} good unknown"]);
}

#[test]
fn without_a_way_to_ask_a_device_says_so() {
    let settings = r#"{"properties": {"t": {"read": {"topic": "t"}}}}"#;
    let mut wiring = wiring(vec![setup("dev", "x", settings)]);
    let id = "dev".parse().unwrap();
    assert_eq!(wiring.question(&id).unwrap_err().kind, ReadErrorKind::Unsupported);
    assert!(wiring.write(&id, &object(r#"{"t": 1}"#)).is_err());
    // Without any word about availability nothing is refused for the lack of it.
    assert!(wiring.check_there(&id).is_ok());
    // Other devices: the old are gone, the new have topics.
    let (refused, _) = wiring.replace(vec![setup("other", "y", r#"{"preset": "tasmota"}"#)]);
    assert!(refused.is_empty());
    assert!(!wiring.subscriptions().contains("t"));
    assert!(wiring.is_command_topic("cmnd/y/POWER"));
}

#[test]
fn a_new_device_knows_what_its_topics_said_before_it_came() {
    let settings = r#"{"properties": {"t": {"read": {"topic": "t"}}},
                       "availability": [{"topic": "house/state"}]}"#;
    let one = || setup("one", "x", settings);
    let mut wiring = wiring(vec![one()]);
    say(&mut wiring, "house/state", "online", true);
    // The broker does not say it again: this topic was asked for already.
    let (_, known) = wiring.replace(vec![one(), setup("two", "y", settings)]);
    let [news] = &known[..] else { panic!("{known:?}") };
    let two = "two".parse().unwrap();
    assert_eq!((&news.device, news.availability), (&two, Some(Availability::Online)));
    assert_eq!(wiring.availability(&two), Availability::Online);
}

mod any_message {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes, nothing panics and what is no report of the device changes nothing.
        #[test]
        fn changes_only_what_it_speaks_of(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut wiring = lamp();
            named(&mut wiring, "lamp");
            for topic in ["zigbee2mqtt/lamp", "zigbee2mqtt/lamp/set", "zigbee2mqtt/bridge/devices",
                          "zigbee2mqtt/lamp/availability"] {
                let heard = wiring.hear(Incoming { topic, payload: &payload, retained: false });
                prop_assert!(heard.observations.len() <= 1);
            }
        }

        /// What is written comes back as the same value from a device that repeats it.
        #[test]
        fn a_wish_survives_the_wire(on in any::<bool>(), level in 0_i64..=254) {
            let mut wiring = lamp();
            named(&mut wiring, "lamp");
            let wish = object(&format!(r#"{{"brightness":{level},"state":{on}}}"#));
            let told = wiring.write(&"lamp".parse().unwrap(), &wish).unwrap();
            let heard = say(&mut wiring, "zigbee2mqtt/lamp", &told[0].payload, false);
            prop_assert_eq!(&heard.observations[0].values, &wish);
        }
    }
}
