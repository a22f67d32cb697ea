//! Configuration files and variables that are not as they should be: the program says so and
//! does nothing. What each message says is tested beside the code; here it is what a user sees.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::fs::{self, File};

use flotilla_tests::agent::Agent;
use flotilla_tests::workplace::Workplace;
use serde_json::json;

/// Each command that reads the configuration must refuse, in one line, and make nothing.
fn refused(agent: &Agent, words: &[&str]) {
    for command in [
        &["config", "check"][..],
        &["config", "show"],
        &["run"],
        &["init", "--site", "home"],
        &["store", "check"],
    ] {
        let done = agent.run_once(command).expect_code(1);
        assert!(done.stdout.is_empty(), "{command:?}: {}", done.stdout);
        assert_eq!(done.stderr.trim_end().lines().count(), 1, "{command:?}: {}", done.stderr);
        assert!(done.stderr.len() < 1_000, "{command:?}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "{command:?} lacks {word:?}: {}", done.stderr);
        }
    }
    assert!(!agent.data_dir().exists(), "something was made");
}

#[test]
fn a_bad_file_is_told_with_its_place_and_nothing_is_made() {
    let workplace = Workplace::new();
    let cases: &[(&str, &[&str])] = &[
        ("[raft]\nheartbeat_ticks = 20\n", &["n1.toml:2:", "raft.heartbeat_ticks", "three times"]),
        ("[raft]\nelection_ticks_min = 9\nelection_ticks_max = 8\n", &["election_ticks_max"]),
        ("[raft]\ntick_ms = -1\n", &["n1.toml:2:", "raft.tick_ms", "5 to 1000"]),
        ("[natz]\nurls = []\n", &["n1.toml:1:", "natz", "unknown key"]),
        ("[nats]\nurl = [\"nats://a\"]\n", &["n1.toml:2:", "did you mean nats.urls?"]),
        ("\u{feff}[log]\n", &["byte order mark"]),
    ];
    for (text, words) in cases {
        refused(&Agent::prepare(workplace.path(), "n1", text), words);
    }
}

#[test]
fn a_file_of_a_hundred_megabytes_is_not_read() {
    let workplace = Workplace::new();
    let agent = Agent::prepare(workplace.path(), "n1", "");
    // Real bytes, all of them blank: TOML that would be read to its end.
    let mut file = File::create(workplace.join("n1.toml")).unwrap();
    let blank = vec![b'\n'; 1 << 20];
    for _ in 0..100 {
        std::io::Write::write_all(&mut file, &blank).unwrap();
    }
    refused(&agent, &["n1.toml", "larger than 1048576 bytes"]);
}

#[test]
fn a_bad_variable_is_told_by_its_name() {
    let workplace = Workplace::new();
    let mut agent = Agent::prepare(workplace.path(), "n1", "");
    agent.set_environment("FLOTILLA_RAFT_TIK_MS", "25");
    refused(&agent, &["FLOTILLA_RAFT_TIK_MS", "did you mean FLOTILLA_RAFT_TICK_MS?"]);
}

#[test]
fn a_good_configuration_is_checked_and_shown_with_where_it_comes_from() {
    let workplace = Workplace::new();
    let mut agent =
        Agent::prepare(workplace.path(), "n1", "[nats]\nuser = \"me\"\npassword = \"s3cret\"\n");
    agent.set_environment("FLOTILLA_LOG_FORMAT", "json");
    agent.run_once(&["config", "check"]).expect_code(0);
    let shown =
        agent.run_once(&["config", "show", "--set", "raft.tick_ms=50"]).expect_code(0).stdout;
    for words in ["n1.toml:2:", "FLOTILLA_LOG_FORMAT", "--set raft.tick_ms", "(hidden)"] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }
    assert!(!shown.contains("s3cret"));
    // What is shown is a configuration again.
    fs::write(workplace.join("shown.toml"), &shown).unwrap();
}

#[test]
fn logs_are_lines_of_json_when_that_is_wanted() {
    let workplace = Workplace::new();
    let mut agent =
        Agent::prepare(workplace.path(), "n1", "[nats]\nurls = [\"nats://127.0.0.1:1\"]\n");
    agent.init("home", 1);
    agent.set_environment("FLOTILLA_LOG_FORMAT", "json");
    agent.set_environment("FLOTILLA_MESH_ENABLED", "false");
    agent.start();
    let log =
        flotilla_tests::wait::until_blocking("it logs", flotilla_tests::agent::STOP_LIMIT, || {
            let log = agent.log();
            (log.lines().count() > 3).then_some(log)
        });
    agent.kill();
    let lines: Vec<&str> = log.lines().take(3).collect();
    for line in lines {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(value["level"].is_string() && value["timestamp"].is_string(), "{line}");
    }
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(
        first["site"].as_str().or(first["fields"]["site"].as_str()),
        Some("home"),
        "{first}"
    );
    assert_ne!(first, json!(null));
}
