//! A site finds a leader, keeps it when idle, and finds another when it dies.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this whole file is a test")]

use std::time::Duration;

use flotilla_tests::site::Site;
use flotilla_tests::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_site_of_one_leads_itself() {
    let site = Site::start(1).await;
    assert_eq!(site.await_leader().await, 0);
    site.client.set_param("a", &1.into(), "first").await.accepted();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_site_of_three_agrees_on_one_leader() {
    let site = Site::start(3).await;
    let leader = site.await_leader().await;
    let all = site.statuses().await;
    let leads: Vec<bool> = all.iter().flatten().map(|it| it.role() == "leader").collect();
    assert_eq!(leads.iter().filter(|it| **it).count(), 1);
    assert_eq!(leads.get(leader), Some(&true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_site_stays_in_one_term() {
    stays_in_one_term(Duration::from_secs(15)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: nothing happens"]
async fn an_idle_site_stays_in_one_term_for_a_minute() {
    stays_in_one_term(Duration::from_secs(60)).await;
}

async fn stays_in_one_term(time: Duration) {
    let site = Site::start(3).await;
    site.await_leader().await;
    let term = site.await_status(0).await.term();
    wait::stays_true("the term does not change", time, || async {
        let all = site.statuses().await;
        all.len() == 3 && all.iter().flatten().all(|status| status.term() == term)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_leader_makes_another_and_it_comes_back_as_a_follower() {
    let mut site = Site::start(3).await;
    let first = site.await_leader().await;
    let term = site.await_status(first).await.term();
    site.agents[first].kill();
    let second = site.await_leader().await;
    assert_ne!(first, second);
    assert!(site.await_status(second).await.term() > term);
    site.agents[first].start();
    site.await_status(first).await;
    assert_eq!(site.await_leader().await, second, "a returning node deposes nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_follower_deposes_nobody_when_it_wakes() {
    let mut site = Site::start(3).await;
    let follower = site.a_follower().await;
    let leader = site.await_leader().await;
    let term = site.await_status(leader).await.term();
    site.agents[follower].pause();
    // Longer than three of its election timeouts.
    wait::stays_true("the leader stays", Duration::from_secs(3), || async {
        site.status(leader).await.is_some_and(|status| status.role() == "leader")
    })
    .await;
    site.agents[follower].resume();
    site.await_status(follower).await;
    assert_eq!(site.await_leader().await, leader);
    assert_eq!(site.await_status(leader).await.term(), term);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_to_one_that_is_gone_is_refused_or_unknown_and_never_said_not_to_be() {
    let mut site = Site::start(3).await;
    let follower = site.a_follower().await;
    let name = site.agents[follower].name.clone();
    site.agents[follower].kill();
    // Whoever is asked: the one that leads, or the one that asks it.
    for _ in 0..6 {
        let done = site.cli.run(&["leader", "transfer", &name, "--timeout", "1s"]);
        assert!(matches!(done.code, Some(8 | 9)), "{:?}: {}", done.code, done.stderr);
        assert!(!done.stderr.contains("Nothing was changed"), "{}", done.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request() {
    let site = Site::start(3).await;
    let leader = site.await_leader().await;
    let wanted = site.a_follower().await;
    let node = site.await_status(wanted).await.node_id();
    let body = format!("{{\"node\":{node}}}");
    site.client.request("control.admin.leader.transfer", body).await.accepted();
    assert_ne!(site.await_leader().await, leader);
    assert_eq!(site.await_leader().await, wanted);
}
