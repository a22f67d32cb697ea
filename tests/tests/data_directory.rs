//! What an agent refuses to run on, and says so.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::fs;

use flotilla_tests::agent::Agent;
use flotilla_tests::bare::BareClient;
use flotilla_tests::cli::Cli;
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::site::{READY_LIMIT, Site};
use flotilla_tests::wait;
use flotilla_tests::workplace::Workplace;

/// The agent must refuse to run, with a reason that holds all of `words`.
fn refuses(agent: &Agent, words: &[&str]) {
    let done = agent.run_once(&["run"]);
    assert_ne!(done.code, Some(0), "it ran: {}", done.stdout);
    let said = format!("{}{}", done.stdout, done.stderr);
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_directory_is_refused() {
    let site = Site::start(1).await;
    refuses(&site.agents[0], &[site.agents[0].data_dir().to_str().unwrap()]);
    site.client.set_param("still", &1.into(), "still").await.accepted();
}

#[tokio::test(flavor = "multi_thread")]
async fn init_is_harmless_on_a_directory_that_belongs_to_a_site() {
    let mut site = Site::start(1).await;
    site.client.set_param("kept", &1.into(), "kept").await.accepted();
    site.agents[0].stop().await;
    let before = fs::read(site.agents[0].data_dir().join("node.json")).unwrap();
    site.agents[0].run_once(&["init", "--site", "home", "--name", "n1"]);
    let after = fs::read(site.agents[0].data_dir().join("node.json")).unwrap();
    assert_eq!(before, after);
    site.agents[0].start();
    site.await_leader().await;
    assert_eq!(site.client.read_param("kept").await.at("/item/value").as_u64(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_site_of_the_same_name_is_refused() {
    let site = Site::start(1).await;
    let other = site.prepare_next();
    let done = other.run_once(&["init", "--site", "home", "--name", "x"]);
    assert_ne!(done.code, Some(0), "{}", done.stdout);
    assert!(done.stderr.contains("home"), "{}", done.stderr);
    assert!(!other.data_dir().join("node.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_directory_or_a_file_in_its_place_is_refused() {
    let site = Site::start(1).await;
    let missing = site.prepare_next();
    refuses(&missing, &[missing.data_dir().to_str().unwrap()]);
    fs::write(missing.data_dir(), "a file").unwrap();
    refuses(&missing, &[missing.data_dir().to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_finds_the_servers_that_it_was_made_with() {
    let workplace = Workplace::new();
    let nats = NatsServer::start(workplace.path());
    let quiet = "[mesh]\nenabled = false\n";
    let mut first = Agent::prepare(workplace.path(), "n1", quiet);
    let init = ["init", "--site", "home", "--name", "n1", "--nats", &nats.url()];
    let made = first.run_once(&init).expect_code(0);
    assert!(!made.stderr.contains("--nats"), "{}", made.stderr);
    first.start();
    let client = BareClient::connect(&nats.url(), "home").await;
    wait::until_true("the site answers", READY_LIMIT, || async {
        client.hasty().request("control.query.site.get", "").await.is_ok()
    })
    .await;

    // The token says where the servers are; the second start does not have it any more.
    let token = Cli::new(&nats.url(), "home").token(1);
    let mut second = Agent::prepare(workplace.path(), "n2", quiet);
    second.run_once(&["join", &token, "--only", "--name", "n2"]).expect_code(0);
    for _ in 0..2 {
        second.start();
        wait::until_true("the second node answers", READY_LIMIT, || async {
            client.hasty().request("control.node.n2.status", "").await.is_ok()
        })
        .await;
        second.stop().await;
    }

    // What the configuration says counts more.
    second.set_config(&format!("[nats]\nurls = [\"nats://127.0.0.1:1\"]\n{quiet}"));
    second.start();
    wait::until_true("it asks where it is told to", READY_LIMIT, || async {
        second.log().contains("127.0.0.1:1")
    })
    .await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut site = Site::start(1).await;
    site.agents[0].stop().await;
    let key = site.agents[0].data_dir().join("identity.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    refuses(&site.agents[0], &["identity.key", "600"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_before_the_end_of_the_log_keeps_a_node_from_voting() {
    let mut site = Site::start(3).await;
    let load = flotilla_tests::load::Load::start(&site.client, "damage", 4);
    load.await_more(200).await;
    load.finish().await;
    let hurt = site.a_follower().await;
    site.agents[hurt].stop().await;

    let folder = site.agents[hurt].data_dir().join("log");
    let mut segments: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
    segments.sort();
    let mut bytes = fs::read(&segments[0]).unwrap();
    // Well inside of what was synced long ago.
    bytes[2_000] ^= 0x40;
    fs::write(&segments[0], bytes).unwrap();

    let done = site.agents[hurt].run_once(&["run"]);
    assert_ne!(done.code, Some(0), "{}", done.stdout);
    let check = site.agents[hurt].run_once(&["store", "check"]);
    assert_ne!(check.code, Some(0), "{}", check.stdout);
    let said = format!("{}{}", check.stdout, check.stderr);
    assert!(said.contains(segments[0].file_name().unwrap().to_str().unwrap()), "{said}");
}
