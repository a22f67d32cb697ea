//! What a node finds on its disk at its next start is damaged, read-only, or another's.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use flotilla_tests::agent::{Agent, STOP_LIMIT};
use flotilla_tests::cli::Finished;
use flotilla_tests::disk::SmallDisk;
use flotilla_tests::load::Load;
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::wait;
use serde_json::json;

/// Snapshots often; the log keeps nothing behind them that a restart doesn't need.
const EAGER: &str = "[raft]\nsnapshot_every_entries = 100\nlog_trailing_entries = 0\n";

/// A site of three, written to, with a stopped follower; gives the follower's index.
async fn with_a_stopped_follower(config: &str) -> (Site, usize) {
    let mut site = Site::start_as(Plan { config: config.to_owned(), ..Plan::of(3) }).await;
    let load = Load::start(&site.client, "before", 8);
    load.await_more(600).await;
    load.finish().await;
    let stopped = site.a_follower().await;
    site.agents[stopped].stop().await;
    (site, stopped)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    found.sort();
    found
}

/// Changes one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// The whole directory, file by file; a refusal must not touch a byte that was there.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

fn refused(agent: &Agent, words: &[&str]) -> Finished {
    let done = agent.run_once(&["run"]).expect_code(1);
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_snapshot_costs_a_replay_and_is_kept_for_a_look() {
    let (mut site, hurt) = with_a_stopped_follower(EAGER).await;
    let folder = site.agents[hurt].data_dir().join("snapshots");
    let newest = files(&folder, "flt").pop().expect("it has taken some");
    damage(&newest);
    let load = Load::start(&site.client, "meanwhile", 4);
    site.agents[hurt].start();
    site.await_status(hurt).await;
    load.await_more(100).await;
    load.finish().await.check(&site.client).await;
    site.await_equal_digests().await;
    let log = site.agents[hurt].log();
    assert!(log.contains("a snapshot is damaged"), "{log}");
    let name = newest.file_stem().unwrap().to_str().unwrap();
    let kept = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<String> = kept.map(|it| it.to_string_lossy().into_owned()).collect();
    assert!(kept.iter().any(|it| it.contains(name) && !it.ends_with(".flt")), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_all_of_whose_snapshots_are_changed_does_not_start_and_says_why() {
    let (mut site, hurt) = with_a_stopped_follower(EAGER).await;
    let folder = site.agents[hurt].data_dir().join("snapshots");
    files(&folder, "flt").iter().for_each(|path| damage(path));
    let done = refused(&site.agents[hurt], &["snapshot"]);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    let again = refused(&site.agents[hurt], &["snapshot"]);
    assert!(!again.stderr.is_empty());
    // Those that are left go on, and it comes back as a new node.
    site.client.set_param("goes-on", &json!(1), "goes-on").await.accepted();
    site.agents[hurt].wipe();
    let name = site.agents[hurt].name.clone();
    site.cli.run(&["member", "remove", &name]).expect_code(0);
    let token = site.cli.token(1);
    site.agents[hurt].join(&token);
    site.await_voters(3).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_of_the_log_is_cut_and_told_and_the_rest_is_caught_up() {
    let (mut site, hurt) = with_a_stopped_follower("").await;
    let folder = site.agents[hurt].data_dir().join("log");
    let log = newest_segment(&folder);
    let mut bytes = fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // The last bytes never reached the disk, as when the power fails.
    bytes[end - 8..=end].fill(0);
    fs::write(&log, bytes).unwrap();
    let done = site.agents[hurt].run_once(&["store", "check"]);
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains(log.file_name().unwrap().to_str().unwrap()), "{said}");
    site.agents[hurt].start();
    wait::until_true("the cut is told", STOP_LIMIT, || async {
        site.agents[hurt].log().contains("the end of the log was damaged")
    })
    .await;
    site.await_status(hurt).await;
    site.await_equal_digests().await;
}

fn newest_segment(folder: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| fs::read(path).unwrap().iter().any(|byte| *byte != 0));
    all.sort();
    all.pop().expect("a log has a segment")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_site_is_refused_and_left_as_it_is() {
    let mut site = Site::start(1).await;
    site.agents[0].stop().await;
    let before = contents(site.agents[0].data_dir());
    let other = format!("[site]\nname = \"ship\"\n{}", site.config());
    site.agents[0].set_config(&other);
    refused(&site.agents[0], &["site.name is ship", "belongs to site home"]);
    site.agents[0].set_config(&site.config());
    let done = site.agents[0].run_once(&["init", "--site", "ship"]).expect_code(1);
    assert!(done.stderr.contains("home"), "{}", done.stderr);
    let restored = site.workplace().join("none.snapshot");
    fs::write(&restored, "no snapshot").unwrap();
    let path = restored.to_str().unwrap();
    site.agents[0].run_once(&["restore", path, "--site", "home"]).expect_code(1);
    // The lock file is opened, nothing else.
    let but_the_lock = |all: Vec<(PathBuf, Vec<u8>)>| -> Vec<(PathBuf, Vec<u8>)> {
        all.into_iter().filter(|(path, _)| !path.ends_with("lock")).collect()
    };
    assert_eq!(but_the_lock(before), but_the_lock(contents(site.agents[0].data_dir())));
    site.agents[0].start();
    site.await_leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_directory_is_refused_with_the_place() {
    let mut site = Site::start(1).await;
    let place = site.workplace().join("n2");
    let Some(disk) = SmallDisk::mount(&place, 224) else { return };
    let token = site.cli.token(1);
    let second = site.add(&token).await;
    site.agents[second].stop().await;
    disk.make_read_only();
    refused(&site.agents[second], &[place.to_str().unwrap(), "Read-only"]);
    let join = site.agents[second].run_once(&["join", &token, "--only"]).expect_code(1);
    assert!(join.stderr.contains(place.to_str().unwrap()), "{}", join.stderr);
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            // With its permissions, which keys are judged by.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_set_back_is_noticed_by_the_others_and_never_votes_again() {
    let (mut site, hurt) = with_a_stopped_follower("").await;
    let place = site.agents[hurt].data_dir().to_owned();
    let copy = site.workplace().join("copy");
    copy_all(&place, &copy);
    for _ in 0..2 {
        site.agents[hurt].start();
        // The others must have heard of this start: of one that nobody heard, nothing can be lost.
        wait::until_true("it follows the leader", STOP_LIMIT, || async {
            site.status(hurt).await.is_some_and(|status| status.leader().is_some())
        })
        .await;
        site.agents[hurt].stop().await;
    }
    fs::remove_dir_all(&place).unwrap();
    copy_all(&copy, &place);

    site.agents[hurt].start();
    let status = site.agents[hurt].process().wait(STOP_LIMIT).await;
    assert_eq!(status.code(), Some(1), "{status}");
    let log = site.agents[hurt].log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("flotilla-agent: ") && last.contains("join"), "{last}");
    // Whatever restarts it, it stays away; and whoever looks is told why.
    refused(&site.agents[hurt], &["quarantine", "join"]);
    refused(&site.agents[hurt], &["quarantine"]);
    let look = site.agents[hurt].run_once(&["store", "check"]);
    assert!(look.stdout.contains("quarantine: DAMAGED"), "{look:?}");

    site.client.set_param("goes-on", &json!(1), "goes-on").await.accepted();
    // It has ended by itself; this forgets its process.
    site.agents[hurt].kill();
    site.agents[hurt].wipe();
    let name = site.agents[hurt].name.clone();
    site.cli.run(&["member", "remove", &name]).expect_code(0);
    let token = site.cli.token(1);
    site.agents[hurt].join(&token);
    site.await_voters(3).await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_was_copied_whole_goes_on_as_the_same_node() {
    let (mut site, moved) = with_a_stopped_follower(EAGER).await;
    let place = site.agents[moved].data_dir().to_owned();
    let elsewhere = site.workplace().join("elsewhere");
    copy_all(&place, &elsewhere);
    fs::remove_dir_all(&place).unwrap();
    copy_all(&elsewhere, &place);

    let load = Load::start(&site.client, "meanwhile", 4);
    load.await_more(50).await;
    site.agents[moved].start();
    let status = site.await_status(moved).await;
    load.await_more(50).await;
    load.finish().await.check(&site.client).await;
    site.await_voters(3).await;
    site.await_equal_digests().await;
    let members = site.cli.json(&["member", "ls"]);
    let same = |member: &serde_json::Value| member["node"] == json!(status.node_id());
    assert!(members.as_array().unwrap().iter().any(same), "{members}");
    assert_eq!(members.as_array().unwrap().len(), 3, "{members}");
    assert!(!site.agents[moved].log().contains("quarantine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_log_alone_begins_no_new_one() {
    let (mut site, hurt) = with_a_stopped_follower("").await;
    let place = site.agents[hurt].data_dir().to_owned();
    for segment in fs::read_dir(place.join("log")).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    for _ in 0..2 {
        refused(&site.agents[hurt], &["the log", "join"]);
        assert_eq!(fs::read_dir(place.join("log")).unwrap().count(), 0, "a log was begun");
    }
    site.client.set_param("goes-on", &json!(1), "goes-on").await.accepted();
    let name = site.agents[hurt].name.clone();
    site.agents[hurt].wipe();
    site.cli.run(&["member", "remove", &name]).expect_code(0);
    let token = site.cli.token(1);
    site.agents[hurt].join(&token);
    site.await_voters(3).await;
    site.await_equal_digests().await;
}
