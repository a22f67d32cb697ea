//! What each preset writes out, against the topics that its documentation gives.

use std::collections::BTreeSet;

use super::super::model::Model;
use super::super::template::Engine;
use super::super::wiring::Wiring;
use super::zigbee2mqtt::{features_of, read_devices};
use super::*;
use crate::device::connector::Access;
use fleet_state::Limits;

fn setup(model: Option<&str>, address: &str, settings: &str) -> DeviceSetup {
    let Value::Map(settings) = Value::parse(settings.as_bytes(), Limits::default()).unwrap() else {
        panic!("{settings} is no object");
    };
    let (id, address) = ("dev".parse().unwrap(), Arc::from(address));
    DeviceSetup { id, address, model: model.map(Arc::from), settings }
}

fn topics(device: DeviceSetup) -> Vec<String> {
    let (wiring, refused) = Wiring::new(vec![device]);
    assert!(refused.is_empty(), "{refused:?}");
    wiring.subscriptions().into_iter().collect()
}

#[test]
fn tasmota_topics() {
    assert_eq!(
        topics(setup(
            None,
            "plug",
            r#"{"preset": "tasmota", "sensors": {"power": "ENERGY.Power"}}"#
        )),
        [
            "cmnd/plug/POWER",
            "stat/plug/RESULT",
            "tele/plug/LWT",
            "tele/plug/SENSOR",
            "tele/plug/STATE"
        ]
    );
    let other = r#"{"relays": 2, "dimmer": true, "full_topic": "home/%topic%/%prefix%"}"#;
    let device = setup(Some("Tasmota/Sonoff Dual"), "dual", other);
    assert_eq!(
        topics(device.clone()),
        [
            "home/dual/cmnd/Dimmer",
            "home/dual/cmnd/POWER1",
            "home/dual/cmnd/POWER2",
            "home/dual/stat/RESULT",
            "home/dual/tele/LWT",
            "home/dual/tele/STATE"
        ]
    );
    let profile = Model::parse(&mut Engine::new(), &device).unwrap().profile();
    let names: Vec<_> = profile.properties.keys().map(AsRef::as_ref).collect();
    assert_eq!(names, ["dimmer", "on1", "on2"]);
    let actions = profile.actions.unwrap();
    assert_eq!(actions, BTreeSet::from([Arc::from("toggle1"), Arc::from("toggle2")]));
}

#[test]
fn shelly_topics() {
    assert_eq!(
        topics(setup(None, "shelly1-A4CF12", r#"{"preset": "shelly", "generation": 1}"#)),
        [
            "shellies/shelly1-A4CF12/online",
            "shellies/shelly1-A4CF12/relay/0",
            "shellies/shelly1-A4CF12/relay/0/command"
        ]
    );
    assert_eq!(
        topics(setup(
            None,
            "shellyplus2pm-a8032a",
            r#"{"preset": "shelly", "generation": 2, "relays": 2, "meter": true}"#
        )),
        [
            "shellyplus2pm-a8032a/command/switch:0",
            "shellyplus2pm-a8032a/command/switch:1",
            "shellyplus2pm-a8032a/online",
            "shellyplus2pm-a8032a/status/switch:0",
            "shellyplus2pm-a8032a/status/switch:1"
        ]
    );
}

#[test]
fn own_settings_win_over_the_preset() {
    let device = setup(
        None,
        "plug",
        r#"{"preset": "tasmota", "watch": false,
            "availability": {"topic": "elsewhere"},
            "properties": {"leds": {"read": {"topic": "stat/plug/LEDS"}}}}"#,
    );
    assert_eq!(
        topics(device),
        ["elsewhere", "stat/plug/LEDS", "stat/plug/RESULT", "tele/plug/STATE"]
    );
}

/// One device as `bridge/devices` gives it.
const BRIDGE_DEVICES: &str = r#"[
  {"ieee_address": "0x00124b00120144ae", "type": "Coordinator", "friendly_name": "Coordinator"},
  {"ieee_address": "0x00158d00018255df", "type": "Router", "network_address": 29159,
   "supported": true, "disabled": false, "friendly_name": "hall/lamp",
   "description": "over the door", "power_source": "Mains (single phase)",
   "interviewing": false, "interview_completed": true,
   "definition": {"model": "LED1545G12", "vendor": "IKEA", "description": "bulb",
     "supports_ota": true, "options": [],
     "exposes": [
       {"type": "light", "features": [
         {"type": "binary", "name": "state", "property": "state", "access": 7,
          "value_on": "ON", "value_off": "OFF", "value_toggle": "TOGGLE"},
         {"type": "numeric", "name": "brightness", "property": "brightness", "access": 7,
          "value_min": 0, "value_max": 254},
         {"type": "composite", "name": "color_xy", "property": "color", "features": [
           {"type": "numeric", "name": "x", "property": "x", "access": 7},
           {"type": "numeric", "name": "y", "property": "y", "access": 7}]}]},
       {"type": "enum", "name": "effect", "property": "effect", "access": 2,
        "values": ["blink", "breathe"]},
       {"type": "numeric", "name": "linkquality", "property": "linkquality", "access": 1,
        "unit": "lqi", "value_min": 0, "value_max": 255}]}},
  {"ieee_address": "0x0017880103f72892", "type": "EndDevice", "friendly_name": "motion",
   "power_source": "Battery", "interview_state": "SUCCESSFUL", "definition": null},
  {"friendly_name": "without an address"}, 7]"#;

#[test]
fn the_bridge_is_read_and_access_bits_decide() {
    let devices = read_devices(BRIDGE_DEVICES.as_bytes()).unwrap();
    assert_eq!(devices.len(), 2);
    let lamp = devices.get("0x00158d00018255df").unwrap();
    assert_eq!((lamp.name.as_ref(), lamp.sleepy, lamp.out_of_use), ("hall/lamp", false, false));
    assert_eq!(lamp.model.as_deref(), Some("IKEA LED1545G12"));
    assert!(devices.get("0x0017880103f72892").unwrap().sleepy);

    let mut device = setup(Some("zigbee2mqtt/LED1545G12"), "0x00158d00018255df", "{}");
    device.settings.insert("exposes", lamp.exposes.clone());
    let verbatim = Model::parse(&mut Engine::new(), &device).unwrap();
    device.settings.remove("exposes");
    device.settings.insert("features", features_of(&lamp.exposes));
    let model = Model::parse(&mut Engine::new(), &device).unwrap();
    assert_eq!(model, verbatim);
    let profile = model.profile();
    assert_eq!(profile.access("state"), Some(Access::Desired));
    assert_eq!(profile.access("brightness"), Some(Access::Desired));
    assert_eq!(profile.access("color"), Some(Access::Desired));
    assert_eq!(profile.access("linkquality"), Some(Access::Readable));
    assert_eq!(profile.access("effect"), None);
    assert!(profile.actions.unwrap().contains("effect"));
}

#[test]
fn a_name_that_can_stand_in_no_topic_is_left_out() {
    let long = "a".repeat(66_000);
    for bad in ["a#b", "a/+/b", "a\\u0000b", "$a", long.as_str()] {
        let list = format!(
            r#"[{{"ieee_address": "0x1", "friendly_name": "{bad}"}},
                {{"ieee_address": "0x2", "friendly_name": "good"}}]"#
        );
        let devices = read_devices(list.as_bytes()).unwrap();
        let names: Vec<_> = devices.values().map(|device| device.name.as_ref()).collect();
        assert_eq!(names, ["good"]);
    }
}

#[test]
fn what_is_no_list_of_devices_is_refused() {
    for bad in ["", "{}", "[", "\u{feff}[]"] {
        assert!(read_devices(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(read_devices(&[0xff, 0xfe]).is_err());
}
