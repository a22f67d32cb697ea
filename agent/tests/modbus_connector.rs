//! The connector `modbus` against pymodbus' simulator, which doesn't know our code.
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
use std::pin::pin;
use std::time::Duration;

use counterparts::owner::{Owner, device, object};
use counterparts::{Device, LIMIT, free_port, values};
use fleet_state::Value;
use flotilla_agent::device::connector::{
    Availability, CloseReason, Handed, Quality, ReadErrorKind, WriteErrorKind,
};
use flotilla_agent::device::connectors::modbus::ModbusConnector;
use futures_util::future::{Either, join_all, select};
use serde_json::json;
use tokio::time::{Instant, timeout};

const DRIVE: &str = r#"{
    "groups": {"default": {"interval_ms": 100}, "never": {"interval_ms": 86400000}},
    "registers": {
        "speed": {"table": "holding", "address": 100, "type": "u16", "scale": 0.1,
                  "access": "read_write", "min": 0, "max": 50},
        "actual": {"table": "holding", "address": 120, "type": "u16", "access": "read_write",
                   "read_from": {"address": 130}},
        "position": {"table": "holding", "address": 10, "type": "i32", "access": "read_write"},
        "power": {"table": "input", "address": 3, "type": "f32", "word_order": "little"},
        "light": {"table": "coil", "address": 2, "access": "read_write"},
        "door": {"table": "discrete", "address": 5},
        "enable": {"table": "holding", "address": 0, "bit": 4, "access": "read_write",
                   "bit_write": "mask"},
        "brake": {"table": "holding", "address": 0, "bit": 5, "access": "read_write",
                  "bit_write": "read_modify_write"},
        "limit": {"table": "holding", "address": 30, "type": "u16", "access": "read_write",
                  "nonvolatile": {"writes_per_day": 2}, "group": "never"},
        "secret": {"table": "holding", "address": 40, "type": "u16", "access": "write"},
        "command": {"table": "holding", "address": 50, "type": "u16", "access": "action"},
        "answer": {"table": "holding", "address": 51, "type": "u16", "group": "never"}},
    "actions": {
        "start": {"pulse": {"register": "light", "width_ms": 20}},
        "home": {"handshake": {"command": "command", "value": 5, "acknowledge": "answer",
                               "reset": 0, "within_ms": 1500}},
        "move": {"write": {"command": {"arg": "target"}}}}}"#;

struct Hall {
    drive: Device,
    owner: Owner,
    address: String,
}

async fn hall(framer: &str) -> Hall {
    let port = free_port().await;
    let drive = Device::start("modbus_device.py", &[&port.to_string(), framer]).await;
    let scheme = if framer == "rtu" { "rtu+tcp" } else { "tcp" };
    let address = format!("{scheme}://127.0.0.1:{port}");
    let owner = connect(&address, vec![device("drive", "1", DRIVE)]).await;
    Hall { drive, owner, address }
}

async fn connect(
    address: &str,
    devices: Vec<flotilla_agent::device::connector::DeviceSetup>,
) -> Owner {
    let connector = ModbusConnector::default();
    let link = (address, r#"{"timeout_ms": 300}"#);
    Owner::connect(&connector, link, devices, Path::new("/nowhere")).await.unwrap()
}

#[tokio::test]
async fn a_drive_is_read_written_and_reads_back() {
    for framer in ["socket", "rtu"] {
        let Hall { mut drive, mut owner, .. } = hall(framer).await;
        owner.until_online("drive").await;
        let cases = [
            ("speed", "21.5", "holding", 100, json!([215])),
            ("position", "-2", "holding", 10, json!([0xffff, 0xfffe])),
            ("light", "true", "coil", 2, json!([1])),
            ("secret", "7", "holding", 40, json!([7])),
        ];
        for (name, value, table, address, words) in cases {
            let wish = format!(r#"{{"{name}": {value}}}"#);
            assert_eq!(owner.write("drive", &wish).await, Ok(Handed::Acknowledged), "{wish}");
            let entry = drive.until(name, |entry| entry["write"] == table).await;
            assert_eq!((&entry["address"], &entry["values"]), (&json!(address), &words), "{name}");
        }
        // Several words of one value go in one request.
        assert_eq!(drive.count(|entry| entry["function"] == 16), 1);
        let reading = owner.read("drive", LIMIT).await.unwrap();
        let read = values(&reading);
        assert_eq!((read["speed"].as_str(), read["position"].as_str()), ("21.5", "-2"));
        assert_eq!((read["light"].as_str(), read["door"].as_str()), ("true", "false"));
        assert!(!read.contains_key("secret") && !read.contains_key("command"), "{read:?}");
        owner.session.close().await;
    }
}

#[tokio::test]
async fn bits_of_a_word_leave_the_others_alone() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    drive.tell(json!({"set": {"table": "holding", "address": 0, "values": [0x8001]}})).await;
    assert_eq!(owner.write("drive", r#"{"enable": true}"#).await, Ok(Handed::Acknowledged));
    let entry = drive.until("the mask", |entry| entry["write"] == "holding").await;
    assert_eq!(entry["function"], 22);
    assert_eq!(owner.write("drive", r#"{"brake": true}"#).await, Ok(Handed::Acknowledged));
    let entry = drive.until("the word", |entry| entry["write"] == "holding").await;
    assert_eq!((&entry["function"], &entry["values"]), (&json!(6), &json!([0x8031])));
    assert_eq!(owner.write("drive", r#"{"enable": false}"#).await, Ok(Handed::Acknowledged));
    let read = values(&owner.read("drive", LIMIT).await.unwrap());
    assert_eq!((read["enable"].as_str(), read["brake"].as_str()), ("false", "true"));
}

#[tokio::test]
async fn polls_report_changes_and_other_registers_tell_what_is_so() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    owner.until("the first values", |seen| seen.values.get("speed").is_some()).await;
    drive.tell(json!({"set": {"table": "discrete", "address": 5, "values": [true]}})).await;
    let report = owner.until("the door", |seen| seen.values == object(r#"{"door": true}"#)).await;
    assert_eq!(report.quality, Quality::Good);
    // 12.5 as a float, its words the other way round.
    drive.tell(json!({"set": {"table": "input", "address": 3, "values": [0, 0x4148]}})).await;
    owner.until("the power", |seen| seen.values == object(r#"{"power": 12.5}"#)).await;
    // Written here, read there.
    assert_eq!(owner.write("drive", r#"{"actual": 9}"#).await, Ok(Handed::Acknowledged));
    drive.tell(json!({"set": {"table": "holding", "address": 130, "values": [8]}})).await;
    owner.until("what is so", |seen| seen.values == object(r#"{"actual": 8}"#)).await;
    // What is no number is said once, and the rest still comes.
    drive.tell(json!({"set": {"table": "input", "address": 3, "values": [0, 0x7fc0]}})).await;
    owner.until("it is bad", |seen| seen.quality == Quality::Bad).await;
}

#[tokio::test]
async fn one_shots() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    assert_eq!(owner.invoke("drive", "start").await, Ok(Handed::Acknowledged));
    for bit in [1, 0] {
        let entry = drive.until("the pulse", |entry| entry["write"] == "coil").await;
        assert_eq!(entry["values"], json!([bit]));
    }
    drive.tell(json!({"handshake": true})).await;
    assert_eq!(owner.invoke("drive", "home").await, Ok(Handed::Acknowledged));
    for word in [5, 0] {
        let entry = drive.until("the command", |entry| entry["address"] == 50).await;
        assert_eq!(entry["values"], json!([word]));
    }
    // A device that takes the command and never confirms it: nobody knows.
    drive.tell(json!({"handshake": false})).await;
    let error = owner.invoke("drive", "home").await.unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Timeout, true));
    let args = Value::Map(object(r#"{"target": 77}"#));
    assert_eq!(owner.invoke_with("drive", "move", args).await, Ok(Handed::Acknowledged));
    drive.until("the target", |entry| entry["values"] == json!([77])).await;
    for args in [Value::Null, Value::Map(object(r#"{"target": 65536}"#))] {
        let error = owner.invoke_with("drive", "move", args).await.unwrap_err();
        assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Invalid, false));
    }
    let error = owner.invoke("drive", "dance").await.unwrap_err();
    assert_eq!(error.kind, WriteErrorKind::Invalid);
}

#[tokio::test]
async fn an_acknowledgement_from_before_confirms_nothing() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    let at = |word: u16| {
        move |entry: &serde_json::Value| entry["address"] == 50 && entry["values"] == json!([word])
    };
    drive.tell(json!({"set": {"table": "holding", "address": 51, "values": [5]}})).await;
    let error = owner.invoke("drive", "home").await.unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Busy, false), "{error}");
    drive.tell(json!({})).await;
    assert_eq!((drive.count(at(5)), drive.count(at(0))), (0, 1), "only the reset was written");
    // A device that takes its acknowledgement back with the reset is asked, and confirms.
    drive.tell(json!({"handshake": true})).await;
    assert_eq!(owner.invoke("drive", "home").await, Ok(Handed::Acknowledged));
    drive.tell(json!({})).await;
    assert_eq!((drive.count(at(5)), drive.count(at(0))), (1, 3));
}

#[tokio::test]
async fn a_command_word_is_put_back_also_when_its_answer_cannot_be_read() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    let seen = async {
        drive.until("the command", |entry| entry["values"] == json!([5])).await;
        drive.tell(json!({"read_exception": 4})).await;
        drive.until("its reset", |entry| entry["values"] == json!([0])).await;
    };
    let (ended, ()) = tokio::join!(owner.invoke("drive", "home"), seen);
    assert!(ended.unwrap_err().may_have_acted);
}

/// A drive on a bus that needs a long pause between two questions.
async fn slow_hall() -> Hall {
    slow_hall_of(
        r#"{"groups": {"default": {"interval_ms": 86400000}}, "registers": {
        "a": {"table": "holding", "address": 60, "type": "u16", "access": "read_write"},
        "b": {"table": "holding", "address": 62, "type": "u16", "access": "read_write"},
        "c": {"table": "holding", "address": 64, "type": "u16", "access": "read_write"}}}"#,
    )
    .await
}

async fn slow_hall_of(map: &str) -> Hall {
    let port = free_port().await;
    let drive = Device::start("modbus_device.py", &[&port.to_string(), "socket"]).await;
    let address = format!("tcp://127.0.0.1:{port}");
    let connector = ModbusConnector::default();
    let link = (address.as_str(), r#"{"gap_ms": 300}"#);
    let devices = vec![device("drive", "1", map)];
    let owner = Owner::connect(&connector, link, devices, Path::new("/nowhere")).await.unwrap();
    Hall { drive, owner, address }
}

#[tokio::test]
async fn no_register_is_written_after_its_time() {
    let Hall { mut drive, mut owner, .. } = slow_hall().await;
    let write = owner.next_write("drive", r#"{"a": 1, "b": 2, "c": 3}"#);
    let deadline = Instant::now() + Duration::from_millis(450);
    let write = flotilla_agent::device::connector::Write { deadline, ..write };
    let error = timeout(LIMIT, owner.session.write(&write)).await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Busy, true), "{error}");
    // One that comes after it shows that the bus has got over it.
    assert_eq!(owner.write("drive", r#"{"a": 9}"#).await, Ok(Handed::Acknowledged));
    drive.until("the later one", |entry| entry["values"] == json!([9])).await;
    assert_eq!(drive.count(|entry| entry["address"] == 64), 0);
}

#[tokio::test]
async fn what_was_read_in_time_is_an_answer_and_a_crowded_bus_is_no_silence() {
    let map = r#"{"groups": {"default": {"interval_ms": 86400000}}, "registers": {
        "a": {"table": "holding", "address": 60, "type": "u16"},
        "b": {"table": "input", "address": 3, "type": "u16"},
        "c": {"table": "coil", "address": 2},
        "d": {"table": "discrete", "address": 5}}}"#;
    let Hall { drive: _drive, owner, .. } = slow_hall_of(map).await;
    // The turn of the last comes when there is no time left for its answer.
    let within = Duration::from_secs(1);
    let reading = owner.reading("drive", within).await.unwrap();
    let count = reading.values.iter().count();
    assert!((1..=3).contains(&count), "{reading:?}");
    assert!(reading.problem.as_ref().is_some_and(|why| why.contains("after")), "{reading:?}");
    // Those for which there is no time at all say nothing of the device.
    let answers = join_all((0..8).map(|_| owner.read("drive", within))).await;
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.len() >= 4, "{answers:?}");
    assert!(failed.iter().all(|kind| **kind == ReadErrorKind::NotAsked), "{answers:?}");
}

#[tokio::test]
async fn a_write_does_not_wait_behind_questions() {
    let Hall { drive: _drive, mut owner, .. } = slow_hall().await;
    let write = owner.next_write("drive", r#"{"a": 1}"#);
    let questions = join_all((0..8).map(|_| owner.read("drive", LIMIT)));
    let written = owner.session.write(&write);
    match select(pin!(questions), written).await {
        Either::Right((ended, _)) => assert_eq!(ended, Ok(Handed::Acknowledged)),
        Either::Left((answers, _)) => panic!("all were asked before: {answers:?}"),
    }
}

#[tokio::test]
async fn what_wears_out_is_written_when_it_differs_and_twice_a_day() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    for wish in ["1", "1", "2", "2"] {
        let wish = format!(r#"{{"limit": {wish}}}"#);
        assert_eq!(owner.write("drive", &wish).await, Ok(Handed::Acknowledged));
    }
    let error = owner.write("drive", r#"{"limit": 3}"#).await.unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Busy, false));
    assert_eq!(owner.write("drive", r#"{"limit": 2}"#).await, Ok(Handed::Acknowledged));
    drive.tell(json!({})).await;
    assert_eq!(drive.count(|entry| entry["address"] == 30), 2);
}

#[tokio::test]
async fn what_cannot_be_said_is_never_sent() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    for wish in [
        r#"{"speed": 51}"#,
        r#"{"speed": "fast"}"#,
        r#"{"light": 1}"#,
        r#"{"door": true}"#,
        r#"{"command": 1}"#,
        r#"{"nothing": 1}"#,
        r#"{"light": true, "position": 4294967296}"#,
    ] {
        let error = owner.write("drive", wish).await.unwrap_err();
        assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Invalid, false), "{wish}");
    }
    drive.tell(json!({})).await;
    assert_eq!(drive.count(|entry| !entry["write"].is_null()), 0);
}

#[tokio::test]
async fn a_register_that_the_device_does_not_have_keeps_none_of_the_others_from_being_read() {
    let Hall { drive: _drive, owner, address } = hall("socket").await;
    owner.session.close().await;
    let gone = r#""gone": {"table": "holding", "address": 60000, "type": "u16"},"#;
    let map = DRIVE.replacen(r#""speed""#, &format!(r#"{gone} "speed""#), 1);
    let mut owner = connect(&address, vec![device("drive", "1", &map)]).await;
    owner.until_online("drive").await;
    let reading = owner.reading("drive", LIMIT).await.unwrap();
    let read = values(&reading.values);
    assert!(read.contains_key("speed") && !read.contains_key("gone"), "{read:?}");
    let problem = reading.problem.unwrap();
    assert!(problem.contains("60000") && problem.contains("gone"), "{problem}");
}

#[tokio::test]
async fn exceptions_are_told_for_what_they_are() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    let cases = [
        (2, Some((WriteErrorKind::Refused, false)), ReadErrorKind::Refused),
        (3, Some((WriteErrorKind::Refused, false)), ReadErrorKind::Refused),
        (4, Some((WriteErrorKind::Refused, true)), ReadErrorKind::Refused),
        (5, None, ReadErrorKind::Refused),
        (6, Some((WriteErrorKind::Busy, false)), ReadErrorKind::Refused),
        (10, Some((WriteErrorKind::Offline, false)), ReadErrorKind::Offline),
        (11, Some((WriteErrorKind::Offline, true)), ReadErrorKind::Offline),
    ];
    for (code, written, read) in cases {
        drive.tell(json!({"exception": code})).await;
        let told = owner.write("drive", r#"{"light": true}"#).await;
        match written {
            None => assert_eq!(told, Ok(Handed::Acknowledged), "{code}"),
            Some(wanted) => {
                let error = told.unwrap_err();
                assert_eq!((error.kind, error.may_have_acted), wanted, "{code}: {error}");
            }
        }
        assert_eq!(owner.read("drive", LIMIT).await, Err(read), "{code}");
    }
    drive.tell(json!({"exception": 0})).await;
    assert_eq!(owner.write("drive", r#"{"light": true}"#).await, Ok(Handed::Acknowledged));
}

#[tokio::test]
async fn silence_is_not_failure_and_ends_with_a_device_that_is_offline() {
    let Hall { mut drive, mut owner, .. } = hall("socket").await;
    owner.until_online("drive").await;
    drive.tell(json!({"silent": true})).await;
    let error = owner.write("drive", r#"{"light": true}"#).await.unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Timeout, true));
    assert_eq!(owner.read("drive", LIMIT).await, Err(ReadErrorKind::Timeout));
    owner.until("it is offline", |seen| seen.availability == Some(Availability::Offline)).await;
    drive.tell(json!({"silent": false})).await;
    assert_eq!(owner.write("drive", r#"{"light": true}"#).await, Ok(Handed::Acknowledged));
    owner.until_online("drive").await;
}

#[tokio::test]
async fn an_endpoint_that_goes_away_ends_the_session() {
    let Hall { drive, owner, address } = hall("socket").await;
    drop(drive);
    let reason = timeout(LIMIT, owner.session.closed()).await.unwrap();
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason:?}");
    let link = (address.as_str(), "{}");
    let connector = ModbusConnector::default();
    let refused = Owner::connect(&connector, link, Vec::new(), Path::new("/nowhere")).await;
    let message = refused.err().unwrap().message;
    assert!(message.contains("127.0.0.1"), "{message}");
}
