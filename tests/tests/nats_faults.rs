//! The NATS server dies, stands still, and serves two sites.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::bare::{Answer, BareClient};
use flotilla_tests::cli::Cli;
use flotilla_tests::load::Load;
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::site::{READY_LIMIT, Site};
use flotilla_tests::wait;
use flotilla_tests::workplace::Workplace;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_restarts_under_load_and_nothing_acknowledged_is_lost() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "restarts", 32);
    for _ in 0..3 {
        load.await_more(300).await;
        site.nats.restart();
        load.await_more(300).await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_leader().await;
    site.await_equal_digests().await;
    eprintln!("longest time without an answer {:?}", history.longest_gap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_away_for_long_and_the_site_goes_on_when_it_is_back() {
    let mut site = Site::start(3).await;
    let load = Load::start(&site.client, "away", 8);
    load.await_more(100).await;
    site.nats.kill();
    let at_most = load.acknowledged();
    wait::stays_true("nothing is acknowledged", Duration::from_secs(8), || async {
        load.acknowledged() <= at_most + 8
    })
    .await;
    site.nats.restart();
    load.await_more(200).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_leader().await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_stands_still_and_goes_on() {
    let site = Site::start(3).await;
    let load = Load::start(&site.client, "still", 8);
    for _ in 0..2 {
        load.await_more(100).await;
        site.nats.pause();
        let at_most = load.acknowledged() + 8;
        wait::stays_true("nothing is acknowledged", Duration::from_secs(3), || async {
            load.acknowledged() <= at_most
        })
        .await;
        site.nats.resume();
        load.await_more(100).await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_leader().await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_before_its_server_waits_for_it() {
    let mut site = Site::start(3).await;
    site.kill_all();
    site.nats.kill();
    site.start_all();
    wait::stays_true("the agents live without a server", Duration::from_secs(2), || {
        let alive = site.agents.iter_mut().all(|agent| agent.process().ended().is_none());
        async move { alive }
    })
    .await;
    site.nats.restart();
    site.await_leader().await;
    site.client.set_param("after", &json!(1), "after").await.accepted();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sites_on_one_server_do_not_see_each_other() {
    let site = Site::start(1).await;
    let url = site.nats.url();
    let config = format!("[nats]\nurls = [\"{url}\"]\n");
    let mut ship = Agent::prepare(site.workplace().path(), "ship", &config);
    ship.init("ship", 1);
    ship.start();
    let other = BareClient::connect(&url, "ship").await;
    let other = &other.hasty();
    wait::until_true("the other site takes commands", READY_LIMIT, || async {
        let answer = other.set_param("where", &json!("ship"), "where").await;
        matches!(answer, Answer::Reply(reply) if reply.is_ok())
    })
    .await;
    site.client.set_param("where", &json!("home"), "where").await.accepted();
    assert_eq!(site.client.read_param("where").await.at("/item/value"), &json!("home"));
    assert_eq!(other.read_param("where").await.at("/item/value"), &json!("ship"));

    // A token of one site is no use at another: it names its own.
    let joiner = site.prepare_next();
    let token = site.cli.token(1);
    let arguments = ["join", &token, "--only", "--name", "n2", "--set", "site.name=ship"];
    let refused = joiner.run_once(&arguments).expect_code(1);
    assert!(
        refused.stderr.contains("ship") && refused.stderr.contains("home"),
        "{}",
        refused.stderr
    );
}

/// Without the mesh, so that nothing but the two servers leads to the agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_go_is_left_for_another_one() {
    let workplace = Workplace::new();
    // It would close connections long after this test has ended.
    let config = "lame_duck_duration: \"300s\"\nlame_duck_grace_period: \"200s\"\n";
    let servers = ["a", "b"].map(|name| {
        let folder = workplace.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        NatsServer::start_with(&folder, config)
    });
    let urls = servers.each_ref().map(|server| format!("\"{}\"", server.url())).join(", ");
    let config = format!("[nats]\nurls = [{urls}]\n[mesh]\nenabled = false\n");
    let mut agent = Agent::prepare(workplace.path(), "n1", &config);
    agent.init("home", 1);
    agent.start();
    let clis = servers.each_ref().map(|server| Cli::new(&server.url(), "home"));
    let set = ["param", "set", "here", "1", "--timeout", "1s"];
    let mut here = None;
    wait::until_true("a server leads to the agent", READY_LIMIT, || {
        here = clis.iter().position(|cli| cli.run(&set).code == Some(0));
        async move { here.is_some() }
    })
    .await;
    let here = here.unwrap();
    servers[here].begin_lame_duck();
    wait::until_true("the other server leads to the agent", READY_LIMIT, || async {
        clis[1 - here].run(&set).code == Some(0)
    })
    .await;
    let told = servers[here].log().to_lowercase();
    assert!(told.contains("lame duck") && !told.contains("server exiting"), "{told}");
}
