//! The connector `mqtt` against a real broker and devices that don't know our code.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

mod counterparts;

use std::time::Duration;

use counterparts::owner::{Owner, device, object};
use counterparts::tls::TlsFront;
use counterparts::{Broker, Device, LIMIT, values};
use fleet_protocol::look::Source;
use fleet_state::Revision;
use flotilla_agent::device::connector::{
    Availability, CloseReason, ConnectError, Connector, DeviceSetup, Discover, Handed, LinkSetup,
    Observation, Place, Quality, ReadErrorKind, Write, WriteErrorKind,
};
use flotilla_agent::device::connectors::mqtt::MqttConnector;
use serde_json::json;
use tokio::time::{Instant, timeout};

const VERSIONS: [&str; 2] = ["3.1.1", "5"];
const LAMP: &str = "0x00158d00018255df";
const LAMP_SETTINGS: &str = r#"{"preset": "zigbee2mqtt", "features": {
    "state": {"type": "binary", "access": 7, "value_on": "ON", "value_off": "OFF"}}}"#;
const PLUG_SETTINGS: &str = r#"{"preset": "tasmota"}"#;

async fn connect(
    address: &str,
    settings: &str,
    devices: Vec<DeviceSetup>,
    secrets: &std::path::Path,
) -> Result<Owner, ConnectError> {
    Owner::connect(&MqttConnector, (address, settings), devices, secrets).await
}

async fn start(port: u16, version: &str, devices: Vec<DeviceSetup>) -> Owner {
    let settings = format!(r#"{{"version": "{version}"}}"#);
    let address = format!("127.0.0.1:{port}");
    connect(&address, &settings, devices, std::path::Path::new("/nowhere")).await.unwrap()
}

fn says(json: &'static str) -> impl Fn(&Observation) -> bool {
    move |seen| !seen.foreign_write && seen.values == object(json)
}

#[tokio::test]
async fn a_plug_is_switched_reports_and_answers() {
    let broker = Broker::start().await;
    for version in VERSIONS {
        let name = format!("plug{}", version.len());
        let mut plug = Device::mqtt(broker.port, "plug", &name).await;
        let devices = vec![device("plug", &name, PLUG_SETTINGS)];
        let mut owner = start(broker.port, version, devices).await;
        let first = owner.until("availability", |seen| seen.availability.is_some()).await;
        assert_eq!(first.availability, Some(Availability::Online));
        assert!(first.retained, "the broker kept it");

        assert_eq!(owner.write("plug", r#"{"on": true}"#).await, Ok(Handed::Sent));
        let told = plug.until("the command", |entry| entry["payload"] == "ON").await;
        assert_eq!(told["topic"], format!("cmnd/{name}/POWER"));
        assert_eq!((&told["retain"], &told["qos"]), (&json!(false), &json!(1)));
        let report = owner.until("the report", says(r#"{"on": true}"#)).await;
        assert_eq!((report.quality, report.retained), (Quality::Good, false));

        plug.tell(json!({"switch": false})).await;
        owner.until("the wall switch", says(r#"{"on": false}"#)).await;
        assert_eq!(owner.read("plug", LIMIT).await, Ok(object(r#"{"on": false}"#)));

        // A one-shot: once, QoS 0, not kept.
        assert_eq!(owner.invoke("plug", "toggle").await, Ok(Handed::Sent));
        let shot = plug.until("the one-shot", |entry| entry["payload"] == "TOGGLE").await;
        assert_eq!((&shot["retain"], &shot["qos"]), (&json!(false), &json!(0)));
        owner.until("what it did", says(r#"{"on": true}"#)).await;
        assert_eq!(plug.count(|entry| entry["payload"] == "TOGGLE"), 1);

        // The device vanishes: its last will is believed, and nothing is sent to nobody.
        plug.tell(json!({"leave": true})).await;
        owner.until("it is offline", |seen| seen.availability == Some(Availability::Offline)).await;
        let error = owner.invoke("plug", "toggle").await.unwrap_err();
        assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Offline, false));
        let error = owner.write("plug", r#"{"on": true}"#).await.unwrap_err();
        assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Offline, false));
        assert_eq!(owner.read("plug", LIMIT).await, Err(ReadErrorKind::Offline));
        owner.session.close().await;
    }
}

#[tokio::test]
async fn what_a_bridge_repeats_proves_nothing() {
    let broker = Broker::start().await;
    for version in VERSIONS {
        let mut lamp = Device::mqtt(broker.port, "lamp", "hall/lamp").await;
        lamp.tell(json!({"rename": "lamp"})).await;
        let devices = vec![device("lamp", LAMP, LAMP_SETTINGS)];
        let mut owner = start(broker.port, version, devices).await;
        owner.until_online("lamp").await;

        // A lamp that doesn't do what it is told, behind a bridge that says it did.
        lamp.tell(json!({"stubborn": true})).await;
        assert_eq!(owner.write("lamp", r#"{"state": true}"#).await, Ok(Handed::Sent));
        assert_eq!(owner.read("lamp", LIMIT).await, Ok(object(r#"{"state": false}"#)));
        let echo = owner.until("the echo", says(r#"{"state": true}"#)).await;
        assert_eq!(echo.quality, Quality::Uncertain);
        let truth = owner.until("the truth", says(r#"{"state": false}"#)).await;
        assert_eq!(truth.quality, Quality::Good);

        lamp.tell(json!({"stubborn": false})).await;
        assert_eq!(owner.write("lamp", r#"{"state": true}"#).await, Ok(Handed::Sent));
        assert_eq!(owner.read("lamp", LIMIT).await, Ok(object(r#"{"state": true}"#)));

        // Renamed: the same device, other topics.
        lamp.tell(json!({"rename": "over the door"})).await;
        until_renamed(&mut owner, &mut lamp).await;
        lamp.tell(json!({"remove": true})).await;
        owner.until("it is gone", |seen| seen.availability == Some(Availability::Offline)).await;
        owner.session.close().await;
        lamp.tell(json!({"leave": true})).await;
    }
}

/// Writes until the new name is known, then checks that it goes there.
async fn until_renamed(owner: &mut Owner, lamp: &mut Device) {
    let deadline = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < deadline, "the new name is not followed");
        assert_eq!(owner.write("lamp", r#"{"state": false}"#).await, Ok(Handed::Sent));
        if owner.read("lamp", Duration::from_secs(2)).await.is_ok() {
            break;
        }
    }
    assert_eq!(owner.write("lamp", r#"{"state": true}"#).await, Ok(Handed::Sent));
    lamp.until("the new topic", |entry| {
        entry["topic"] == "zigbee2mqtt/over the door/set" && entry["payload"] == r#"{"state":"ON"}"#
    })
    .await;
}

#[tokio::test]
async fn commands_of_others_are_seen_and_our_own_are_not_taken_for_them() {
    let broker = Broker::start().await;
    for version in VERSIONS {
        let name = format!("plug{}", version.len());
        let mut plug = Device::mqtt(broker.port, "plug", &name).await;
        let mut other = Device::mqtt(broker.port, "mute", "other").await;
        let devices = vec![device("plug", &name, PLUG_SETTINGS)];
        let mut owner = start(broker.port, version, devices).await;
        owner.until_online("plug").await;
        assert_eq!(owner.write("plug", r#"{"on": true}"#).await, Ok(Handed::Sent));
        plug.until("ours", |entry| entry["payload"] == "ON").await;
        other.publish(&format!("cmnd/{name}/POWER"), "OFF").await;
        let mut ours = 0;
        let foreign = owner
            .until("a foreign write", |seen| {
                seen.foreign_write && seen.values == object(r#"{"on": false}"#)
            })
            .await;
        assert_eq!(foreign.quality, Quality::Uncertain);
        while let Ok(seen) = owner.reports.try_recv() {
            ours += usize::from(seen.foreign_write);
        }
        assert_eq!(ours, 0, "our own command is no foreign write");
        owner.session.close().await;
    }
}

#[tokio::test]
async fn nobody_listening_is_an_error_where_the_broker_says_so() {
    let broker = Broker::start().await;
    let settings = r#"{"properties": {"level": {"type": "integer",
        "read": {"topic": "tank/level"}, "write": {"topic": "tank/level/set"}}}}"#;
    let mut owner = start(broker.port, "5", vec![device("tank", "x", settings)]).await;
    let error = owner.write("tank", r#"{"level": 3}"#).await.unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Offline, false));
    let mut tank = Device::mqtt(broker.port, "mute", "tank").await;
    let soon = Some(Instant::now() + Duration::from_secs(20));
    assert_eq!(owner.write_until("tank", r#"{"level": 3}"#, soon).await, Ok(Handed::Sent));
    tank.until("the value", |entry| entry["payload"] == "3").await;
    // It only reports: a question is refused, and what it says is heard.
    assert_eq!(owner.read("tank", LIMIT).await, Err(ReadErrorKind::Unsupported));
    tank.publish("tank/level", "3").await;
    owner.until("the report", says(r#"{"level": 3}"#)).await;
    // What has had its time is not handed over.
    let past = Some(Instant::now());
    let error = owner.write_until("tank", r#"{"level": 4}"#, past).await.unwrap_err();
    assert!(!error.may_have_acted);
    // Nor what comes only after its lease.
    let write = owner.next_write("tank", r#"{"level": 5}"#);
    let write = Write { deadline: Instant::now(), ..write };
    let error = timeout(LIMIT, owner.session.write(&write)).await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Timeout, false));
    assert_eq!(owner.write("tank", r#"{"level": 6}"#).await, Ok(Handed::Sent));
    tank.until("the last value", |entry| entry["payload"] == "6").await;
    assert_eq!(tank.count(|entry| entry["payload"] == "4" || entry["payload"] == "5"), 0);
}

#[tokio::test]
async fn what_is_kept_what_is_long_and_what_is_no_text() {
    let broker = Broker::start().await;
    for version in VERSIONS {
        let mut tank = Device::mqtt(broker.port, "mute", "tank").await;
        let topic = format!("tank/level{version}");
        tank.tell(json!({"publish": {"topic": topic, "payload": "5", "retain": true}})).await;
        tank.has("the broker has it", |entry| entry["topic"] == topic).await;
        let settings = format!(
            r#"{{"properties": {{"level": {{"type": "integer", "read": {{"topic": "{topic}"}}}}}}}}"#
        );
        let mut owner = start(broker.port, version, vec![device("tank", "x", &settings)]).await;
        let kept = owner.until("the kept value", says(r#"{"level": 5}"#)).await;
        assert_eq!((kept.quality, kept.retained), (Quality::Uncertain, true));
        for bad in [json!({"size": 1_000_001}), json!({"hex": "ff00fe"}), json!({"payload": "{"})] {
            let mut publish = json!({"topic": topic, "qos": 1});
            publish.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            tank.tell(json!({"publish": publish})).await;
            let seen = owner.until("it is bad", |seen| seen.quality == Quality::Bad).await;
            assert!(values(&seen.values).is_empty());
        }
        tank.publish(&topic, "6").await;
        let good = owner.until("a good one", says(r#"{"level": 6}"#)).await;
        assert_eq!(good.quality, Quality::Good);
        owner.session.close().await;
    }
}

#[tokio::test]
async fn a_flood_is_slowed_down_and_commands_still_leave() {
    let broker = Broker::start().await;
    let mut plug = Device::mqtt(broker.port, "plug", "plug").await;
    let mut loud = Device::mqtt(broker.port, "mute", "loud").await;
    let devices = vec![device("plug", "plug", PLUG_SETTINGS)];
    let mut owner = start(broker.port, "5", devices).await;
    owner.until_online("plug").await;
    for _ in 0..3_000 {
        loud.publish("tele/plug/STATE", r#"{"POWER":"OFF"}"#).await;
    }
    let (reports, mut taken) = (&mut owner.reports, 0);
    let write = Write {
        device: "plug".parse().unwrap(),
        values: object(r#"{"on": true}"#),
        revision: Revision::new(7),
        epoch: 1,
        sequence: 1,
        deadline: Instant::now() + LIMIT,
        expires: None,
    };
    let drain = async {
        while reports.recv().await.is_some() {
            taken += 1;
        }
    };
    tokio::select! {
        handed = owner.session.write(&write) => assert_eq!(handed, Ok(Handed::Sent)),
        () = drain => panic!("the session ended"),
    }
    plug.until("the command", |entry| entry["payload"] == "ON").await;
}

#[tokio::test]
async fn a_broker_that_dies_and_comes_back() {
    let mut broker = Broker::start().await;
    for version in VERSIONS {
        let devices = vec![device("plug", "plug", PLUG_SETTINGS)];
        let mut owner = start(broker.port, version, devices.clone()).await;
        broker.kill().await;
        let reason = timeout(LIMIT, owner.session.closed()).await.unwrap();
        assert!(matches!(reason, CloseReason::Lost(_)), "{reason:?}");
        let error = owner.write("plug", r#"{"on": true}"#).await.unwrap_err();
        assert_eq!(error.kind, WriteErrorKind::LinkLost);
        assert_eq!(owner.read("plug", LIMIT).await, Err(ReadErrorKind::LinkLost));
        let address = format!("127.0.0.1:{}", broker.port);
        let nowhere = std::path::Path::new("/nowhere");
        assert!(connect(&address, "{}", Vec::new(), nowhere).await.is_err());
        broker.restart().await;
        let again = start(broker.port, version, devices).await;
        again.session.close().await;
    }
}

#[tokio::test]
async fn a_new_owner_ends_the_session_of_the_one_before() {
    let broker = Broker::start().await;
    for version in VERSIONS {
        let before = start(broker.port, version, Vec::new()).await;
        let after = start(broker.port, version, Vec::new()).await;
        let reason = timeout(LIMIT, before.session.closed()).await.unwrap();
        // Not every broker says why: mosquitto 2.0 just closes.
        assert!(matches!(reason, CloseReason::TakenOver(_) | CloseReason::Lost(_)), "{reason:?}");
        after.session.close().await;
    }
}

#[tokio::test]
async fn a_login_that_is_refused_says_which_file_to_look_at() {
    let broker = Broker::start_with("allow_anonymous false").await;
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("home.toml");
    std::fs::write(&file, "username = \"u\"\npassword = \"wrong\"\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for version in VERSIONS {
        let settings = format!(r#"{{"version": "{version}", "credentials": "home.toml"}}"#);
        let address = format!("127.0.0.1:{}", broker.port);
        let refused = connect(&address, &settings, Vec::new(), secrets.path()).await;
        let message = refused.err().expect("the login is refused").message;
        assert!(message.contains("settings.credentials"), "{message}");
        assert!(!message.contains("wrong"), "{message}");
    }
}

#[tokio::test]
async fn devices_are_found_without_disturbing_the_owner() {
    let broker = Broker::start().await;
    let mut lamp = Device::mqtt(broker.port, "lamp", "lamp").await;
    let config = r#"{"~":"garden","cmd_t":"~/set","stat_t":"~/state","uniq_id":"g1","dev":{"ids":["garden01"],"name":"Garden"}}"#;
    let topic = "homeassistant/switch/garden/config";
    let announce =
        json!({"publish": {"topic": topic, "payload": config, "retain": true, "qos": 1}});
    lamp.tell(announce).await;
    let owner = start(broker.port, "5", vec![device("lamp", LAMP, LAMP_SETTINGS)]).await;
    let find = async |source: Source| {
        let place = Place {
            link: LinkSetup {
                id: "home.link".parse().unwrap(),
                address: format!("127.0.0.1:{}", broker.port).into(),
                settings: object("{}"),
            },
            site: "home".parse().unwrap(),
            secrets_dir: "/nowhere".into(),
            until: Instant::now() + LIMIT,
        };
        let discover = Discover { source, base: None };
        timeout(LIMIT, MqttConnector.discover(place, discover)).await.unwrap().unwrap()
    };
    let found = find(Source::Zigbee2Mqtt).await;
    assert_eq!(found.candidates.len(), 1);
    let candidate = &found.candidates[0];
    assert_eq!((candidate.address.as_str(), candidate.name.as_str()), (LAMP, "lamp"));
    assert_eq!(candidate.settings, object(LAMP_SETTINGS));
    assert_eq!(candidate.warnings, Vec::<String>::new());
    // What the device published just now may be on its way still.
    let deadline = Instant::now() + LIMIT;
    let found = loop {
        let found = find(Source::HomeAssistant).await;
        if !found.candidates.is_empty() {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
    };
    assert_eq!(found.candidates[0].address, "garden01");
    let id = "garden".parse().unwrap();
    let setup = DeviceSetup {
        id,
        address: "garden01".into(),
        model: None,
        settings: found.candidates[0].settings.clone(),
    };
    let link = LinkSetup {
        id: "home.link".parse().unwrap(),
        address: "broker".into(),
        settings: object("{}"),
    };
    assert!(MqttConnector.check_device(&link, &setup).is_ok());
    // The owner's session is the same as before.
    owner.session.close().await;
}

#[tokio::test]
async fn over_tls_with_an_authority_of_its_own_and_no_other() {
    let broker = Broker::start().await;
    let front = TlsFront::start(broker.port).await;
    let stranger = TlsFront::start(broker.port).await;
    let secrets = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", &front.certificate), ("other.pem", &stranger.certificate)] {
        let file = secrets.path().join(name);
        std::fs::write(&file, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
    }
    let mut plug = Device::mqtt(broker.port, "plug", "plug").await;
    let address = format!("mqtts://localhost:{}", front.port);
    for version in VERSIONS {
        let with = |ca: &str| format!(r#"{{"version": "{version}", "ca": "{ca}"}}"#);
        let devices = vec![device("plug", "plug", PLUG_SETTINGS)];
        let mut owner = connect(&address, &with("ca.pem"), devices, secrets.path()).await.unwrap();
        assert_eq!(owner.write("plug", r#"{"on": true}"#).await, Ok(Handed::Sent));
        plug.until("the command", |entry| entry["payload"] == "ON").await;
        owner.session.close().await;
        let refused = connect(&address, &with("other.pem"), Vec::new(), secrets.path()).await;
        assert!(refused.is_err(), "a certificate of somebody else");
        let plain = format!("mqtt://localhost:{}", front.port);
        let settings = format!(r#"{{"version": "{version}"}}"#);
        let refused = connect(&plain, &settings, Vec::new(), secrets.path()).await;
        assert!(refused.is_err(), "plain where TLS is spoken");
    }
}
