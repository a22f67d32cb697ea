//! Without a majority a wired device stays usable at its own gateway, and what was done there is
//! merged when the majority is back.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::cli::{Cli, Finished};
use flotilla_tests::cut::Wire;
use flotilla_tests::door::BareDoor;
use flotilla_tests::plant::{DEVICE_LIMIT, Plant, set, set_verified};
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::wait;
use serde_json::{Value, json};

/// The gateway that the plant is wired to: the third, so that two of three are left without it.
const GATEWAY: usize = 2;

/// Frames go over NATS alone, so that a gateway whose wire to the server is cut is cut off.
fn plan() -> Plan {
    let config = "[raft]\ntransport = \"nats\"\n".to_owned();
    Plan { config, ..Plan::of(3) }
}

/// A site whose third gateway reaches the NATS server over a wire that can be cut.
async fn site_with_wire() -> (Site, Wire) {
    let mut site = Site::start_as(plan()).await;
    let wire = Wire::to(site.nats.port()).await;
    let config = site.config().replace(&site.nats.url(), &wire.url());
    let gateway = &mut site.agents[GATEWAY];
    gateway.stop().await;
    gateway.set_config(&config);
    gateway.start();
    site.await_status(GATEWAY).await;
    site.await_leader().await;
    (site, wire)
}

/// The command line at a gateway.
fn at(site: &Site, index: usize) -> Cli {
    let socket = site.agents[index].data_dir().join("door.sock");
    Cli::new(&format!("unix:{}", socket.display()), site.name())
}

async fn wired(site: &Site) -> Plant {
    Plant::register_on(site, "plant", &json!({"on": "n3"}), &json!({})).await
}

fn local<'a>(device: &'a str, value: &'a str) -> [&'a str; 9] {
    ["device", "set", device, value, "--local", "--wait", "verified", "--timeout", "20s"]
}

/// Writes locally, as soon as the gateway knows that it is alone.
async fn set_locally(cli: &Cli, device: &str, value: &str) -> Finished {
    wait::until("a local write is taken and verified", DEVICE_LIMIT, || async {
        let done = cli.run(&local(device, value));
        assert_ne!(done.code, Some(1), "{done:?}");
        (done.code == Some(0)).then_some(done)
    })
    .await
}

/// The local writes that a gateway tells of, by device; the newest of each.
async fn report(cli: &Cli, device: &str) -> Option<Value> {
    let told = cli.run(&["partition", "report", "--from", "n3", "-o", "json"]);
    if told.code != Some(0) {
        return None;
    }
    let writes = told.json()[0]["writes"].as_array().cloned()?;
    writes.into_iter().find(|write| write["device"] == device)
}

/// What became of the newest local write of a device.
async fn end_of(cli: &Cli, device: &str) -> String {
    wait::until(&format!("{device} is merged"), DEVICE_LIMIT, || async {
        let write = report(cli, device).await?;
        write["parts"][0]["end"].as_str().map(str::to_owned)
    })
    .await
}

async fn item(site: &Site, id: &str) -> Value {
    let subject = format!("control.query.device.get.{id}");
    let client = site.client.hasty();
    wait::until("a device is told", DEVICE_LIMIT, || async {
        let answer = client.request(&subject, "").await;
        answer.is_ok().then(|| answer.reply().at("/item").clone())
    })
    .await
}

fn last_level(plant: &Plant, device: &str) -> Value {
    let writes = plant.done(device, "write");
    writes.last().map_or(Value::Null, |line| line["values"]["level"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wired_device_stays_usable_and_what_was_done_is_merged_by_its_policy() {
    let (mut site, wire) = site_with_wire().await;
    let plant = wired(&site).await;
    for (device, on_drift) in
        [("shown", "report"), ("taken", "adopt"), ("late", "adopt"), ("forced", "enforce")]
    {
        plant.device(&site, device, "auto", &json!({"on_drift": on_drift, "settle": "1s"})).await;
        set_verified(&site, device, &json!({"level": 1})).await;
    }
    let policy = json!({"on_drift": "enforce", "settle": "1s", "stop_action": "halt"});
    plant.device(&site, "motor", "auto", &policy).await;
    set_verified(&site, "motor", &json!({"level": 20})).await;
    let moved = plant.done("motor", "write").len();
    let gateway = at(&site, GATEWAY);
    // With a leader the normal way works, and is the only one.
    let refused = gateway.run(&local("shown", "level=5")).expect_code(8);
    assert!(refused.stderr.contains("has a leader"), "{}", refused.stderr);

    wire.cut();
    let done = set_locally(&gateway, "shown", "level=5").await;
    assert!(done.stdout.contains("local, not committed"), "{}", done.stdout);
    assert!(wire.broken() > 0, "nothing was cut");
    for device in ["taken", "late", "forced"] {
        set_locally(&gateway, device, "level=5").await;
    }
    // Both sides are alive: the majority goes on, and wants something else of one device.
    let reply = set(&site, "late", &json!({"level": 9}), &[]).await;
    let meanwhile = reply.revision().unwrap();

    // The gateway restarts in the middle. It knows what it did, and goes on.
    site.agents[GATEWAY].kill();
    site.agents[GATEWAY].start();
    set_locally(&gateway, "shown", "level=6").await;
    let stop = ["device", "stop", "motor", "--local", "--wait", "sent", "--timeout", "20s"];
    gateway.run(&stop).expect_code(0);
    assert_eq!(plant.done("motor", "invoke").len(), 1);
    // What is stopped stays so, whatever its policy.
    plant.happens(&json!({"device": "motor", "did": "hand", "values": {"level": 0}}));
    let told = gateway.run(&["partition", "report", "--from", "n3"]).expect_code(0).stdout;
    assert!(told.contains("level=6") && told.contains("open"), "{told}");
    assert!(told.contains("superseded"), "{told}");
    assert!(plant.is_in_order(), "{:?}", plant.lines());

    wire.mend();
    assert_eq!(end_of(&gateway, "shown").await, "kept");
    assert_eq!(end_of(&gateway, "taken").await, "adopted");
    assert_eq!(end_of(&gateway, "late").await, "overruled");
    assert_eq!(end_of(&gateway, "forced").await, "overruled");
    assert_eq!(end_of(&gateway, "motor").await, "held");
    let late = report(&gateway, "late").await.unwrap();
    assert_eq!(late["parts"][0]["committed"], json!(9), "{late}");
    assert_eq!(late["parts"][0]["revision"], json!(meanwhile), "{late}");
    let shown_text = gateway.run(&["partition", "report"]).expect_code(0).stdout;
    assert!(shown_text.contains("meanwhile"), "{shown_text}");

    // Adopted is what is desired now; overruled is written again; kept is shown as drift.
    wait::until_true("what was adopted is desired", DEVICE_LIMIT, || async {
        item(&site, "taken").await["desired"]["level"] == json!(5)
    })
    .await;
    wait::until_true("what the site wants is written", DEVICE_LIMIT, || async {
        last_level(&plant, "late") == json!(9) && last_level(&plant, "forced") == json!(1)
    })
    .await;
    wait::until_true("what was kept is shown", DEVICE_LIMIT, || async {
        item(&site, "shown").await["observed"]["drift"]["level"]["reported"] == json!(6)
    })
    .await;
    assert_eq!(last_level(&plant, "shown"), json!(6));
    let drift = gateway.run(&["device", "ls", "--drift"]).expect_code(0).stdout;
    assert!(drift.contains("level is 6, not 1"), "{drift}");
    let motor = item(&site, "motor").await;
    assert!(motor["hold"]["reason"].as_str().unwrap().contains("stopped"), "{motor}");
    assert_eq!(plant.done("motor", "write").len(), moved, "nothing sets it in motion");
    assert_eq!(plant.done("motor", "invoke").len(), 1);
    assert!(plant.is_in_order(), "{:?}", plant.lines());
    // Somebody wishes anew, and the normal way works as before.
    set_verified(&site, "shown", &json!({"level": 7})).await;
    site.await_equal_digests().await;
    assert!(site.agents[GATEWAY].counter("flotilla_local_writes_total") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_over_a_wish_that_never_came_is_not_written_after_a_restart_either() {
    let (mut site, wire) = site_with_wire().await;
    let plant = wired(&site).await;
    plant.device(&site, "lamp", "auto", &json!({"on_drift": "report"})).await;
    set_verified(&site, "lamp", &json!({"level": 1})).await;
    let gateway = at(&site, GATEWAY);
    wire.cut();
    set_locally(&gateway, "lamp", "level=5").await;
    let meanwhile = set(&site, "lamp", &json!({"level": 9}), &[]).await.revision().unwrap();
    wire.mend();
    assert_eq!(end_of(&gateway, "lamp").await, "kept");
    // Its stage is true: it came to nothing, and why.
    wait::until_true("the wish is told as failed", DEVICE_LIMIT, || async {
        let lamp = item(&site, "lamp").await;
        let failure = &lamp["watermarks"]["failures"][0];
        failure["code"] == json!("local_stands") && failure["revision"] == json!(meanwhile)
    })
    .await;
    let epoch = plant.record(&site).await.unwrap()["epoch"].as_u64().unwrap();
    site.agents[GATEWAY].kill();
    site.agents[GATEWAY].start();
    wait::until_true("the link is run anew", DEVICE_LIMIT, || async {
        plant.record(&site).await.is_some_and(|link| link["epoch"].as_u64().unwrap() > epoch)
            && item(&site, "lamp").await["observed"]["drift"]["level"]["reported"] == json!(5)
    })
    .await;
    // A later command shows that everything before it has been looked at.
    set_verified(&site, "lamp", &json!({"on": true})).await;
    assert_eq!(last_of(&plant, "lamp", "level"), json!(5));
    set_verified(&site, "lamp", &json!({"level": 9})).await;
    assert_eq!(last_of(&plant, "lamp", "level"), json!(9));
}

fn last_of(plant: &Plant, device: &str, property: &str) -> Value {
    let writes = plant.done(device, "write");
    let mut values = writes.iter().rev().filter_map(|line| line["values"].get(property));
    values.next().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_written_locally_is_refused() {
    let mut site = Site::start(3).await;
    let plant = wired(&site).await;
    plant.device(&site, "lamp", "manual", &json!({})).await;
    plant.device(&site, "watched", "observe", &json!({})).await;
    set_verified(&site, "lamp", &json!({"level": 1})).await;
    let shared = Plant::register(&site, "shared", &json!({})).await;
    shared.device(&site, "other", "auto", &json!({})).await;
    let client = &site.client;
    // There is no subject for it: whoever is on NATS is not at the gateway.
    let subject = "control.local.device.update.lamp";
    assert!(!client.hasty().request(subject, r#"{"level":2}"#).await.is_ok());
    let (gateway, other) = (at(&site, GATEWAY), at(&site, 0));
    let door = BareDoor::of(site.agents[GATEWAY].data_dir());
    site.agents[1].kill();
    // The one that is left beside the gateway is killed later, so that it can refuse.
    site.agents[0].pause();
    wait::until_true("the gateway is alone", DEVICE_LIMIT, || async {
        gateway.run(&["device", "set", "lamp", "level=3", "--local"]).code == Some(0)
    })
    .await;
    for (arguments, code, said) in [
        (vec!["device", "set", "other", "level=1", "--local"], 6, "another node may own"),
        (vec!["device", "set", "watched", "level=1", "--local"], 8, "observe"),
        (vec!["device", "set", "nothing", "level=1", "--local"], 3, "knows no device"),
        (vec!["device", "set", "lamp", "level=null", "--local"], 2, "is null"),
        (vec!["device", "set", "lamp", "level=toggle", "--local"], 2, "toggle"),
        (vec!["device", "set", "lamp", "--local"], 2, "nothing to set"),
        (vec!["device", "set", "lamp", "level=1", "--local", "--ttl", "5s"], 2, "no meaning"),
        (vec!["device", "stop", "lamp", "--local"], 1, "names no stop_action"),
    ] {
        let refused = gateway.run(&arguments).expect_code(code);
        assert!(refused.stderr.contains(said), "{arguments:?}: {}", refused.stderr);
    }
    let long = format!("text={}", "x".repeat(9_000));
    gateway.run(&["device", "set", "lamp", &long, "--local"]).expect_code(8);
    // A retry under the same id is the same write; another one is refused.
    let path = "/v1/local/device/update/lamp";
    let headers = [
        ("Flotilla-Request-Id", "again"),
        ("Flotilla-Actor", "jo"),
        ("Flotilla-Wait", "verified"),
        ("Flotilla-Timeout", "20s"),
    ];
    let send = |body: &'static str| door.send("POST", path, &headers, body.as_bytes());
    let first: Value = serde_json::from_slice(&send(r#"{"level":4}"#).await.unwrap().body).unwrap();
    let second: Value =
        serde_json::from_slice(&send(r#"{"level":4}"#).await.unwrap().body).unwrap();
    assert_eq!(first["local"], second["local"], "{first} {second}");
    assert_eq!(send(r#"{"level":5}"#).await.unwrap().status, 422);
    let told = report(&gateway, "lamp").await.unwrap();
    assert_eq!((&told["actor"], &told["op"]), (&json!("jo"), &json!("update")), "{told}");
    assert_eq!(door.send("GET", path, &[], b"").await.unwrap().status, 405);

    // It is wired to that gateway and to no other.
    site.agents[0].resume();
    site.agents[GATEWAY].kill();
    wait::until_true("the other gateway refuses", DEVICE_LIMIT, || async {
        let done = other.run(&["device", "set", "lamp", "level=1", "--local"]);
        done.code == Some(6) && done.stderr.contains("wired to n3")
    })
    .await;
    assert_eq!(last_level(&plant, "lamp"), json!(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_what_its_policy_names_when_control_is_lost() {
    let mut site = Site::start(3).await;
    let plant = wired(&site).await;
    let policy =
        json!({"on_drift": "enforce", "settle": "1s", "on_control_loss": {"level": 0, "fan": 1}});
    plant.device(&site, "oven", "auto", &policy).await;
    set_verified(&site, "oven", &json!({"level": 80})).await;
    site.agents[0].kill();
    site.agents[1].kill();
    let limit = Duration::from_secs(40);
    wait::until_true("control is lost", limit, || async {
        last_of(&plant, "oven", "level") == json!(0) && last_of(&plant, "oven", "fan") == json!(1)
    })
    .await;
    let gateway = at(&site, GATEWAY);
    let told = report(&gateway, "oven").await.unwrap();
    assert_eq!(told["op"], json!("on_control_loss"), "{told}");
    // Somebody at the gateway knows better.
    set_locally(&gateway, "oven", "level=30").await;
    site.start_all();
    wait::until_true("what the site wants is written again", limit, || async {
        last_of(&plant, "oven", "level") == json!(80)
    })
    .await;
    assert_eq!(last_of(&plant, "oven", "fan"), json!(1), "nobody wants anything of it");
}
