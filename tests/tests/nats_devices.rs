//! Devices that speak NATS, through real agents: what a device is told, in its own journal, and
//! what a user sees of it.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::collections::BTreeSet;

use flotilla_tests::bare::{Answer, BareClient};
use flotilla_tests::door::BareDoor;
use flotilla_tests::nats_device::{Deed, Manners, NatsDevice, Told};
use flotilla_tests::plant::set_verified;
use flotilla_tests::rig::{RIG_LIMIT, owner_but, register_device, register_link, until_device};
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use serde_json::{Value, json};

const DOOR: &str = "hall.door";
/// Messages of a megabyte in a flood.
const FLOOD: usize = 300;
/// What an agent may hold of it.
const FLOOD_BYTES_MAX: u64 = 600_000_000;

fn quiet() -> Manners {
    Manners { is_quiet: true, ..Manners::default() }
}

fn silent() -> Manners {
    Manners { is_silent: true, ..Manners::default() }
}

async fn register(site: &Site, id: &str, settings: &Value) {
    register_device(&site.client, id, &json!({"link": "bus", "settings": settings}), "auto").await;
    until_device(&site.client, id, "somebody owns its link", |seen| seen["owner"].is_u64()).await;
}

/// A site with a door that is there.
async fn hall(agents: usize, manners: Manners, settings: &Value) -> (Site, NatsDevice) {
    let site = Site::start(agents).await;
    register_link(&site.client, "bus", &json!({"connector": "nats", "placement": "any"})).await;
    register(&site, DOOR, settings).await;
    let door = NatsDevice::start(&site, DOOR, manners).await;
    // The owner may not have listened yet when the door said so.
    wait::until_true("the door is seen to be there", RIG_LIMIT, || async {
        door.says("availability", "online").await;
        availability(&site.client, DOOR).await == json!("online")
    })
    .await;
    (site, door)
}

async fn item(client: &BareClient, id: &str) -> Value {
    let subject = format!("control.query.device.get.{id}");
    let answer = client.hasty().request(&subject, "").await;
    let Answer::Reply(reply) = answer else { return Value::Null };
    reply.at("/item").clone()
}

async fn availability(client: &BareClient, id: &str) -> Value {
    item(client, id).await["observed"]["availability"].clone()
}

/// Waits until a command is in this stage; gives what is said of it.
async fn until_stage(client: &BareClient, request_id: &str, stage: &str) -> Value {
    let client = client.hasty();
    let subject = format!("control.query.command.get.{request_id}");
    wait::until(&format!("{request_id} is {stage}"), RIG_LIMIT, || async {
        let Answer::Reply(reply) = client.request(&subject, "").await else { return None };
        let item = reply.at("/item").clone();
        (item["stage"] == stage).then_some(item)
    })
    .await
}

/// Asks until the site has it, under one request id; gives its revision.
async fn command(site: &Site, rest: &str, headers: &[(&str, &str)], body: &Value) -> u64 {
    let client = site.client.hasty();
    let subject = format!("control.commands.device.{rest}");
    wait::until("the site takes a command", RIG_LIMIT, || async {
        let answer = client.request_with(&subject, headers, body.to_string()).await;
        let Answer::Reply(reply) = answer else { return None };
        reply.is_ok().then(|| reply.revision())?
    })
    .await
}

/// Wishes something of a device.
async fn wish(site: &Site, id: &str, request_id: &str, patch: &Value) -> u64 {
    let headers = [("Flotilla-Request-Id", request_id)];
    command(site, &format!("update.{id}"), &headers, patch).await
}

/// Wants the door's one-shot.
async fn open(site: &Site, request_id: &str, ttl: &str) {
    let body = json!({"action": "open", "args": {"by": request_id}});
    let headers = [("Flotilla-Request-Id", request_id), ("Flotilla-Ttl", ttl)];
    command(site, &format!("invoke.{DOOR}"), &headers, &body).await;
}

/// The values that the door was told for `level`, in this order.
fn levels(door: &NatsDevice) -> Vec<u64> {
    door.told("set").iter().filter_map(|told| told.body["level"].as_u64()).collect()
}

/// How often the door was told this one-shot.
fn told(door: &NatsDevice, request_id: &str) -> usize {
    let of = |told: &String| told == request_id;
    door.told("invoke").iter().filter(|told| told.request_id.as_ref().is_some_and(of)).count()
}

/// What must hold whatever happened: epoch and sequence only grow, so nothing comes twice and
/// nothing old after something new; and no one-shot comes twice.
fn check(door: &NatsDevice) {
    let journal = door.journal();
    // What was kept on its way until its time was over doesn't count: it says so itself.
    let in_time = journal.iter().filter(|told| told.deed != Deed::Late);
    let orders: Vec<(u64, u64)> = in_time.filter_map(|told| told.order).collect();
    assert!(orders.is_sorted_by(|one, next| one < next), "not in order: {journal:#?}");
    let asked = door.told("invoke");
    let once: BTreeSet<_> = asked.iter().map(|told| told.request_id.clone()).collect();
    assert_eq!(once.len(), asked.len(), "a one-shot came twice: {journal:#?}");
    let limited = |told: &Told| told.word == "get" || told.expires_in_ms.is_some();
    assert!(journal.iter().all(limited), "without a time limit: {journal:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_sent_acknowledged_and_verified() {
    let (site, door) = hall(1, quiet(), &json!({})).await;
    // It answers, and says nothing by itself: acknowledged, until it says what it is.
    let level = |level: u64| json!({ "level": level });
    let revision = wish(&site, DOOR, "door-1", &level(1)).await;
    let seen = until_device(&site.client, DOOR, "it is acknowledged", |seen| {
        seen["stage"] == "acknowledged"
    })
    .await;
    assert_eq!(seen["watermarks"]["verified"], 0, "{seen}");
    let sets = door.told("set");
    assert!(!sets.is_empty() && sets.iter().all(|told| told.is_asked), "{sets:?}");
    for told in &sets {
        assert_eq!((&told.body, told.revision), (&level(1), Some(revision)), "{told:?}");
        assert!(told.order.unwrap().0 >= seen["epoch"].as_u64().unwrap(), "{told:?}");
    }
    door.report().await;
    until_device(&site.client, DOOR, "it is verified", |seen| seen["stage"] == "verified").await;

    // It answers nothing: sent, and nobody waits for an answer.
    register(&site, "hall.bell", &json!({"acknowledges": false})).await;
    let bell = NatsDevice::start(&site, "hall.bell", quiet()).await;
    wish(&site, "hall.bell", "bell-2", &level(2)).await;
    until_device(&site.client, "hall.bell", "it is sent", |seen| seen["stage"] == "sent").await;
    wait::until_true("the bell is told", RIG_LIMIT, || async { !bell.told("set").is_empty() })
        .await;
    assert!(bell.told("set").iter().all(|told| !told.is_asked), "{:?}", bell.journal());
    bell.report().await;
    until_device(&site.client, "hall.bell", "it is verified", |it| it["stage"] == "verified").await;

    // It can be asked: verified by its answer, after it was told.
    register(&site, "hall.gate", &json!({"readable": true})).await;
    let gate = NatsDevice::start(&site, "hall.gate", quiet()).await;
    set_verified(&site, "hall.gate", &level(3)).await;
    let words: Vec<String> = gate.journal().into_iter().map(|told| told.word).collect();
    let first_set = words.iter().position(|word| word == "set").unwrap();
    assert!(words[first_set..].contains(&"get".to_owned()), "{words:?}");
    assert_eq!(item(&site.client, "hall.gate").await["observed"]["reported"]["level"]["value"], 3);
    check(&door);
    check(&bell);
    check(&gate);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_refuses_ends_with_its_reason_and_is_not_tried_again() {
    let (site, door) = hall(1, Manners::default(), &json!({})).await;
    set_verified(&site, DOOR, &json!({"level": 1})).await;
    let refuses = Some("the bolt is shut".to_owned());
    door.behave(Manners { refuses, ..Manners::default() });
    wish(&site, DOOR, "refused-wish", &json!({"level": 2})).await;
    until_stage(&site.client, "refused-wish", "failed").await;
    let failure = item(&site.client, DOOR).await["watermarks"]["failures"][0].clone();
    assert_eq!(failure["code"], "refused", "{failure}");
    assert!(failure["message"].as_str().unwrap().contains("the bolt is shut"), "{failure}");
    open(&site, "refused-shot", "60s").await;
    let ended = until_stage(&site.client, "refused-shot", "failed").await;
    let detail = ended["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("the bolt is shut"), "{ended}");

    // It says yes again: what it refused stays refused, and what is wished anew is done.
    door.behave(Manners::default());
    open(&site, "taken-shot", "60s").await;
    until_stage(&site.client, "taken-shot", "acknowledged").await;
    let mut levels = levels(&door);
    assert_eq!(levels.iter().filter(|level| **level == 2).count(), 1, "{levels:?}");
    levels.dedup();
    assert_eq!((levels, told(&door, "refused-shot")), (vec![1, 2], 1));
    assert_eq!(door.values(), json!({"level": 1}));
    set_verified(&site, DOOR, &json!({"level": 2})).await;
    assert_eq!(door.values(), json!({"level": 2}));
    check(&door);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_away_gets_on_its_return_what_is_still_wanted() {
    let (site, mut door) = hall(1, Manners::default(), &json!({})).await;
    set_verified(&site, DOOR, &json!({"level": 1, "lock": 1})).await;
    until_device(&site.client, DOOR, "online", |it| it["observed"]["availability"] == "online")
        .await;

    // One that sleeps says so; one that leaves too.
    door.says("availability", "asleep").await;
    until_device(&site.client, DOOR, "asleep", |it| it["observed"]["availability"] == "asleep")
        .await;
    door.leave(Some("offline")).await;
    until_device(&site.client, DOOR, "offline", |it| it["observed"]["availability"] == "offline")
        .await;
    let before = door.journal().len();
    let soon = [("Flotilla-Ttl", "1s"), ("Flotilla-Request-Id", "soon")];
    command(&site, &format!("update.{DOOR}"), &soon, &json!({"level": 2})).await;
    open(&site, "soon-shot", "1s").await;
    open(&site, "patient-shot", "10m").await;
    wish(&site, DOOR, "lock-2", &json!({"lock": 2})).await;
    for request in ["soon", "soon-shot"] {
        until_stage(&site.client, request, "expired").await;
    }
    assert_eq!(item(&site.client, DOOR).await["desired"], json!({"level": 1, "lock": 2}));

    door.come().await;
    until_device(&site.client, DOOR, "online", |it| it["observed"]["availability"] == "online")
        .await;
    until_device(&site.client, DOOR, "it is verified", |seen| seen["stage"] == "verified").await;
    until_stage(&site.client, "patient-shot", "acknowledged").await;
    set_verified(&site, DOOR, &json!({"lock": 3})).await;
    let journal = door.journal();
    let sets = journal[before..].iter().filter(|told| told.word == "set");
    let mut sets: Vec<&Value> = sets.map(|told| &told.body).collect();
    sets.dedup();
    assert_eq!(sets, [&json!({"lock": 2}), &json!({"lock": 3})], "{journal:#?}");
    assert_eq!((told(&door, "soon-shot"), told(&door, "patient-shot")), (0, 1), "{journal:#?}");
    check(&door);

    // One that just vanishes is found out by speaking to it, and nothing was handed over then.
    door.leave(None).await;
    wish(&site, DOOR, "lock-4", &json!({"lock": 4})).await;
    until_device(&site.client, DOOR, "nobody listens", |seen| {
        seen["observed"]["note"].as_str().unwrap_or_default().contains("nobody listens")
    })
    .await;
    door.come().await;
    until_device(&site.client, DOOR, "it is verified", |seen| seen["stage"] == "verified").await;
    assert_eq!(door.values(), json!({"level": 1, "lock": 4}));
    check(&door);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_shot_comes_once_whatever_the_device_answers() {
    let (site, door) = hall(1, Manners::default(), &json!({})).await;
    open(&site, "answered", "60s").await;
    until_stage(&site.client, "answered", "acknowledged").await;
    let asked = door.told("invoke");
    assert_eq!(asked[0].body, json!({"action": "open", "args": {"by": "answered"}}));
    assert_eq!(asked[0].request_id.as_deref(), Some("answered"));
    assert!(asked[0].is_asked && asked[0].revision.is_none(), "{asked:?}");

    // No answer: it may have acted, so nobody can say, and nobody asks again.
    door.behave(silent());
    open(&site, "unanswered", "60s").await;
    let ended = until_stage(&site.client, "unanswered", "unknown").await;
    let detail = ended["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("answer in time"), "{ended}");
    door.behave(Manners::default());
    open(&site, "later", "60s").await;
    until_stage(&site.client, "later", "acknowledged").await;
    for request_id in ["answered", "unanswered", "later"] {
        assert_eq!(told(&door, request_id), 1, "{request_id}");
    }
    // Where nobody answers, that it is on its way is all there is to know.
    register(&site, "hall.bell", &json!({"acknowledges": false})).await;
    let bell = NatsDevice::start(&site, "hall.bell", Manners::default()).await;
    let headers = [("Flotilla-Request-Id", "ring")];
    command(&site, "invoke.hall.bell", &headers, &json!({"action": "ring"})).await;
    until_stage(&site.client, "ring", "sent").await;
    wait::until_true("it rings", RIG_LIMIT, || async { told(&bell, "ring") == 1 }).await;
    check(&door);
    check(&bell);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_long_and_unreadable_reports_is_held_within_bounds() {
    let (mut site, door) = hall(1, Manners::default(), &json!({})).await;
    set_verified(&site, DOOR, &json!({"level": 1})).await;
    let before_bytes = site.agents[0].process().resident_bytes();
    let long = vec![0xff_u8; 1_000_000];
    for _ in 0..FLOOD {
        site.client.publish(&format!("device.{DOOR}.reported"), long.clone()).await;
    }
    let bad = || site.agents[0].log().contains("a device reports what can't be read");
    wait::until_true("it is said that it can't be read", RIG_LIMIT, || async { bad() }).await;
    set_verified(&site, DOOR, &json!({"level": 2})).await;
    let now_bytes = site.agents[0].process().resident_bytes();
    let grown = now_bytes.saturating_sub(before_bytes);
    assert!(grown < FLOOD_BYTES_MAX, "{grown} bytes more after a flood");
    check(&door);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_owner_writes_with_a_higher_epoch_and_the_one_before_no_more() {
    let fences = || Manners { fences: true, ..Manners::default() };
    let (mut site, door) = hall(3, fences(), &json!({"fences": true})).await;
    set_verified(&site, DOOR, &json!({"level": 1})).await;
    let first = owner_but(&site.client, DOOR, &[]).await;
    // It is killed with a one-shot in its hands, told and not answered, and a wish behind that.
    door.behave(Manners { is_silent: true, ..fences() });
    open(&site, "in-hand", "60s").await;
    wait::until_true("it is told", RIG_LIMIT, || async { told(&door, "in-hand") == 1 }).await;
    wish(&site, DOOR, "level-2", &json!({"level": 2})).await;
    site.agents[first].kill();
    open(&site, "after-death", "60s").await;
    door.behave(fences());
    let second = owner_but(&site.client, DOOR, &[first]).await;
    set_verified(&site, DOOR, &json!({"level": 3})).await;
    until_stage(&site.client, "in-hand", "unknown").await;
    until_stage(&site.client, "after-death", "acknowledged").await;
    site.start_all();
    site.await_status(first).await;

    // The next one falls asleep with a wish in its hands, and wakes when another one has written.
    door.behave(Manners { is_silent: true, ..fences() });
    wish(&site, DOOR, "level-4", &json!({"level": 4})).await;
    wait::until_true("the wish is told", RIG_LIMIT, || async { levels(&door).contains(&4) }).await;
    site.agents[second].pause();
    door.behave(fences());
    owner_but(&site.client, DOOR, &[second]).await;
    set_verified(&site, DOOR, &json!({"level": 5})).await;
    site.agents[second].resume();
    site.await_status(second).await;
    for level in 6..9 {
        set_verified(&site, DOOR, &json!({ "level": level })).await;
    }
    check(&door);
    let journal = door.journal();
    let epochs: Vec<u64> = journal.iter().filter_map(|told| Some(told.order?.0)).collect();
    let owners: BTreeSet<u64> = epochs.iter().copied().collect();
    assert!(owners.len() >= 3 && epochs.is_sorted(), "{epochs:?}");
    assert!(levels(&door).is_sorted(), "an older value after a newer one: {journal:#?}");
    assert!(journal.iter().all(|told| told.deed != Deed::Older), "{journal:#?}");
    assert_eq!((told(&door, "in-hand"), told(&door, "after-death")), (1, 1), "{journal:#?}");
    assert_eq!(door.values(), json!({"level": 8}));

    // What comes late all the same, as from a network that kept it, the device knows to be old.
    let late = journal.iter().find(|told| told.body == json!({"level": 4})).unwrap();
    let (epoch, sequence) = late.order.unwrap();
    let headers = [("Flotilla-Epoch", epoch), ("Flotilla-Sequence", sequence)];
    let headers = headers.map(|(name, number)| (name, number.to_string()));
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, number)| (*name, number.as_str())).collect();
    let subject = format!("device.{DOOR}.set");
    let answer = site.client.request_with(&subject, &headers, late.body.to_string()).await;
    assert!(!answer.clone().is_ok(), "{answer:?}");
    assert_eq!(door.journal().last().map(|told| told.deed), Some(Deed::Older));
    assert_eq!(door.values(), json!({"level": 8}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_started_anew_delivers_nothing_old() {
    let (mut site, door) = hall(1, Manners::default(), &json!({})).await;
    set_verified(&site, DOOR, &json!({"level": 1})).await;
    // The connection ends while a one-shot is on its way: told, and not answered.
    door.behave(silent());
    open(&site, "in-hand", "60s").await;
    wait::until_true("it is told", RIG_LIMIT, || async { told(&door, "in-hand") == 1 }).await;
    site.nats.kill();
    let before = door.journal().len();
    door.behave(Manners::default());

    // Meanwhile somebody at the gateway wants this and that; some of it runs out of time.
    let local = BareDoor::of(site.agents[0].data_dir());
    let command = async |what: &str, request_id: &str, ttl: Option<&str>, body: Value| {
        let mut headers = vec![("Flotilla-Request-Id", request_id)];
        headers.extend(ttl.map(|ttl| ("Flotilla-Ttl", ttl)));
        let rest = format!("control.commands.device.{what}.{DOOR}");
        local.request_with(&rest, &headers, body.to_string()).await.accepted();
    };
    let shot = json!({"action": "open", "args": {}});
    command("update", "soon", Some("1s"), json!({"level": 2})).await;
    command("invoke", "soon-shot", Some("1s"), shot.clone()).await;
    command("update", "before-last", None, json!({"level": 3})).await;
    command("update", "last", None, json!({"level": 4})).await;
    command("invoke", "patient-shot", Some("10m"), shot).await;
    let stage_there = async |request_id: &str, stage: &str| {
        wait::until_true(&format!("{request_id} is {stage}"), RIG_LIMIT, || async {
            let rest = format!("control.query.command.get.{request_id}");
            let Answer::Reply(reply) = local.request(&rest, "").await else { return false };
            reply.at("/item/stage") == stage
        })
        .await;
    };
    stage_there("soon-shot", "expired").await;
    stage_there("before-last", "superseded").await;
    stage_there("in-hand", "unknown").await;

    site.nats.restart();
    until_device(&site.client, DOOR, "it is verified", |seen| {
        seen["stage"] == "verified" && seen["desired"] == json!({"level": 4})
    })
    .await;
    until_stage(&site.client, "patient-shot", "acknowledged").await;
    set_verified(&site, DOOR, &json!({"level": 5})).await;
    let journal = door.journal();
    let mut sets: Vec<&Value> =
        journal[before..].iter().filter(|told| told.word == "set").map(|told| &told.body).collect();
    sets.dedup();
    assert_eq!(sets, [&json!({"level": 4}), &json!({"level": 5})], "{journal:#?}");
    for (request_id, times) in [("in-hand", 1), ("soon-shot", 0), ("patient-shot", 1)] {
        assert_eq!(told(&door, request_id), times, "{request_id}: {journal:#?}");
    }
    assert!(journal.iter().all(|told| told.deed != Deed::Late), "{journal:#?}");
    check(&door);
}
