//! A follower is removed while its process lives, on both ways at once.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::hall::{Hall, HallPlan};
use flotilla_tests::load::Load;
use flotilla_tests::site::READY_LIMIT;
use flotilla_tests::wait;
use serde_json::json;

/// Long enough for an election, were there a reason for one.
const CALM: Duration = Duration::from_secs(4);
/// Longer than anything is under way.
const SILENT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(30);

const REMOVED: &str = "this node was removed from the site";
const PERHAPS: &str = "removed while it was away";

/// A hall of three of which one follower is to be removed.
struct Parting {
    hall: Hall,
    leader: usize,
    stays: usize,
    gone: usize,
    /// The id of the one that goes.
    node: u64,
    term: u64,
}

impl Parting {
    async fn of_three() -> Option<Self> {
        let hall = Hall::start_as(HallPlan::of(3).unhurried()).await?;
        let leader = hall.await_leader().await;
        let [stays, gone] = hall.others(leader)[..] else { panic!("three gateways") };
        let node = hall.await_status(gone).await.node_id();
        let term = hall.await_status(leader).await.term();
        Some(Self { hall, leader, stays, gone, node, term })
    }

    /// Writers at the doors of those that stay.
    async fn load(&self) -> Load {
        let doors = [self.hall.door(self.leader), self.hall.door(self.stays)];
        let load = Load::start_through(&doors, "parting", 6);
        load.await_more(50).await;
        load
    }

    async fn remove(&self) {
        let request = json!({ "node": self.node }).to_string();
        let door = self.hall.door(self.leader);
        door.request("control.admin.member.remove", request).await.accepted();
    }

    /// Whether those that stay have each other, and nobody else, in their mesh.
    fn is_alone(&self) -> bool {
        let both = [self.leader, self.stays];
        both.iter().all(|index| self.hall.agents[*index].counter("flotilla_mesh_nodes") == 1.0)
    }

    async fn await_alone(&self) {
        wait::until_true("the others have one less", LIMIT, || async { self.is_alone() }).await;
    }

    /// How often those that stay have refused this.
    fn refused(&self, surface: &str, reason: &str) -> f64 {
        let label = format!("surface=\"{surface}\",reason=\"{reason}\"");
        let both = [self.leader, self.stays];
        both.iter().map(|index| self.hall.agents[*index].refused(&label)).sum()
    }

    /// How many frames of the removed node were refused until the last one that was under way came.
    async fn last_words(&self) -> f64 {
        let mut heard = (0.0, Instant::now());
        wait::until("the removed one is silent", LIMIT, || {
            let refused = self.refused("frame", "removed");
            if refused > heard.0 {
                heard = (refused, Instant::now());
            }
            let is_silent = heard.1.elapsed() > SILENT;
            async move { is_silent.then_some(refused) }
        })
        .await
    }

    /// Nobody is disturbed, and nobody is let in, for a while.
    async fn stays_calm(&self, load: &Load) {
        wait::stays_true("the leader, its term and the mesh stay", CALM, || async {
            let status = self.hall.status(self.leader).await;
            let led = status.is_none_or(|it| it.role() == "leader" && it.term() == self.term);
            led && self.is_alone()
        })
        .await;
        load.await_more(50).await;
    }

    /// It is over for the one that was removed; whatever else was promised holds.
    async fn judge(mut self, load: Load) {
        self.hall.agents[self.gone].kill();
        self.hall.judge(load).await;
        let status = self.hall.await_status(self.leader).await;
        assert_eq!((status.role(), status.term()), ("leader", self.term));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_follower_that_is_removed_says_so_and_keeps_away() {
    let Some(mut parting) = Parting::of_three().await else { return };
    let load = parting.load().await;
    parting.remove().await;
    parting.await_alone().await;
    let mut knocked = None;
    for starts in 1..=2 {
        let gone = parting.gone;
        wait::until_true("it knows", READY_LIMIT, || async {
            let status = parting.hall.status(gone).await;
            status.is_some_and(|it| {
                it.role() == "removed" && it.troubles().iter().any(|said| said.contains(REMOVED))
            })
        })
        .await;
        // What it sent before it knew comes yet, and each of the two is greeted at a start.
        let frames = parting.last_words().await;
        // The others may have hung up before it knew, and it came back once. Later it never knocks,
        // also when it starts again.
        let knocks = *knocked.get_or_insert(parting.refused("mesh", "not_a_member"));
        parting.stays_calm(&load).await;
        let said = parting.refused("frame", "removed") - frames;
        assert_eq!(said, 0.0, "it knows, and still says {said} things to the others");
        assert!(knocks <= 2.0, "{knocks} knocks at two doors before it knew");
        assert_eq!(parting.refused("mesh", "not_a_member"), knocks, "it knows, and knocks");
        let answer = parting.hall.door(gone).set_param("gone", &json!(1), "gone").await;
        assert!(!answer.is_ok(), "a removed node took a command: {answer:?}");
        let log = parting.hall.agents[gone].log();
        assert!(log.contains(REMOVED), "its log does not say so");
        assert!(!log.contains(PERHAPS), "it knows, and wonders in its log");
        if starts == 1 {
            parting.hall.agents[gone].stop().await;
            parting.hall.agents[gone].start();
        }
    }
    parting.judge(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_cut_off_while_it_was_removed_is_refused_on_both_ways() {
    let Some(mut parting) = Parting::of_three().await else { return };
    let load = parting.load().await;
    let gone = parting.gone;
    let name = parting.hall.agents[gone].name.clone();
    parting.hall.lan.plug(&name, false);
    parting.remove().await;
    parting.await_alone().await;
    // What the server still keeps for it, from the moment of its removal, is gone with the server.
    parting.hall.nats().restart();
    load.await_more(50).await;
    let before = (parting.refused("frame", "removed"), parting.refused("mesh", "not_a_member"));
    // It is back as the member that it was.
    parting.hall.lan.plug(&name, true);
    wait::until_true("what it says is refused on both ways", READY_LIMIT, || async {
        parting.refused("frame", "removed") > before.0 + 3.0
            && parting.refused("mesh", "not_a_member") > before.1
    })
    .await;
    parting.stays_calm(&load).await;
    wait::until_true("it says what may have happened", READY_LIMIT, || async {
        let status = parting.hall.status(gone).await;
        status.is_some_and(|it| {
            let said = it.troubles();
            it.leader().is_none() && said.iter().any(|it| it.contains(PERHAPS))
        })
    })
    .await;
    let log = parting.hall.agents[gone].log();
    assert!(!log.contains(REMOVED), "nobody could tell it");
    parting.judge(load).await;
}
