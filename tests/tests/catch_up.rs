//! Nodes that were away catch up, by entries or by a snapshot in pieces.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use flotilla_tests::load::Load;
use flotilla_tests::site::{Plan, READY_LIMIT, Site};
use flotilla_tests::wait;
use futures_util::future::join_all;
use serde_json::json;

/// Snapshots often; the log reaches back to the older one of two.
const EAGER: &str = "[raft]\nsnapshot_every_entries = 100\nsnapshot_every_bytes = 1048576\n";
const VALUE_BYTES: usize = 24_000;
const VALUES: usize = 400;

fn eager(nats_config: &str) -> Plan {
    Plan { config: EAGER.to_owned(), nats_config: nats_config.to_owned(), ..Plan::of(3) }
}

/// Writes about ten megabytes that do not compress well.
async fn fill(site: &Site) {
    for batch in 0..VALUES / 20 {
        let writes = (0..20).map(|at| {
            let number = batch * 20 + at;
            let value = json!(noise(number as u64 + 1));
            let client = site.client.clone();
            async move {
                let (key, id) = (format!("fill.k{number}"), format!("fill-{number}"));
                // Twenty large values at once may take a busy machine longer than a request.
                wait::until_true(&format!("{key} is set"), READY_LIMIT, || async {
                    client.set_param(&key, &value, &id).await.is_ok()
                })
                .await;
            }
        });
        join_all(writes).await;
    }
}

/// Letters that look random, the same for the same seed.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut text = String::with_capacity(VALUE_BYTES);
    while text.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let letter = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        text.push(char::from(letter[usize::try_from(state % 64).unwrap()]));
    }
    text
}

async fn a_follower_returns_after_its_entries_are_gone(nats_config: &str) {
    let mut site = Site::start_as(eager(nats_config)).await;
    let away = site.a_follower().await;
    let had = site.await_status(away).await.applied();
    site.agents[away].kill();
    fill(&site).await;
    let leader = site.await_leader().await;
    wait::until_true("the leader has forgotten what the follower needs", READY_LIMIT, || async {
        site.status(leader).await.is_some_and(|status| status.first_index() > had + 1)
    })
    .await;
    let load = Load::start(&site.client, "meanwhile", 4);
    site.agents[away].start();
    site.await_status(away).await;
    load.await_more(100).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    let status = site.await_status(away).await;
    assert!(status.snapshot_index() > had, "it came without a snapshot: {:?}", status.0);

    // What it got is good enough to start from.
    site.agents[away].kill();
    site.agents[away].start();
    site.await_status(away).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_gets_a_snapshot_in_pieces() {
    a_follower_returns_after_its_entries_are_gone("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_fit_into_a_small_max_payload() {
    a_follower_returns_after_its_entries_are_gone("max_payload: 65536\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_killed_in_the_middle_of_a_snapshot_and_gets_it_anyway() {
    let mut site = Site::start_as(eager("")).await;
    let away = site.a_follower().await;
    let had = site.await_status(away).await.applied();
    site.agents[away].kill();
    fill(&site).await;
    let snapshots = site.agents[away].data_dir().join("snapshots");
    for _ in 0..3 {
        let before = folder_bytes(&snapshots);
        site.agents[away].start();
        wait::until_true("a piece has arrived", READY_LIMIT, || async {
            folder_bytes(&snapshots) != before
                || site.status(away).await.is_some_and(|status| status.applied() > had)
        })
        .await;
        site.agents[away].kill();
    }
    site.agents[away].start();
    site.await_status(away).await;
    site.await_equal_digests().await;
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_joins_a_site_whose_first_entries_are_gone() {
    let mut site = Site::start_as(Plan { voters: 1, ..eager("") }).await;
    fill(&site).await;
    let token = site.cli.token(1);
    let index = site.add(&token).await;
    site.await_equal_digests().await;
    assert!(site.await_status(index).await.snapshot_index() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_takes_snapshots_all_the_time_restarts_with_the_same_state() {
    let mut site = Site::start_as(eager("")).await;
    let load = Load::start(&site.client, "snapshots", 16);
    load.await_more(2_000).await;
    let history = load.finish().await;
    assert!(site.await_equal_digests().await.snapshot_index() > 0);
    let before = site.await_section_digests().await;
    site.kill_all();
    site.start_all();
    site.await_leader().await;
    site.await_equal_digests().await;
    assert_eq!(before, site.await_section_digests().await);
    history.check(&site.client).await;
}
