//! The `flotilla` command as people and scripts use it: interrupted, piped, mistyped.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::cli::{self, Cli};
use flotilla_tests::process::Process;
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::workplace::Workplace;
use flotilla_tests::{programs, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

fn command(site: &Site, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::cli());
    command.args(arguments).env("NO_COLOR", "1");
    command.env("FLOTILLA_SERVER", site.nats.url()).env("FLOTILLA_SITE", site.name());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_a_command_is_under_way_gives_the_request_id_for_the_retry() {
    let mut site = Site::start(1).await;
    site.agents[0].pause();
    let set = ["param", "set", "waits", "1", "--timeout", "30s", "--request-id", "mine-7"];
    let log = site.workplace().join("cli.log");
    let sent = site.client.subject("control.commands.param.set.waits");
    let mut seen = site.client.raw().subscribe(sent).await.unwrap();
    site.client.settle().await;
    let mut process = Process::start("flotilla", &mut command(&site, &set), &log);
    // It is only under way once it was sent.
    let sent = futures_util::StreamExt::next(&mut seen);
    tokio::time::timeout(LIMIT, sent).await.unwrap().unwrap();
    process.signal(Signal::INT);
    let status = process.wait(LIMIT).await;
    assert_eq!(status.code(), Some(130), "{}", process.output());
    assert!(process.output().contains("mine-7"), "{}", process.output());

    site.agents[0].resume();
    site.await_leader().await;
    site.cli.run(&set).expect_code(0);
    assert_eq!(site.cli.json(&["param", "get", "waits"])["value"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_the_end_of_is_told_apart_and_can_be_asked_again() {
    let mut site = Site::start(3).await;
    let leader = site.await_leader().await;
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    others.iter().for_each(|at| site.agents[*at].pause());
    let set = ["param", "set", "waits", "1", "--request-id", "mine-9"];
    let lost = [&set[..], &["--timeout", "1s"]].concat();
    let done = site.cli.run(&lost).expect_code(9);
    assert!(done.stderr.contains("mine-9"), "{}", done.stderr);
    // Nobody takes the next attempt, which says nothing of the one before.
    others.iter().for_each(|at| site.agents[*at].kill());
    wait::until_true("the last agent takes no commands", LIMIT, || async {
        site.status(leader).await.is_some_and(|status| !status.takes_commands())
    })
    .await;
    let done = site.cli.run(&lost).expect_code(9);
    assert!(done.stderr.contains("mine-9"), "{}", done.stderr);
    assert!(!done.stderr.contains("Nothing was changed"), "{}", done.stderr);
    // An id of its own, though, was never sent before.
    site.cli.run(&["param", "set", "other", "1", "--timeout", "1s"]).expect_code(5);
    site.start_all();
    site.await_leader().await;
    site.cli.run(&[&set[..], &["--timeout", "30s"]].concat()).expect_code(0);
    assert_eq!(site.cli.json(&["param", "get", "waits"])["value"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
    let site = Site::start(1).await;
    let all: Vec<Value> = (0..2_000).map(|at| json!({"id": format!("hall.d{at}")})).collect();
    let text = json!(all).to_string();
    site.cli.run_with(&["device", "register", "-f", "-"], &text).expect_code(0);
    for form in ["table", "json", "yaml"] {
        let mut list = command(&site, &["device", "ls", "-o", form]);
        let mut child = list.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.is_empty(), "{form}: {:?} {said}", done.status);
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut list = command(&site, &["device", "ls"]);
    let done =
        list.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("standard output"));
}

#[test]
fn what_can_not_be_an_id_or_a_value_ends_with_usage_before_anybody_is_asked() {
    // Nobody listens there: whatever gets that far ends with 5.
    let cli = Cli::new("nats://127.0.0.1:1", "home");
    let long = "a".repeat(10_000);
    let many = ["a"; 9].join(".");
    let bad = [
        "Upper",
        "a b",
        "a..b",
        ".a",
        "a.",
        "*",
        ">",
        "a.>",
        "a/b",
        "\u{1F600}",
        "a\nb",
        "a\u{202e}b",
        "",
        "a\u{1b}[2J",
        &long,
        &many,
    ];
    for id in bad {
        for words in [&["device", "get", id][..], &["param", "get", id], &["device", "ls", id]] {
            let done = cli.run(words).expect_code(2);
            let said = done.stderr.replace('\n', " ");
            assert!(done.stdout.is_empty() && said.len() < 600, "{words:?}: {said}");
            assert!(!said.chars().any(char::is_control), "{words:?}: {said:?}");
            assert!(!said.contains('\u{202e}'), "{words:?}: {said:?}");
        }
    }
    for value in
        ["NaN", "Infinity", "1e400", "18446744073709551616", "0x10", "{\"a\":1,\"a\":2}", "[1"]
    {
        let done = cli.run(&["param", "set", "a", value]);
        let codes = [Some(2), Some(8)];
        assert!(codes.contains(&done.code), "{value}: {:?} {}", done.code, done.stderr);
    }
    for words in [
        &["status", "--timeout", "0"][..],
        &["status", "--timeout", "-1s"],
        &["status", "--timeout", "5"],
        &["param", "set", "a", "1", "--if-revision", "-1"],
        &["param", "set", "a", "1", "--request-id", "with space"],
        &["watch", "--since", "-1"],
        &["token", "create", "--uses", "0"],
        &["token", "create", "--ttl", "31d"],
        &["device", "set", "a", "on"],
        &["--user", "me", "--nats-token", "t", "status"],
    ] {
        let done = cli.run(words).expect_code(2);
        assert!(!done.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn files_that_hold_no_list_are_told_by_name() {
    let cli = Cli::new("nats://127.0.0.1:1", "home");
    let workplace = Workplace::new();
    let huge = workplace.join("huge.json");
    std::fs::File::create(&huge).unwrap().set_len(100 << 20).unwrap();
    let text = workplace.join("text.yaml");
    std::fs::write(&text, "- id: [unclosed\n").unwrap();
    let folder = workplace.path().to_path_buf();
    for (path, code) in [(huge, 8), (text, 2), (folder, 2), (workplace.join("missing"), 2)] {
        let path = path.to_str().unwrap().to_owned();
        let done = cli.run(&["device", "register", "-f", &path]).expect_code(code);
        assert!(done.stderr.contains(&path), "{}", done.stderr);
    }
    let nothing = cli.run_with(&["device", "register", "-f", "-"], "").expect_code(2);
    assert!(nothing.stderr.contains("standard input"), "{}", nothing.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_noun_does_what_its_help_says() {
    let mut site = Site::start_as(Plan { voters: 1, ..Plan::of(2) }).await;
    let log = site.workplace().join("watch.log");
    let watch = ["watch", "--since", "0"];
    let mut watch = Process::start("watch", &mut command(&site, &watch), &log);
    let cli = site.cli.clone();

    let link = ["link", "register", "plc-1", "--connector", "simulated"];
    cli.run(&link).expect_code(0);
    assert_eq!(cli.json(&["link", "ls"])[0]["connector"], json!("simulated"));
    cli.run(&["device", "register", "hall.lamp", "--link", "plc-1"]).expect_code(0);
    cli.run(&["device", "set", "hall.lamp", "on=true", "level=3"]).expect_code(0);
    cli.run(&["device", "replace", "hall.lamp", "level=4"]).expect_code(0);
    assert_eq!(cli.json(&["device", "get", "hall.lamp"])["desired"], json!({"level": 4}));
    cli.run(&["link", "rm", "plc-1"]).expect_code(8);
    cli.run(&["device", "rm", "hall.lamp"]).expect_code(0);
    cli.run(&["link", "rm", "plc-1"]).expect_code(0);
    let batch =
        r#"[{"op":"param.set","id":"a.b","body":1},{"op":"param.set","id":"a.c","body":2}]"#;
    cli.run_with(&["batch", "apply", "-f", "-"], batch).expect_code(0);
    let bench = cli.run(&["bench", "--seconds", "1", "--clients", "4"]).expect_code(0).json();
    assert!(bench["ops"].as_u64().unwrap() > 0 && bench["errors"] == json!(0), "{bench}");
    assert_eq!(cli.json(&["param", "ls"]).as_array().unwrap().len(), 2, "a bench cleans up");
    let stale = cli.run(&["--stale", "param", "get", "a.b"]).expect_code(0);
    assert!(stale.stderr.contains("revision"), "a stale answer tells its age: {}", stale.stderr);

    wait::until_true("the changes are told", LIMIT, || async {
        let told = watch.output();
        ["hall.lamp", "plc-1", "a.c"].iter().all(|word| told.contains(word))
    })
    .await;
    watch.signal(Signal::INT);
    assert_eq!(watch.wait(LIMIT).await.code(), Some(130), "{}", watch.output());

    cli.run(&["member", "voters", "3"]).expect_code(0);
    let token = cli.token(1);
    site.add(&token).await;
    site.await_voters(3).await;
    cli.run(&["leader", "transfer", "n2"]).expect_code(0);
    wait::until_true("n2 leads", LIMIT, || async {
        cli.run(&["leader", "show"]).stdout.contains("n2")
    })
    .await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_shown_entry_by_entry_while_no_agent_runs() {
    let mut site = Site::start(1).await;
    site.client.set_param("shown", &json!("in the dump"), "the-request").await.accepted();
    let held = site.agents[0].run_once(&["store", "dump"]).expect_code(1);
    assert!(held.stderr.contains("in use"), "{}", held.stderr);
    site.agents[0].stop().await;
    let dump = site.agents[0].run_once(&["store", "dump"]).expect_code(0);
    assert!(dump.stdout.lines().count() >= 3, "{}", dump.stdout);
    assert!(dump.stdout.contains("the-request"), "{}", dump.stdout);
    site.agents[0].run_once(&["store", "check"]).expect_code(0);
}

#[test]
fn a_plaintext_server_off_the_loopback_is_refused_unless_told_to() {
    let workplace = Workplace::new();
    // Reserved for documentation: nobody is asked.
    let config = "[nats]\nurls = [\"nats://192.0.2.1:4222\"]\n";
    let agent = Agent::prepare(workplace.path(), "n1", config);
    for words in [&["init", "--site", "home"][..], &["join", "-"], &["restore", "x", "--site", "a"]]
    {
        let done = cli::run(agent.command(words), "").expect_code(1);
        if words[0] != "join" {
            assert!(done.stderr.contains("allow_insecure"), "{words:?}: {}", done.stderr);
        }
    }
    assert!(!agent.data_dir().exists());
}
