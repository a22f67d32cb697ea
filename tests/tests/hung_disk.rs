//! The disk under one agent hangs. The agent can't go on, and says so in time to whoever asks.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::bare::Answer;
use flotilla_tests::door::BareDoor;
use flotilla_tests::hung_disk::HungDisk;
use flotilla_tests::site::{ELECTION_LIMIT, Site};
use flotilla_tests::wait;
use serde_json::json;

/// Until what stands still has noticed, and has left.
const NOTICE_LIMIT: Duration = Duration::from_secs(10);
/// What was asked with a deadline is answered by then, with a margin for a busy machine.
const ANSWER_MARGIN: Duration = Duration::from_millis(1_500);

/// A site of three whose last agent leads, and the disk under that.
async fn led_over_a_disk() -> (Site, HungDisk, usize) {
    let mut site = Site::start(3).await;
    let leader = 2;
    site.agents[leader].stop().await;
    let workplace = site.workplace().path().to_owned();
    let disk = HungDisk::under(&mut site.agents[leader], &workplace);
    site.agents[leader].start();
    let node = site.await_status(leader).await.node_id();
    let body = json!({"node": node}).to_string();
    wait::until_true("leadership is handed over", ELECTION_LIMIT, || async {
        let client = site.client.hasty();
        let _ = client.request("control.admin.leader.transfer", body.clone()).await;
        site.status(leader).await.is_some_and(|status| status.role() == "leader")
    })
    .await;
    site.await_leader().await;
    (site, disk, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_hangs_says_unknown_in_time_leaves_and_comes_back() {
    let (site, disk, hung) = led_over_a_disk().await;
    let door = BareDoor::of(site.agents[hung].data_dir());
    door.set_param("before", &json!(1), "before").await.accepted();
    disk.hang();

    // 1. What is taken in before anybody knows is answered at its deadline.
    let begun = Instant::now();
    let within = |timeout| [("Flotilla-Timeout", timeout), ("Flotilla-Request-Id", "the-id")];
    let command = door.request_with("control.commands.param.set.during", &within("1s"), "1").await;
    command.refused("unknown");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1) + ANSWER_MARGIN, "unknown came after {took:?}");
    let read = door.request_with("control.query.param.get.before", &within("300ms"), "").await;
    let code = read.reply().code().map(str::to_owned);
    assert!(matches!(code.as_deref(), Some("busy" | "no_leader")), "{code:?}");

    // 2. It is neither ready nor in intake, and says why.
    wait::until_true("it is not ready", NOTICE_LIMIT, || async {
        let ready = site.agents[hung].get("/readyz");
        ready.starts_with("HTTP/1.1 503") && ready.contains("has stood still")
    })
    .await;
    let status = wait::until("it leaves intake", NOTICE_LIMIT, || async {
        site.status(hung).await.filter(|status| !status.takes_commands())
    })
    .await;
    let troubles = status.troubles();
    assert!(troubles.iter().any(|it| it.contains("has stood still")), "{troubles:?}");
    let refused = door.set_param("refused", &json!(1), "refused").await.refused("no_leader");
    let message = refused.at("/error/message").as_str().unwrap().to_owned();
    assert!(message.contains("stands still"), "{message}");

    // 3. What it still gives away it calls old.
    let stale = [("Flotilla-Consistency", "stale")];
    let old = door.request_with("control.query.param.get.before", &stale, "").await.accepted();
    let age_ms = old.at("/age_ms").as_u64().unwrap();
    assert!(age_ms >= 2_000, "{age_ms}");

    // 4. The others go on, and whoever asks NATS, also for the leader, reaches them.
    // (It serves what had arrived when it left; then nothing comes to it any more.)
    let client = site.client.hasty();
    let subject = "control.leader.commands.param.set.beside";
    wait::until_true(
        "another leads, and everything goes to the others",
        ELECTION_LIMIT,
        || async {
            for number in 0..20 {
                let id = format!("beside-{number}");
                let taken = client.set_param("beside", &json!(number), &id).await.is_ok()
                    && client.request(subject, number.to_string()).await.is_ok();
                if !taken {
                    return false;
                }
            }
            true
        },
    )
    .await;

    // 5. When the disk answers again, so does the agent, and the id of the unknown still counts.
    disk.let_go();
    wait::until_true("it takes commands again", ELECTION_LIMIT, || async {
        site.status(hung).await.is_some_and(|status| status.takes_commands())
            && site.agents[hung].get("/readyz").starts_with("HTTP/1.1 200")
    })
    .await;
    wait::until("the retry is answered", ELECTION_LIMIT, || async {
        match door.request_with("control.commands.param.set.during", &within("2s"), "1").await {
            Answer::Reply(reply) if reply.revision().is_some() => Some(reply),
            _ => None,
        }
    })
    .await;
    assert_eq!(door.read_param("during").await.at("/item/value"), &json!(1));
    site.await_equal_digests().await;
}
