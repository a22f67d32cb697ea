//! What becomes of wishes that waited for a device while it was away, and since when a device is
//! said to be different: over a gateway that dies meanwhile.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use flotilla_tests::bare::Answer;
use flotilla_tests::door::BareDoor;
use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{owner_but, register_device, register_link, tank_settings, until_device};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: std::time::Duration = flotilla_tests::rig::RIG_LIMIT;

struct Tank {
    id: String,
    name: String,
    /// Why its wish is not handed over when it is back, if it isn't.
    kept_by: Option<&'static str>,
}

async fn with_broker(site: &Site) -> Broker {
    let broker = Broker::start(site.workplace().path());
    let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any"});
    register_link(&site.client, "broker", &body).await;
    broker
}

async fn register_tank(site: &Site, name: &str, policy: &Value) -> String {
    let id = format!("hall.{name}");
    let body = json!({"link": "broker", "address": name, "settings": tank_settings(),
                      "policy": policy});
    register_device(&site.client, &id, &body, "auto").await;
    id
}

async fn await_availability(site: &Site, id: &str, wanted: &str) {
    until_device(&site.client, id, wanted, |seen| seen["observed"]["availability"] == wanted).await;
}

async fn update(site: &Site, id: &str, level: u64) {
    let subject = format!("control.commands.device.update.{id}");
    let patch = json!({"level": level}).to_string();
    wait::until_true("the wish is taken", LIMIT, || async {
        site.client.hasty().request(&subject, patch.clone()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_waited_is_treated_as_its_policy_says_also_by_the_next_owner() {
    let mut site = Site::start(3).await;
    let broker = with_broker(&site).await;
    let workplace = site.workplace().path().to_owned();
    let policies = [
        ("held", json!("hold"), Some("held_on_return")),
        ("discarded", json!("discard"), Some("discarded")),
        ("young", json!({"apply": "10m"}), None),
        ("old", json!({"apply": "10ms"}), Some("discarded")),
    ];
    let mut tanks = Vec::new();
    for (name, on_return, kept_by) in policies {
        let there = FieldDevice::tank(&workplace, &broker, name);
        let id = register_tank(&site, name, &json!({"on_return": on_return})).await;
        await_availability(&site, &id, "online").await;
        there.kill();
        await_availability(&site, &id, "offline").await;
        update(&site, &id, 7).await;
        tanks.push(Tank { id, name: name.to_owned(), kept_by });
    }
    // The next owner finds the wishes there: how old they are stands in the log alone.
    let first = owner_but(&site.client, &tanks[0].id, &[]).await;
    site.agents[first].kill();
    owner_but(&site.client, &tanks[0].id, &[first]).await;
    for Tank { id, name, kept_by } in &tanks {
        let there = FieldDevice::tank(&workplace, &broker, name);
        let told = || there.count(|entry| entry["topic"] == format!("{name}/set"));
        match kept_by {
            None => {
                until_device(&site.client, id, "it is verified", |seen| {
                    seen["stage"] == "verified"
                })
                .await;
                assert!(told() >= 1);
            }
            Some(code) => {
                until_device(&site.client, id, code, |seen| {
                    seen["watermarks"]["failures"][0]["code"] == *code
                })
                .await;
                assert_eq!(told(), 0, "{name}: {:?}", there.journal());
                // Wished again it is handed over.
                update(&site, id, 7).await;
                wait::until_true("it is told", LIMIT, || async { told() == 1 }).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_goes_on_since_when_it_began_over_reconnects_and_owners() {
    let mut site = Site::start(3).await;
    let broker = with_broker(&site).await;
    let mut tank = FieldDevice::tank(site.workplace().path(), &broker, "tank");
    let id = register_tank(&site, "tank", &json!({})).await;
    await_availability(&site, &id, "online").await;
    update(&site, &id, 3).await;
    until_device(&site.client, &id, "it is verified", |seen| seen["stage"] == "verified").await;
    // Somebody turns the valve.
    tank.tell(&json!({"publish": {"topic": "tank/set", "payload": "9", "qos": 1}}));
    let since = |seen: &Value| seen["observed"]["drift"]["level"]["since_wall_ms"].as_u64();
    let seen = until_device(&site.client, &id, "it drifts", |seen| since(seen).is_some()).await;
    let (began, first) = (since(&seen), owner_but(&site.client, &id, &[]).await);
    // The next owner, whoever it is, can only go on from what it was told.
    for agent in &site.agents {
        let door = BareDoor::of(agent.data_dir());
        let query = format!("control.query.device.get.{id}");
        wait::until_true("every agent was told", LIMIT, || async {
            let answer = door.request(&query, "").await;
            matches!(answer, Answer::Reply(reply) if since(&reply.0["item"]).is_some())
        })
        .await;
    }
    site.agents[first].kill();
    let next = owner_but(&site.client, &id, &[first]).await;
    let again = |owner: usize| {
        move |seen: &Value| {
            let says = seen["observed"]["node"].as_u64() == u64::try_from(owner + 1).ok();
            says && since(seen).is_some()
        }
    };
    let seen = until_device(&site.client, &id, "the next owner tells it", again(next)).await;
    assert_eq!(since(&seen), began, "{seen}");

    // Its own connection begins anew.
    let epoch = seen["observed"]["epoch"].clone();
    let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any",
                      "settings": {"keep_alive_s": 20}});
    let sessions = || broker.sessions("flotilla:home:broker");
    let before = sessions();
    register_link(&site.client, "broker", &body).await;
    wait::until_true("it is let in again", LIMIT, || async { sessions() > before }).await;
    let reports = |site: &Site| site.agents[next].counter("flotilla_device_reports_total");
    let heard = reports(&site);
    tank.tell(&json!({"publish": {"topic": "tank/get", "payload": "", "qos": 1}}));
    wait::until_true("it is heard again", LIMIT, || async { reports(&site) > heard }).await;
    let seen = until_device(&site.client, &id, "it is told again", again(next)).await;
    assert_eq!((since(&seen), &seen["observed"]["epoch"]), (began, &epoch), "{seen}");

    // `device ls --drift` shows it, and no more once it is over.
    let listed = || site.cli.run(&["device", "ls", "--drift", "-o", "json"]);
    assert!(listed().stdout.contains(&id), "{:?}", listed());
    tank.tell(&json!({"publish": {"topic": "tank/set", "payload": "3", "qos": 1}}));
    until_device(&site.client, &id, "it is over", |seen| since(seen).is_none()).await;
    wait::until_true("nothing is listed", LIMIT, || async { !listed().stdout.contains(&id) }).await;
    // The next difference is a new one.
    tank.tell(&json!({"publish": {"topic": "tank/set", "payload": "8", "qos": 1}}));
    let seen =
        until_device(&site.client, &id, "it drifts anew", |seen| since(seen).is_some()).await;
    assert!(since(&seen) > began, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_wishes_for_a_device_that_is_away_the_first_ends_superseded_and_never_comes() {
    let site = Site::start(1).await;
    let broker = with_broker(&site).await;
    let tank = FieldDevice::tank(site.workplace().path(), &broker, "tank");
    let id = register_tank(&site, "tank", &json!({"on_return": {"apply": "10m"}})).await;
    await_availability(&site, &id, "online").await;
    update(&site, &id, 1).await;
    until_device(&site.client, &id, "it is verified", |seen| seen["stage"] == "verified").await;
    tank.kill();
    await_availability(&site, &id, "offline").await;

    // Somebody waits for the first one to be seen in the device.
    let cli = site.cli.clone();
    let waits = tokio::task::spawn_blocking(move || {
        let wait =
            ["--request-id", "first", "--wait", "verified", "--timeout", "50s", "-o", "json"];
        cli.run(&[&["device", "set", "hall.tank", "level=5"][..], &wait].concat())
    });
    until_device(&site.client, &id, "it is wished", |seen| seen["desired"]["level"] == 5).await;
    assert_eq!(site.cli.json(&["command", "get", "first"])["stage"], "committed");
    assert!(!waits.is_finished(), "nothing has become of it yet");
    site.cli.run(&["device", "set", &id, "level=6", "--request-id", "second"]).expect_code(0);
    let waited = waits.await.unwrap().expect_code(10);
    assert_eq!(waited.json()["stage"], "superseded", "{waited:?}");
    assert_eq!(site.cli.json(&["command", "get", "first"])["stage"], "superseded");
    assert_eq!(site.cli.json(&["command", "get", "second"])["stage"], "committed");

    // Its journal goes on where the one before ended.
    let tank = FieldDevice::tank(site.workplace().path(), &broker, "tank");
    until_device(&site.client, &id, "it is verified", |seen| seen["stage"] == "verified").await;
    assert_eq!(site.cli.json(&["command", "get", "second"])["stage"], "verified");
    assert_eq!(site.cli.json(&["command", "get", "first"])["stage"], "superseded");
    let sets = |payload: &str| {
        tank.count(|entry| entry["topic"] == "tank/set" && entry["payload"] == payload)
    };
    assert_eq!(sets("5"), 0, "{:?}", tank.journal());
    assert!(sets("6") >= 1, "{:?}", tank.journal());
}
