//! What a user meets at the edges: a member that was removed, a site without a leader, an answer
//! that changes nothing, a revision from the future, a site that isn't there.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::bare::Answer;
use flotilla_tests::cli::Cli;
use flotilla_tests::site::Site;
use flotilla_tests::status::Status;
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// Reads a parameter from whichever agent takes the question, without asking the leader.
async fn stale_param(site: &Site, key: &str) -> Answer {
    let headers = [("Flotilla-Consistency", "stale")];
    site.client.request_with(&format!("control.query.param.get.{key}"), &headers, "").await
}

/// Waits until what one agent says of itself is as wanted.
async fn await_status_that(
    site: &Site,
    index: usize,
    what: &str,
    wanted: impl Fn(&Status) -> bool,
) -> Status {
    wait::until(what, LIMIT, || async { site.status(index).await.filter(|status| wanted(status)) })
        .await
}

/// How `flotilla status` shows a node.
fn shown(status: &Value, name: &str) -> Value {
    let nodes = status["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["name"] == name);
    node.unwrap_or_else(|| panic!("no {name} in {status}")).clone()
}

/// A removed member that still runs must not speak for the site: with it in the queue group, a
/// third of everything would go to it.
async fn assert_others_answer(site: &Site, round: &str) {
    for at in 0..30 {
        let key = format!("product.{round}-{at}");
        let id = format!("{round}-{at}");
        let written = Instant::now();
        // For a moment what is on its way to the removed one is refused, to be sent again.
        wait::until_true(&format!("{key} is set"), LIMIT, || async {
            let reply = site.client.set_param(&key, &json!(at), &id).await.reply();
            assert!(reply.is_ok() || reply.code() == Some("stopping"), "{}", reply.0);
            reply.is_ok()
        })
        .await;
        assert!(written.elapsed() < Duration::from_secs(2), "{key} took {:?}", written.elapsed());
        site.client.read_param(&key).await;
    }
    for _ in 0..30 {
        let stale = stale_param(site, "product.known").await.reply();
        assert!(stale.is_ok(), "{}", stale.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_leaves_the_site_to_the_others_and_says_so() {
    let mut site = Site::start(3).await;
    site.client.set_param("product.known", &json!(1), "known").await.accepted();
    let gone = site.a_follower().await;
    let name = site.agents[gone].name.clone();
    site.cli.run(&["member", "remove", &name]).expect_code(0);
    let removed = |status: &Status| status.role() == "removed" && !status.takes_commands();
    let said = await_status_that(&site, gone, "the removed agent knows it", removed).await;
    assert!(said.troubles().iter().any(|it| it.contains("was removed")), "{:?}", said.troubles());
    assert_others_answer(&site, "running").await;

    let status = site.cli.json(&["status"]);
    assert_eq!(status["site"]["members"], json!(2));
    assert_eq!(shown(&status, &name)["member"], json!(false));
    let table = site.cli.run(&["status"]).expect_code(0);
    assert!(table.stdout.contains("removed"), "{}", table.stdout);
    assert!(!table.stderr.contains("do not answer"), "{}", table.stderr);

    // Another of the members that are left goes away: a removed one doesn't stand in for it.
    let mut other = None;
    for index in (0..3).filter(|index| *index != gone) {
        if site.await_status(index).await.role() != "leader" {
            other = Some(index);
        }
    }
    let other = other.unwrap();
    site.agents[other].kill();
    let table = site.cli.run(&["status"]);
    assert!(table.stderr.contains("1 of the 2 members do not answer"), "{}", table.stderr);
    site.agents[other].start();
    site.await_status(other).await;

    site.agents[gone].stop().await;
    site.agents[gone].start();
    await_status_that(&site, gone, "it knows after a restart", removed).await;
    wait::until_true("the two others are whole again", LIMIT, || async {
        site.status(other).await.is_some_and(|status| status.takes_commands())
    })
    .await;
    assert_others_answer(&site, "restarted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_removed_while_it_was_down_hears_of_a_leader_and_says_what_that_may_mean() {
    let mut site = Site::start(3).await;
    site.client.set_param("product.known", &json!(1), "known").await.accepted();
    let gone = site.a_follower().await;
    let name = site.agents[gone].name.clone();
    site.agents[gone].kill();
    site.cli.run(&["member", "remove", &name]).expect_code(0);
    wait::until_true("it is no member", LIMIT, || async {
        let facts = site.facts().await;
        facts.is_some_and(|facts| facts["members"] == json!(2))
    })
    .await;
    site.agents[gone].start();
    let told = |status: &Status| {
        let said = |text: &str| status.troubles().iter().any(|it| it.contains(text));
        said("removed while it was away") && said("does not speak to this node")
    };
    let status = await_status_that(&site, gone, "it says what may be the matter", told).await;
    assert!(!status.takes_commands());
    assert_others_answer(&site, "others").await;
    let status = site.cli.json(&["status"]);
    assert_eq!(shown(&status, &name)["member"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_stale_reads_are_answered_and_the_rest_ends_at_once() {
    let mut site = Site::start(3).await;
    site.client.set_param("product.known", &json!(7), "known").await.accepted();
    let leader = site.await_leader().await;
    let last = (0..3).find(|index| *index != leader).unwrap();
    for index in (0..3).filter(|index| *index != last) {
        site.agents[index].kill();
    }
    await_status_that(&site, last, "the last agent takes no commands", |status| {
        !status.takes_commands()
    })
    .await;

    let stale = stale_param(&site, "product.known").await.accepted();
    assert_eq!(stale.at("/item/value"), &json!(7));
    assert!(stale.at("/age_ms").as_u64().is_some_and(|age| age >= 1_000), "{}", stale.0);
    let read = site.cli.run(&["--stale", "param", "get", "product.known"]).expect_code(0);
    assert!(read.stderr.contains("stale: as of revision"), "{}", read.stderr);

    let begun = Instant::now();
    let refused = site.client.param("product.known").await.refused("no_leader");
    assert_eq!(refused.at("/error/retryable"), &json!(true));
    let changes = site.client.request("control.changes.since.0", "").await;
    changes.refused("no_leader");
    wait::until_true("nobody takes commands", Duration::from_secs(1), || async {
        // On the way out of the queue group what still comes is refused at once.
        match site.client.set_param("product.known", &json!(8), "late").await {
            Answer::NoResponders => true,
            other => {
                other.refused("no_leader");
                false
            }
        }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());

    let begun = Instant::now();
    let status = site.cli.run(&["status"]).expect_code(5);
    assert!(begun.elapsed() < Duration::from_secs(4), "status took {:?}", begun.elapsed());
    assert!(status.stdout.contains(&site.agents[last].name), "{}", status.stdout);
    assert!(status.stderr.contains("no leader"), "{}", status.stderr);
    assert!(status.stderr.contains("2 of the 3 members do not answer"), "{}", status.stderr);

    // Restarted it knows no more than before, and not how old that is.
    site.agents[last].stop().await;
    site.agents[last].start();
    let answer = wait::until("it answers stale reads again", LIMIT, || async {
        match stale_param(&site, "product.known").await {
            Answer::Reply(reply) if reply.is_ok() => Some(reply),
            _ => None,
        }
    })
    .await;
    assert_eq!(answer.at("/item/value"), &json!(7));
    assert_eq!(answer.at("/age_ms"), &Value::Null, "{}", answer.0);

    site.start_all();
    site.await_leader().await;
    site.client.set_param("product.known", &json!(9), "again").await.accepted();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_tells_the_revision_for_the_next_condition() {
    let site = Site::start(1).await;
    let set = |value: u64, id: &'static str| {
        let client = site.client.clone();
        async move { client.set_param("product.p", &json!(value), id).await.accepted() }
    };
    let first = set(1, "one").await;
    assert_eq!(first.at("/thing_revision"), first.at("/revision"));
    site.client.set_param("product.other", &json!(1), "other").await.accepted();
    let unchanged = set(1, "two").await;
    assert_eq!(unchanged.at("/changed"), &json!(false));
    assert_eq!(unchanged.at("/thing_revision"), first.at("/revision"));
    assert_ne!(unchanged.at("/revision"), first.at("/revision"));

    // The same through the command line: what it prints can be given back to it.
    let printed = site.cli.json(&["param", "set", "product.p", "1"]);
    let revision = printed["thing_revision"].to_string();
    let shown = site.cli.run(&["param", "set", "product.p", "1"]).expect_code(0);
    assert!(
        shown.stdout.contains(&format!("unchanged at revision {revision}")),
        "{}",
        shown.stdout
    );
    let condition = ["param", "set", "product.p", "2", "--if-revision", &revision];
    site.cli.run(&condition).expect_code(0);
    site.cli.run(&["param", "set", "product.p", "3", "--if-revision", &revision]).expect_code(4);

    // A retry hears the first answer; what has changed since is not passed off as its own.
    let again = set(1, "two").await;
    assert_eq!(again.at("/thing_revision"), &Value::Null, "{}", again.0);
    let batch = r#"[{"op":"param.set","id":"product.p","body":5}]"#;
    let batch = site.client.request("control.commands.batch", batch).await.accepted();
    assert_eq!(batch.at("/thing_revision"), &Value::Null);
    let deleted = site.client.request("control.commands.param.delete.product.p", "").await;
    assert_eq!(deleted.accepted().at("/thing_revision"), &Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_with_what_to_do() {
    let site = Site::start(1).await;
    site.client.request("control.changes.since.999999", "").await.refused("revision_ahead");
    let watch = site.cli.run(&["watch", "--since", "999999"]).expect_code(8);
    assert!(watch.stderr.contains("999999"), "{}", watch.stderr);

    let cases: [(&[&str], i32, &str); 8] = [
        (&["param", "get", "nosuch"], 3, "flotilla param ls"),
        (&["param", "rm", "nosuch"], 3, "flotilla param ls"),
        (&["device", "set", "nosuch", "on=true"], 3, "flotilla device register"),
        (&["token", "revoke", "0011223344556677"], 3, "flotilla token ls"),
        (&["member", "get", "nosuch"], 3, "Its members are n1"),
        (&["param", "set", "x", "NaN"], 2, "'\"NaN\"'"),
        (&["device", "set", "x", "v=0x10"], 2, "'\"0x10\"'"),
        (
            &[
                "param",
                "set",
                "x",
                "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
            ],
            8,
            "deeper",
        ),
    ];
    for (words, code, expected) in cases {
        let said = site.cli.run(words).expect_code(code);
        assert!(said.stderr.contains(expected), "{words:?}: {}", said.stderr);
    }
    site.cli.run(&["param", "set", "x", "\"NaN\""]).expect_code(0);
    let large = format!("\"{}\"", "x".repeat(40_000));
    let answer = site.client.request("control.commands.param.set.x", large.clone()).await;
    let refused = answer.refused("too_large");
    assert!(!refused.0.to_string().contains("not valid JSON"), "{}", refused.0);
    site.cli.run(&["param", "set", "x", &large]).expect_code(8);
    let limit = site.client.request("control.query.param.list", r#"{"limit":1001}"#).await;
    let refused = limit.refused("malformed");
    assert!(refused.0.to_string().contains("between 1 and 1000"), "{}", refused.0);

    let elsewhere = Cli::new(&site.nats.url(), "nosuch");
    for words in [&["status"][..], &["param", "get", "x"], &["param", "set", "x", "1"]] {
        let said = elsewhere.run(words).expect_code(5);
        let what_to_do =
            said.stderr.contains("no agent of site nosuch") && said.stderr.contains("home");
        assert!(
            what_to_do && !said.stderr.contains("flotilla status"),
            "{words:?}: {}",
            said.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_what_nothing_brings_about_is_answered_at_once_and_told() {
    let site = Site::start(1).await;
    site.cli.run(&["device", "register", "hall.lamp"]).expect_code(0);
    let begun = Instant::now();
    let headers = [("Flotilla-Wait", "verified"), ("Flotilla-Timeout", "5s")];
    let subject = "control.commands.device.update.hall.lamp";
    let answer = site.client.request_with(subject, &headers, r#"{"on":true}"#).await.accepted();
    assert_eq!(answer.at("/stage"), &json!("committed"));
    let words = ["device", "set", "hall.lamp", "on=false", "--wait", "sent"];
    let said = site.cli.run(&words).expect_code(10);
    assert!(said.stderr.contains("got as far as committed, not sent"), "{}", said.stderr);
    assert!(said.stdout.contains("committed r"), "{}", said.stdout);
    assert!(begun.elapsed() < Duration::from_secs(4), "took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_why_it_cannot_reach_its_server() {
    let mut site = Site::start(1).await;
    site.nats.kill();
    wait::until_true("the log tells the system's own reason", LIMIT, || async {
        let log = site.agents[0].log();
        log.lines().any(|line| line.contains("trouble with NATS") && line.contains("refused"))
    })
    .await;
}
