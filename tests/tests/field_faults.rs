//! Faults while real devices are commanded over MQTT and Modbus: an owner that sleeps past its
//! lease, one that is cut off while both sides live, one that dies before it hands something over
//! and one that dies before it tells the end. The devices keep journals of their own: no one-shot
//! comes twice, and no older value after a newer one.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::collections::BTreeSet;

use flotilla_tests::bare::Answer;
use flotilla_tests::cut::Wire;
use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::rig::{
    RIG_LIMIT, owner_but, register_device, register_link, tank_settings, until_device,
};
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::wait;
use serde_json::{Value, json};

const TANK: &str = "hall.tank";
const DRIVE: &str = "hall.drive";
/// Where the drive gets its speed, and where its one-shots.
const SPEED: u64 = 100;
const STEP: u64 = 50;

/// A site with a tank over MQTT and a drive over Modbus.
struct Field {
    site: Site,
    _broker: Broker,
    tank: FieldDevice,
    drive: FieldDevice,
    /// The last number that was wished or done; each is used once.
    number: u64,
    one_shots: BTreeSet<u64>,
}

impl Field {
    async fn of(site: Site) -> Self {
        let workplace = site.workplace().path();
        let broker = Broker::start(workplace);
        let tank = FieldDevice::tank(workplace, &broker, "tank");
        let (drive, address) = FieldDevice::drive(workplace, "drive");
        let client = &site.client;
        let body = json!({"connector": "mqtt", "address": broker.address(), "placement": "any"});
        register_link(client, "broker", &body).await;
        let body = json!({"connector": "modbus", "address": address, "placement": "any"});
        register_link(client, "bus", &body).await;
        let body = json!({"link": "broker", "address": "tank", "settings": tank_settings()});
        register_device(client, TANK, &body, "auto").await;
        let register = |address: u64, access: &str| json!({"table": "holding", "address": address, "type": "u16", "access": access});
        let settings = json!({
            "groups": {"default": {"interval_ms": 100}},
            "registers": {"level": register(SPEED, "read_write"), "step": register(STEP, "action")},
            "actions": {"go": {"write": {"step": {"arg": "number"}}}},
        });
        let body = json!({"link": "bus", "address": "1", "settings": settings});
        register_device(client, DRIVE, &body, "auto").await;
        let mut field =
            Self { site, _broker: broker, tank, drive, number: 0, one_shots: BTreeSet::new() };
        for id in [TANK, DRIVE] {
            field.set_verified(id).await;
        }
        field
    }

    /// Wishes for the next number and waits until the device shows it, whoever owns its link.
    async fn set_verified(&mut self, id: &str) {
        let revision = self.set(id).await;
        until_device(&self.site.client, id, "it is verified", |seen| {
            seen["watermarks"]["verified"].as_u64() >= Some(revision)
        })
        .await;
    }

    /// Wishes for the next number, until the site has it.
    async fn set(&mut self, id: &str) -> u64 {
        self.number += 1;
        let body = json!({"level": self.number}).to_string();
        self.command(&format!("control.commands.device.update.{id}"), body).await
    }

    /// Wants a one-shot with the next number, until the site has it.
    async fn go(&mut self, id: &str) -> String {
        self.number += 1;
        self.one_shots.insert(self.number);
        let body = json!({"action": "go", "args": {"number": self.number}}).to_string();
        self.command(&format!("control.commands.device.invoke.{id}"), body).await;
        self.request_id()
    }

    fn request_id(&self) -> String {
        format!("field-{}", self.number)
    }

    async fn command(&self, subject: &str, body: String) -> u64 {
        let request_id = self.request_id();
        let headers = [("Flotilla-Request-Id", request_id.as_str())];
        let client = self.site.client.hasty();
        wait::until("the site takes a command", RIG_LIMIT, || async {
            let answer = client.request_with(subject, &headers, body.clone()).await;
            let Answer::Reply(reply) = answer else { return None };
            reply.is_ok().then(|| reply.revision())?
        })
        .await
    }

    /// Waits until a one-shot has come to this end.
    async fn ends(&self, request_id: &str, stages: &[&str]) -> String {
        let client = self.site.client.hasty();
        let subject = format!("control.query.command.get.{request_id}");
        wait::until(&format!("{request_id} ends in {stages:?}"), RIG_LIMIT, || async {
            let Answer::Reply(reply) = client.request(&subject, "").await else { return None };
            let stage = reply.at("/item/stage").as_str()?.to_owned();
            stages.contains(&stage.as_str()).then_some(stage)
        })
        .await
    }

    /// What a device was told in this order: values, or numbers of one-shots.
    fn told(&self, id: &str, one_shots: bool) -> Vec<u64> {
        let entries = if id == TANK { self.tank.journal() } else { self.drive.journal() };
        let (topic, address) = if one_shots { ("tank/go", STEP) } else { ("tank/set", SPEED) };
        let number = |entry: Value| {
            if id == TANK {
                (entry["topic"] == topic).then(|| entry["payload"].as_str()?.parse().ok())?
            } else {
                let here = entry["write"] == "holding" && entry["address"] == address;
                here.then(|| entry["values"][0].as_u64())?
            }
        };
        entries.into_iter().filter_map(number).collect()
    }

    /// No one-shot twice, and no older value after a newer one.
    fn check(&self) {
        for id in [TANK, DRIVE] {
            let values = self.told(id, false);
            assert!(values.is_sorted(), "{id}: an older value after a newer one: {values:?}");
            let one_shots = self.told(id, true);
            let once: BTreeSet<u64> = one_shots.iter().copied().collect();
            assert_eq!(once.len(), one_shots.len(), "{id}: a one-shot came twice: {one_shots:?}");
            assert!(once.is_subset(&self.one_shots), "{id}: nobody wanted {one_shots:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_sleeps_past_its_lease_disturbs_nobody_when_it_wakes() {
    let mut field = Field::of(Site::start(3).await).await;
    for id in [TANK, DRIVE] {
        let owner = owner_but(&field.site.client, id, &[]).await;
        // Something is on its way through it when it falls asleep.
        field.set(id).await;
        field.go(id).await;
        field.site.agents[owner].pause();
        let next = owner_but(&field.site.client, id, &[owner]).await;
        field.set_verified(id).await;
        field.go(id).await;
        field.site.agents[owner].resume();
        for _ in 0..5 {
            field.set_verified(id).await;
        }
        let last = field.go(id).await;
        field.ends(&last, &["sent", "acknowledged"]).await;
        let stays = owner_but(&field.site.client, id, &[]).await;
        assert_eq!(stays, next, "a link stays with its owner when the one before is back");
        field.check();
        assert!(field.told(id, true).len() >= 2, "one-shots came: {:?}", field.told(id, true));
    }
}

/// A site each of whose gateways reaches the NATS server over a wire of its own, and no other
/// gateway in another way.
async fn wired_site() -> (Site, Vec<Wire>) {
    let config = "[raft]\ntransport = \"nats\"\n".to_owned();
    let mut site = Site::start_as(Plan { config, ..Plan::of(3) }).await;
    let mut wires = Vec::new();
    for index in 0..3 {
        let wire = Wire::to(site.nats.port()).await;
        let config = site.config().replace(&site.nats.url(), &wire.url());
        let gateway = &mut site.agents[index];
        gateway.stop().await;
        gateway.set_config(&config);
        gateway.start();
        site.await_status(index).await;
        site.await_leader().await;
        wires.push(wire);
    }
    (site, wires)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_cut_off_and_lives_writes_nothing_beside_the_next_one() {
    let (site, wires) = wired_site().await;
    let mut field = Field::of(site).await;
    for id in [TANK, DRIVE] {
        let owner = owner_but(&field.site.client, id, &[]).await;
        field.set(id).await;
        field.go(id).await;
        // Both sides reach the device as before.
        wires[owner].cut();
        let next = owner_but(&field.site.client, id, &[owner]).await;
        for _ in 0..3 {
            field.set_verified(id).await;
        }
        let during = field.go(id).await;
        field.ends(&during, &["sent", "acknowledged"]).await;
        assert!(field.site.agents[owner].is_started(), "it lives");
        wires[owner].mend();
        field.site.await_status(owner).await;
        for _ in 0..3 {
            field.set_verified(id).await;
        }
        assert_eq!(owner_but(&field.site.client, id, &[]).await, next);
        field.check();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_dies_before_it_hands_over_leaves_it_to_the_next_one() {
    let mut field = Field::of(Site::start(3).await).await;
    for id in [TANK, DRIVE] {
        let owner = owner_but(&field.site.client, id, &[]).await;
        // It stands still, so it hears of nothing that is committed now.
        field.site.agents[owner].pause();
        field.set(id).await;
        let (wished, one_shot) = (field.number, field.go(id).await);
        field.site.agents[owner].kill();
        field.ends(&one_shot, &["sent", "acknowledged"]).await;
        let number = field.number;
        wait::until_true("both are handed over", RIG_LIMIT, || async {
            field.told(id, false).contains(&wished) && field.told(id, true).contains(&number)
        })
        .await;
        field.check();
        field.site.agents[owner].start();
        field.site.await_status(owner).await;
        field.set_verified(id).await;
        field.check();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_dies_before_it_tells_the_end_leaves_it_unknown_and_nobody_repeats_it() {
    let mut field = Field::of(Site::start(3).await).await;
    // The drive answers nothing: what is handed over to it now is under way until its owner dies.
    field.drive.tell(&json!({"silent": true}));
    let owner = owner_but(&field.site.client, DRIVE, &[]).await;
    let one_shot = field.go(DRIVE).await;
    field.ends(&one_shot, &["dispatching"]).await;
    field.site.agents[owner].kill();
    let next = owner_but(&field.site.client, DRIVE, &[owner]).await;
    assert_ne!(next, owner);
    field.ends(&one_shot, &["unknown"]).await;
    field.drive.tell(&json!({"silent": false}));
    field.site.agents[owner].start();
    field.site.await_status(owner).await;
    field.set_verified(DRIVE).await;
    field.check();
    assert!(!field.told(DRIVE, true).contains(&(field.number - 1)), "nobody repeats it");

    // And at whatever moment it dies.
    for id in [TANK, DRIVE, TANK, DRIVE] {
        let owner = owner_but(&field.site.client, id, &[]).await;
        let one_shot = field.go(id).await;
        let number = field.number;
        let heard = wait::until("it is told, or ended", RIG_LIMIT, || async {
            (field.told(id, true).contains(&number)).then_some(true)
        });
        heard.await;
        field.site.agents[owner].kill();
        let end = field.ends(&one_shot, &["sent", "acknowledged", "unknown"]).await;
        field.site.agents[owner].start();
        field.site.await_status(owner).await;
        field.set_verified(id).await;
        assert_eq!(field.told(id, true).iter().filter(|told| **told == number).count(), 1, "{end}");
        field.check();
    }
}
