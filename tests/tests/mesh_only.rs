//! Sites without NATS: agents that know each other over the mesh alone, commanded at their doors.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::cli::{Cli, Finished};
use flotilla_tests::wait;
use flotilla_tests::workplace::Workplace;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const CONFIG: &str =
    "[nats]\nenabled = false\n[mesh]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n";

/// A site whose agents have never heard of NATS.
struct Hall {
    agents: Vec<Agent>,
    workplace: Workplace,
}

impl Hall {
    async fn of(agents: usize) -> Self {
        let mut hall = Self { agents: Vec::new(), workplace: Workplace::new() };
        let mut first = hall.prepare("n1");
        first.init("home", 3);
        first.start();
        hall.agents.push(first);
        hall.await_nodes(0, 1).await;
        for number in 2..=agents {
            let token = hall.door(0).token(1);
            let mut next = hall.prepare(&format!("n{number}"));
            next.join(&token);
            hall.agents.push(next);
            hall.await_nodes(number - 1, number).await;
        }
        hall
    }

    fn prepare(&self, name: &str) -> Agent {
        Agent::prepare(self.workplace.path(), name, CONFIG)
    }

    /// The command line at the door of one agent.
    fn door(&self, index: usize) -> Cli {
        let socket = self.agents[index].data_dir().join("door.sock");
        Cli::new(&format!("unix:{}", socket.display()), "home")
    }

    fn status(&self, at: usize) -> Option<Value> {
        let done = self.door(at).run(&["status", "-o", "json", "--timeout", "1s"]);
        (done.code == Some(0)).then(|| done.json())
    }

    /// Waits until so many nodes answer at a door, all with the same leader; gives its index.
    async fn await_nodes(&self, at: usize, count: usize) -> usize {
        let what = format!("{count} nodes agree at the door of agent {}", at + 1);
        wait::until(&what, LIMIT, || async {
            let status = self.status(at)?;
            let nodes = status["nodes"].as_array()?;
            let leader = nodes.first()?["leader"].as_u64()?;
            let agreed = nodes.iter().all(|node| node["leader"].as_u64() == Some(leader));
            let name =
                nodes.iter().find(|node| node["node"].as_u64() == Some(leader))?["name"].clone();
            let index = self.agents.iter().position(|agent| agent.name == name)?;
            (nodes.len() == count && agreed).then_some(index)
        })
        .await
    }

    async fn await_voters(&self, at: usize, voters: u64) {
        wait::until_true("they vote", LIMIT, || async {
            self.status(at).is_some_and(|status| status["site"]["voters"].as_u64() == Some(voters))
        })
        .await;
    }

    /// A write at a door, sent again until it is answered.
    async fn set(&self, at: usize, key: &str, value: &str) {
        wait::until_true(&format!("{key} is set"), LIMIT, || async {
            self.door(at).run(&["param", "set", key, value]).code == Some(0)
        })
        .await;
    }

    async fn await_equal_digests(&self, count: usize) {
        wait::until_true("all have applied the same", LIMIT, || async {
            let Some(status) = self.status(0) else { return false };
            let nodes = status["nodes"].as_array().unwrap();
            let first = &nodes[0];
            nodes.len() == count
                && nodes.iter().all(|node| {
                    node["applied"] == first["applied"] && node["digest"] == first["digest"]
                })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_lives_and_loses_its_leader_without_nats() {
    let mut hall = Hall::of(3).await;
    hall.await_voters(0, 3).await;
    hall.set(1, "hall2.setpoint", "21.5").await;
    for at in 0..3 {
        let read = hall.door(at).json(&["param", "get", "hall2.setpoint"]);
        assert_eq!(read["value"], 21.5, "at the door of agent {}", at + 1);
    }
    // Every node answers at every door, and the mesh is all there is.
    let status = hall.door(2).run(&["status"]).expect_code(0);
    assert!(!status.stderr.contains("do not answer"), "{}", status.stderr);
    let peers = hall.door(0).json(&["mesh", "peers", "--from", "n2"]);
    for peer in peers["peers"].as_array().unwrap() {
        assert_eq!((&peer["ways"], &peer["life"]), (&"mesh".into(), &"alive".into()), "{peer}");
    }
    let graph = hall.door(0).json(&["mesh", "graph"]);
    assert_eq!(graph["edges"].as_array().unwrap().len(), 6, "{graph}");
    hall.door(0).run(&["mesh", "ping", "n3", "--from", "n2", "-c", "2"]).expect_code(0);
    for agent in &hall.agents {
        assert!(!agent.log().contains("way changed"), "there is no other way");
    }

    let leader = hall.await_nodes(0, 3).await;
    hall.agents[leader].kill();
    let other = (0..3).find(|index| *index != leader).unwrap();
    hall.set(other, "hall2.setpoint", "22").await;
    hall.agents[leader].start();
    hall.await_nodes(leader, 3).await;
    let read = hall.door(leader).json(&["param", "get", "hall2.setpoint"]);
    assert_eq!(read["value"], 22, "{read}");
    hall.await_equal_digests(3).await;

    // All of them at once: they find each other again by what they wrote down.
    for agent in &mut hall.agents {
        agent.kill();
    }
    for agent in &mut hall.agents {
        agent.start();
    }
    hall.await_nodes(1, 3).await;
    hall.set(2, "hall2.setpoint", "23").await;
}

fn try_to_join(hall: &Hall, name: &str, token: &str) -> (Agent, Finished) {
    let agent = hall.prepare(name);
    let done = agent.run_once(&["join", token, "--only", "--name", name, "--timeout-s", "8"]);
    (agent, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn used_revoked_and_expired_tokens_let_nobody_in_over_the_mesh() {
    let hall = Hall::of(1).await;
    let members = || hall.door(0).json(&["member", "ls"]).as_array().unwrap().len();
    let token = hall.door(0).token(1);
    let (_, joined) = try_to_join(&hall, "n2", &token);
    joined.expect_code(0);
    assert_eq!(members(), 2);

    let (thief, refused) = try_to_join(&hall, "thief", &token);
    assert!(refused.code != Some(0) && refused.stderr.contains("token_used"), "{refused:?}");
    assert!(!thief.data_dir().join("node.json").exists());

    let made = hall.door(0).json(&["token", "create"]);
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(!made["mesh"].as_array().unwrap().is_empty(), "{made}");
    hall.door(0).run(&["token", "revoke", id]).expect_code(0);
    let (_, refused) = try_to_join(&hall, "thief", token);
    assert!(refused.code != Some(0) && refused.stderr.contains("token_unknown"), "{refused:?}");

    let made = hall.door(0).json(&["token", "create", "--ttl", "1s", "--uses", "50"]);
    let token = made["token"].as_str().unwrap().to_owned();
    // Whoever comes within the second gets in.
    let late = std::sync::atomic::AtomicUsize::new(0);
    wait::until_true("the token expires", LIMIT, || async {
        let number = late.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (_, tried) = try_to_join(&hall, &format!("late{number}"), &token);
        tried.code != Some(0) && tried.stderr.contains("token_expired")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_site_finds_nobody() {
    let (here, there) = (Hall::of(1).await, Hall::of(1).await);
    let token = there.door(0).token(1);
    let (_, joined) = try_to_join(&here, "n2", &token);
    joined.expect_code(0);
    // The agent of `here` was never asked: the token names where its own site is.
    assert_eq!(here.door(0).json(&["member", "ls"]).as_array().unwrap().len(), 1);
    assert_eq!(there.door(0).json(&["member", "ls"]).as_array().unwrap().len(), 2);
}
