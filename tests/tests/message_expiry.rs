//! A command's time goes with it: over MQTT 5 the broker is told how long a message is worth
//! keeping, and doesn't hand over what waited for longer.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{RIG_LIMIT, register_device, register_link, tank_settings, until_device};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

/// Tanks that the broker keeps messages for.
const NAMES: [&str; 2] = ["tank", "pump"];

/// What a tank heard of a number on one of its topics.
fn heard(tank: &FieldDevice, topic: &str, number: u64) -> Vec<Value> {
    let number = number.to_string();
    let is_it = |entry: &Value| entry["topic"] == topic && entry["payload"] == number;
    tank.journal().into_iter().filter(is_it).collect()
}

/// Waits until it has heard of it; gives how many seconds the message had left.
async fn until_heard(tank: &FieldDevice, topic: &str, number: u64) -> Option<u64> {
    wait::until(&format!("{topic} {number}"), RIG_LIMIT, || async {
        heard(tank, topic, number).first().map(|entry| entry["left_s"].as_u64())
    })
    .await
}

/// Wants something of a tank and waits until the broker has it.
async fn send(site: &Site, rest: &str, body: &Value, ttl: Option<&str>) {
    let mut headers = vec![("Flotilla-Wait", "sent"), ("Flotilla-Timeout", "30s")];
    headers.extend(ttl.map(|ttl| ("Flotilla-Ttl", ttl)));
    let subject = format!("control.commands.device.{rest}");
    let reply = site.client.request_with(&subject, &headers, body.to_string()).await.accepted();
    assert_ne!(reply.at("/stage"), "committed", "{reply:?}");
}

async fn set(site: &Site, name: &str, level: u64, ttl: Option<&str>) {
    send(site, &format!("update.hall.{name}"), &json!({"level": level}), ttl).await;
}

async fn go(site: &Site, name: &str, number: u64, ttl: Option<&str>) {
    let body = json!({"action": "go", "args": {"number": number}});
    send(site, &format!("invoke.hall.{name}"), &body, ttl).await;
}

fn is_within(left_s: Option<u64>, range: std::ops::Range<u64>) -> bool {
    left_s.is_some_and(|left_s| range.contains(&left_s))
}

/// A site with both tanks. Nobody tells whether they are there, so what is wanted of them is handed
/// to the broker at any time.
async fn hall() -> (Site, Broker, [FieldDevice; 2]) {
    let site = Site::start(1).await;
    let broker = Broker::start(site.workplace().path());
    let tanks = NAMES.map(|name| FieldDevice::kept_tank(site.workplace().path(), &broker, name));
    let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any"});
    register_link(&site.client, "broker", &body).await;
    let mut settings = tank_settings();
    settings.as_object_mut().unwrap().remove("availability");
    for name in NAMES {
        let id = format!("hall.{name}");
        let body = json!({"link": "broker", "address": name, "settings": settings});
        register_device(&site.client, &id, &body, "auto").await;
        set(&site, name, 3, None).await;
        until_device(&site.client, &id, "it is verified", |seen| seen["stage"] == "verified").await;
    }
    (site, broker, tanks)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_keeps_for_a_device_that_is_away_is_dropped_when_its_time_is_over() {
    let (site, broker, [tank, pump]) = hall().await;
    // What has a time says how much of it is left; what has none says nothing. A one-shot has a
    // minute unless another time is said.
    assert_eq!(until_heard(&tank, "tank/set", 3).await, None);
    set(&site, "tank", 4, Some("100s")).await;
    go(&site, "tank", 1, Some("100s")).await;
    go(&site, "tank", 2, None).await;
    for (topic, number, range) in
        [("tank/set", 4, 60..100), ("tank/go", 1, 60..100), ("tank/go", 2, 30..60)]
    {
        let left_s = until_heard(&tank, topic, number).await;
        assert!(is_within(left_s, range), "{topic} {number}: {left_s:?}");
    }

    // Both go away. The broker has their wishes, and keeps one of them for long enough.
    tank.kill();
    pump.kill();
    set(&site, "pump", 5, Some("2s")).await;
    set(&site, "tank", 5, Some("100s")).await;
    go(&site, "tank", 3, Some("100s")).await;
    // That its time passes is what this is about.
    let begun = Instant::now();
    wait::until_true("its time is over", RIG_LIMIT, || async {
        begun.elapsed() > Duration::from_secs(3)
    })
    .await;
    let [tank, pump] =
        NAMES.map(|name| FieldDevice::kept_tank(site.workplace().path(), &broker, name));
    let left_s = until_heard(&tank, "tank/set", 5).await;
    assert!(is_within(left_s, 30..97), "{left_s:?}");
    for (name, tank) in [("pump", &pump), ("tank", &tank)] {
        go(&site, name, 9, Some("100s")).await;
        until_heard(tank, &format!("{name}/go"), 9).await;
    }
    assert_eq!(heard(&pump, "pump/set", 5), Vec::<Value>::new(), "its time was over");
    assert_eq!(heard(&tank, "tank/go", 3), Vec::<Value>::new(), "a one-shot is kept by nobody");
}
