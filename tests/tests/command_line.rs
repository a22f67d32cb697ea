//! The `flotilla` command: exit codes, streams, and input from files.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use flotilla_tests::cli::Cli;
use flotilla_tests::site::Site;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_has_its_exit_code() {
    let site = Site::start(1).await;
    let cli = &site.cli;
    cli.run(&["device", "register", "hall.lamp"]).expect_code(0);
    cli.run(&["param", "set", "a", "1", "--if-revision", "0"]).expect_code(0);
    let model = r#"[{"id":"hall.fan","model":{"type":"object","properties":{"level":{"type":"integer","maximum":3}}}}]"#;
    cli.run_with(&["device", "register", "-f", "-"], model).expect_code(0);

    let cases: &[(&[&str], i32)] = &[
        (&["device", "set", "hall.lamp", "on=true"], 0),
        (&["device", "sett", "hall.lamp"], 2),
        (&["device", "get", "Hall.Lamp"], 2),
        (&["device", "get", "hall.missing"], 3),
        (&["device", "set", "hall.missing", "on=true"], 3),
        (&["param", "get", "missing"], 3),
        (&["param", "set", "a", "2", "--if-revision", "0"], 4),
        (&["device", "set", "hall.fan", "level=7"], 8),
    ];
    for (arguments, code) in cases {
        let done = cli.run(arguments);
        assert_eq!(done.code, Some(*code), "{arguments:?}: {} {}", done.stdout, done.stderr);
        assert!(*code == 0 || !done.stderr.is_empty(), "{arguments:?} does not say why");
        assert!(!done.stdout.contains('\u{1b}') && !done.stderr.contains('\u{1b}'));
    }
}

#[test]
fn without_a_server_or_an_agent_it_is_unavailable() {
    let nobody = Cli::new("nats://127.0.0.1:1", "home");
    let done = nobody.run(&["status"]).expect_code(5);
    assert!(done.stderr.contains("127.0.0.1:1"), "{}", done.stderr);

    let workplace = flotilla_tests::workplace::Workplace::new();
    let server = flotilla_tests::nats_server::NatsServer::start(workplace.path());
    let empty = Cli::new(&server.url(), "home");
    empty.run(&["device", "ls"]).expect_code(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_on_stdout_in_the_asked_form_and_talk_on_stderr() {
    let site = Site::start(1).await;
    let cli = &site.cli;
    let list = "- id: hall.a\n  name: First\n- id: hall.b\n  labels: {kind: lamp}\n";
    let done = cli.run_with(&["device", "register", "-f", "-"], list).expect_code(0);
    assert!(done.stderr.is_empty() || !done.stderr.contains("error"), "{}", done.stderr);
    cli.run(&["device", "set", "hall.a", "on=true", "level=3", "mode=auto"]).expect_code(0);

    let device = cli.json(&["device", "get", "hall.a"]);
    assert_eq!(device["desired"], json!({"on": true, "level": 3, "mode": "auto"}), "{device}");
    let all = cli.json(&["device", "ls"]);
    let ids: Vec<&str> =
        all.as_array().unwrap().iter().filter_map(|it| it["id"].as_str()).collect();
    assert_eq!(ids, ["hall.a", "hall.b"]);
    let yaml = cli.run(&["device", "get", "hall.b", "-o", "yaml"]).expect_code(0);
    assert!(yaml.stdout.contains("id: hall.b"), "{}", yaml.stdout);
    let table = cli.run(&["device", "ls"]).expect_code(0);
    assert!(table.stdout.contains("hall.a") && table.stdout.lines().count() >= 3);

    cli.run(&["param", "set", "limit", r#"{"max":[1,2.5,null]}"#]).expect_code(0);
    let param = cli.json(&["param", "get", "limit"]);
    assert_eq!(param["value"], json!({"max": [1, 2.5, null]}));
    cli.run(&["param", "rm", "limit"]).expect_code(0);
    cli.run(&["device", "rm", "hall.b"]).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_a_part_is_refused_ends_with_partly() {
    let site = Site::start(1).await;
    let list = json!([{"id": "good.one"}, {"id": "bad.one", "link": "missing"}]).to_string();
    let done = site.cli.run_with(&["device", "register", "-f", "-"], &list).expect_code(7);
    assert!(done.stderr.contains("bad.one"), "{}", done.stderr);
    let all: Value = site.cli.json(&["device", "ls"]);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_makes_a_retry_safe() {
    let site = Site::start(3).await;
    let set = ["param", "set", "a", "1", "--request-id", "mine"];
    let first = site.cli.json(&set);
    site.cli.run(&["param", "set", "a", "2"]).expect_code(0);
    let again = site.cli.json(&set);
    assert_eq!(first["revision"], again["revision"], "{first} {again}");
    assert_eq!(site.cli.json(&["param", "get", "a"])["value"], json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_members_tokens_and_leader() {
    let site = Site::start(3).await;
    let members = site.cli.json(&["member", "ls"]);
    assert_eq!(members.as_array().unwrap().len(), 3, "{members}");
    site.cli.run(&["status"]).expect_code(0);
    let token = site.cli.json(&["token", "create"]);
    let list = site.cli.json(&["token", "ls"]);
    let secret = token["token"].as_str().unwrap();
    assert!(secret.starts_with("flt2_") && !list.to_string().contains(secret));
    let id = list.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    site.cli.run(&["token", "revoke", &id]).expect_code(0);
    site.cli.run(&["leader", "show"]).expect_code(0);
    let before = site.await_leader().await;
    site.cli.run(&["leader", "transfer"]).expect_code(0);
    assert_ne!(site.await_leader().await, before);
}
