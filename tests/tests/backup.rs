//! A snapshot is saved, looked into, and made into another site.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::bare::{Answer, BareClient};
use flotilla_tests::load::Load;
use flotilla_tests::site::{READY_LIMIT, Site};
use flotilla_tests::wait;
use serde_json::{Value, json};

/// What a site says about itself, as soon as it does.
async fn facts(client: &BareClient) -> Value {
    let client = client.hasty();
    wait::until("the site answers", READY_LIMIT, || async {
        match client.request("control.query.site.get", "").await {
            Answer::Reply(reply) if reply.is_ok() => Some(reply.at("/item").clone()),
            _ => None,
        }
    })
    .await
}

/// What is known and wanted of every device, without when it was said, and who is on hold.
async fn devices(client: &BareClient) -> (Vec<Value>, usize) {
    let client = client.hasty();
    let mut all = wait::until("the devices are listed", READY_LIMIT, || async {
        match client.request("control.query.device.list", "").await {
            Answer::Reply(reply) if reply.is_ok() => reply.at("/items").as_array().cloned(),
            _ => None,
        }
    })
    .await;
    let mut held = 0;
    for device in &mut all {
        let fields = device.as_object_mut().unwrap();
        fields.remove("revision");
        fields.remove("changed_wall_ms");
        let hold = fields.remove("hold");
        held += usize::from(hold.is_some_and(|hold| !hold.is_null()));
    }
    (all, held)
}

async fn filled() -> Site {
    let site = Site::start(3).await;
    for name in ["a.lamp", "a.pump", "b.valve"] {
        let register = format!("control.commands.device.register.{name}");
        site.client.request(&register, "{}").await.accepted();
        let update = format!("control.commands.device.update.{name}");
        site.client.request(&update, r#"{"on":true}"#).await.accepted();
    }
    let load = Load::start(&site.client, "before", 8);
    load.await_more(200).await;
    load.finish().await.check(&site.client).await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_snapshot_becomes_another_site_with_the_same_devices() {
    let site = filled().await;
    let file = site.workplace().join("home.snapshot");
    let path = file.to_str().unwrap();
    site.cli.run(&["snapshot", "save", path]).expect_code(0);
    let inspected = site.cli.json(&["snapshot", "inspect", path]);
    assert_eq!(inspected["site"], json!("home"), "{inspected}");

    let mut first = Agent::prepare(site.workplace().path(), "r1", &site.config());
    first.run_once(&["restore", path, "--site", "annex", "--name", "r1"]).expect_code(0);
    first.start();
    let annex = BareClient::connect(&site.nats.url(), "annex").await;
    let (old, new) = (facts(&site.client).await, facts(&annex).await);
    for section in ["links", "params"] {
        let of = |facts: &Value| facts["digests"][section].clone();
        assert!(of(&old).is_string(), "{old}");
        assert_eq!(of(&old), of(&new), "{section}");
    }
    let ((here, held_here), (there, held_there)) =
        (devices(&site.client).await, devices(&annex).await);
    assert_eq!((here.len(), held_here), (3, 0), "{here:?}");
    assert_eq!(here, there);
    assert_eq!(held_there, 3, "nothing is written to a device before somebody has looked");
    assert_ne!(old["uid"], new["uid"]);
    assert_eq!(new["members"], json!(1));

    // Revisions go on where the old site's were.
    let written = annex.set_param("after", &json!(1), "after").await.accepted();
    assert!(written.revision() > inspected["index"].as_u64(), "{}", written.0);
    let next = site.client.set_param("after", &json!(2), "after").await.accepted();
    assert!(next.is_ok());
    assert_eq!(annex.read_param("after").await.at("/item/value"), &json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_snapshot_file_is_refused_at_every_place() {
    let site = filled().await;
    let file = site.workplace().join("home.snapshot");
    let path = file.to_str().unwrap();
    site.cli.run(&["snapshot", "save", path]).expect_code(0);
    let good = fs::read(&file).unwrap();
    let step = (good.len() / 40).max(1);
    let mut tried = 0;
    for at in (0..good.len()).step_by(step) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        let done = site.cli.run(&["snapshot", "inspect", path]);
        assert_ne!(done.code, Some(0), "a flip at {at} of {} was not seen", good.len());
        tried += 1;
    }
    assert!(tried >= 40);
    for length in [0, 1, good.len() / 2, good.len() - 1] {
        fs::write(&file, &good[..length]).unwrap();
        let agent = Agent::prepare(site.workplace().path(), "victim", &site.config());
        let done = agent.run_once(&["restore", path, "--site", "annex"]);
        assert_ne!(done.code, Some(0), "cut to {length} bytes and taken");
        assert!(!agent.data_dir().join("node.json").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_snapshot_of_a_survivor_becomes_a_site_when_the_majority_is_lost() {
    let mut site = filled().await;
    site.client.request("control.admin.snapshot.take", "").await.accepted();
    let before = site.await_section_digests().await;
    let (devices_before, _) = devices(&site.client).await;
    let newest = newest_snapshot(&site).expect("somebody has just taken one");
    let mut first = Agent::prepare(site.workplace().path(), "r1", &site.config());
    let path = newest.to_str().unwrap();
    // A survivor still answers, without a leader. The way out is said, and it is not to join.
    site.agents[0].kill();
    site.agents[1].kill();
    let refused = first.run_once(&["restore", path, "--site", "home", "--name", "r1"]);
    let said = refused.expect_code(1).stderr;
    assert!(said.contains("stop every agent") && !said.contains("token"), "{said}");
    site.kill_all();
    first.run_once(&["restore", path, "--site", "home", "--name", "r1"]).expect_code(0);
    first.start();
    let after = facts(&site.client).await;
    assert_eq!(devices(&site.client).await, (devices_before, 3), "as they were, and on hold");
    for section in ["links", "params"] {
        assert_eq!(before[section], after["digests"][section], "{section}");
    }

    // Members of the former site come back and are not heard.
    site.start_all();
    wait::stays_true("the new site has one member", Duration::from_secs(3), || async {
        let reply = site.client.hasty().request("control.query.site.get", "").await;
        match reply {
            Answer::Reply(reply) if reply.is_ok() && reply.at("/item/uid") == &after["uid"] => {
                reply.at("/item/members") == &json!(1)
            }
            _ => true,
        }
    })
    .await;
}

/// The newest snapshot file of any agent, by its name, which begins with its index.
fn newest_snapshot(site: &Site) -> Option<PathBuf> {
    let folders = site.agents.iter().map(|agent| agent.data_dir().join("snapshots"));
    let files = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let paths = files.map(|entry| entry.path());
    let snapshots = paths.filter(|path| path.extension().is_some_and(|it| it == "flt"));
    snapshots.max_by(|a, b| a.file_name().cmp(&b.file_name()))
}

/// What one node holds, newest first.
async fn held(client: &BareClient) -> Vec<u64> {
    let reply = client.request("control.admin.snapshot.info", "").await.accepted();
    let snapshots = reply.at("/item/snapshots").as_array().unwrap();
    snapshots.iter().filter_map(|snapshot| snapshot["index"].as_u64()).collect()
}

/// One piece of a snapshot; `None` at its end.
async fn piece(client: &BareClient, index: u64, offset: usize) -> Option<bytes::Bytes> {
    let subject = client.subject("control.node.n1.snapshot");
    let asked = json!({"index": index, "offset": offset, "length": 65_536}).to_string();
    let message = client.raw().request(subject, asked.into()).await.unwrap();
    let headers = message.headers.unwrap_or_default();
    let whole = headers.get("Flotilla-Snapshot-Size").map(|size| size.as_str().parse::<usize>());
    let text = String::from_utf8_lossy(&message.payload);
    let whole = whole.unwrap_or_else(|| panic!("no piece at {offset}: {text}")).unwrap();
    (offset < whole).then_some(message.payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_being_read_can_be_read_to_its_end() {
    let site = Site::start(1).await;
    let client = &site.client;
    for number in 0..20u64 {
        // What does not shrink when it is packed, so that there are several pieces.
        let mut random = number;
        let noise: String = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + u8::try_from((random >> 40) % 94).unwrap()).to_string()
        })
        .take(25_000)
        .collect();
        let id = format!("noise-{number}");
        client.set_param(&format!("noise.{number}"), &json!(noise), &id).await.accepted();
    }
    client.request("control.admin.snapshot.take", "").await.accepted();
    let index = held(client).await[0];
    let mut file = piece(client, index, 0).await.unwrap().to_vec();
    // Meanwhile it has to make room for newer ones.
    for number in 0..3 {
        client.set_param("later", &json!(number), &format!("later-{number}")).await.accepted();
        client.request("control.admin.snapshot.take", "").await.accepted();
    }
    assert!(!held(client).await.contains(&index), "it is not pruned");
    let mut pieces = 1;
    while let Some(piece) = piece(client, index, file.len()).await {
        file.extend_from_slice(&piece);
        pieces += 1;
    }
    assert!(pieces > 3, "{pieces} pieces");
    let path = site.workplace().join("read.snapshot");
    fs::write(&path, &file).unwrap();
    let inspected = site.cli.json(&["snapshot", "inspect", path.to_str().unwrap()]);
    assert_eq!(inspected["index"], json!(index), "{inspected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn saving_works_while_the_node_takes_snapshots_all_the_time() {
    let site = filled().await;
    let client = site.client.clone();
    let taking = tokio::spawn(async move {
        let mut taken: u64 = 0;
        loop {
            let id = format!("churn-{taken}");
            client.set_param("churn", &json!(taken), &id).await;
            client.request("control.admin.snapshot.take", "").await;
            taken += 1;
        }
    });
    for number in 0..5 {
        let path = site.workplace().join(&format!("{number}.snapshot"));
        let path = path.to_str().unwrap().to_owned();
        let cli = site.cli.clone();
        let saved = tokio::task::spawn_blocking(move || cli.run(&["snapshot", "save", &path]));
        saved.await.unwrap().expect_code(0);
    }
    assert!(!taking.is_finished(), "snapshots were taken to the end");
    taking.abort();
}
