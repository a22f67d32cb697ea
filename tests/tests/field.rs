//! From a command to real devices and back, over MQTT and Modbus, through real agents.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::bare::BareClient;
use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{register_device, until_device};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const GET: &str = "control.query.device.get.hall.plug";
const UPDATE: &str = "control.commands.device.update.hall.plug";
const FAN: &str = "hall.fan";
const UPDATE_FAN: &str = "control.commands.device.update.hall.fan";
/// How long a difference must last until something is done about it, where it is.
const SETTLE: &str = "100ms";

struct Hall {
    site: Site,
    broker: Broker,
    plug: FieldDevice,
}

/// A site, a broker and a plug with Tasmota's topics, registered and observed.
async fn hall(agents: usize) -> Hall {
    let site = Site::start(agents).await;
    let broker = Broker::start(site.workplace().path());
    let plug = FieldDevice::plug(site.workplace().path(), &broker, "plug");
    let link = json!({"connector": "mqtt", "address": broker.address(), "placement": "any"});
    let client = &site.client;
    client.request("control.commands.link.register.broker", link.to_string()).await.accepted();
    let device = json!({"link": "broker", "address": "plug", "settings": {"preset": "tasmota"},
                        "policy": {"on_drift": "report", "settle": SETTLE}});
    let register = "control.commands.device.register.hall.plug";
    client.request(register, device.to_string()).await.accepted();
    let hall = Hall { site, broker, plug };
    hall.until("it is online", |seen| seen["observed"]["availability"] == "online").await;
    hall
}

impl Hall {
    /// Waits until the device looks like that.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&self.site.client, what, wanted).await
    }

    /// Which agent owns the plug's link.
    async fn owner(&self) -> usize {
        let seen = self.until("somebody owns it", |seen| seen["owner"].is_u64()).await;
        usize::try_from(seen["owner"].as_u64().unwrap()).unwrap() - 1
    }

    /// A second plug on the same link, which is as it was wanted and is enforced. When it has been
    /// turned after another device and is corrected, the other one would have been corrected too.
    async fn with_fan(&self) -> FieldDevice {
        let fan = FieldDevice::plug(self.site.workplace().path(), &self.broker, "fan");
        let body = json!({"link": "broker", "address": "fan", "settings": {"preset": "tasmota"},
                          "policy": {"on_drift": "enforce", "settle": SETTLE}});
        register_device(&self.site.client, FAN, &body, "auto").await;
        self.site.client.request(UPDATE_FAN, r#"{"on":false}"#).await.accepted();
        until_device(&self.site.client, FAN, "it is verified", |seen| seen["stage"] == "verified")
            .await;
        fan
    }

    async fn mode(&self, mode: &str) {
        let subject = "control.commands.device.mode.hall.plug";
        self.site.client.request(subject, json!(mode).to_string()).await.accepted();
    }
}

async fn until(client: &BareClient, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let last = std::sync::Mutex::new(Value::Null);
    let client = client.hasty();
    let found = wait::until(what, LIMIT, || async {
        let answer = client.request(GET, "").await;
        let flotilla_tests::bare::Answer::Reply(reply) = answer else { return None };
        let item = reply.0.get("item").cloned()?;
        *last.lock().unwrap() = item.clone();
        wanted(&item).then_some(item)
    });
    found.await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_life_of_a_command() {
    let mut hall = hall(1).await;
    let client = hall.site.client.clone();

    // Observed: what is wanted is shown, and nothing is written.
    client.request(UPDATE, r#"{"on":true}"#).await.accepted();
    hall.until("it is shown what would be written", |seen| {
        seen["observed"]["would_write"] == json!({"on": true})
    })
    .await;
    assert_eq!(hall.plug.told("ON"), 0);

    // In auto it is written, and the device's own word verifies it. A wish is absolute and may be
    // told again, when an older report crosses it: what counts is that it is told.
    hall.mode("auto").await;
    hall.until("it is verified", |seen| seen["stage"] == "verified").await;
    assert!(hall.plug.told("ON") >= 1);

    // Waited for: the answer says how far it got.
    let wait = [("Flotilla-Wait", "verified"), ("Flotilla-Timeout", "30s")];
    client.request_with(UPDATE, &wait, r#"{"on":false}"#).await.accepted();
    hall.until("it is off", |seen| {
        seen["stage"] == "verified" && seen["observed"]["reported"]["on"]["value"] == false
    })
    .await;
    let (on, off) = (hall.plug.told("ON"), hall.plug.told("OFF"));
    assert!(off >= 1);

    // Somebody uses the wall switch: shown, not fought. The fan's is used after it, and is.
    let mut fan = hall.with_fan().await;
    hall.plug.tell(&json!({"switch": true}));
    let seen = hall.until("the drift is shown", |seen| !seen["observed"]["drift"].is_null()).await;
    assert_eq!(seen["observed"]["reported"]["on"]["value"], true, "{seen}");
    let fan_off = fan.told("OFF");
    fan.tell(&json!({"switch": true}));
    wait::until_true("the fan is enforced", LIMIT, || async { fan.told("OFF") > fan_off }).await;

    // A one-shot comes once, after all that the plug was told before.
    let invoke = "control.commands.device.invoke.hall.plug";
    client.request(invoke, r#"{"action":"toggle"}"#).await.accepted();
    wait::until_true("it is told", LIMIT, || async { hall.plug.told("TOGGLE") == 1 }).await;
    assert_eq!((hall.plug.told("ON"), hall.plug.told("OFF")), (on, off));

    // Both vanish: what has a time limit ends, and nothing of it moves when they are back.
    let Hall { site, broker, plug } = hall;
    plug.kill();
    fan.kill();
    let away = |seen: &Value| seen["observed"]["availability"] == "offline";
    until_device(&client, FAN, "it is offline", away).await;
    until(&client, "it is offline", |seen| seen["observed"]["availability"] == "offline").await;
    let soon = [("Flotilla-Ttl", "1s")];
    client.request_with(UPDATE, &soon, r#"{"on":true}"#).await.accepted();
    until(&client, "it has expired", |seen| seen["desired"]["on"] == false).await;
    client.request(UPDATE_FAN, r#"{"on":true}"#).await.accepted();
    let plug = FieldDevice::plug(site.workplace().path(), &broker, "plug");
    until(&client, "it is back", |seen| seen["observed"]["availability"] == "online").await;
    // What has no limit is handed over on return, over the same link and later.
    let fan = FieldDevice::plug(site.workplace().path(), &broker, "fan");
    until_device(&client, FAN, "it is verified", |seen| seen["stage"] == "verified").await;
    assert!(fan.told("ON") >= 1);
    client.request(invoke, r#"{"action":"toggle"}"#).await.accepted();
    wait::until_true("it is told", LIMIT, || async { plug.told("TOGGLE") == 2 }).await;
    assert_eq!(plug.told("ON"), on, "{:?}", plug.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_dies_and_another_takes_its_devices_over_without_writing_twice() {
    let mut hall = hall(3).await;
    let client = hall.site.client.clone();
    hall.mode("auto").await;
    client.request(UPDATE, r#"{"on":true}"#).await.accepted();
    hall.until("it is verified", |seen| seen["stage"] == "verified").await;
    let invoke = "control.commands.device.invoke.hall.plug";
    client.request(invoke, r#"{"action":"toggle"}"#).await.accepted();
    wait::until_true("it is told", LIMIT, || async { hall.plug.told("TOGGLE") == 1 }).await;
    hall.plug.tell(&json!({"switch": true}));
    let before = hall.owner().await;
    let on = hall.plug.told("ON");
    hall.site.agents[before].kill();

    let dead = u64::try_from(before + 1).unwrap();
    hall.until("another owns it and has asked the plug", |seen| {
        seen["owner"].as_u64().is_some_and(|owner| owner != dead)
            && seen["observed"]["node"] != dead
            && seen["observed"]["reported"]["on"]["value"] == true
    })
    .await;
    assert_eq!((hall.plug.told("ON"), hall.plug.told("TOGGLE")), (on, 1));
    let patient = [("Flotilla-Timeout", "30s")];
    client.request_with(UPDATE, &patient, r#"{"on":false}"#).await.accepted();
    hall.until("the new owner writes", |seen| {
        seen["stage"] == "verified" && seen["observed"]["reported"]["on"]["value"] == false
    })
    .await;
    let told = (hall.plug.told("ON"), hall.plug.told("TOGGLE"));
    assert_eq!(told, (on, 1), "{:?}", hall.plug.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_on_modbus_gets_its_speed() {
    let site = Site::start(1).await;
    let (mut drive, address) = FieldDevice::drive(site.workplace().path(), "drive");
    let client = &site.client;
    let link = json!({"connector": "modbus", "address": address, "placement": "any"});
    client.request("control.commands.link.register.bus", link.to_string()).await.accepted();
    let speed = json!({"table": "holding", "address": 100, "type": "u16", "scale": 0.1,
                       "access": "read_write", "min": 0, "max": 50});
    let settings =
        json!({"groups": {"default": {"interval_ms": 100}}, "registers": {"speed": speed}});
    let device = json!({"link": "bus", "address": "1", "settings": settings,
                        "policy": {"on_drift": "report", "settle": SETTLE}});
    register_device(client, "hall.plug", &device, "auto").await;
    client.request(UPDATE, r#"{"speed":21.5}"#).await.accepted();
    until(client, "it is verified", |seen| seen["stage"] == "verified").await;
    let written = |drive: &FieldDevice, address: u64| {
        drive.count(|entry| entry["write"] == "holding" && entry["address"] == address)
    };
    assert_eq!(drive.count(|entry| entry["values"] == json!([215])), 1);
    // A fan at the same unit, which is enforced.
    let level = json!({"table": "holding", "address": 101, "type": "u16", "access": "read_write"});
    let settings =
        json!({"groups": {"default": {"interval_ms": 100}}, "registers": {"level": level}});
    let device = json!({"link": "bus", "address": "1", "settings": settings,
                        "policy": {"on_drift": "enforce", "settle": SETTLE}});
    register_device(client, FAN, &device, "auto").await;
    client.request(UPDATE_FAN, r#"{"level":4}"#).await.accepted();
    until_device(client, FAN, "it is verified", |seen| seen["stage"] == "verified").await;

    // Somebody turns the panel's knob: shown, not fought. The fan's is turned after it, and is.
    drive.tell(&json!({"set": {"table": "holding", "address": 100, "values": [300]}}));
    let seen = until(client, "the drift", |seen| !seen["observed"]["drift"].is_null()).await;
    assert_eq!(seen["observed"]["reported"]["speed"]["value"], 30.0, "{seen}");
    let before = written(&drive, 101);
    drive.tell(&json!({"set": {"table": "holding", "address": 101, "values": [9]}}));
    wait::until_true("the fan is enforced", LIMIT, || async { written(&drive, 101) > before })
        .await;
    assert_eq!(written(&drive, 100), 1, "{:?}", drive.journal());
    // And where a bus answers one after the other, a later command has nothing before it.
    client.request(UPDATE_FAN, r#"{"level":5}"#).await.accepted();
    until_device(client, FAN, "it is verified", |seen| seen["stage"] == "verified").await;
    assert_eq!(written(&drive, 100), 1, "{:?}", drive.journal());

    // What can't be said is refused when it is registered.
    let overlapping = json!({"registers": {
        "a": {"table": "holding", "address": 0, "type": "u32"},
        "b": {"table": "holding", "address": 1, "type": "u16"}}});
    let device = json!({"link": "bus", "address": "2", "settings": overlapping});
    let register = "control.commands.device.register.hall.two";
    client.request(register, device.to_string()).await.refused("malformed");
    let device = json!({"link": "bus", "address": "0", "settings": {}});
    client.request(register, device.to_string()).await.refused("malformed");
    let link = json!({"connector": "modbsu", "address": "plc", "placement": "any"});
    let register = "control.commands.link.register.other";
    client.request(register, link.to_string()).await.refused("malformed");
}

/// Waits until a link looks like that.
async fn until_link(
    client: &BareClient,
    link: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let subject = format!("control.query.link.get.{link}");
    wait::until(what, LIMIT, || async {
        let item = client.request(&subject, "").await.accepted().at("/item").clone();
        wanted(&item["observed"]).then_some(item)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_shows_whether_it_is_connected_and_why_not() {
    let hall = hall(1).await;
    let client = &hall.site.client;
    until_link(client, "broker", "it is connected", |seen| seen["state"] == "connected").await;
    let links = [
        // Nobody listens there.
        (
            "closed",
            json!({"connector": "mqtt", "address": "mqtt://127.0.0.1:9", "placement": "any"}),
        ),
        (
            "far",
            json!({"connector": "mqtt", "address": "mqtt://127.0.0.1:9",
                       "placement": {"any": {"hall": "nowhere"}}}),
        ),
    ];
    for (link, body) in &links {
        let register = format!("control.commands.link.register.{link}");
        client.request(&register, body.to_string()).await.accepted();
    }
    // The broker doesn't know this login.
    let closed = Broker::start_closed(hall.site.workplace().path());
    let secrets = hall.site.agents[0].data_dir().join("link-secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    let file = secrets.join("broker.toml");
    std::fs::write(&file, "username = \"flotilla\"\npassword = \"not-this-one\"\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let body = json!({"connector": "mqtt", "address": closed.address(), "placement": "any",
                      "settings": {"credentials": "broker.toml"}});
    client.request("control.commands.link.register.shut", body.to_string()).await.accepted();
    let failed = |seen: &Value| seen["state"] == "failed" && seen["next_try_wall_ms"].is_u64();
    let seen = until_link(client, "closed", "it failed", failed).await;
    assert!(seen["observed"]["detail"].as_str().is_some_and(|why| why.len() > 10), "{seen}");
    let seen = until_link(client, "shut", "the login is refused", failed).await;
    let detail = seen["observed"]["detail"].as_str().unwrap();
    assert!(detail.contains("settings.credentials") && !detail.contains("not-this"), "{seen}");
    let next_try = seen["observed"]["next_try_wall_ms"].as_u64();
    until_link(client, "shut", "it is tried again", |seen| {
        seen["next_try_wall_ms"].as_u64() > next_try
    })
    .await;
    let seen = until_link(client, "far", "nobody owns it", |seen| seen["state"] == "unowned").await;
    let detail = seen["observed"]["detail"].as_str().unwrap();
    assert!(detail.contains("no member fits"), "{seen}");
}
