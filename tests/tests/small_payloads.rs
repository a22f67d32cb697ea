//! A site on a server that takes 64 KB a message, as some are set up: nothing gets lost for size.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use flotilla_tests::bare::BareClient;
use flotilla_tests::site::{Plan, Site};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};

const SMALL: &str = "max_payload: 65536\n";
/// Near the limit of a value; three of them do not fit into a message.
const VALUE_BYTES: usize = 30_000;
const VALUES: usize = 40;

async fn filled() -> Site {
    let site = Site::start_as(Plan { nats_config: SMALL.to_owned(), ..Plan::of(3) }).await;
    // All at once, so that agents that do not lead hand on more than a message can hold.
    let writes = (0..VALUES).map(|number| {
        let client = site.client.clone();
        async move {
            let key = format!("large.k{number:02}");
            client.set_param(&key, &value(number), &format!("large-{number}")).await.accepted();
        }
    });
    join_all(writes).await;
    site
}

fn value(number: usize) -> Value {
    json!(format!("{number}.{}", "x".repeat(VALUE_BYTES)))
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_written_listed_and_followed() {
    let site = filled().await;
    let all = site.cli.json(&["param", "ls", "large"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), VALUES);
    for (number, param) in all.iter().enumerate() {
        assert_eq!(param["value"], value(number), "{number}");
    }
    assert_eq!(changed_since_the_beginning(&site.client).await, VALUES);

    let events = site.client.subject("control.events.param.>");
    let mut events = site.client.raw().subscribe(events).await.unwrap();
    site.client.raw().flush().await.unwrap();
    site.client.set_param("large.k00", &value(77), "seen").await.accepted();
    let limit = std::time::Duration::from_secs(10);
    let event = tokio::time::timeout(limit, events.next()).await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(event["change"]["record"]["value"], value(77), "an event with the whole value");
    site.await_equal_digests().await;
}

/// Follows the pages of all changes of parameters, and counts them.
async fn changed_since_the_beginning(client: &BareClient) -> usize {
    let (mut since, mut after, mut found) = (0, Value::Null, 0);
    loop {
        let body = if after.is_null() { json!({}) } else { json!({"after": after}) };
        let subject = format!("control.changes.since.{since}.param");
        let page = client.request(&subject, body.to_string()).await.accepted();
        found += page.at("/changes").as_array().unwrap().len();
        since = page.revision().unwrap();
        after = page.at("/after").clone();
        if page.at("/more") != &json!(true) {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_saved_in_pieces_that_fit() {
    let site = filled().await;
    let file = site.workplace().join("home.snapshot");
    let path = file.to_str().unwrap();
    site.cli.run(&["snapshot", "save", path]).expect_code(0);
    let inspected = site.cli.json(&["snapshot", "inspect", path]);
    assert_eq!(inspected["site"], json!("home"), "{inspected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_into_no_message_is_refused_with_both_sizes() {
    let site = filled().await;
    let items: Vec<Value> = (0..3)
        .map(|at| json!({"op": "param.set", "id": format!("batch.k{at}"), "body": value(at)}))
        .collect();
    let text = json!(items).to_string();
    let done = site.cli.run_with(&["batch", "apply", "-f", "-"], &text).expect_code(8);
    assert!(done.stderr.contains("65536"), "{}", done.stderr);
    site.client.param("batch.k0").await.refused("not_found");
}
