//! The harness itself: a fault that is not injected would let every scenario pass.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this whole file is a test")]

use std::process::Command;
use std::time::Duration;

use flotilla_tests::bare::{Answer, BareClient};
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::workplace::Workplace;
use flotilla_tests::{cli, wait};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_and_keeps_its_port_over_a_kill() {
    let workplace = Workplace::new();
    let mut server = NatsServer::start(workplace.path());
    let url = server.url();
    let client = BareClient::connect(&url, "nobody").await;
    assert_eq!(client.request("control.query.site.get", "").await, Answer::NoResponders);

    server.kill();
    wait::until_true("the client notices", LIMIT, || async {
        client.raw().connection_state() != async_nats::connection::State::Connected
    })
    .await;

    server.restart();
    assert_eq!(server.url(), url);
    wait::until_true("the client is back", LIMIT, || async {
        client.request("control.query.site.get", "").await == Answer::NoResponders
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_is_silent_and_a_resumed_one_answers() {
    let workplace = Workplace::new();
    let server = NatsServer::start(workplace.path());
    let options = async_nats::ConnectOptions::new();
    let client = BareClient::connect_with(options, &server.url(), "nobody").await;
    server.pause();
    let soon = Duration::from_millis(300);
    let early = tokio::time::timeout(soon, client.request("control.query.site.get", "")).await;
    assert!(early.is_err(), "a paused server answered: {early:?}");
    server.resume();
    assert_eq!(client.request("control.query.site.get", "").await, Answer::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_reaches_the_server() {
    let workplace = Workplace::new();
    let server = NatsServer::start_with(workplace.path(), "max_payload: 65536\n");
    let client = BareClient::connect(&server.url(), "nobody").await;
    assert_eq!(client.raw().server_info().max_payload, 65_536);
}

#[test]
fn a_command_leaves_its_output_and_its_code() {
    let mut command = Command::new("sh");
    command.args(["-c", "read word; echo got $word; echo talk >&2; exit 3"]);
    let done = cli::run(command, "input\n").expect_code(3);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("got input\n", "talk\n"));
}
