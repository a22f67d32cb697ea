//! The `flotilla` command through the door of one agent, and how it finds the door by itself.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::process::Command;
use std::time::Duration;

use flotilla_tests::cli::{Cli, Finished, run};
use flotilla_tests::programs;
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::wait;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

fn socket(site: &Site, index: usize) -> String {
    format!("unix:{}", site.agents[index].data_dir().join("door.sock").display())
}

/// The command with nothing but these variables of ours.
fn flotilla(arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(programs::cli());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOTILLA_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied());
    run(command, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_through_a_door_and_without_a_nats_server() {
    let config = "[http]\ndoor = \"127.0.0.1:0\"\n".to_owned();
    let mut site = Site::start_as(Plan { config, ..Plan::of(3) }).await;
    let log = site.agents[1].log();
    let said = log.split("open to every user of this machine address=").nth(1).unwrap();
    let port = format!("http://{}", said.split_whitespace().next().unwrap());
    site.nats.kill();
    let folder = site.workplace().path().to_owned();
    for (name, url) in [("socket", socket(&site, 0)), ("port", port)] {
        let cli = Cli::new(&url, site.name());
        let link = format!("l-{name}");
        let lamp = format!("{name}.lamp");
        let note = format!("{name}.note");
        cli.run(&["link", "register", &link, "--connector", "simulated"]).expect_code(0);
        cli.run(&["device", "register", &lamp, "--link", &link]).expect_code(0);
        cli.run(&["device", "set", &lamp, "on=true"]).expect_code(0);
        cli.run(&["param", "set", &note, "7"]).expect_code(0);
        assert_eq!(cli.json(&["param", "get", &note])["value"], json!(7));
        cli.run(&["param", "set", &note, "8", "--if-revision", "1"]).expect_code(4);
        cli.run(&["param", "get", "nothing"]).expect_code(3);
        assert_eq!(cli.json(&["device", "get", &lamp])["desired"], json!({"on": true}));
        assert!(cli.json(&["device", "ls"]).as_array().is_some_and(|all| !all.is_empty()));
        assert_eq!(cli.json(&["member", "ls"]).as_array().map(Vec::len), Some(3));
        let status = cli.json(&["status"]);
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3), "{status}");
        cli.run(&["mesh", "ping", "n3", "--from", "n2"]).expect_code(0);
        cli.token(1);
        cli.run(&["token", "ls"]).expect_code(0);
        cli.run(&["leader", "transfer"]).expect_code(0);
        let file = folder.join(format!("{name}.snapshot"));
        let file = file.to_str().unwrap();
        wait::until_true("a snapshot is saved", LIMIT, || async {
            cli.run(&["snapshot", "save", file]).code == Some(0)
        })
        .await;
        cli.run(&["snapshot", "inspect", file]).expect_code(0);
        let bench = cli.run(&["bench", "--clients", "8", "--seconds", "1"]).expect_code(0).json();
        assert!(bench["ops"].as_u64().unwrap() > 0, "{bench}");
        assert_eq!((&bench["errors"], &bench["unknown"]), (&json!(0), &json!(0)), "{bench}");
    }
    let wrong_site = Cli::new(&socket(&site, 0), "ship");
    let refused = wrong_site.run(&["param", "ls"]).expect_code(5);
    assert!(refused.stderr.contains("home"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_watched_through_a_door_while_its_agent_restarts() {
    let mut site = Site::start(3).await;
    let mut command = Command::new(programs::cli());
    command.args(["watch", "param", "-o", "json", "--since", "0"]);
    command.env("FLOTILLA_SERVER", socket(&site, 1)).env("FLOTILLA_SITE", site.name());
    let heard = site.workplace().path().join("watch.out");
    command.stdout(std::fs::File::create(&heard).unwrap()).stderr(std::process::Stdio::null());
    let mut watching = command.spawn().unwrap();
    let saw = |value: u64| {
        let text = std::fs::read_to_string(&heard).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|change| change["record"]["value"] == json!(value))
    };
    for value in 1..=3u64 {
        // The server may hand it to the agent that was killed, so it is sent again if need be.
        let (client, request_id) = (site.client.hasty(), format!("v{value}"));
        wait::until_true(&format!("{value} is set"), LIMIT, || async {
            client.set_param("seen", &json!(value), &request_id).await.is_ok()
        })
        .await;
        wait::until_true(&format!("the watcher saw {value}"), LIMIT, || async { saw(value) }).await;
        if value == 2 {
            site.agents[1].kill();
            site.agents[1].start();
        }
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gateway_the_door_is_found_when_nats_is_away_and_only_for_the_same_site() {
    let mut site = Site::start(1).await;
    let data_dir = site.agents[0].data_dir().to_str().unwrap().to_owned();
    let here = ("FLOTILLA_NODE_DATA_DIR", data_dir.as_str());
    let url = site.nats.url();
    site.nats.kill();
    // No server named: the default one isn't there, or serves no site of ours.
    let done = flotilla(&["param", "set", "a", "1"], &[here]).expect_code(0);
    assert!(done.stderr.contains("through the door"), "{}", done.stderr);
    // An empty variable names no server.
    let done = flotilla(&["param", "get", "a"], &[here, ("FLOTILLA_SERVER", "")]).expect_code(0);
    assert!(done.stderr.contains("through the door"), "{}", done.stderr);
    // One is named, and the site too: no other can be meant.
    let named = ("FLOTILLA_SERVER", url.as_str());
    let home = ("FLOTILLA_SITE", "home");
    flotilla(&["param", "get", "a"], &[here, named, home]).expect_code(0);
    // One is named, and the site isn't: perhaps another is meant.
    let done = flotilla(&["param", "set", "a", "2"], &[here, named]).expect_code(5);
    assert!(done.stderr.contains("--server unix:"), "{}", done.stderr);
    let ship = ("FLOTILLA_SITE", "ship");
    flotilla(&["param", "set", "a", "3"], &[here, named, ship]).expect_code(5);
    assert_eq!(Cli::new(&socket(&site, 0), "home").json(&["param", "get", "a"])["value"], json!(1));
    // No gateway here: what is said is about NATS.
    let nowhere = ("FLOTILLA_NODE_DATA_DIR", "/nonexistent");
    let done = flotilla(&["param", "get", "a"], &[nowhere, named]).expect_code(5);
    assert!(!done.stderr.contains("door"), "{}", done.stderr);
    // With the server back, nothing is said.
    site.nats.restart();
    site.await_leader().await;
    let done = flotilla(&["param", "get", "a"], &[here, named]).expect_code(0);
    assert_eq!(done.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_door_is_said_plainly() {
    let mut site = Site::start(1).await;
    let socket = socket(&site, 0);
    for (server, code, text) in [
        ("unix:", 2, "is not the address of a door"),
        ("unix:/nonexistent/door.sock", 5, "no agent answers at unix:/nonexistent/door.sock"),
        ("http://127.0.0.1", 2, "is not the address of a door"),
        ("http://127.0.0.1:1", 5, "no agent answers at http://127.0.0.1:1"),
        ("unix:/x,nats://127.0.0.1:4222", 2, "can't be mixed"),
    ] {
        let done = flotilla(&["param", "ls", "--server", server], &[]).expect_code(code);
        assert!(done.stderr.contains(text), "{server}: {}", done.stderr);
    }
    // Something answers that is no door: the health listener of an agent.
    let log = site.agents[0].log();
    let health = log.rsplit("health and metrics are served address=").next().unwrap();
    let health = format!("http://{}", health.split_whitespace().next().unwrap());
    let done = flotilla(&["param", "ls", "--server", &health], &[]).expect_code(5);
    assert!(done.stderr.contains("not an agent's door"), "{}", done.stderr);
    site.agents[0].kill();
    let done = flotilla(&["param", "ls", "--server", &socket], &[]).expect_code(5);
    assert!(done.stderr.contains("no agent answers"), "{}", done.stderr);
}
