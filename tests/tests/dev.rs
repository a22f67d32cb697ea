//! `flotilla dev`: a site that a script can start, use, stop and start again.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flotilla_tests::cli::{self, Cli, Finished};
use flotilla_tests::process::Process;
use flotilla_tests::workplace::Workplace;
use flotilla_tests::{programs, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A `flotilla dev` command with our nats-server.
fn dev(arguments: &[&str], data: &Path) -> Command {
    let mut command = Command::new(programs::cli());
    command.arg("dev").args(arguments).arg("--data").arg(data).env_remove("FLOTILLA_SITE");
    command.env("FLOTILLA_NATS_SERVER", programs::nats_server());
    command
}

fn run(arguments: &[&str], data: &Path) -> Finished {
    cli::run(dev(arguments, data), "")
}

fn manifest(data: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(data.join("dev.json")).ok()?).ok()
}

fn pids(manifest: &Value) -> Vec<u64> {
    let agents = manifest["agents"].as_array().unwrap().iter();
    agents
        .map(|agent| &agent["pid"])
        .chain([&manifest["nats_pid"]])
        .map(|it| it.as_u64().unwrap())
        .collect()
}

fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// The processes with something of this folder among their arguments.
fn left_on(data: &Path) -> Vec<u64> {
    let data = data.to_str().unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(data) && is_running(*pid)
    })
    .collect()
}

/// Stops a detached site also when its test fails.
struct Stop<'a>(&'a Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if manifest(self.0).is_some() {
            run(&["stop"], self.0);
        }
    }
}

#[test]
fn a_detached_site_runs_until_it_is_stopped_and_goes_on_where_it_was() {
    let workplace = Workplace::new();
    let data = workplace.join("site");
    let _stop = Stop(&data);
    run(&["--detach"], &data).expect_code(0);
    let first = manifest(&data).unwrap();
    assert_eq!(first["site"], json!("home"));
    assert_eq!(first["agents"].as_array().unwrap().len(), 3);
    for agent in first["agents"].as_array().unwrap() {
        assert!(agent["node_id"].as_u64().is_some() && agent["name"].is_string(), "{agent}");
        assert!(Path::new(agent["data_dir"].as_str().unwrap()).join("node.json").exists());
    }
    assert!(pids(&first).into_iter().all(is_running));

    let url = first["nats_url"].as_str().unwrap();
    let client = Cli::new(url, "home");
    client.run(&["param", "set", "kept", "1"]).expect_code(0);
    let again = run(&["--detach"], &data);
    assert_ne!(again.code, Some(0), "a second start on a running site");
    assert!(again.stderr.contains("dev stop"), "{}", again.stderr);

    // Somebody else's program may have to do with the folder of an agent.
    let agent_dir = first["agents"][0]["data_dir"].as_str().unwrap();
    let mut reader = Command::new("tail");
    reader.args(["-f", "/dev/null", agent_dir]);
    let mut reader = Process::start("tail", &mut reader, &workplace.join("tail.log"));
    run(&["stop"], &data).expect_code(0);
    assert!(reader.ended().is_none(), "a process of somebody else was stopped");
    reader.kill();
    assert!(manifest(&data).is_none());
    assert!(!pids(&first).into_iter().any(is_running), "something was left running");

    run(&["--detach"], &data).expect_code(0);
    let second = manifest(&data).unwrap();
    assert_eq!(second["nats_url"], first["nats_url"], "a free port is taken again");
    assert_eq!(client.json(&["param", "get", "kept"])["value"], json!(1));
    run(&["stop"], &data).expect_code(0);
    let stopped = run(&["stop"], &data);
    assert_ne!(stopped.code, Some(0), "nothing runs there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_foreground_it_tells_what_happens_and_stops_everything_at_a_signal() {
    let workplace = Workplace::new();
    let data = workplace.join("site");
    let mut command = dev(&["--agents", "1", "--site", "ship"], &data);
    let mut process = Process::start("dev", &mut command, &workplace.join("dev.log"));
    let manifest = wait::until("dev.json is there", LIMIT, || async { manifest(&data) }).await;
    let client = Cli::new(manifest["nats_url"].as_str().unwrap(), "ship");
    client.run(&["param", "set", "seen", "1"]).expect_code(0);
    wait::until_true("the change is told", LIMIT, || async {
        process.output().contains("param seen")
    })
    .await;
    let status = process.terminate(LIMIT).await;
    assert!(status.success(), "{status}: {}", process.output());
    assert!(!pids(&manifest).into_iter().any(is_running), "something was left running");
    assert!(!data.join("dev.json").exists());
}

#[test]
fn what_makes_no_site_is_refused_with_a_reason() {
    let workplace = Workplace::new();
    let data = workplace.join("site");
    for (arguments, word) in [
        (&["--agents", "0"][..], "--agents"),
        (&["--agents", "3", "--voters", "2"], "--voters"),
        (&["--nats-server", "/nowhere"], "/nowhere"),
        (&["--agent-bin", "/nowhere"], "/nowhere"),
        (&["--site", "Not.A.Site"], "site"),
    ] {
        let done = run(arguments, &data);
        assert_ne!(done.code, Some(0), "{arguments:?}");
        assert!(done.stderr.contains(word), "{arguments:?}: {}", done.stderr);
        assert!(manifest(&data).is_none());
    }
}

/// A program that says nothing and does not end.
fn silent_program(workplace: &Workplace, name: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = workplace.join(name);
    std::fs::write(&path, "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_start_that_does_not_come_to_an_end_is_given_up_and_leaves_nothing_running() {
    let workplace = Workplace::new();
    let data = workplace.join("site");
    let program = silent_program(&workplace, "flotilla-agent");
    let agent = program.to_str().unwrap();
    let done = run(&["--agent-bin", agent, "--start-timeout", "2s"], &data).expect_code(1);
    assert!(
        done.stderr.contains("2s") && done.stderr.contains("--start-timeout"),
        "{}",
        done.stderr
    );
    assert!(manifest(&data).is_none());
    let pid = std::fs::read_to_string(workplace.join("flotilla-agent.pid")).unwrap();
    let pid: u64 = pid.trim().parse().unwrap();
    wait::until_blocking("the agent is gone", LIMIT, || (!is_running(pid)).then_some(()));
    let server = std::fs::read_dir(data.join("nats")).unwrap().flatten();
    let ports = server.filter(|entry| entry.path().extension().is_some_and(|it| it == "ports"));
    assert_eq!(ports.count(), 0, "the nats-server takes its file away when it stops");
}

#[test]
fn a_site_without_nats_is_commanded_at_its_doors_and_stays_without() {
    let workplace = Workplace::new();
    let data = workplace.join("site");
    let _stop = Stop(&data);
    let door = |manifest: &Value, index: usize| {
        let socket = manifest["agents"][index]["socket"].as_str().unwrap();
        Cli::new(&format!("unix:{socket}"), "home")
    };
    let said = run(&["--detach", "--no-nats"], &data).expect_code(0).stdout;
    assert!(said.contains("without NATS") && said.contains("FLOTILLA_SERVER=unix:"), "{said}");
    let first = manifest(&data).unwrap();
    assert_eq!((&first["nats_url"], &first["nats_pid"]), (&Value::Null, &Value::Null));
    door(&first, 0).run(&["param", "set", "kept", "1"]).expect_code(0);
    run(&["stop"], &data).expect_code(0);

    // The folder remembers.
    run(&["--detach"], &data).expect_code(0);
    let second = manifest(&data).unwrap();
    assert_eq!(second["nats_url"], Value::Null);
    assert_eq!(door(&second, 2).json(&["param", "get", "kept"])["value"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_reads_any_more_everything_is_stopped() {
    for reads_the_report in [false, true] {
        let workplace = Workplace::new();
        let data = workplace.join("site");
        let log = std::fs::File::create(workplace.join("dev.log")).unwrap();
        let mut command = dev(&["--agents", "1"], &data);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut reader = child.stdout.take().unwrap();
        if reads_the_report {
            let mut some = [0; 1];
            reader.read_exact(&mut some).unwrap();
            drop(reader);
            let manifest = manifest(&data).unwrap();
            let client = Cli::new(manifest["nats_url"].as_str().unwrap(), "home");
            // Told, and there is nobody to tell it to.
            client.run(&["param", "set", "seen", "1"]).expect_code(0);
        } else {
            drop(reader);
        }
        let status = wait::until("it ends", LIMIT, || {
            let ended = child.try_wait().unwrap();
            async move { ended }
        })
        .await;
        let said = std::fs::read_to_string(workplace.join("dev.log")).unwrap();
        let left = left_on(&data);
        for pid in &left {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        assert_eq!(left, Vec::<u64>::new(), "something was left running: {said}");
        assert_eq!(status.code(), Some(0), "as with any other reader that went away: {said}");
        assert!(manifest(&data).is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_interrupted_ends_as_such_and_leaves_nothing_running() {
    let workplace = Workplace::new();
    let server = silent_program(&workplace, "nats-server");
    for signal in [Signal::INT, Signal::HUP] {
        let data = workplace.join(&format!("site-{signal:?}"));
        let mut command = dev(&["--nats-server", server.to_str().unwrap()], &data);
        let log = workplace.join(&format!("dev-{signal:?}.log"));
        let mut process = Process::start("dev", &mut command, &log);
        let noted = workplace.join("nats-server.pid");
        let pid: u64 = wait::until("the server is started", LIMIT, || async {
            std::fs::read_to_string(&noted).ok()?.trim().parse().ok()
        })
        .await;
        std::fs::remove_file(&noted).unwrap();
        process.signal(signal);
        let status = process.wait(LIMIT).await;
        let left = is_running(pid);
        let _ = Command::new("kill").arg(pid.to_string()).status();
        assert_eq!(status.code(), Some(130), "{signal:?}: {status}: {}", process.output());
        assert!(!left, "{signal:?}: the server was left running");
    }
}

#[test]
fn a_server_that_never_listens_is_given_up_and_stopped() {
    let workplace = Workplace::new();
    let server = silent_program(&workplace, "nats-server");
    let arguments = ["--nats-server", server.to_str().unwrap(), "--start-timeout", "2s"];
    run(&arguments, &workplace.join("site")).expect_code(1);
    let pid = std::fs::read_to_string(workplace.join("nats-server.pid")).unwrap();
    let pid: u64 = pid.trim().parse().unwrap();
    let left = is_running(pid);
    let _ = Command::new("kill").arg(pid.to_string()).status();
    assert!(!left, "the server was left running");
}
