//! The examples that people copy can be registered: those of docs/devices.md and deploy/examples.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fleet_state::{Limits, Object, Value};
use flotilla_agent::device::connector::{Connector, DeviceSetup, LinkSetup};
use flotilla_agent::device::connectors::modbus::ModbusConnector;
use flotilla_agent::device::connectors::mqtt::MqttConnector;
use flotilla_agent::device::connectors::nats::NatsConnector;
use flotilla_agent::device::connectors::simulated::Simulated;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

fn json(text: &str) -> Value {
    Value::parse(text.as_bytes(), Limits::default())
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text(object: &Object, key: &str) -> String {
    object.get(key).and_then(Value::as_text).unwrap_or_default().to_owned()
}

fn settings(object: &Object) -> Object {
    object.get("settings").and_then(Value::as_map).cloned().unwrap_or_default()
}

fn connector(kind: &str) -> Box<dyn Connector> {
    match kind {
        "mqtt" => Box::new(MqttConnector),
        "modbus" => Box::new(ModbusConnector::default()),
        "nats" => Box::new(NatsConnector::new(None)),
        "simulated" => Box::new(Simulated::new(Some("/nowhere".into()))),
        other => panic!("{other} is not checked here"),
    }
}

/// Checks a link, and gives its connector's word and its setup.
fn check_link(id: &str, link: &Object) -> (String, LinkSetup) {
    let kind = text(link, "connector");
    let setup = LinkSetup {
        id: id.parse().unwrap(),
        address: text(link, "address").into(),
        settings: settings(link),
    };
    connector(&kind).check_link(&setup).unwrap_or_else(|refusal| panic!("link {id}: {refusal}"));
    (kind, setup)
}

fn check_device(kind: &str, link: &LinkSetup, device: &DeviceSetup) {
    let checked = connector(kind).check_device(link, device);
    let profile = checked.unwrap_or_else(|refusal| panic!("device {}: {refusal}", device.id));
    let has_any = !profile.properties.is_empty() || profile.others.is_some();
    assert!(has_any, "{} has no properties", device.id);
}

#[test]
fn those_of_the_guide() {
    let guide = read("docs/devices.md");
    let mut blocks = guide.split("\n```");
    let mut links = BTreeMap::new();
    let (mut seen, mut devices, mut text_of_guide) = (0, 0, blocks.next().is_some());
    for block in blocks {
        text_of_guide = !text_of_guide;
        let Some((head, body)) = block.split_once('\n').filter(|_| !text_of_guide) else {
            continue;
        };
        let words: Vec<&str> = head.split(' ').collect();
        match words.as_slice() {
            ["json", kind, "link"] => {
                let (found, setup) = check_link("example", json(body).as_map().unwrap());
                assert_eq!(found, *kind);
                links.insert(*kind, setup);
                seen += 1;
            }
            [format, kind, "device", address] => {
                let mut settings = Object::new();
                if *format == "toml" {
                    settings.insert("map_toml", body);
                } else {
                    settings = json(body).as_map().unwrap().clone();
                }
                let device = DeviceSetup {
                    id: "example".parse().unwrap(),
                    address: Arc::from(if *address == "-" { "" } else { *address }),
                    model: None,
                    settings,
                };
                check_device(kind, &links[kind], &device);
                devices += 1;
            }
            // What somebody types, and what is answered.
            ["console"] => {}
            other => panic!("a block of the guide that is not checked: {other:?}"),
        }
    }
    assert!(seen >= 5 && devices >= 7, "{seen} links, {devices} devices");
}

#[test]
fn those_of_the_demo_plant() {
    let Value::List(listed) = json(&read("deploy/examples/links.json")) else { panic!("no list") };
    let links: BTreeMap<String, (String, LinkSetup)> = listed
        .iter()
        .map(|link| link.as_map().unwrap())
        .map(|link| (text(link, "id"), check_link(&text(link, "id"), link)))
        .collect();
    let plant: Vec<serde_json::Value> =
        serde_saphyr::from_str(&read("deploy/examples/plant.yaml")).unwrap();
    for entry in &plant {
        let entry = json(&entry.to_string());
        let device = entry.as_map().unwrap();
        let (kind, link) = &links[&text(device, "link")];
        let setup = DeviceSetup {
            id: text(device, "id").parse().unwrap(),
            address: text(device, "address").into(),
            model: None,
            settings: settings(device),
        };
        check_device(kind, link, &setup);
    }
    assert_eq!(plant.len(), 10);
}
