//! What carries devices dies and returns while they are commanded: an MQTT broker that is killed
//! twice, and a drive on Modbus. What is shown meanwhile is said, no one-shot comes twice, nothing
//! is handed over that had expired, and what has no limit is handed over afterwards.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::bare::{Answer, BareClient, Reply};
use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{
    RIG_LIMIT, register_device, register_link, tank_settings, until_device, until_link,
};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};
use tokio::sync::watch;

const TANK: &str = "hall.tank";
const PUMP: &str = "hall.pump";
const DRIVE: &str = "hall.drive";
/// Where the drive gets its level, where it shows it, and where its one-shots are written.
const LEVEL: u64 = 100;
const SHOWN: u64 = 130;
const STEP: u64 = 50;
/// Between two commands of the load.
const PACE: Duration = Duration::from_millis(20);
/// How far a one-shot can come.
const ENDS: [&str; 5] = ["sent", "acknowledged", "failed", "expired", "unknown"];

/// Sends a command under one request id, until the site has decided on it.
async fn decided(client: &BareClient, rest: &str, ttl: Option<&str>, body: &Value) -> Reply {
    let number = body.get("level").unwrap_or(&body["args"]["number"]);
    let id = format!("{rest}-{number}");
    let mut headers = vec![("Flotilla-Request-Id", id.as_str())];
    headers.extend(ttl.map(|ttl| ("Flotilla-Ttl", ttl)));
    let subject = format!("control.commands.device.{rest}");
    let client = client.hasty();
    wait::until("the site decides", RIG_LIMIT, || async {
        let answer = client.request_with(&subject, &headers, body.to_string()).await;
        let Answer::Reply(reply) = answer else { return None };
        reply.revision().is_some().then_some(reply)
    })
    .await
}

/// Wishes for a level; gives the revision.
async fn set(client: &BareClient, device: &str, ttl: Option<&str>, level: u64) -> u64 {
    let body = json!({"level": level});
    let reply = decided(client, &format!("update.{device}"), ttl, &body).await;
    assert!(reply.is_ok(), "{reply:?}");
    reply.revision().unwrap()
}

/// Wants a one-shot.
async fn go(client: &BareClient, device: &str, ttl: Option<&str>, number: u64) -> Reply {
    let body = json!({"action": "go", "args": {"number": number}});
    decided(client, &format!("invoke.{device}"), ttl, &body).await
}

/// Waits until a command has come to one of these ends.
async fn ends(client: &BareClient, id: &str, stages: &[&str]) -> String {
    let client = client.hasty();
    let subject = format!("control.query.command.get.{id}");
    wait::until(&format!("{id} ends in {stages:?}"), RIG_LIMIT, || async {
        let Answer::Reply(reply) = client.request(&subject, "").await else { return None };
        let stage = reply.at("/item/stage").as_str()?.to_owned();
        stages.contains(&stage.as_str()).then_some(stage)
    })
    .await
}

async fn until_verified(client: &BareClient, device: &str, revision: u64) {
    until_device(client, device, "it is verified", |seen| {
        seen["watermarks"]["verified"].as_u64() >= Some(revision)
    })
    .await;
}

/// Waits until it is said that a link is not connected, and what that means for its device.
async fn until_away(client: &BareClient, link: &str, device: &str) {
    let seen = until_link(client, link, "it is not connected", |seen| {
        seen["observed"]["state"] == "failed" && seen["observed"]["next_try_wall_ms"].is_u64()
    })
    .await;
    assert!(seen["observed"]["detail"].as_str().is_some_and(|why| why.len() > 10), "{seen}");
    let seen = until_device(client, device, "nobody knows of it", |seen| {
        seen["observed"]["availability"] == "unknown"
    })
    .await;
    let note = seen["observed"]["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("its link is not connected"), "{seen}");
    assert_eq!(seen["observed"]["reported"]["level"]["quality"], "uncertain", "{seen}");
}

/// The numbers that a tank was told, in this order.
fn heard(tank: &FieldDevice, topic: &str) -> Vec<u64> {
    let number = |entry: &Value| {
        (entry["topic"] == topic).then(|| entry["payload"].as_str()?.parse().ok())?
    };
    tank.journal().iter().filter_map(number).collect()
}

/// The words that were written to a register, in this order.
fn written(drive: &FieldDevice, address: u64) -> Vec<u64> {
    let word = |entry: &Value| {
        let here = entry["write"] == "holding" && entry["address"] == address;
        here.then(|| entry["values"][0].as_u64())?
    };
    drive.journal().iter().filter_map(word).collect()
}

/// A tank and a pump at one broker.
struct House {
    site: Site,
    broker: Broker,
    tank: FieldDevice,
    pump: FieldDevice,
}

async fn house() -> House {
    let site = Site::start(1).await;
    let workplace = site.workplace().path();
    let broker = Broker::start(workplace);
    let tank = FieldDevice::tank(workplace, &broker, "tank");
    let pump = FieldDevice::tank(workplace, &broker, "pump");
    let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any"});
    register_link(&site.client, "broker", &body).await;
    for (id, address) in [(TANK, "tank"), (PUMP, "pump")] {
        let body = json!({"link": "broker", "address": address, "settings": tank_settings()});
        register_device(&site.client, id, &body, "auto").await;
        let first = set(&site.client, id, None, 1).await;
        until_verified(&site.client, id, first).await;
    }
    House { site, broker, tank, pump }
}

/// What a load has wanted: the revision of the last wish, and the numbers of one-shots that were
/// taken, and of those for which there was no room any more.
#[derive(Default)]
struct Wanted {
    revision: u64,
    taken: Vec<u64>,
    refused: Vec<u64>,
}

/// Wishes and one-shots for the tank, until it is told to stop.
async fn load(client: BareClient, stop: watch::Receiver<bool>) -> Wanted {
    let (mut number, mut wanted) = (1, Wanted::default());
    let mut pace = tokio::time::interval(PACE);
    while !*stop.borrow() {
        pace.tick().await;
        number += 2;
        wanted.revision = set(&client, TANK, None, number).await;
        let reply = go(&client, TANK, Some("2s"), number + 1).await;
        if reply.is_ok() {
            wanted.taken.push(number + 1);
        } else {
            assert_eq!(reply.code(), Some("limit_reached"), "{reply:?}");
            wanted.refused.push(number + 1);
        }
    }
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_twice_under_load_costs_no_truth() {
    let mut house = house().await;
    let client = house.site.client.clone();
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(load(client.clone(), stopped));
    for life in 1..=2 {
        let before = heard(&house.tank, "tank/go").len();
        wait::until_true("the tank is under load", RIG_LIMIT, || async {
            heard(&house.tank, "tank/go").len() > before + 10
        })
        .await;
        house.broker.kill();
        until_away(&client, "broker", TANK).await;
        until_away(&client, "broker", PUMP).await;
        // What has a limit ends while the broker is away, and what has none waits.
        let base = 100 * life;
        set(&client, PUMP, Some("500ms"), base + 1).await;
        ends(&client, &format!("update.{PUMP}-{}", base + 1), &["expired"]).await;
        assert!(go(&client, PUMP, Some("500ms"), base + 1).await.is_ok());
        ends(&client, &format!("invoke.{PUMP}-{}", base + 1), &["expired"]).await;
        let waits = set(&client, PUMP, None, base + 2).await;
        house.broker.start_again();
        until_verified(&client, PUMP, waits).await;
        assert!(heard(&house.pump, "pump/set").contains(&(base + 2)));
        until_link(&client, "broker", "it is connected", |seen| {
            seen["observed"]["state"] == "connected"
        })
        .await;
    }
    assert_eq!(house.broker.sessions("flotilla:home:broker"), 3, "one session for each life");
    assert!(house.site.agents[0].counter("flotilla_link_failures_total") >= 2.0);
    stop.send_replace(true);
    let wanted = load.await.unwrap();
    until_verified(&client, TANK, wanted.revision).await;

    // Everything has an end, and the end is true.
    let came = |number: u64| {
        heard(&house.tank, "tank/go").into_iter().filter(|told| *told == number).count()
    };
    for number in wanted.taken {
        let end = ends(&client, &format!("invoke.{TANK}-{number}"), &ENDS).await;
        let times_max = usize::from(!["failed", "expired"].contains(&end.as_str()));
        assert!(came(number) <= times_max, "{number} ended {end}, came {} times", came(number));
    }
    for number in wanted.refused {
        assert_eq!(came(number), 0, "{number} was refused");
    }
    let told = heard(&house.tank, "tank/set");
    assert!(told.is_sorted(), "an older value after a newer one: {told:?}");
    // And a later command to the pump shows that nothing expired waits anywhere.
    assert!(go(&client, PUMP, None, 999).await.is_ok());
    wait::until_true("the pump is told", RIG_LIMIT, || async {
        heard(&house.pump, "pump/go").contains(&999)
    })
    .await;
    assert_eq!(heard(&house.pump, "pump/go"), [999]);
    for expired in [101, 201] {
        assert!(!heard(&house.pump, "pump/set").contains(&expired), "{expired} had expired");
    }
}

/// A drive that shows its level in another register than the one where it is written.
async fn plant() -> (Site, FieldDevice, String) {
    let site = Site::start(1).await;
    let (drive, address) = FieldDevice::drive(site.workplace().path(), "drive");
    let body = json!({"connector": "modbus", "address": address, "placement": "any"});
    register_link(&site.client, "bus", &body).await;
    let settings = json!({
        "groups": {"default": {"interval_ms": 100}},
        "registers": {
            "level": {"table": "holding", "address": LEVEL, "type": "u16", "access": "read_write",
                      "read_from": {"address": SHOWN}},
            "step": {"table": "holding", "address": STEP, "type": "u16", "access": "action"}},
        "actions": {"go": {"write": {"step": {"arg": "number"}}}},
    });
    let body = json!({"link": "bus", "address": "1", "settings": settings});
    register_device(&site.client, DRIVE, &body, "auto").await;
    (site, drive, address)
}

fn shows(level: u64) -> Value {
    json!({"set": {"table": "holding", "address": SHOWN, "values": [level]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_dies_and_returns_is_told_nothing_that_had_expired() {
    let (site, mut drive, address) = plant().await;
    let client = &site.client;
    // It has the value, and says so; that it is so it shows later.
    let first = set(client, DRIVE, None, 7).await;
    let seen = until_device(client, DRIVE, "it is acknowledged", |seen| {
        seen["watermarks"]["acknowledged"].as_u64() >= Some(first)
    })
    .await;
    assert_ne!(seen["stage"], "verified", "{seen}");
    drive.tell(&shows(7));
    until_verified(client, DRIVE, first).await;
    assert!(go(client, DRIVE, None, 1).await.is_ok());
    ends(client, &format!("invoke.{DRIVE}-1"), &["acknowledged"]).await;

    drive.kill();
    until_away(client, "bus", DRIVE).await;
    set(client, DRIVE, Some("500ms"), 8).await;
    ends(client, &format!("update.{DRIVE}-8"), &["expired"]).await;
    assert!(go(client, DRIVE, Some("500ms"), 2).await.is_ok());
    ends(client, &format!("invoke.{DRIVE}-2"), &["expired"]).await;
    let seen = until_device(client, DRIVE, "it is as before", |seen| seen["desired"]["level"] == 7);
    assert_eq!(seen.await["observed"]["availability"], "unknown");
    let waits = set(client, DRIVE, None, 9).await;

    let mut drive = FieldDevice::drive_at(site.workplace().path(), "drive", &address);
    until_device(client, DRIVE, "it is back", |seen| seen["observed"]["availability"] == "online")
        .await;
    wait::until_true("it is told", RIG_LIMIT, || async { written(&drive, LEVEL).contains(&9) })
        .await;
    drive.tell(&shows(9));
    until_verified(client, DRIVE, waits).await;
    assert!(go(client, DRIVE, None, 3).await.is_ok());
    ends(client, &format!("invoke.{DRIVE}-3"), &["acknowledged"]).await;
    assert_eq!(written(&drive, STEP), [1, 3], "each one-shot once, and none that had expired");
    assert!(!written(&drive, LEVEL).contains(&8), "{:?}", drive.journal());
    let told = written(&drive, LEVEL);
    assert!(told.is_sorted(), "an older value after a newer one: {told:?}");
}
