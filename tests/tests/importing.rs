//! Devices are found and imported, and buses scanned, through any agent and at a door.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
const LAMP: &str = "0x00158d00018255df";

fn states(import: &Value) -> Vec<(String, String)> {
    let text = |change: &Value, key: &str| change[key].as_str().unwrap().to_owned();
    let devices = import["devices"].as_array().unwrap();
    devices.iter().map(|change| (text(change, "state"), text(change, "id"))).collect()
}

fn is(state: &str, id: &str) -> Vec<(String, String)> {
    vec![(state.to_owned(), id.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_is_imported_and_a_second_time_nothing_is_done() {
    let site = Site::start(3).await;
    let cli = &site.cli;
    let run = |arguments: &[&str], code| cli.run(arguments).expect_code(code);
    let broker = Broker::start(site.workplace().path());
    let mut lamp = FieldDevice::lamp(site.workplace().path(), &broker, "Küche/Lamp 1");
    let import = |more: &[&str]| {
        let words = ["device", "import", "zigbee2mqtt", "home.zigbee", "--area", "home"];
        cli.json(&[&words[..], more].concat())
    };
    // A link that nobody knows.
    run(&["device", "import", "zigbee2mqtt", "home.zigbee"], 3);
    let address = broker.address();
    let link = ["link", "register", "home.zigbee", "--connector", "mqtt", "--address", &address];
    run(&link, 0);
    owned(&site, "home.zigbee").await;

    // 1. What would be registered is shown, whoever is asked, and nothing is.
    for agent in &site.agents {
        let door = format!("unix:{}", agent.data_dir().join("door.sock").display());
        let shown = cli.json(&[
            "--server",
            &door,
            "device",
            "import",
            "zigbee2mqtt",
            "home.zigbee",
            "--area",
            "home",
        ]);
        assert_eq!(states(&shown), is("new", "home.kueche.lamp-1"), "{shown}");
        assert_eq!(shown["applied"], false);
    }
    run(&["device", "get", "home.kueche.lamp-1"], 3);

    // 2. With a yes it is registered, in observe, and a second run finds nothing to do.
    let done = import(&["--yes"]);
    assert_eq!((states(&done), &done["applied"]), (is("new", "home.kueche.lamp-1"), &json!(true)));
    let device = cli.json(&["device", "get", "home.kueche.lamp-1"]);
    assert_eq!((&device["mode"], &device["address"]), (&json!("observe"), &json!(LAMP)));
    assert_eq!(device["labels"], json!({"import": "zigbee2mqtt", "model": "IKEA LED1545G12"}));
    let again = import(&["--yes"]);
    assert_eq!(states(&again), is("unchanged", "home.kueche.lamp-1"));
    assert_eq!(again["applied"], false);
    let said = run(&["device", "import", "zigbee2mqtt", "home.zigbee", "--area", "home"], 0);
    assert!(said.stderr.contains("1 unchanged; nothing to do"), "{}", said.stderr);

    // 3. What an operator did is left as it is, when the bridge tells of another name.
    let policy = r#"{"on_drift":"enforce","settle":"3s","on_return":{"apply":"5m"}}"#;
    let settings = device["settings"].to_string();
    run(
        &[
            "device",
            "register",
            "home.kueche.lamp-1",
            "--link",
            "home.zigbee",
            "--address",
            LAMP,
            "--name",
            "Küche/Lamp 1",
            "--label",
            "import=zigbee2mqtt",
            "--label",
            "model=IKEA LED1545G12",
            "--label",
            "room=k",
            "--settings",
            &settings,
            "--policy",
            policy,
        ],
        0,
    );
    run(&["device", "mode", "auto", "home.kueche.lamp-1"], 0);
    run(&["device", "set", "home.kueche.lamp-1", "state=true", "--wait", "verified"], 0);
    run(&["device", "hold", "home.kueche.lamp-1", "--reason", "cleaning"], 0);
    let before = cli.json(&["device", "get", "home.kueche.lamp-1"]);
    assert_eq!(states(&import(&["--yes"])), is("unchanged", "home.kueche.lamp-1"));
    let writes = lamp.count(|entry| entry["topic"].as_str().is_some_and(|it| it.ends_with("/set")));
    lamp.tell(&json!({"rename": "Küche/Decke"}));
    let changed = import(&["--yes"]);
    assert_eq!(states(&changed), is("changed", "home.kueche.lamp-1"), "{changed}");
    let after = cli.json(&["device", "get", "home.kueche.lamp-1"]);
    assert_eq!(after["name"], "Küche/Decke");
    for field in ["mode", "hold", "policy", "desired", "wishes", "settings", "address"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(after["labels"]["room"], "k");
    assert_eq!(states(&import(&["--yes"])), is("unchanged", "home.kueche.lamp-1"));

    // 4. What the bridge forgets is shown as gone, and stays.
    lamp.tell(&json!({"remove": true}));
    let gone = import(&["--yes"]);
    assert_eq!(
        (states(&gone), &gone["applied"]),
        (is("gone", "home.kueche.lamp-1"), &json!(false))
    );
    run(&["device", "get", "home.kueche.lamp-1"], 0);
    // Looking and registering wrote nothing to the lamp.
    let now = lamp.count(|entry| entry["topic"].as_str().is_some_and(|it| it.ends_with("/set")));
    assert_eq!(now, writes);

    // 5. What can't be is said.
    let wrong = run(&["device", "import", "homeassistant", "home.zigbee", "--base", "a/+"], 2);
    assert!(wrong.stderr.contains("base"), "{}", wrong.stderr);
    run(&["device", "import", "zigbee", "home.zigbee"], 2);
    run(&["link", "register", "sim", "--connector", "simulated"], 0);
    owned(&site, "sim").await;
    let no = run(&["device", "import", "zigbee2mqtt", "sim"], 1);
    assert!(no.stderr.contains("can't be asked for devices"), "{}", no.stderr);
    run(&["device", "import", "zigbee2mqtt", "home.zigbee", "--base", "other"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_announces_itself_in_home_assistants_way_is_imported() {
    let site = Site::start(1).await;
    let cli = &site.cli;
    let broker = Broker::start(site.workplace().path());
    let mut valve = FieldDevice::stranger(site.workplace().path(), &broker);
    let announce = |name: &str| {
        let config = json!({
            "name": "Valve", "unique_id": "garden01_valve", "command_topic": "stranger/set",
            "state_topic": "stranger/state", "payload_on": "OPEN", "payload_off": "SHUT",
            "device": {"identifiers": ["garden01"], "name": name, "manufacturer": "ACME",
                       "model": "V-2"}});
        let topic = "homeassistant/switch/garden01/valve/config";
        json!({"publish": {"topic": topic, "payload": config.to_string(), "retain": true, "qos": 1}})
    };
    valve.tell(&announce("Garden"));
    let address = broker.address();
    let link = ["link", "register", "home.mqtt", "--connector", "mqtt", "--address", &address];
    cli.run(&link).expect_code(0);
    owned(&site, "home.mqtt").await;
    let import = |more: &[&str]| {
        let words = ["device", "import", "homeassistant", "home.mqtt", "--area", "home"];
        cli.json(&[&words[..], more].concat())
    };

    // 1. Shown first, and registered with a yes only; a second run finds nothing to do.
    let shown = import(&[]);
    let id = shown["devices"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((states(&shown), &shown["applied"]), (is("new", &id), &json!(false)), "{shown}");
    cli.run(&["device", "get", &id]).expect_code(3);
    let done = import(&["--yes"]);
    assert_eq!((states(&done), &done["applied"]), (is("new", &id), &json!(true)), "{done}");
    let device = cli.json(&["device", "get", &id]);
    assert_eq!((&device["mode"], &device["name"]), (&json!("observe"), &json!("Garden")));
    let again = import(&["--yes"]);
    assert_eq!((states(&again), &again["applied"]), (is("unchanged", &id), &json!(false)));
    let commanded = |valve: &FieldDevice| valve.count(|entry| entry["topic"] == "stranger/set");
    assert_eq!(commanded(&valve), 0, "nothing was written");

    // 2. What was registered can be used, and keeps its id and mode under another name.
    cli.run(&["device", "mode", "auto", &id]).expect_code(0);
    let property = device["settings"]["properties"].as_object().unwrap();
    let property = property.keys().next().unwrap();
    valve.tell(&json!({"publish": {"topic": "stranger/state", "payload": "SHUT", "qos": 1}}));
    cli.run(&["device", "set", &id, &format!("{property}=true")]).expect_code(0);
    wait::until_true("the valve is told", LIMIT, || async { valve.told("OPEN") >= 1 }).await;
    valve.tell(&announce("Garden, left"));
    let changed = import(&["--yes"]);
    assert_eq!(states(&changed), is("changed", &id), "{changed}");
    let device = cli.json(&["device", "get", &id]);
    assert_eq!((&device["mode"], &device["name"]), (&json!("auto"), &json!("Garden, left")));
    assert_eq!(states(&import(&["--yes"])), is("unchanged", &id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_is_scanned_only_while_its_link_is_paused() {
    let site = Site::start(3).await;
    let cli = &site.cli;
    let run = |arguments: &[&str], code| cli.run(arguments).expect_code(code);
    let (drive, address) = FieldDevice::drive(site.workplace().path(), "drive");
    let link = ["link", "register", "hall.bus", "--connector", "modbus", "--address", &address];
    run(&[&link[..], &["--settings", r#"{"timeout_ms": 200}"#]].concat(), 0);
    owned(&site, "hall.bus").await;
    let map = r#"{"registers": {"speed": {"table": "holding", "address": 1, "type": "u16"}}}"#;
    run(
        &[
            "device",
            "register",
            "hall.drive",
            "--link",
            "hall.bus",
            "--address",
            "1",
            "--settings",
            map,
        ],
        0,
    );

    let scan = ["device", "scan", "modbus", "hall.bus", "--units", "1-3", "--rate", "20"];
    let refused = run(&scan, 8);
    assert!(refused.stderr.contains("flotilla link pause hall.bus"), "{}", refused.stderr);
    run(&["link", "pause", "hall.bus"], 0);
    let seen = cli.json(&scan);
    let told: Vec<(&Value, &Value)> =
        seen.as_array().unwrap().iter().map(|unit| (&unit["unit"], &unit["answers"])).collect();
    let expected = [(1, true), (2, false), (3, false)].map(|(unit, is)| (json!(unit), json!(is)));
    let expected: Vec<(&Value, &Value)> = expected.iter().map(|(unit, is)| (unit, is)).collect();
    assert_eq!(told, expected, "{seen}");
    let drive_seen = &seen[0];
    assert_eq!(
        (&drive_seen["device"], &drive_seen["product"]),
        (&json!("hall.drive"), &json!("AX-200"))
    );
    // Many units take many pages, each within the time of its request.
    let pages = [&scan[..5], &["1-4", "--rate", "50", "--timeout", "800ms"]].concat();
    assert_eq!(cli.json(&pages).as_array().unwrap().len(), 4);
    assert_eq!(drive.count(|entry| entry.get("write").is_some()), 0);
    run(&["link", "resume", "hall.bus"], 0);
    run(&scan, 8);

    for (words, code) in [
        (["device", "scan", "modbus", "hall.bus", "--units", "0-3"], 2),
        (["device", "scan", "mqtt", "hall.bus", "--units", "1-3"], 2),
        (["device", "scan", "modbus", "hall.none", "--units", "1-3"], 3),
    ] {
        run(&words, code);
    }
    // A serial port belongs to one node.
    let port =
        ["link", "register", "hall.port", "--connector", "modbus", "--address", "rtu:///dev/ttyS9"];
    let refused = run(&port, 2);
    assert!(refused.stderr.contains("--on"), "{}", refused.stderr);
    run(&[&port[..], &["--on", "n1"]].concat(), 0);
}

/// Waits until a link has an owner whose session stands.
async fn owned(site: &Site, link: &str) {
    wait::until("the link has an owner", LIMIT, || async {
        site.cli.json(&["link", "get", link])["owner"].as_u64()
    })
    .await;
}
