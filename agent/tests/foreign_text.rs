//! Mutated text for what the agent alone reads: its configuration, and the settings with which links
//! and devices are registered. The readers of the pure crates are fed in fleet-fuzz.
//!
//! A run is short; `FLOTILLA_FUZZ_SECONDS=600` makes it a long one.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fleet_fuzz::{Target, fuzz};
use fleet_state::{Limits, Object, Value};
use flotilla_agent::config::{self, Sources};
use flotilla_agent::device::connector::{Connector, DeviceSetup, LinkSetup, Refusal};
use flotilla_agent::device::connectors::modbus::ModbusConnector;
use flotilla_agent::device::connectors::mqtt::MqttConnector;
use flotilla_agent::device::connectors::nats::NatsConnector;
use tempfile::TempDir;

const INPUTS_MAX: u64 = 40_000;
/// The longest that somebody is told of something that is wrong.
const TOLD_BYTES_MAX: usize = 2_000;

fn feed(target: &Target, words_min: usize) {
    let seconds = std::env::var("FLOTILLA_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let (time, inputs) = seconds
        .map_or((Duration::from_secs(2), INPUTS_MAX), |s| (Duration::from_secs(s), u64::MAX));
    match fuzz(target, 1, time, inputs) {
        Ok(report) => {
            println!("{}: {report:?}", target.name);
            assert!(report.words >= words_min, "too little was heard: {report:?}");
        }
        Err(finding) => panic!("{}: {}\ninput {:?}", target.name, finding.what, finding.input),
    }
}

/// One line that a terminal survives, and not more than somebody reads.
fn told(message: &str) {
    assert!(!message.chars().any(char::is_control), "it repeats what it was given: {message:?}");
    assert!(message.len() < TOLD_BYTES_MAX, "{} bytes: {message}", message.len());
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fn load(name: &str, bytes: &[u8]) -> Result<config::Loaded, config::ConfigError> {
    let path = FOLDER.path().join(name);
    fs::write(&path, bytes).unwrap();
    config::load(&Sources { file: Some(path), ..Sources::default() })
}

/// What is valid is shown as something that is valid.
fn configuration(bytes: &[u8]) -> String {
    match load("given.toml", bytes) {
        Ok(loaded) => {
            let shown = loaded.show();
            if let Err(error) = load("shown.toml", shown.as_bytes()) {
                panic!("it is valid, and what is shown of it is not: {error}\n{shown}");
            }
            "valid".to_owned()
        }
        Err(error) => {
            let message = error.to_string();
            told(&message);
            message.rsplit(": ").next().unwrap_or_default().chars().take(40).collect()
        }
    }
}

fn configurations() -> Vec<Vec<u8>> {
    let default = config::load(&Sources::default()).unwrap().show();
    vec![default.into_bytes(), read("deploy/examples/agent.toml").into_bytes()]
}

#[test]
fn configuration_files() {
    feed(&Target { name: "config", run: configuration, seeds: configurations }, 20);
}

fn check<T: PartialEq>(checked: impl Fn() -> Result<T, Refusal>) -> String {
    let first = checked();
    assert!(checked() == first, "it is judged otherwise the second time");
    match first {
        Ok(_) => "fits".to_owned(),
        Err(refusal) => {
            told(&refusal.to_string());
            refusal.field
        }
    }
}

fn settings(bytes: &[u8]) -> String {
    let Ok(Value::Map(settings)) = Value::parse(bytes, Limits::default()) else {
        return "no object".to_owned();
    };
    let connectors: [(&dyn Connector, &str, &[Option<&str>]); 3] = [
        (&MqttConnector, "mqtt://127.0.0.1", &[None, Some("zigbee2mqtt"), Some("tasmota")]),
        (&ModbusConnector::default(), "127.0.0.1:502", &[None]),
        (&NatsConnector::new(None), "", &[None]),
    ];
    let mut heard = String::new();
    for (connector, address, models) in connectors {
        let link = |settings: Object| LinkSetup {
            id: "hall.bus".parse().unwrap(),
            address: Arc::from(address),
            settings,
        };
        heard.push_str(&check(|| connector.check_link(&link(settings.clone()))));
        for model in models {
            let device = DeviceSetup {
                id: "hall.lamp".parse().unwrap(),
                address: Arc::from("1"),
                model: model.map(Arc::from),
                settings: settings.clone(),
            };
            let link = link(Object::new());
            heard.push_str(&check(|| connector.check_device(&link, &device)));
        }
    }
    heard.chars().filter(|c| !c.is_ascii_digit()).take(160).collect()
}

/// What the guide shows.
fn shown_settings() -> Vec<Vec<u8>> {
    let guide = read("docs/devices.md");
    let blocks = guide.split("\n```").skip(1).step_by(2);
    let mut seeds = Vec::new();
    for (head, body) in blocks.filter_map(|block| block.split_once('\n')) {
        if head.starts_with("toml") {
            seeds.push(serde_json::json!({ "map_toml": body }).to_string().into_bytes());
        } else if head.starts_with("json") {
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            let settings = value.get("settings").unwrap_or(&value);
            seeds.push(settings.to_string().into_bytes());
        }
    }
    assert!(seeds.len() > 7, "the guide shows {}", seeds.len());
    seeds
}

#[test]
fn settings_of_links_and_devices() {
    feed(&Target { name: "settings", run: settings, seeds: shown_settings }, 20);
}
