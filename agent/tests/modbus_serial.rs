//! The connector `modbus` at a serial port: a pair of pseudo terminals, with pymodbus' serial server
//! at the other end. And scanning, which works over each way.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

mod counterparts;

use std::path::Path;
use std::time::Duration;

use counterparts::owner::{Owner, device, object};
use counterparts::{Device, LIMIT, free_port, values};
use flotilla_agent::device::connector::{
    AskedUnit, ConnectError, Connector, Handed, LinkSetup, LookError, Place, Scan,
};
use flotilla_agent::device::connectors::modbus::ModbusConnector;
use serde_json::json;
use tokio::time::{Instant, timeout};

const DRIVE: &str = r#"{
    "groups": {"default": {"interval_ms": 100}},
    "registers": {
        "speed": {"table": "holding", "address": 100, "type": "u16", "access": "read_write"},
        "position": {"table": "holding", "address": 10, "type": "i32", "access": "read_write"}}}"#;
const SETTINGS: &str = r#"{"timeout_ms": 500}"#;

/// A bus and the address of its port; the folder goes with the port's name.
async fn bus() -> (Device, String, tempfile::TempDir) {
    // A port's address lies below /dev, as ports do.
    let folder = tempfile::Builder::new().prefix("flotilla-test-").tempdir_in("/dev/shm").unwrap();
    let port = folder.path().join("ttyTEST");
    let drive = Device::start("modbus_device.py", &[port.to_str().unwrap(), "serial"]).await;
    let address = format!("rtu://{}", port.display());
    (drive, address, folder)
}

async fn connect(address: &str) -> Result<Owner, ConnectError> {
    let connector = ModbusConnector::default();
    let devices = vec![device("drive", "1", DRIVE)];
    Owner::connect(&connector, (address, SETTINGS), devices, Path::new("/nowhere")).await
}

async fn scan(address: &str, units: &[u8], within: Duration) -> Result<Vec<AskedUnit>, LookError> {
    let link = LinkSetup {
        id: "bus".parse().unwrap(),
        address: address.into(),
        settings: object(r#"{"timeout_ms": 200}"#),
    };
    let place = Place {
        link,
        site: "home".parse().unwrap(),
        secrets_dir: "/nowhere".into(),
        until: Instant::now() + within,
    };
    let scan = Scan { units: units.to_vec(), per_second: 50 };
    timeout(LIMIT, ModbusConnector::default().scan(place, scan)).await.expect("a scan ends")
}

#[tokio::test]
async fn a_drive_on_a_serial_bus_is_read_and_written() {
    let (mut drive, address, _folder) = bus().await;
    let mut owner = connect(&address).await.unwrap();
    owner.until_online("drive").await;
    assert_eq!(owner.write("drive", r#"{"speed": 21}"#).await, Ok(Handed::Acknowledged));
    let entry = drive.until("the speed", |entry| entry["write"] == "holding").await;
    assert_eq!((&entry["address"], &entry["values"]), (&json!(100), &json!([21])));
    assert_eq!(owner.write("drive", r#"{"position": -2}"#).await, Ok(Handed::Acknowledged));
    let entry = drive.until("the position", |entry| entry["write"] == "holding").await;
    assert_eq!(entry["values"], json!([0xffff, 0xfffe]));
    let read = values(&owner.read("drive", LIMIT).await.unwrap());
    assert_eq!((read["speed"].as_str(), read["position"].as_str()), ("21", "-2"));
    // A question without an answer costs the port, which is opened again: what comes late is
    // nobody's answer.
    drive.tell(json!({"silent": true})).await;
    assert!(owner.read("drive", LIMIT).await.is_err());
    drive.tell(json!({"silent": false})).await;
    let read = owner.read("drive", LIMIT).await.map(|read| values(&read)["speed"].clone());
    assert_eq!(read, Ok("21".to_owned()));
    owner.session.close().await;
}

#[tokio::test]
async fn a_bus_has_one_master() {
    let (_drive, address, _folder) = bus().await;
    let mut owner = connect(&address).await.unwrap();
    owner.until_online("drive").await;
    let refused = connect(&address).await.err().expect("the port is taken");
    assert!(refused.message.contains("somebody else uses the port"), "{refused}");
    let refused = scan(&address, &[1], LIMIT).await.unwrap_err();
    assert!(refused.to_string().contains("somebody else uses the port"), "{refused}");
    owner.session.close().await;
    let mut next = connect(&address).await.expect("the port is free again");
    next.until_online("drive").await;
    next.session.close().await;
}

#[tokio::test]
async fn what_is_no_serial_port_is_said() {
    for (path, word) in [("/dev/null", "no serial port"), ("/dev/none/here", "No such file")] {
        let refused = connect(&format!("rtu://{path}")).await.err().expect(path);
        assert!(refused.message.contains(word) && refused.message.contains(path), "{refused}");
    }
}

#[tokio::test]
async fn a_scan_tells_who_answers_and_reads_nothing() {
    let (mut serial, address, _folder) = bus().await;
    let port = free_port().await;
    let mut network = Device::start("modbus_device.py", &[&port.to_string(), "socket"]).await;
    for (device, address) in
        [(&mut serial, address), (&mut network, format!("tcp://127.0.0.1:{port}"))]
    {
        let asked = scan(&address, &[1, 2, 3], LIMIT).await.unwrap();
        let there: Vec<(u8, bool)> = asked.iter().map(|unit| (unit.unit, unit.answers)).collect();
        assert_eq!(there, [(1, true), (2, false), (3, false)], "{asked:?}");
        let identity = ["ACME", "AX-200", "1.4"].map(|text| Some(text.to_owned()));
        assert_eq!(asked[0].identity, identity);
        // The simulator's hook is called for every register that is read or written.
        device.tell(json!({"exception": 0})).await;
        assert_eq!(device.count(|entry| entry.get("touched").is_some()), 0);
    }
    // A scan ends when its time is over, having asked at least one unit.
    let asked = scan(&format!("tcp://127.0.0.1:{port}"), &[1, 2, 3], Duration::ZERO).await.unwrap();
    assert_eq!(asked.len(), 1);
    // Nobody at the other end is an error, and not an empty bus.
    let closed = free_port().await;
    let error = scan(&format!("tcp://127.0.0.1:{closed}"), &[1], LIMIT).await.unwrap_err();
    assert!(matches!(error, LookError::Unreachable(_)), "{error}");
}
