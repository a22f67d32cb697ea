//! Commands from a bare NATS client, through whichever agent takes them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this whole file is a test")]

use std::collections::BTreeSet;
use std::time::Duration;

use flotilla_tests::bare::{Answer, BareClient};
use flotilla_tests::load::Load;
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_registered_updated_replaced_and_deleted() {
    let site = Site::start(3).await;
    let client = &site.client;
    let update = "control.commands.device.update.hall2.lamp-1";
    client.request(update, r#"{"on":true}"#).await.refused("not_found");

    let register = "control.commands.device.register.hall2.lamp-1";
    let made = client.request(register, r#"{"name":"Lamp"}"#).await.accepted();
    let first = client.request(update, r#"{"on":true,"level":3}"#).await.accepted();
    assert!(first.revision() > made.revision());
    let patched = client.request(update, r#"{"level":null,"color":"red"}"#).await.accepted();
    assert!(patched.revision() > first.revision());

    let get = "control.query.device.get.hall2.lamp-1";
    let read = client.request(get, "").await.accepted();
    assert_eq!(read.at("/item/desired"), &json!({"on": true, "color": "red"}));
    client
        .request("control.commands.device.replace.hall2.lamp-1", r#"{"on":false}"#)
        .await
        .accepted();
    let read = client.request(get, "").await.accepted();
    assert_eq!(read.at("/item/desired"), &json!({"on": false}));

    client.request("control.commands.device.delete.hall2.lamp-1", "").await.accepted();
    client.request(get, "").await.refused("not_found");
    client.request(update, r#"{"on":true}"#).await.refused("not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_changes_nothing() {
    let site = Site::start(1).await;
    let first = site.client.set_param("limit", &json!(5), "one").await.accepted();
    assert_eq!(first.at("/changed"), &json!(true));
    let second = site.client.set_param("limit", &json!(5), "two").await.accepted();
    assert_eq!(second.at("/changed"), &json!(false));
    let read = site.client.param("limit").await.accepted();
    assert_eq!(read.at("/item/revision").as_u64(), first.revision());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precondition_decides_between_two_writers() {
    let site = Site::start(3).await;
    let subject = "control.commands.param.set.turn";
    let only_new = [("Flotilla-If-Revision", "0")];
    let clients = (0..16).map(|n| site.client.request_with(subject, &only_new, n.to_string()));
    let answers = join_all(clients).await;
    let won = answers.iter().filter(|answer| matches!(answer, Answer::Reply(it) if it.is_ok()));
    assert_eq!(won.count(), 1, "{answers:?}");
    for answer in answers {
        let reply = answer.reply();
        assert!(reply.is_ok() || reply.code() == Some("revision_mismatch"), "{}", reply.0);
        assert!(reply.revision().is_some(), "the log has decided: {}", reply.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_happens_whole_or_not_at_all() {
    let site = Site::start(3).await;
    let client = &site.client;
    let good = json!([
        {"op": "device.register", "id": "a.pump", "body": {}},
        {"op": "device.update", "id": "a.pump", "body": {"on": true}},
        {"op": "param.set", "id": "a.limit", "body": 7},
    ]);
    client.request("control.commands.batch", good.to_string()).await.accepted();
    let bad = json!([
        {"op": "param.set", "id": "a.limit", "body": 8},
        {"op": "device.update", "id": "a.missing", "body": {"on": true}},
    ]);
    client.request("control.commands.batch", bad.to_string()).await.refused("not_found");
    assert_eq!(client.read_param("a.limit").await.at("/item/value"), &json!(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_agent_takes_commands_and_each_takes_effect_once() {
    let site = Site::start(3).await;
    let load = Load::start(&site.client, "calm", 16);
    load.await_more(300).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    // Nothing is broken, so hardly any needs a retry; a busy machine may be late with some.
    let repeated = history.writers.iter().flatten().filter(|it| it.attempts > 1).count();
    assert!(repeated * 10 <= history.count(), "{repeated} of {} were repeated", history.count());

    let mut busy = 0;
    for stats in service_replies(&site.client, "STATS", 3).await {
        let endpoints = stats["endpoints"].as_array().unwrap();
        let requests = endpoints.iter().filter_map(|it| it["num_requests"].as_u64()).sum::<u64>();
        busy += u32::from(requests > 0);
    }
    assert_eq!(busy, 3, "a server spreads requests over all members of the queue group");
}

/// What the site's services answer to a question of the NATS services protocol.
async fn service_replies(client: &BareClient, verb: &str, wanted: usize) -> Vec<Value> {
    let raw = client.raw();
    let inbox = raw.new_inbox();
    let mut replies = raw.subscribe(inbox.clone()).await.unwrap();
    raw.publish_with_reply(format!("$SRV.{verb}.flotilla-home"), inbox, "".into()).await.unwrap();
    let mut found = Vec::new();
    while found.len() < wanted {
        let message = tokio::time::timeout(LIMIT, replies.next()).await.unwrap().unwrap();
        found.push(serde_json::from_slice(&message.payload).unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_a_nats_service() {
    let site = Site::start(3).await;
    let infos = service_replies(&site.client, "INFO", 3).await;
    let ids: BTreeSet<&str> = infos.iter().filter_map(|info| info["id"].as_str()).collect();
    assert_eq!(ids.len(), 3, "{infos:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_reply_subject_is_taken_and_its_outcome_is_an_event() {
    let site = Site::start(3).await;
    let events = site.client.subject("control.events.>");
    let mut events = site.client.raw().subscribe(events).await.unwrap();
    site.client.publish("control.commands.param.set.quiet", "41").await;
    let wanted = site.client.subject("control.events.param.quiet");
    let event = tokio::time::timeout(LIMIT, async {
        loop {
            let event = events.next().await.unwrap();
            if event.subject.as_str() == wanted {
                return event;
            }
        }
    });
    event.await.expect("a change of a parameter is told");
    assert_eq!(site.client.read_param("quiet").await.at("/item/value"), &json!(41));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_an_agent_to_publish_for_him() {
    let site = Site::start(1).await;
    let raw = site.client.raw();
    let forbidden = site.client.subject("control.commands.param.set.victim");
    let subject = site.client.subject("control.commands.param.set.trigger");
    raw.publish_with_reply(subject, forbidden, "1".into()).await.unwrap();
    raw.flush().await.unwrap();
    // A later command of the same connection is answered, so the first one has been seen.
    site.client.set_param("later", &json!(1), "later").await.accepted();
    wait::stays_true("the victim is untouched", Duration::from_millis(500), || async {
        site.client.param("victim").await.reply().code() == Some("not_found")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_says_so_and_a_linearizable_one_sees_the_last_write() {
    let site = Site::start(3).await;
    for number in 0..50 {
        let id = format!("n{number}");
        let written = site.client.set_param("seen", &json!(number), &id).await.accepted();
        let read = site.client.param("seen").await.accepted();
        assert_eq!(read.at("/item/value"), &json!(number));
        assert_eq!(read.at("/consistency"), &json!("linearizable"));
        assert!(read.revision() >= written.revision());
    }
    let stale = [("Flotilla-Consistency", "stale")];
    let read =
        site.client.request_with("control.query.param.get.seen", &stale, "").await.accepted();
    assert_eq!(read.at("/consistency"), &json!("stale"));
    assert!(read.at("/age_ms").is_u64(), "{}", read.0);
}
