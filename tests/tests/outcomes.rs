//! Commands without a reply subject: whatever becomes of one is told as an event, and garbage can't
//! make the site talk.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subscriber};
use flotilla_tests::bare::BareClient;
use flotilla_tests::site::Site;
use flotilla_tests::wait;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);
const OUTCOME: &str = "control.events.outcome.";
/// Refusals that an agent tells at once, and in a second after that (`control/outcomes.rs`).
const AT_ONCE: u64 = 40;
const PER_SECOND: u64 = 20;

/// Listens to all outcomes; the server knows of it when this returns.
async fn listen(client: &BareClient) -> Subscriber {
    let all = client.subject(&format!("{OUTCOME}>"));
    let events = client.raw().subscribe(all).await.unwrap();
    client.settle().await;
    events
}

/// Publishes a command without a reply subject.
async fn send(client: &BareClient, what: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let subject = client.subject(&format!("control.{what}"));
    let body: Vec<u8> = body.into();
    client.raw().publish_with_headers(subject, map, body.into()).await.unwrap();
}

/// The next outcome: what its subject names, and its payload.
async fn next(events: &mut Subscriber, client: &BareClient) -> (String, Value) {
    let event = tokio::time::timeout(LIMIT, events.next()).await.expect("an outcome is told");
    let event = event.unwrap();
    assert!(event.reply.is_none(), "nobody is to answer an outcome: {event:?}");
    let named = event.subject.strip_prefix(&client.subject(OUTCOME)).unwrap().to_owned();
    (named, serde_json::from_slice(&event.payload).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_rejected_and_refused_commands_end_in_an_event() {
    let site = Site::start(1).await;
    let client = &site.client;
    let mut events = listen(client).await;
    let large = "x".repeat(300_000);
    let batch = r#"[{"op":"param.set","id":"quiet","body":43}]"#;
    let unknown_connector = r#"{"connector":"telepathy","address":"x"}"#;
    // What is sent (below `control.`), with a request id of its own, and the code of its end; none
    // for a committed one. `true` where the log decides.
    let cases: &[(&str, &str, Option<&str>, bool)] = &[
        ("commands.param.set.quiet", "41", None, true),
        ("commands.param.set.quiet", "41", None, true),
        ("leader.commands.param.set.quiet", "42", None, true),
        ("commands.batch", batch, None, true),
        ("commands.device.update.hall2.lamp-1", "{\"on\":true}", Some("not_found"), true),
        ("commands.command.cancel.no-such-command", "", Some("not_found"), true),
        ("commands.param.set.quiet", "{", Some("malformed"), false),
        ("commands.batch", "[]", Some("malformed"), false),
        ("commands.device.delete.hall2.lamp-1", "{}", Some("malformed"), false),
        ("leader.commands.param.set.quiet", "{", Some("malformed"), false),
        ("commands.param.set.quiet", &large, Some("too_large"), false),
        ("commands.link.register.hall2", unknown_connector, Some("malformed"), false),
    ];
    for (at, (what, body, code, logged)) in cases.iter().enumerate() {
        let id = format!("quiet-{at}");
        send(client, what, &[("Flotilla-Request-Id", &id)], *body).await;
        let (named, told) = next(&mut events, client).await;
        let command = what.trim_start_matches("leader.").trim_start_matches("commands.");
        assert_eq!(named, command, "{told}");
        let op = told["op"].as_str().unwrap();
        let rest = told["id"].as_str().map_or(String::new(), |id| format!(".{id}"));
        assert_eq!(format!("{op}{rest}"), command, "{told}");
        let reply = &told["reply"];
        assert_eq!(reply["request_id"], json!(id), "{told}");
        assert_eq!(reply["ok"], json!(code.is_none()), "{what}: {told}");
        assert_eq!(reply["error"]["code"].as_str(), *code, "{what}: {told}");
        assert_eq!(reply["revision"].is_u64(), *logged, "{what}: {told}");
    }
    assert_eq!(client.read_param("quiet").await.at("/item/value"), &json!(43));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_header_or_a_reused_request_id_ends_in_an_event() {
    let site = Site::start(1).await;
    let client = &site.client;
    let mut events = listen(client).await;
    send(client, "commands.param.set.a", &[("Flotilla-If-Revison", "3")], "1").await;
    let (named, told) = next(&mut events, client).await;
    assert_eq!(
        (named.as_str(), &told["reply"]["error"]["code"]),
        ("param.set.a", &json!("malformed"))
    );
    send(client, "commands.param.set.a", &[("Flotilla-If-Revision", "77")], "1").await;
    let (_, told) = next(&mut events, client).await;
    assert_eq!(told["reply"]["error"]["code"], json!("revision_mismatch"), "{told}");
    let id = [("Flotilla-Request-Id", "once")];
    send(client, "commands.param.set.a", &id, "1").await;
    let (_, told) = next(&mut events, client).await;
    assert_eq!(told["reply"]["changed"], json!(true), "{told}");
    send(client, "commands.param.set.a", &id, "2").await;
    let (_, told) = next(&mut events, client).await;
    assert_eq!(told["reply"]["error"]["code"], json!("request_id_reused"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_can_decide_ends_in_an_event() {
    let mut site = Site::start(3).await;
    let leader = site.await_leader().await;
    let mut events = listen(&site.client).await;
    for index in (0..3).filter(|index| *index != leader) {
        site.agents[index].pause();
    }
    // The leader still leads for a moment, and is the only one that can take this.
    let headers = [("Flotilla-Request-Id", "lost"), ("Flotilla-Timeout", "300ms")];
    send(&site.client, "leader.commands.param.set.quiet", &headers, "1").await;
    let (named, told) = next(&mut events, &site.client).await;
    assert_eq!(named, "param.set.quiet", "{told}");
    assert_eq!(told["reply"]["request_id"], json!("lost"), "{told}");
    assert_eq!(told["reply"]["error"]["code"], json!("unknown"), "{told}");
    assert!(told["reply"]["revision"].is_null(), "{told}");
    for index in (0..3).filter(|index| *index != leader) {
        site.agents[index].resume();
    }
    site.await_leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_makes_few_events_and_is_counted() {
    const FLOOD: u64 = 5_000;
    let site = Site::start(1).await;
    let client = &site.client;
    let mut events = listen(client).await;
    let refused = || site.agents[0].refused("surface=\"commands\",reason=\"malformed\"");
    let before = refused();
    let begun = Instant::now();
    for _ in 0..FLOOD {
        send(client, "commands.param.set.quiet", &[], "{").await;
    }
    // Subjects that name nothing have no event to go to.
    send(client, "commands.param.set.UPPER", &[], "1").await;
    client.settle().await;
    wait::until_true("every one is counted", LIMIT, || async {
        (refused() - before) as u64 > FLOOD
    })
    .await;
    // The last one of the same connection: what is told before it is all of the flood.
    client.set_param("later", &json!(1), "later").await.accepted();
    let fits = AT_ONCE + PER_SECOND * (begun.elapsed().as_secs() + 1);
    let id = [("Flotilla-Request-Id", "the-end")];
    send(client, "commands.param.set.quiet", &id, "7").await;
    let mut told: u64 = 0;
    loop {
        let (named, event) = next(&mut events, client).await;
        assert_eq!(named, "param.set.quiet");
        if event["reply"]["request_id"] == json!("the-end") {
            assert_eq!(event["reply"]["ok"], json!(true), "{event}");
            break;
        }
        assert_eq!(event["reply"]["error"]["code"], json!("malformed"), "{event}");
        told += 1;
    }
    assert!((AT_ONCE..=fits).contains(&told), "{told} events of {FLOOD}, at most {fits}");
    let untold = site.agents[0].refused("surface=\"outcome\",reason=\"too_many\"");
    assert_eq!(untold as u64, FLOOD - told, "what is not told is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_forbidden_reply_subjects_make_no_outcome() {
    let site = Site::start(1).await;
    let client = &site.client;
    let mut events = listen(client).await;
    send(client, "query.param.get.nothing", &[], "").await;
    send(client, "changes.since.0", &[], "{").await;
    send(client, "admin.member.remove", &[], "{").await;
    let subject = client.subject("control.commands.param.set.quiet");
    let forbidden = client.subject("control.events.outcome.param.set.forged");
    client.raw().publish_with_reply(subject, forbidden, "1".into()).await.unwrap();
    send(client, "commands.param.set.quiet", &[("Flotilla-Request-Id", "end")], "2").await;
    let (_, told) = next(&mut events, client).await;
    assert_eq!(told["reply"]["request_id"], json!("end"), "{told}");
}
