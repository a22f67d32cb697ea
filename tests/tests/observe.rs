//! Thirty days of a real-sized house in fast motion: a site that only observes writes nothing.
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

const LIMIT: Duration = Duration::from_secs(120);
const DEVICES: usize = 150;
const DAYS: u64 = 30;
const REPORTS_PER_DAY: u64 = 8;
/// Items in one batch.
const BATCH: usize = 25;

async fn batch(site: &Site, items: &[Value]) {
    for items in items.chunks(BATCH) {
        let body = Value::Array(items.to_vec()).to_string();
        site.client.request("control.commands.batch", body).await.accepted();
    }
}

/// Something that a device of the house can be set to, and that it will hardly ever be by itself.
fn wish(device: &Value) -> Option<Value> {
    match device["definition"]["model"].as_str().unwrap() {
        "LED1545G12" => Some(json!({"brightness": 200})),
        "TS0601_thermostat" => Some(json!({"current_heating_setpoint": 21})),
        "E1757" => Some(json!({"position": 50})),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_days_of_a_house_are_observed_and_nothing_is_written() {
    let site = Site::start(1).await;
    let broker = Broker::start(site.workplace().path());
    let mut house = FieldDevice::zigbee_house(site.workplace().path(), &broker);
    let link = json!({"connector": "mqtt", "address": broker.address(), "placement": "any"});
    let register = "control.commands.link.register.zigbee";
    site.client.request(register, link.to_string()).await.accepted();
    let entries = house.journal();
    let export = entries.iter().find_map(|entry| entry["export"].as_array()).unwrap();
    assert_eq!(export.len(), DEVICES);
    let id = |device: &Value| format!("house.{}", device["friendly_name"].as_str().unwrap());
    let register = |device: &Value| {
        let sleepy = device["power_source"] == "Battery";
        let exposes = &device["definition"]["exposes"];
        let settings = json!({"preset": "zigbee2mqtt", "exposes": exposes, "sleepy": sleepy});
        let body = json!({"link": "zigbee", "address": device["ieee_address"],
                          "policy": {"on_drift": "enforce"}, "settings": settings});
        json!({"op": "device.register", "id": id(device), "body": body})
    };
    batch(&site, &export.iter().map(register).collect::<Vec<Value>>()).await;
    // Somebody wants something of every device that can be set. What would be written is shown.
    let wanted = |device: &Value| {
        Some(json!({"op": "device.update", "id": id(device), "body": wish(device)?}))
    };
    let wanted: Vec<Value> = export.iter().filter_map(wanted).collect();
    batch(&site, &wanted).await;

    let heard = || site.agents[0].counter("flotilla_device_reports_total");
    let before = heard();
    let reports = house.play(DAYS, REPORTS_PER_DAY);
    assert_eq!(reports, DAYS * REPORTS_PER_DAY * DEVICES as u64);
    let all = f64::from(u32::try_from(reports).unwrap());
    wait::until_true("the agent has heard it all", LIMIT, || async { heard() >= before + all })
        .await;
    let shown = id(&export[0]);
    let subject = format!("control.query.device.get.{shown}");
    let lamp = site.client.request(&subject, "").await.accepted().at("/item").clone();
    assert_eq!(lamp["mode"], json!("observe"), "{lamp}");
    assert_eq!(lamp["observed"]["would_write"], json!({"brightness": 200}), "{lamp}");
    // Blinds sleep and answer no question: what they report is what they are.
    let is_blind = |device: &&Value| device["definition"]["model"] == "E1757";
    let mut blinds = Vec::new();
    for blind in export.iter().filter(is_blind) {
        let subject = format!("control.query.device.get.{}", id(blind));
        let item = site.client.request(&subject, "").await.accepted().at("/item").clone();
        blinds.push(item["observed"].clone());
    }
    let is_known = |seen: &Value| seen["availability"] == "asleep" && seen["why"] == "observing";
    assert!(blinds.iter().any(is_known), "{blinds:?}");

    let told = house.journal();
    let sets: Vec<&Value> = told.iter().filter(|entry| !entry["set"].is_null()).collect();
    assert!(sets.is_empty(), "{sets:?}");
    let gets = told.iter().filter_map(|entry| entry["gets"].as_u64()).max();
    println!("{reports} reports in {DAYS} days: no write, {} questions", gets.unwrap_or_default());
}
