//! Garbage on every subject: one clear refusal each, and nothing has changed.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::bare::{Answer, BareClient};
use flotilla_tests::site::Site;
use flotilla_tests::status::Status;
use flotilla_tests::wait;
use serde_json::{Value, json};

const UPDATE: &str = "control.commands.device.update.hall2.lamp-1";
const REGISTER: &str = "control.commands.device.register.hall2.lamp-2";
const SET: &str = "control.commands.param.set.a";
const BATCH: &str = "control.commands.batch";
const REFUSED: &str = "flotilla_refused_total";
const LIMIT: Duration = Duration::from_secs(20);
const GET: &str = "control.query.device.get.hall2.lamp-1";

/// A site with one device, of one agent: refusals need no majority.
async fn site() -> Site {
    let site = Site::start(1).await;
    site.client.request("control.commands.device.register.hall2.lamp-1", "{}").await.accepted();
    site.client.request(UPDATE, r#"{"on":true}"#).await.accepted();
    site
}

/// Everything that a user could have changed, as digests.
async fn state(client: &BareClient) -> Value {
    let reply = client.request("control.query.site.get", "").await.accepted();
    let digests = reply.at("/item/digests");
    json!([digests["links"], digests["devices"], digests["params"], digests["members"]])
}

async fn refused(site: &Site, subject: &str, body: impl Into<Vec<u8>>, code: &str) -> Value {
    let before = state(&site.client).await;
    let body: Vec<u8> = body.into();
    let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
    let reply = match site.client.request(subject, body).await {
        Answer::Reply(reply) => reply,
        other => panic!("{subject} with {shown:?}: {other:?}"),
    };
    assert_eq!(reply.code(), Some(code), "{subject} with {shown:?}: {}", reply.0);
    for words in ["/error/message", "/error/hint"] {
        assert!(!reply.at(words).as_str().unwrap().is_empty(), "{words}: {}", reply.0);
    }
    assert_eq!(reply.at("/error/retryable"), &json!(false), "{}", reply.0);
    assert_eq!(state(&site.client).await, before, "{subject} with {shown:?}");
    reply.0
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_they_should_be() {
    let site = site().await;
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let large = format!("\"{}\"", "x".repeat(40_000));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (UPDATE, b"".to_vec(), "malformed"),
        (UPDATE, b"{".to_vec(), "malformed"),
        (UPDATE, b"{\"on\":true".to_vec(), "malformed"),
        (UPDATE, b"{\"on\":true}}".to_vec(), "malformed"),
        (UPDATE, b"{\"on\":true,\"on\":false}".to_vec(), "malformed"),
        (UPDATE, b"[1]".to_vec(), "malformed"),
        (UPDATE, b"on=true".to_vec(), "malformed"),
        (UPDATE, b"\xff\xfe\x00".to_vec(), "malformed"),
        (UPDATE, b"\xef\xbb\xbf{\"on\":true}".to_vec(), "malformed"),
        (SET, b"NaN".to_vec(), "malformed"),
        (SET, b"1e309".to_vec(), "malformed"),
        (SET, b"18446744073709551616".to_vec(), "malformed"),
        (SET, b"01".to_vec(), "malformed"),
        (SET, b"'a'".to_vec(), "malformed"),
        (SET, b"\"\\ud800\"".to_vec(), "malformed"),
        (SET, deep.into_bytes(), "too_large"),
        (SET, large.into_bytes(), "too_large"),
        (REGISTER, b"{\"nmae\":\"x\"}".to_vec(), "malformed"),
        (REGISTER, b"{\"name\":7}".to_vec(), "malformed"),
        (REGISTER, b"{\"link\":\"Not A Link\"}".to_vec(), "malformed"),
        (REGISTER, b"{\"link\":\"missing\"}".to_vec(), "link_not_found"),
        (REGISTER, b"{\"model\":{\"type\":\"array\"}}".to_vec(), "malformed"),
        (BATCH, b"{}".to_vec(), "malformed"),
        (BATCH, b"[]".to_vec(), "malformed"),
        (BATCH, b"[{\"op\":\"batch\",\"id\":\"a\",\"body\":[]}]".to_vec(), "malformed"),
        (BATCH, b"[{\"op\":\"token.create\",\"id\":\"a\",\"body\":{}}]".to_vec(), "malformed"),
        ("control.commands.device.delete.hall2.lamp-1", b"{}".to_vec(), "malformed"),
        ("control.query.device.list", b"{\"limit\":0}".to_vec(), "malformed"),
        ("control.query.device.list", b"{\"limt\":5}".to_vec(), "malformed"),
        ("control.admin.voters.set", b"{\"voters\":2}".to_vec(), "malformed"),
        ("control.admin.voters.set", b"{\"voters\":99}".to_vec(), "malformed"),
        ("control.admin.member.remove", b"{\"node\":0}".to_vec(), "malformed"),
        ("control.admin.token.create", b"{}".to_vec(), "malformed"),
        ("control.admin.leader.transfer", b"{\"node\":\"n1\"}".to_vec(), "malformed"),
    ];
    for (subject, body, code) in cases {
        refused(&site, subject, body, code).await;
    }
    let reply = refused(&site, UPDATE, "{\"on\":\n tru}", "malformed").await;
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("line 2"), "the place is told: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_subjects_that_do_not_exist() {
    let site = site().await;
    let long = format!("control.commands.param.set.{}", "a".repeat(33));
    let many = format!("control.commands.param.set.{}", ["a"; 9].join("."));
    let huge = format!("control.commands.param.set.{}", "a".repeat(2_000));
    let subjects = [
        "control.commands.param.set.Upper",
        "control.commands.param.set.a\0b",
        "control.commands.param.set.*",
        "control.commands.param.set.>",
        "control.commands.param.set.a.*.b",
        "control.commands.param.set.\u{1F600}",
        "control.commands.param.set.a/b",
        "control.commands.param.set",
        "control.commands.param.sett.a",
        "control.commands.device.update.a.b.c.d.e",
        "control.commands.member.join.a",
        "control.commands.x",
        "control.query.device.get",
        "control.query.devices.list",
        "control.query.device.get.UPPER",
        "control.changes.since.-1",
        "control.changes.since.01",
        "control.changes.since.x",
        "control.admin.nothing",
        "control.admin.token.create.more",
        &long,
        &many,
        &huge,
    ];
    for subject in subjects {
        refused(&site, subject, "1", "malformed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_unknown_wrong_or_contradict_each_other() {
    let site = site().await;
    let long = "x".repeat(65);
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![("Flotilla-If-Revison", "3")],
        vec![("flotilla-anything", "3")],
        vec![("Flotilla-If-Revision", "-1")],
        vec![("Flotilla-If-Revision", "three")],
        vec![("Flotilla-If-Revision", "18446744073709551616")],
        vec![("Flotilla-If-Revision", "1"), ("Flotilla-If-Revision", "2")],
        vec![("Flotilla-If-Revision", "1"), ("flotilla-if-revision", "1")],
        vec![("Flotilla-Request-Id", "a"), ("Nats-Msg-Id", "b")],
        vec![("Flotilla-Request-Id", "with space")],
        vec![("Flotilla-Request-Id", &long)],
        vec![("Flotilla-Timeout", "-5s")],
        vec![("Flotilla-Timeout", "0")],
        vec![("Flotilla-Timeout", "999999h")],
        vec![("Flotilla-Timeout", "soon")],
        vec![("Flotilla-Wait", "sometime")],
        vec![("Flotilla-Ttl", "5s")],
        vec![("Flotilla-Consistency", "eventual")],
    ];
    let before = state(&site.client).await;
    for headers in cases {
        let reply = site.client.request_with(SET, &headers, "1").await.refused("malformed");
        let message = reply.at("/error/message").as_str().unwrap().to_lowercase();
        assert!(message.contains(&headers[0].0.to_lowercase()), "{headers:?}: {message}");
    }
    assert_eq!(state(&site.client).await, before);
    let foreign = [("traceparent", "nonsense"), ("X-Other", "y")];
    site.client.request_with(SET, &foreign, "1").await.accepted();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_between_agents_changes_nothing() {
    let mut site = Site::start(3).await;
    site.client.set_param("kept", &json!(1), "kept").await.accepted();
    let leader = site.await_leader().await;
    let term = site.await_status(leader).await.term();

    let refused = |site: &Site| site.agents.iter().map(|it| it.counter(REFUSED)).sum::<f64>();
    let before = refused(&site);

    // What one agent really sends another, to be replayed and bent.
    let listened = site.client.subject("raft.>");
    let mut frames = site.client.raw().subscribe(listened).await.unwrap();
    let mut caught = Vec::new();
    while caught.len() < 50 {
        let next = futures_util::StreamExt::next(&mut frames);
        let frame = tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap();
        caught.push((frame.subject.to_string(), frame.payload));
    }
    drop(frames);
    let raw = site.client.raw();
    for (at, (subject, payload)) in caught.iter().enumerate() {
        raw.publish(subject.clone(), payload.clone()).await.unwrap();
        let mut bent = payload.to_vec();
        let place = at * 7 % bent.len();
        bent[place] ^= 0x55;
        raw.publish(subject.clone(), bent.into()).await.unwrap();
        raw.publish(subject.clone(), payload.slice(..payload.len() / 2)).await.unwrap();
        // To somebody else than it was sealed for.
        for node in 1..=4 {
            let other = site.client.subject(&format!("raft.{node}"));
            raw.publish(other, payload.clone()).await.unwrap();
        }
    }
    for node in 1..=3 {
        for body in [&b""[..], b"{}", b"\x00\x01\x02", &[0xff; 4_096], &[0x08; 200_000]] {
            site.client.publish(&format!("raft.{node}"), body.to_vec()).await;
        }
    }
    raw.flush().await.unwrap();

    wait::stays_true("the leader and its term stay", Duration::from_secs(2), || async {
        site.status(leader).await.is_none_or(|it| it.role() == "leader" && it.term() == term)
    })
    .await;
    for agent in &mut site.agents {
        assert!(agent.process().ended().is_none(), "{} has ended", agent.name);
    }
    site.client.set_param("kept", &json!(2), "kept-2").await.accepted();
    site.await_equal_digests().await;
    let counted = refused(&site) - before;
    assert!(counted > 200.0, "of hundreds of bad frames only {counted} were counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_subjects_of_nodes_and_events() {
    let mut site = site().await;
    let at = |status: &Status| (status.term(), status.role().to_owned(), status.applied());
    let before = (state(&site.client).await, at(&site.await_status(0).await));
    let counted = |site: &Site| {
        let agent = &site.agents[0];
        (agent.refused("surface=\"node\""), agent.counter(REFUSED))
    };
    let counted_before = counted(&site);
    let verbs = ["status", "snapshot", "mesh", "ping", "look", "partition"];
    let subjects =
        verbs.iter().flat_map(|verb| ["node.n1", "all"].map(|to| format!("{to}.{verb}")));
    let bodies = [&b"{"[..], b"[]", b"{\"unknown\":1}", b"\0", b"\xff\xfe", &[b'['; 5_000]];
    let mut asked = 0.0;
    for rest in subjects {
        for body in bodies {
            let subject = format!("control.{rest}");
            let reply = site.client.request(&subject, body.to_vec()).await.reply();
            let code = reply.code().unwrap_or_else(|| panic!("{subject} was taken: {}", reply.0));
            assert!(["malformed", "too_large"].contains(&code), "{subject}: {}", reply.0);
            assert!(reply.revision().is_none(), "{subject}: {}", reply.0);
            asked += 1.0;
        }
    }
    site.client.request("control.node.n1.nothing", "").await.refused("malformed");
    let now = counted(&site);
    let grown = (now.0 - counted_before.0, now.1 - counted_before.1);
    assert_eq!(grown, (asked + 1.0, asked + 1.0), "every refusal is counted, once");

    // Nobody listens to events but those who miss a leader, and they believe nothing of them.
    let forged = r#"{"revision":999999,"term":999999,"leader":7,"wall_time_ms":1}"#;
    let change = r#"{"part":1,"parts":1,"wall_time_ms":1,"change":{"noun":"device","id":"x"}}"#;
    let kinds = ["device.hall2.lamp-1", "tick", "way.1", "local.hall2.lamp-1", "outcome.batch"];
    for kind in kinds {
        for body in [forged, change, "{\"forged\":true}", "\0", ""] {
            site.client.publish(&format!("control.events.{kind}"), body).await;
        }
    }
    site.client.settle().await;
    let status = site.await_status(0).await;
    assert!(status.troubles().is_empty(), "{:?}", status.troubles());
    assert_eq!((state(&site.client).await, at(&status)), before);
    assert_eq!(counted(&site), now, "events are not read, so none is refused");
    site.client.request(GET, "").await.accepted();
    assert!(site.agents[0].process().ended().is_none());
}

/// Until a gateway has told where it is: it does so every 20 s.
const TOLD_LIMIT: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_subject_of_the_mesh() {
    let mut site = Site::start(3).await;
    let meshed =
        |site: &Site| site.agents.iter().all(|it| it.counter("flotilla_mesh_nodes") == 2.0);
    wait::until_true("all are on the mesh", TOLD_LIMIT, || async { meshed(&site) }).await;
    let leader = site.await_leader().await;
    let term = site.await_status(leader).await.term();
    let before = state(&site.client).await;

    // What a gateway really tells, to be bent.
    let subject = site.client.subject("mesh");
    let raw = site.client.raw();
    let mut told = raw.subscribe(subject.clone()).await.unwrap();
    let next = futures_util::StreamExt::next(&mut told);
    let told = tokio::time::timeout(TOLD_LIMIT, next).await.unwrap().unwrap().payload;
    let refused = |site: &Site, reason: &str| -> Vec<f64> {
        let label = format!("surface=\"announcement\",reason=\"{reason}\"");
        site.agents.iter().map(|it| it.refused(&label)).collect()
    };
    let grown =
        |before: &[f64], now: &[f64]| before.iter().zip(now).filter(|(old, new)| new > old).count();
    for bodies in [
        &[&[0xff; 1_025][..], &[8; 200_000]][..],
        &[b"", b"{}", b"\0\x01\x02", &[0xff; 1_024], &told[..told.len() / 2], &told[1..]],
    ] {
        let malformed = refused(&site, "malformed");
        for body in bodies {
            raw.publish(subject.clone(), body.to_vec().into()).await.unwrap();
        }
        wait::until_true("every agent counts what can't be read", LIMIT, || async {
            grown(&malformed, &refused(&site, "malformed")) == 3
        })
        .await;
    }
    let forged = refused(&site, "bad_signature");
    for place in 0..told.len() {
        let mut bent = told.to_vec();
        bent[place] ^= 0x55;
        raw.publish(subject.clone(), bent.into()).await.unwrap();
        // A queue that is full may drop some; they are not to be all of one kind.
        raw.flush().await.unwrap();
    }
    // The one whose name is on it is told nothing new by it.
    wait::until_true("the others count what is forged", LIMIT, || async {
        grown(&forged, &refused(&site, "bad_signature")) >= 2
    })
    .await;
    wait::stays_true("the mesh and the leader stay", Duration::from_secs(2), || async {
        let leads = |it: Status| it.role() == "leader" && it.term() == term;
        meshed(&site) && site.status(leader).await.is_none_or(leads)
    })
    .await;
    for agent in &mut site.agents {
        assert!(agent.process().ended().is_none(), "{} has ended", agent.name);
    }
    assert_eq!(state(&site.client).await, before);
    site.client.set_param("later", &json!(1), "later").await.accepted();
    site.await_equal_digests().await;
}
