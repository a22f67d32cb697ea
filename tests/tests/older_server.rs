//! Debian 12's nats-server, the oldest that a site is meant to run on.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::process::Command;
use std::time::Duration;

use flotilla_tests::cli::run;
use flotilla_tests::load::{Load, pour};
use flotilla_tests::not_run;
use flotilla_tests::programs;
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::wait;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// What a server says of its own version.
fn version(program: &std::path::Path) -> String {
    let mut command = Command::new(program);
    command.arg("--version");
    let said = run(command, "").expect_code(0).stdout;
    said.trim().rsplit(' ').next().unwrap().trim_start_matches('v').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_keeps_its_promises_on_debians_server() {
    let Some(program) = programs::older_nats_server() else {
        not_run::say("Debian's nats-server was not fetched: run `make debian`");
        return;
    };
    let version = version(&program);
    let mut site = Site::start_as(Plan { nats_program: Some(program), ..Plan::of(3) }).await;
    // It is that server that runs, and no other.
    assert!(site.nats.log().contains(&version), "{version} is not in {}", site.nats.log());
    println!("a site on nats-server {version}");
    // It is used, and it is said what it lacks.
    for agent in &site.agents {
        let noted = || async { agent.counter("flotilla_nats_server_outdated") == 2.0 };
        wait::until_true("the age of the server is noted", LIMIT, noted).await;
        let warnings = agent.log().matches("known holes in who may do what").count();
        assert_eq!(warnings, 2, "once for each connection of {}: {}", agent.name, agent.log());
    }

    let load = Load::start(&site.client, "older", 16);
    load.await_more(200).await;
    let leader = site.await_leader().await;
    site.agents[leader].kill();
    load.await_more(200).await;
    site.agents[leader].start();
    site.await_status(leader).await;
    site.nats.restart();
    load.await_more(200).await;
    // Half a megabyte at once, in frames that the server's limit cuts into pieces.
    pour(&site.client, 0).await;
    load.finish().await.check(&site.client).await;
    site.await_equal_digests().await;

    let reply = site.client.raw().request("$SRV.PING", "".into()).await.unwrap();
    let service: Value = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(service["name"], "flotilla-home", "{service}");
    let shown = site.cli.run(&["status"]).expect_code(0);
    assert!(shown.stdout.contains("n3"), "{}", shown.stdout);
}
