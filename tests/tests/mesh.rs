//! The mesh under real agents: it comes together by itself, and carries raft when NATS can't.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::door::BareDoor;
use flotilla_tests::load::Load;
use flotilla_tests::metrics::Metrics;
use flotilla_tests::site::{READY_LIMIT, Site};
use flotilla_tests::wait;
use serde_json::json;

/// Long enough for many elections, were there a reason for one.
const CALM: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(30);

/// A site on the loopback whose agents are all in the mesh. Nobody wrote an address down.
async fn meshed(agents: usize) -> Site {
    let site = Site::start(agents).await;
    await_meshed(&site).await;
    site
}

async fn await_meshed(site: &Site) {
    let others = site.agents.iter().filter(|agent| agent.is_started()).count() - 1;
    for index in (0..site.agents.len()).filter(|index| site.agents[*index].is_started()) {
        wait::until_true(&format!("agent {} has all in its mesh", index + 1), LIMIT, || async {
            metrics(site, index)
                .await
                .is_some_and(|m| m.value("flotilla_mesh_nodes") == others as f64)
        })
        .await;
    }
}

async fn metrics(site: &Site, index: usize) -> Option<Metrics> {
    Metrics::scrape(&site.agents[index].log()).await
}

/// Who leads in which term, by every agent's own word over HTTP.
async fn leaders(site: &Site) -> Vec<Option<(bool, f64)>> {
    let mut all = Vec::new();
    for index in 0..site.agents.len() {
        let seen = metrics(site, index).await;
        all.push(
            seen.filter(|m| m.value("flotilla_has_leader") == 1.0)
                .map(|m| (m.value("flotilla_is_leader") == 1.0, m.value("flotilla_term"))),
        );
    }
    all
}

async fn sum(site: &Site, name: &str) -> f64 {
    let mut sum = 0.0;
    for index in (0..site.agents.len()).filter(|index| site.agents[*index].is_started()) {
        // One that can't be read is not one that has counted nothing.
        let seen = wait::until("its metrics are read", LIMIT, || metrics(site, index)).await;
        sum += seen.value(name);
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_stays_when_the_nats_server_is_killed() {
    let mut site = meshed(3).await;
    let load = Load::start(&site.client, "killed", 16);
    load.await_more(200).await;
    let before = leaders(&site).await;
    assert!(before.iter().all(Option::is_some), "{before:?}");
    for _ in 0..2 {
        let switches = sum(&site, "flotilla_way_switches_total{way=\"mesh\"}").await;
        site.nats.kill();
        // Frames go on over the mesh: nobody misses the leader, in no moment.
        wait::stays_true("the leader and its term stay", CALM, || async {
            leaders(&site).await == before
        })
        .await;
        let after = sum(&site, "flotilla_way_switches_total{way=\"mesh\"}").await;
        assert!(after > switches, "no way was changed: the fault did not fire");
        site.nats.restart();
        load.await_more(200).await;
        // Only where frames go: two followers have little to say to each other.
        let leader = site.await_leader().await;
        wait::until_true("the leader's frames are back on NATS", LIMIT, || async {
            let switches = |m: &Metrics, way: &str| {
                m.value(&format!("flotilla_way_switches_total{{way=\"{way}\"}}"))
            };
            let seen = metrics(&site, leader).await;
            seen.is_some_and(|m| switches(&m, "mesh") == switches(&m, "nats"))
        })
        .await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    assert_eq!(leaders(&site).await, before, "no election in all this");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_stays_when_the_nats_server_stands_still() {
    let site = meshed(3).await;
    let load = Load::start(&site.client, "still", 16);
    load.await_more(100).await;
    let before = leaders(&site).await;
    for _ in 0..2 {
        site.nats.pause();
        wait::stays_true("the leader and its term stay", CALM, || async {
            leaders(&site).await == before
        })
        .await;
        site.nats.resume();
        load.await_more(100).await;
    }
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    assert_eq!(leaders(&site).await, before, "no election in all this");
}

/// A meshed site whose frames go one way only. Its agents were restarted, so they have found each
/// other again by what they wrote down.
async fn meshed_with_frames_over(way: &str) -> Site {
    let mut site = meshed(3).await;
    for index in 0..3 {
        site.agents[index].stop().await;
        let config = format!("{}[raft]\ntransport = \"{way}\"\n", site.config());
        site.agents[index].set_config(&config);
    }
    site.start_all();
    site.await_leader().await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_frames_go_over_the_mesh_alone() {
    let mut site = meshed_with_frames_over("mesh").await;
    await_meshed(&site).await;
    let sent = sum(&site, "flotilla_frames_sent_total{way=\"nats\"}").await;
    assert_eq!(sent, 0.0, "frames went over NATS");
    let load = Load::start(&site.client, "mesh", 16);
    load.await_more(300).await;
    let leader = site.await_leader().await;
    site.agents[leader].kill();
    load.await_more(300).await;
    site.agents[leader].start();
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    eprintln!("longest time without an answer {:?}", history.longest_gap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_frames_go_over_nats_alone_lets_its_mesh_carry_none() {
    let mut site = meshed_with_frames_over("nats").await;
    // The mesh stands: presence, joining and questions go over it.
    await_meshed(&site).await;
    let load = Load::start(&site.client, "nats", 8);
    for _ in 0..2 {
        load.await_more(100).await;
        site.nats.kill();
        // Whoever chose this way alone has no other one.
        wait::until_true("nobody leads", LIMIT, || async {
            leaders(&site).await.iter().all(Option::is_none)
        })
        .await;
        wait::stays_true("nobody leads until the server is back", CALM, || async {
            leaders(&site).await.iter().all(Option::is_none)
        })
        .await;
        site.nats.restart();
        site.await_leader().await;
    }
    load.await_more(100).await;
    let history = load.finish().await;
    history.check(&site.client).await;
    site.await_equal_digests().await;
    let sent = |way: &str| format!("flotilla_frames_sent_total{{way=\"{way}\"}}");
    assert_eq!(sum(&site, &sent("mesh")).await, 0.0, "frames went over the mesh");
    assert!(sum(&site, &sent("nats")).await > 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_cut_off_on_both_ways() {
    let mut site = meshed(3).await;
    let leader = site.await_leader().await;
    let gone = (0..3).find(|index| *index != leader).unwrap();
    let stays = (0..3).find(|index| ![leader, gone].contains(index)).unwrap();
    let id = site.await_status(gone).await.node_id();
    let term = site.await_status(leader).await.term();
    // It is away meanwhile, so it never hears of it and comes back as if it were a member.
    site.agents[gone].kill();
    let request = json!({ "node": id }).to_string();
    let door = BareDoor::of(site.agents[leader].data_dir());
    door.request("control.admin.member.remove", request).await.accepted();
    let refused = |site: &Site, surface: &str, reason: &str| {
        let label = format!("surface=\"{surface}\",reason=\"{reason}\"");
        [leader, stays].map(|index| site.agents[index].refused(&label)).iter().sum::<f64>()
    };
    let before = (refused(&site, "frame", "removed"), refused(&site, "mesh", "not_a_member"));
    site.agents[gone].start();
    wait::until_true("what it says is refused on both ways", READY_LIMIT, || async {
        refused(&site, "frame", "removed") > before.0 + 3.0
            && refused(&site, "mesh", "not_a_member") > before.1
    })
    .await;
    // Whatever it tried, it deposes nobody and is answered by nobody.
    let status = site.await_status(leader).await;
    assert_eq!((status.role(), status.term()), ("leader", term));
    for index in [leader, stays] {
        let seen = metrics(&site, index).await.unwrap();
        assert_eq!(seen.value("flotilla_mesh_nodes"), 1.0, "it was let in again");
    }
    let own = site.await_status(gone).await;
    assert!(own.leader().is_none(), "a removed node follows {:?}", own.leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_before_its_timeout() {
    let mut site = meshed(3).await;
    let mut gaps = Vec::new();
    for round in 0..5 {
        let leader = site.await_leader().await;
        let followers: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        await_meshed(&site).await;
        let killed = Instant::now();
        site.agents[leader].kill();
        wait::until_true("another leads", LIMIT, || async {
            let mut led = false;
            for index in &followers {
                let seen = metrics(&site, *index).await;
                led |= seen.is_some_and(|m| m.value("flotilla_is_leader") == 1.0);
            }
            led
        })
        .await;
        gaps.push(killed.elapsed());
        // The crash was proved, not waited for.
        let proved = followers.iter().any(|index| {
            site.agents[*index].log().matches("the leader has crashed").count() > round / 2
        });
        assert!(proved, "no follower noticed the crash");
        site.agents[leader].start();
    }
    gaps.sort();
    eprintln!("from kill -9 to another leader: median {:?}, worst {:?}", gaps[2], gaps[4]);
    site.await_leader().await;
    site.await_equal_digests().await;
}
