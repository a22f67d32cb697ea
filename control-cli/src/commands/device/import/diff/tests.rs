use fleet_protocol::Json;
use serde_json::json;

use super::*;

fn candidate(address: &str, name: &str, settings: serde_json::Value) -> CandidateBody {
    CandidateBody {
        address: address.to_owned(),
        name: name.to_owned(),
        model: Some("IKEA LED1545G12".to_owned()),
        settings: json(settings),
        warnings: Vec::new(),
    }
}

fn json(value: serde_json::Value) -> Json {
    Json::parse(value.to_string().as_bytes()).unwrap()
}

fn diff(found: &[CandidateBody], known: &[DeviceBody]) -> Vec<Change> {
    let link: LinkId = "home.z2m".parse().unwrap();
    let area: Area = "home".parse().unwrap();
    let (source, area) = (Source::Zigbee2Mqtt, Some(&area));
    changes(&Wanted { link: &link, source, area, found }, known)
}

/// The device that a registration makes.
fn registered(change: &Change) -> DeviceBody {
    let registration = change.registration.as_ref().unwrap();
    let mut device: serde_json::Value = serde_json::from_str(&registration.body.to_json()).unwrap();
    let defaults = json!({
        "id": registration.id.as_str(), "model": null, "mode": "observe", "hold": null,
        "policy": {"on_drift": "report", "settle": "0s", "tolerance": null, "properties": {},
                   "on_return": "hold", "on_control_loss": "keep", "stop_action": null,
                   "idempotent_actions": []},
        "desired": {}, "wishes": {}, "registered": 7, "desired_revision": 0, "revision": 7,
        "changed_wall_ms": 0,
    });
    for (key, value) in defaults.as_object().unwrap() {
        device.as_object_mut().unwrap().entry(key).or_insert(value.clone());
    }
    serde_json::from_value(device).unwrap()
}

fn states(changes: &[Change]) -> Vec<(&'static str, &str)> {
    changes.iter().map(|change| (change.state.as_str(), change.id.as_str())).collect()
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let settings = json!({"preset": "zigbee2mqtt", "features": {"state": {"access": 7}}});
    let found =
        [candidate("0x01", "Kitchen/Lamp", settings.clone()), candidate("0x02", "Plug", settings)];
    let first = diff(&found, &[]);
    assert_eq!(states(&first), [("new", "home.kitchen.lamp"), ("new", "home.plug")]);
    let known: Vec<DeviceBody> = first.iter().map(registered).collect();
    let second = diff(&found, &known);
    assert!(second.iter().all(|change| change.state == State::Unchanged), "{second:?}");
    assert!(second.iter().all(|change| change.registration.is_none()));
}

#[test]
fn what_changed_is_named_and_the_rest_is_kept() {
    let settings = json!({"preset": "zigbee2mqtt", "features": {"state": {"access": 7}}});
    let mut found = [candidate("0x01", "lamp", settings)];
    let mut device = registered(&diff(&found, &[])[0]);
    device.labels.insert("room".to_owned(), "kitchen".to_owned());
    device.policy.on_return = json(json!({"apply": "5m"}));
    device.policy.stop_action = Some("stop".to_owned());
    device.model = Some(json(json!({"type": "object"})));
    device.mode = "auto".to_owned();
    device.settings = json(json!({"preset": "zigbee2mqtt", "sleepy": true, "watch": false,
                                  "features": {"state": {"access": 7}, "old": {"access": 1}}}));
    found[0].name = "Floor lamp".to_owned();
    let changes = diff(&found, &[device]);
    let change = &changes[0];
    assert_eq!(states(&changes), [("changed", "home.lamp")]);
    assert_eq!(change.notes, ["its name was lamp", "settings.features.old", "settings.sleepy"]);
    let body: serde_json::Value =
        serde_json::from_str(&change.registration.as_ref().unwrap().body.to_json()).unwrap();
    assert_eq!(body["name"], "Floor lamp");
    assert_eq!(body["labels"]["room"], "kitchen");
    assert_eq!(body["policy"]["on_return"], json!({"apply": "5m"}));
    assert_eq!(body["policy"]["stop_action"], "stop");
    assert_eq!(body["model"], json!({"type": "object"}));
    // The operator's own setting stays, the source's old ones go.
    assert_eq!(body["settings"]["watch"], false);
    assert_eq!(body["settings"].get("sleepy"), None);
    // A registration says nothing of these, so it can't touch them.
    for field in ["mode", "hold", "desired"] {
        assert_eq!(body.get(field), None);
    }
}

#[test]
fn ids_that_collide_are_said_and_told_apart() {
    let settings = json!({"preset": "zigbee2mqtt"});
    let found = [
        candidate("0x00158d00018255df", "Lamp", settings.clone()),
        candidate("0x00158d000182aaaa", "lamp", settings.clone()),
    ];
    let changes = diff(&found, &[]);
    assert_eq!(states(&changes), [("new", "home.lamp"), ("new", "home.lamp-aaaa")]);
    assert_eq!(changes[1].notes, ["the id home.lamp is taken by another device"]);
    // A device of another link has the id already.
    let mut other = registered(&changes[0]);
    other.link = Some("elsewhere".to_owned());
    let changes = diff(&found[..1], &[other]);
    assert_eq!(states(&changes), [("new", "home.lamp-55df")]);
}

#[test]
fn what_is_gone_is_shown_and_what_is_made_by_hand_is_left_alone() {
    let settings = json!({"preset": "zigbee2mqtt"});
    let found = [candidate("0x01", "lamp", settings.clone()), candidate("0x02", "plug", settings)];
    let known: Vec<DeviceBody> = diff(&found, &[]).iter().map(registered).collect();
    let changes = diff(&found[..1], &known);
    assert_eq!(states(&changes), [("gone", "home.plug"), ("unchanged", "home.lamp")]);
    assert!(changes.iter().all(|change| !change.is_to_do()));
    let mut by_hand = known;
    for device in &mut by_hand {
        device.labels.clear();
        device.address = device.address.to_ascii_uppercase().replace("0X", "0x");
    }
    let mut renamed = found;
    renamed[0].name = "other".to_owned();
    let changes = diff(&renamed[..1], &by_hand);
    assert_eq!(states(&changes), [("by hand", "home.lamp")]);
}

#[test]
fn an_import_of_another_source_on_the_same_link_is_not_gone() {
    let found = [candidate("0x01", "lamp", json!({"preset": "zigbee2mqtt"}))];
    let known: Vec<DeviceBody> = diff(&found, &[]).iter().map(registered).collect();
    let link: LinkId = "home.z2m".parse().unwrap();
    let wanted = Wanted { link: &link, source: Source::HomeAssistant, area: None, found: &[] };
    assert!(changes(&wanted, &known).is_empty());
}
