//! What is armed against the loss of control goes off when the gateway dies, and not before.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{
    RIG_LIMIT, owner_but, register_device, register_link, until_device, until_link,
};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

const PLUG: &str = "hall.plug";

/// A plug on a link that leaves behind that it is to be switched off.
async fn plug_with_will(site: &Site, broker: &Broker, settings: &Value) -> FieldDevice {
    let plug = FieldDevice::plug(site.workplace().path(), broker, "plug");
    let mut settings = settings.clone();
    settings["will"]["topic"] = json!("cmnd/plug/POWER");
    settings["will"]["payload"] = json!("OFF");
    let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any",
                      "settings": settings});
    register_link(&site.client, "broker", &body).await;
    let body = json!({"link": "broker", "address": "plug", "settings": {"preset": "tasmota"}});
    register_device(&site.client, PLUG, &body, "auto").await;
    set_on(site).await;
    plug
}

async fn set_on(site: &Site) {
    let wait = [("Flotilla-Wait", "verified"), ("Flotilla-Timeout", "30s")];
    let subject = format!("control.commands.device.update.{PLUG}");
    site.client.request_with(&subject, &wait, r#"{"on":true}"#).await.accepted();
    until_device(&site.client, PLUG, "it is verified", |seen| seen["stage"] == "verified").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_publishes_the_last_will_of_a_gateway_that_dies() {
    for settings in [json!({"version": "3.1.1", "will": {}}), json!({"version": "5", "will": {}})] {
        let mut site = Site::start(1).await;
        let broker = Broker::start(site.workplace().path());
        let plug = plug_with_will(&site, &broker, &settings).await;
        assert_eq!(plug.told("OFF"), 0, "{settings}");
        site.agents[0].kill();
        wait::until_true("the plug is switched off", RIG_LIMIT, || async { plug.told("OFF") == 1 })
            .await;
        // It is no command of anybody who lives: the next start sees drift.
        site.agents[0].start();
        until_device(&site.client, PLUG, "the drift", |seen| {
            seen["observed"]["drift"]["on"]["reported"] == false
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_is_a_goodbye_and_a_death_is_told_to_the_next_owner_as_drift() {
    let mut site = Site::start(3).await;
    let broker = Broker::start(site.workplace().path());
    let plug = plug_with_will(&site, &broker, &json!({"will": {}})).await;
    assert_eq!(site.cli.run(&["link", "pause", "broker"]).code, Some(0));
    until_link(&site.client, "broker", "it is paused", |seen| {
        seen["observed"]["state"] == "paused"
    })
    .await;
    assert_eq!(site.cli.run(&["link", "resume", "broker"]).code, Some(0));
    set_on(&site).await;
    assert_eq!(plug.told("OFF"), 0, "{:?}", plug.journal());

    let first = owner_but(&site.client, PLUG, &[]).await;
    site.agents[first].kill();
    let next = owner_but(&site.client, PLUG, &[first]).await;
    let took_over = |seen: &Value| {
        seen["observed"]["node"].as_u64() == u64::try_from(next + 1).ok()
            && seen["observed"]["drift"]["on"]["reported"] == false
    };
    until_device(&site.client, PLUG, "it is taken over", took_over).await;
    assert_eq!(plug.told("OFF"), 1, "{:?}", plug.journal());
    set_on(&site).await;
}

/// A drive whose own watchdog stops it three seconds after the last refresh.
fn watched_drive() -> Value {
    let register = |address: u16, access: &str| json!({"table": "holding", "address": address, "type": "u16", "access": access});
    json!({
        "groups": {"default": {"interval_ms": 100}},
        "registers": {"speed": register(100, "read_write"), "heartbeat": register(60, "action"),
                      "patience": register(61, "action")},
        "watchdog": {"arm": {"patience": 30}, "register": "heartbeat", "values": [1, 2],
                     "refresh_ms": 200},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_is_refreshed_as_long_as_somebody_may_write_and_trips_after_that() {
    let mut site = Site::start(1).await;
    let (mut drive, address) = FieldDevice::drive(site.workplace().path(), "drive");
    drive.tell(&json!({"watchdog": 60}));
    let client = site.client.clone();
    let body = json!({"connector": "modbus", "address": address, "placement": "any"});
    register_link(&client, "bus", &body).await;
    let body = json!({"link": "bus", "address": "1", "settings": watched_drive()});
    register_device(&client, "hall.drive", &body, "observe").await;
    let online = |seen: &Value| seen["observed"]["reported"]["speed"].is_object();
    until_device(&client, "hall.drive", "it is read", online).await;
    let writes = |address: u64| {
        let of = move |entry: &Value| entry["write"] == "holding" && entry["address"] == address;
        drive.journal().into_iter().filter(of).collect::<Vec<Value>>()
    };
    assert_eq!(writes(60).len(), 0, "in observe nothing is written, also no watchdog");

    client.request("control.commands.device.mode.hall.drive", r#""auto""#).await.accepted();
    client.request("control.commands.device.update.hall.drive", r#"{"speed":30}"#).await.accepted();
    wait::until_true("it is refreshed", RIG_LIMIT, || async { writes(60).len() >= 20 }).await;
    let armed: Vec<Value> = writes(61).iter().map(|entry| entry["values"].clone()).collect();
    assert_eq!(armed, [json!([30])], "it is armed once");
    let beats: Vec<u64> = writes(60).iter().filter_map(|b| b["values"][0].as_u64()).collect();
    assert!(beats.windows(2).all(|pair| pair[0] != pair[1]), "in turns: {beats:?}");
    let tripped = || drive.count(|entry| entry["tripped"] == true);
    assert_eq!(tripped(), 0);

    site.agents[0].kill();
    wait::until_true("the drive stops by itself", RIG_LIMIT, || async { tripped() == 1 }).await;
    let beats = writes(60).len();
    site.agents[0].start();
    wait::until_true("it is refreshed again", RIG_LIMIT, || async { writes(60).len() > beats + 5 })
        .await;
    let drifted = |seen: &Value| seen["observed"]["drift"]["speed"]["reported"] == 0;
    until_device(&client, "hall.drive", "what the drive did is seen", drifted).await;

    // On hold nothing is written, and a drive that must be kept armed stops.
    let body = json!({"reason": "work on the drive"}).to_string();
    client.request("control.commands.device.hold.hall.drive", body).await.accepted();
    wait::until_true("it stops again", RIG_LIMIT, || async { tripped() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_left_alone_loses_control_as_if_it_had_died() {
    let mut site = Site::start(3).await;
    let broker = Broker::start(site.workplace().path());
    let plug = plug_with_will(&site, &broker, &json!({"will": {}})).await;
    let (mut drive, address) = FieldDevice::drive(site.workplace().path(), "drive");
    drive.tell(&json!({"watchdog": 60}));
    let owner = owner_but(&site.client, PLUG, &[]).await;
    let body = json!({"connector": "modbus", "address": address, "placement": "any"});
    register_link(&site.client, "bus", &body).await;
    let body = json!({"link": "bus", "address": "1", "settings": watched_drive()});
    register_device(&site.client, "hall.drive", &body, "auto").await;
    if owner_but(&site.client, "hall.drive", &[]).await != owner {
        let to = json!({"to": format!("n{}", owner + 1)}).to_string();
        site.client.request("control.commands.link.move.bus", to).await.accepted();
        let others: Vec<usize> = (0..3).filter(|index| *index != owner).collect();
        owner_but(&site.client, "hall.drive", &others).await;
    }
    let wish = r#"{"speed":30}"#;
    site.client.request("control.commands.device.update.hall.drive", wish).await.accepted();
    let of_drive = |address: u64| {
        drive.count(|entry| entry["write"] == "holding" && entry["address"] == address)
    };
    let beats = of_drive(60);
    wait::until_true("it is refreshed", RIG_LIMIT, || async { of_drive(60) > beats + 10 }).await;
    let tripped = || drive.count(|entry| entry["tripped"] == true);
    assert_eq!((tripped(), plug.told("OFF")), (0, 0));

    // Nobody confirms the owner's lease any more: others might control its links.
    for index in (0..3).filter(|index| *index != owner) {
        site.agents[index].kill();
    }
    wait::until_true("the will is published", RIG_LIMIT, || async { plug.told("OFF") == 1 }).await;
    wait::until_true("the drive stops by itself", RIG_LIMIT, || async { tripped() == 1 }).await;
    assert!(site.agents[owner].process().ended().is_none(), "it was alive all the time");

    // With the others it takes control again, and says what it found.
    site.start_all();
    let drifted = |seen: &Value| seen["observed"]["drift"]["on"]["reported"] == false;
    until_device(&site.client, PLUG, "the drift", drifted).await;
    let beats = of_drive(60);
    wait::until_true("it is refreshed again", RIG_LIMIT, || async { of_drive(60) > beats + 5 })
        .await;
    assert_eq!((tripped(), plug.told("OFF")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_never_go_off_is_refused_when_it_is_registered() {
    let site = Site::start(1).await;
    let client = &site.client;
    let link = |settings: Value| {
        json!({"connector": "mqtt", "address": "mqtt://127.0.0.1:9", "placement": "any",
               "settings": settings})
    };
    for settings in [
        json!({"will": {"topic": "a/#", "payload": "OFF"}}),
        json!({"will": {"topic": "a"}}),
        json!({"will": {"topic": "a", "payload": "b", "delay_s": 5}}),
    ] {
        let register = "control.commands.link.register.broker";
        client.request(register, link(settings).to_string()).await.refused("malformed");
    }
    let body = json!({"connector": "modbus", "address": "127.0.0.1:9", "placement": "any"});
    register_link(client, "bus", &body).await;
    for (pointer, value) in [
        ("/watchdog/register", json!("speed")),
        ("/watchdog/register", json!("hartbeat")),
        ("/watchdog/values", json!([])),
        ("/watchdog/values", json!([70_000])),
        ("/watchdog/arm", json!({"speed": 5})),
        ("/watchdog/arm", json!({"heartbeat": 5})),
        ("/watchdog/refresh_ms", json!(1)),
    ] {
        let mut settings = watched_drive();
        *settings.pointer_mut(pointer).unwrap() = value.clone();
        let body = json!({"link": "bus", "address": "1", "settings": settings});
        let register = "control.commands.device.register.hall.drive";
        let reply = client.request(register, body.to_string()).await.refused("malformed");
        assert!(reply.0.to_string().contains("watchdog"), "{pointer} {value}: {}", reply.0);
    }
}
