//! Somebody else writes to devices of a site, past it: heard, told, counted, and not confused with
//! what the site itself says.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use async_nats::Subscriber;
use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{RIG_LIMIT, register_device, register_link, until_device};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use futures_util::StreamExt;
use serde_json::{Value, json};

const FOREIGN: &str = "flotilla_device_foreign_writes_total";
const FLOOD: u64 = 500;

async fn listen(site: &Site) -> Subscriber {
    let subject = site.client.subject("control.events.foreign_write.>");
    let events = site.client.raw().subscribe(subject).await.unwrap();
    site.client.settle().await;
    events
}

async fn next(events: &mut Subscriber) -> (String, Value) {
    let event = tokio::time::timeout(RIG_LIMIT, events.next()).await;
    let event = event.expect("an event in time").expect("the subscription stands");
    (event.subject.to_string(), serde_json::from_slice(&event.payload).unwrap())
}

async fn set_verified(site: &Site, id: &str, patch: &Value) {
    let wait = [("Flotilla-Wait", "verified"), ("Flotilla-Timeout", "30s")];
    let subject = format!("control.commands.device.update.{id}");
    site.client.request_with(&subject, &wait, patch.to_string()).await.accepted();
    until_device(&site.client, id, "it is verified", |seen| seen["stage"] == "verified").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_mqtt_in_both_versions_and_a_flood_is_no_flood_of_events() {
    let site = Site::start(1).await;
    let workplace = site.workplace().path();
    let broker = Broker::start(workplace);
    let mut stranger = FieldDevice::stranger(workplace, &broker);
    let mut events = listen(&site).await;
    let mut heard = 0;
    for (link, version) in [("old", "3.1.1"), ("new", "5")] {
        let (name, id) = (format!("plug-{link}"), format!("hall.{link}"));
        let plug = FieldDevice::plug(workplace, &broker, &name);
        let settings = json!({"version": version});
        let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any",
                          "settings": settings});
        register_link(&site.client, link, &body).await;
        let body = json!({"link": link, "address": name, "settings": {"preset": "tasmota"}});
        register_device(&site.client, &id, &body, "manual").await;
        let online = |seen: &Value| seen["observed"]["availability"] == "online";
        until_device(&site.client, &id, "it is online", online).await;

        // What the site says itself, to ask and to command, is nobody else's.
        set_verified(&site, &id, &json!({"on": true})).await;
        assert_eq!(site.agents[0].counter(FOREIGN), heard_of(heard), "{version}");

        let topic = format!("cmnd/{name}/POWER");
        stranger.tell(&json!({"publish": {"topic": topic, "payload": "OFF", "qos": 1}}));
        let (subject, event) = next(&mut events).await;
        assert_eq!(subject, site.client.subject(&format!("control.events.foreign_write.{id}")));
        assert_eq!(event["values"], json!({"on": false}), "{event}");
        let told = (&event["device"], &event["link"], &event["count"], &event["retained"]);
        assert_eq!(told, (&json!(id), &json!(link), &json!(1), &json!(false)), "{event}");
        let seen = until_device(&site.client, &id, "the drift", |seen| {
            seen["observed"]["drift"]["on"]["reported"] == false
        })
        .await;
        assert_eq!(seen["observed"]["foreign_write"]["values"], json!({"on": false}), "{seen}");

        let begun = Instant::now();
        let flood = json!({"topic": topic, "payload": "ON", "qos": 1, "times": FLOOD});
        stranger.tell(&json!({"publish": flood}));
        let (mut count, mut told) = (0, 0_u64);
        while count < FLOOD {
            let (_, event) = next(&mut events).await;
            count += event["count"].as_u64().unwrap();
            told += 1;
        }
        assert_eq!(count, FLOOD, "every one is counted, and once");
        assert!(told <= begun.elapsed().as_secs() + 2, "{told} events in {:?}", begun.elapsed());
        heard += 1 + FLOOD;
        assert_eq!(site.agents[0].counter(FOREIGN), heard_of(heard));
        drop(plug);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn heard_of(count: u64) -> f64 {
    count as f64
}

/// A device that speaks NATS and knows nothing of ours.
async fn door(site: &Site) -> tokio::task::JoinHandle<()> {
    let client = site.client.clone();
    let mut told = client.raw().subscribe(client.subject("device.hall.door.set")).await.unwrap();
    client.settle().await;
    tokio::spawn(async move {
        while let Some(message) = told.next().await {
            if let Some(reply) = message.reply {
                client.raw().publish(reply, "".into()).await.unwrap();
            }
            client.publish("device.hall.door.reported", message.payload).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_and_a_device_that_is_away_is_known_to_be() {
    let site = Site::start(1).await;
    let mut events = listen(&site).await;
    let device = door(&site).await;
    register_link(&site.client, "bus", &json!({"connector": "nats", "placement": "any"})).await;
    register_device(&site.client, "hall.door", &json!({"link": "bus"}), "manual").await;
    set_verified(&site, "hall.door", &json!({"open": true})).await;
    assert_eq!(site.agents[0].counter(FOREIGN), 0.0, "our own word is nobody else's");

    site.client.publish("device.hall.door.set", r#"{"open":false}"#).await;
    let (subject, event) = next(&mut events).await;
    assert_eq!(subject, site.client.subject("control.events.foreign_write.hall.door"));
    assert_eq!((&event["values"], &event["count"]), (&json!({"open": false}), &json!(1)));
    until_device(&site.client, "hall.door", "the drift", |seen| {
        seen["observed"]["drift"]["open"]["reported"] == false
    })
    .await;

    // That the owner listens along must not look like a device that is there.
    device.abort();
    let _ended = device.await;
    site.client.settle().await;
    site.client.request("control.commands.device.update.hall.door", r#"{"open":true}"#).await;
    until_device(&site.client, "hall.door", "nobody listens", |seen| {
        let note = seen["observed"]["note"].as_str().unwrap_or_default();
        note.contains("nobody listens")
    })
    .await;
    let device = door(&site).await;
    until_device(&site.client, "hall.door", "it is back", |seen| seen["stage"] == "verified").await;
    assert_eq!(site.agents[0].counter(FOREIGN), 1.0);
    wait::until_true("the device ends", Duration::from_secs(5), || async {
        device.abort();
        device.is_finished()
    })
    .await;
}
