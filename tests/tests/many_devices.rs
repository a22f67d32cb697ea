//! Two thousand simulated devices on ten links, with owners that die: all end as their policies say.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use flotilla_tests::bare::Answer;
use flotilla_tests::plant::{DEVICE_LIMIT, Plant, set_verified};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

/// Devices of the large hall, and links that they hang on.
const MANY_DEVICES: usize = 2_000;
const MANY_LINKS: usize = 10;
/// Devices that a hand turns: as many of each policy, on every link.
const TURNED: usize = 80;
/// Devices that are looked at at once.
const PAGE: usize = 100;
/// Items in one batch.
const BATCH: usize = 200;
/// Until what a hand has turned is corrected or shown, over the death of an owner.
const TURNED_LIMIT: Duration = Duration::from_secs(90);
/// Until all of them are as they are to be.
const MANY_LIMIT: Duration = Duration::from_secs(180);

async fn batch(site: &Site, items: &[Value]) {
    for items in items.chunks(BATCH) {
        let body = Value::Array(items.to_vec()).to_string();
        wait::until_true("a batch is taken", DEVICE_LIMIT, || async {
            site.client.hasty().request("control.commands.batch", body.clone()).await.is_ok()
        })
        .await;
    }
}

fn of_all(op: &str, body: impl Fn(usize) -> Value) -> Vec<Value> {
    let item =
        |number: usize| json!({"op": op, "id": format!("many.d{number}"), "body": body(number)});
    (0..MANY_DEVICES).map(item).collect()
}

/// A page of devices after this one: whether all of them are verified, and where the next begins.
async fn look(site: &Site, after: &str) -> Option<(bool, Option<String>)> {
    let mut body = json!({"limit": PAGE});
    if !after.is_empty() {
        body["after"] = json!(after);
    }
    let client = site.client.hasty();
    let answer = client.request("control.query.device.list", body.to_string()).await;
    let page = answer.is_ok().then(|| answer.reply())?;
    let verified = page.at("/items").as_array()?.iter().all(|item| item["stage"] == "verified");
    Some((verified, page.at("/next").as_str().map(ToOwned::to_owned)))
}

async fn item(site: &Site, id: &str) -> Value {
    let subject = format!("control.query.device.get.{id}");
    let Answer::Reply(reply) = site.client.hasty().request(&subject, "").await else {
        return Value::Null;
    };
    reply.at("/item").clone()
}

/// The large hall: links, whose devices are enforced and only reported on in turns of ten, so that
/// each link has as many of both.
struct ManyDevices {
    site: Site,
    plants: Vec<Plant>,
}

/// What a hand leaves behind in a device.
const BY_HAND: i64 = -1;

impl ManyDevices {
    async fn register() -> Self {
        let site = Site::start(3).await;
        let mut plants = Vec::new();
        for number in 0..MANY_LINKS {
            let (link, lossy) = (format!("plant-{number}"), json!({"loss": 0.02, "seed": number}));
            plants.push(Plant::register(&site, &link, &lossy).await);
        }
        let device = |number: usize| {
            let on_drift = if Self::is_enforced(number) { "enforce" } else { "report" };
            let policy = json!({"on_drift": on_drift, "settle": "1s"});
            json!({"link": format!("plant-{}", number % MANY_LINKS), "policy": policy})
        };
        batch(&site, &of_all("device.register", device)).await;
        batch(&site, &of_all("device.mode", |_| json!("auto"))).await;
        Self { site, plants }
    }

    fn is_enforced(number: usize) -> bool {
        (number / MANY_LINKS).is_multiple_of(2)
    }

    fn plant(&self, number: usize) -> &Plant {
        &self.plants[number % MANY_LINKS]
    }

    /// Wants another level of every device.
    async fn want(&self, level: impl Fn(usize) -> usize) {
        batch(&self.site, &of_all("device.update", |number| json!({"level": level(number)}))).await;
    }

    /// Waits page by page: what is verified stays so while nobody wishes or turns anything, and
    /// looking at all of them over and over would keep the agents from their work.
    async fn await_verified(&self) {
        let begun = Instant::now();
        let mut after = String::new();
        loop {
            let limit = MANY_LIMIT.saturating_sub(begun.elapsed());
            let what = format!("all after {after:?} are verified");
            let next = wait::until(&what, limit, || async {
                let (verified, next) = look(&self.site, &after).await?;
                verified.then_some(next)
            })
            .await;
            match next {
                Some(next) => after = next,
                None => return,
            }
        }
    }

    /// A hand turns these devices away from what is wanted.
    fn turn(&self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            let device = format!("many.d{number}");
            let hand = json!({"device": device, "did": "hand", "values": {"level": BY_HAND}});
            self.plant(number).happens(&hand);
        }
    }

    /// How often devices were written to, by link, as their journals say.
    fn writes(&self) -> Vec<BTreeMap<String, usize>> {
        let of_plant = |plant: &Plant| {
            let mut writes = BTreeMap::new();
            for line in plant.lines().iter().filter(|line| line["did"] == json!("write")) {
                let device = line["device"].as_str().unwrap().to_owned();
                *writes.entry(device).or_default() += 1;
            }
            writes
        };
        self.plants.iter().map(of_plant).collect()
    }

    /// Waits until a turned device is as it is wanted again, by what it reports and by its journal.
    async fn await_enforced(&self, number: usize, level: usize) {
        let id = format!("many.d{number}");
        wait::until_true(&format!("{id} is enforced"), TURNED_LIMIT, || async {
            let seen = item(&self.site, &id).await["observed"].clone();
            let lines = self.plant(number).lines();
            let mut of_device = lines.iter().filter(|line| line["device"] == json!(id));
            let last = of_device.next_back().unwrap();
            last["did"] == json!("write")
                && last["values"]["level"] == json!(level)
                && seen["reported"]["level"]["value"] == json!(level)
                && seen["drift"].is_null()
        })
        .await;
    }

    /// Waits until a turned device is shown to differ, by the owner that its link has now.
    async fn await_reported(&self, number: usize, level: usize) {
        let id = format!("many.d{number}");
        wait::until_true(&format!("{id} is shown to drift"), TURNED_LIMIT, || async {
            let seen = item(&self.site, &id).await;
            let drift = &seen["observed"]["drift"]["level"];
            seen["observed"]["node"] == seen["owner"]
                && (&drift["desired"], &drift["reported"]) == (&json!(level), &json!(BY_HAND))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_devices_with_churn_end_as_their_policies_say() {
    let mut many = ManyDevices::register().await;
    let begun = Instant::now();
    many.want(|number| number).await;
    // A node dies in the middle, and everybody wants something else.
    let first = many.plants[0].owner_but(&many.site, &[]).await;
    many.site.agents[first].kill();
    many.want(|number| number + 1).await;
    many.await_verified().await;
    println!(
        "4000 changes to 2000 devices with a killed owner: {} ms",
        begun.elapsed().as_millis()
    );
    many.site.start_all();
    many.site.await_equal_digests().await;

    // Local hands turn knobs, half of them while nobody looks because an owner has died.
    let before = many.writes();
    let (early, late) = (0..TURNED / 2, TURNED / 2..TURNED);
    many.turn(early);
    let second = many.plants[0].owner_but(&many.site, &[]).await;
    assert_ne!(first, second, "who comes back gets nothing back");
    many.site.agents[second].kill();
    many.turn(late);
    many.plants[0].owner_but(&many.site, &[second]).await;
    many.site.start_all();
    many.site.await_equal_digests().await;
    for number in (0..TURNED).filter(|number| ManyDevices::is_enforced(*number)) {
        many.await_enforced(number, number + 1).await;
    }
    let shown: BTreeSet<usize> =
        (0..TURNED).filter(|number| !ManyDevices::is_enforced(*number)).collect();
    for number in &shown {
        many.await_reported(*number, number + 1).await;
    }
    let shown: BTreeSet<String> = shown.iter().map(|number| format!("many.d{number}")).collect();
    // Whichever agent answers, once it was told: these, and no other.
    wait::until_true("these are listed", DEVICE_LIMIT, || async {
        let listed = many.site.cli.json(&["device", "ls", "--drift"]);
        let listed = listed.as_array().unwrap().iter().map(|seen| seen["id"].as_str().unwrap());
        listed.map(ToOwned::to_owned).collect::<BTreeSet<String>>() == shown
    })
    .await;

    // Each link carries another wish, so nothing that was on its way before is still to come.
    for number in TURNED..TURNED + MANY_LINKS {
        set_verified(&many.site, &format!("many.d{number}"), &json!({"level": 9_999})).await;
    }
    for (before, after) in before.iter().zip(many.writes()) {
        for (device, writes) in before.iter().filter(|(device, _)| shown.contains(*device)) {
            assert_eq!(after.get(device), Some(writes), "{device} was written to");
        }
    }
    many.plants.iter().for_each(Plant::check);
}
