//! A site whose gateways are machines of their own, with cables between them.
//!
//! It is what [`crate::site::Site`] is on the loopback. Everything is asked and told at the doors
//! of the agents, which no fault of the network reaches, so that a test sees each side of a
//! partition by itself.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

pub use self::plan::HallPlan;
use crate::agent::Agent;
use crate::bare::Answer;
use crate::cli::Cli;
use crate::door::BareDoor;
use crate::lan::Lan;
use crate::load::{History, Load};
use crate::nats_server::NatsServer;
use crate::site::{CONVERGE_LIMIT, ELECTION_LIMIT, READY_LIMIT};
use crate::status::Status;
use crate::wait;
use crate::workplace::Workplace;

/// A door is asked for a status no longer than this.
const STATUS_LIMIT: Duration = Duration::from_secs(1);
/// The name of the machine that the nats-server runs on.
pub const NATS: &str = "nats";
/// What the site is called.
pub const SITE: &str = "hall";

/// A running site. Its gateways are called n1, n2 and so on, as their machines are; n1 made it.
#[derive(Debug)]
pub struct Hall {
    /// The agents, also those that were stopped.
    pub agents: Vec<Agent>,
    /// The server between them, if there is one.
    pub nats: Option<NatsServer>,
    /// What connects them. After the processes, so that they are gone before it.
    pub lan: Lan,
    plan: HallPlan,
    workplace: Workplace,
}

impl Hall {
    /// Starts a hall of so many gateways, all of them in the mesh; `None` where that can't be.
    pub async fn start(gateways: usize) -> Option<Self> {
        Self::start_as(HallPlan::of(gateways)).await
    }

    /// Starts a hall by plan and waits until it is whole; `None` where that can't be.
    pub async fn start_as(plan: HallPlan) -> Option<Self> {
        let hall = Self::start_without_mesh(plan).await?;
        hall.await_meshed().await;
        Some(hall)
    }

    /// The same for a plan whose gateways have no mesh.
    pub async fn start_without_mesh(plan: HallPlan) -> Option<Self> {
        let mut hall = Self::prepare(plan)?;
        hall.found().await;
        for _ in 1..hall.plan.gateways {
            hall.add().await;
        }
        hall.await_voters(hall.plan.voters()).await;
        Some(hall)
    }

    /// A network with a nats-server if the plan wants one, and no gateway yet.
    pub fn prepare(plan: HallPlan) -> Option<Self> {
        let mut lan = Lan::lay()?;
        let workplace = Workplace::new();
        let nats = plan.nats.as_deref().map(|config| {
            let machine = lan.add(NATS);
            NatsServer::start_on(machine, workplace.path(), config)
        });
        Some(Self { agents: Vec::new(), nats, lan, plan, workplace })
    }

    /// Makes the site on the first gateway.
    pub async fn found(&mut self) {
        let voters = u8::try_from(self.plan.voters()).expect("a small site");
        let mut first = self.prepare_next();
        first.init(SITE, voters);
        first.start();
        self.agents.push(first);
        self.await_status(0).await;
        self.await_leader().await;
    }

    /// Lets one more gateway join and waits until it answers; gives its index.
    pub async fn add(&mut self) -> usize {
        let token = self.token(0).await;
        let mut agent = self.prepare_next();
        agent.join(&token);
        self.agents.push(agent);
        let index = self.agents.len() - 1;
        self.await_status(index).await;
        index
    }

    /// Lets a gateway that was removed and wiped join anew, under its name.
    pub async fn rejoin(&mut self, index: usize) {
        let token = self.token(self.others(index)[0]).await;
        self.agents[index].join(&token);
        self.await_status(index).await;
    }

    async fn token(&self, at: usize) -> String {
        wait::until("a token is made", ELECTION_LIMIT, || async {
            let made = self.cli(at).run(&["token", "create", "-o", "json"]);
            let made = (made.code == Some(0)).then(|| made.json())?;
            // In its first moments an agent does not know yet where it can be reached.
            let reachable = self.nats.is_some() || !made["mesh"].as_array()?.is_empty();
            reachable.then(|| made["token"].as_str().map(str::to_owned))?
        })
        .await
    }

    /// The next gateway on its machine, neither founded nor joined.
    pub fn prepare_next(&mut self) -> Agent {
        let name = format!("n{}", self.agents.len() + 1);
        let machine = self.lan.add(&name);
        let mut agent = Agent::prepare(self.workplace.path(), &name, &self.config());
        agent.move_to(machine);
        agent
    }

    /// What stands in every agent's configuration.
    pub fn config(&self) -> String {
        let tick = self.plan.tick_ms.map(|tick_ms| format!("[raft]\ntick_ms = {tick_ms}\n"));
        let more = format!("{}{}", tick.unwrap_or_default(), self.plan.config);
        match &self.nats {
            Some(nats) => {
                let url = nats.url();
                format!("[nats]\nurls = [\"{url}\"]\nallow_insecure = true\n{more}")
            }
            None => format!("[nats]\nenabled = false\n{more}"),
        }
    }

    /// The nats-server.
    ///
    /// # Panics
    /// If the hall has none.
    pub fn nats(&mut self) -> &mut NatsServer {
        self.nats.as_mut().expect("this hall has a nats-server")
    }

    /// The names of the gateways, which are those of their machines.
    pub fn names(&self) -> Vec<String> {
        self.agents.iter().map(|agent| agent.name.clone()).collect()
    }

    /// The names of these gateways.
    pub fn names_of(&self, indices: &[usize]) -> Vec<String> {
        let all = self.names();
        indices.iter().map(|index| all[*index].clone()).collect()
    }

    /// The folder of this test.
    pub fn workplace(&self) -> &Workplace {
        &self.workplace
    }

    /// The door of one agent.
    pub fn door(&self, index: usize) -> BareDoor {
        BareDoor::of(self.agents[index].data_dir())
    }

    /// The doors of all agents, for whoever wants to command through each of them.
    pub fn doors(&self) -> Vec<BareDoor> {
        (0..self.agents.len()).map(|index| self.door(index)).collect()
    }

    /// The command line at the door of one agent.
    pub fn cli(&self, index: usize) -> Cli {
        let socket = self.agents[index].data_dir().join("door.sock");
        Cli::new(&format!("unix:{}", socket.display()), SITE)
    }

    /// The indices of the agents that run.
    pub fn started(&self) -> Vec<usize> {
        let all = self.agents.iter().enumerate();
        all.filter(|(_, agent)| agent.is_started()).map(|(index, _)| index).collect()
    }

    /// All other running agents.
    pub fn others(&self, than: usize) -> Vec<usize> {
        self.started().into_iter().filter(|index| *index != than).collect()
    }

    /// What one agent says about itself at its own door, if it answers.
    pub async fn status(&self, index: usize) -> Option<Status> {
        let door = self.door(index).within(STATUS_LIMIT);
        let name = &self.agents[index].name;
        match door.request(&format!("control.node.{name}.status"), "").await {
            Answer::Reply(reply) if reply.is_ok() => Some(Status(reply.at("/item").clone())),
            _ => None,
        }
    }

    /// Waits until one agent answers.
    pub async fn await_status(&self, index: usize) -> Status {
        let what = format!("agent {} answers at its door", index + 1);
        wait::until(&what, READY_LIMIT, || self.status(index)).await
    }

    async fn statuses(&self, indices: &[usize]) -> Option<Vec<Status>> {
        let all = join_all(indices.iter().map(|index| self.status(*index))).await;
        all.into_iter().collect()
    }

    /// Who leads by the word of all of these, if they agree and it is one of them.
    pub async fn leader_among(&self, indices: &[usize]) -> Option<usize> {
        let all = self.statuses(indices).await?;
        let leader = all.iter().find(|status| status.role() == "leader")?;
        let agreed = all.iter().all(|status| {
            status.leader() == Some(leader.node_id()) && status.term() == leader.term()
        });
        agreed.then(|| self.agents.iter().position(|agent| agent.name == leader.name()))?
    }

    /// Waits until one of these leads and all of them agree; gives its index.
    pub async fn await_leader_among(&self, indices: &[usize]) -> usize {
        let what = format!("the agents at {indices:?} agree on a leader among them");
        wait::until(&what, ELECTION_LIMIT, || self.leader_among(indices)).await
    }

    /// Waits until one agent leads and every running one agrees; gives its index.
    pub async fn await_leader(&self) -> usize {
        self.await_leader_among(&self.started()).await
    }

    /// Makes this agent the leader.
    pub async fn lead(&self, index: usize) {
        let node = self.await_status(index).await.node_id();
        let body = json!({"node": node}).to_string();
        wait::until_true("leadership is handed over", ELECTION_LIMIT, || async {
            if self.status(index).await.is_some_and(|status| status.role() == "leader") {
                return true;
            }
            let door = self.door(index).within(STATUS_LIMIT);
            let _ = door.request("control.admin.leader.transfer", body.clone()).await;
            false
        })
        .await;
        self.await_leader().await;
    }

    /// Waits until so many nodes vote, and one leads; gives the leader's index.
    pub async fn await_voters(&self, voters: usize) -> usize {
        self.await_voters_at(0, voters).await
    }

    /// The same by the word of one agent's door.
    pub async fn await_voters_at(&self, index: usize, voters: usize) -> usize {
        wait::until_true(&format!("{voters} nodes vote"), READY_LIMIT, || async {
            let door = self.door(index).within(STATUS_LIMIT);
            let answer = door.request("control.query.site.get", "").await;
            matches!(answer, Answer::Reply(reply) if reply.at("/item/voters") == &json!(voters))
        })
        .await;
        self.await_leader().await
    }

    /// Waits until every running agent has all other running ones in its mesh.
    pub async fn await_meshed(&self) {
        let started = self.started();
        for index in &started {
            self.await_status(*index).await;
            let what = format!("agent {} has all others in its mesh", index + 1);
            wait::until_true(&what, READY_LIMIT, || async {
                self.agents[*index].counter("flotilla_mesh_nodes") == (started.len() - 1) as f64
            })
            .await;
        }
    }

    /// A counter, summed over all running agents.
    pub fn sum(&self, counter: &str) -> f64 {
        self.started().iter().map(|index| self.agents[*index].counter(counter)).sum()
    }

    /// What one agent sees of the node called `name`.
    pub async fn seen_by(&self, index: usize, name: &str) -> Option<Value> {
        let viewer = &self.agents[index].name;
        let door = self.door(index).within(STATUS_LIMIT);
        let answer = door.request(&format!("control.node.{viewer}.mesh"), "").await;
        let Answer::Reply(reply) = answer else { return None };
        let peers = reply.at("/item/peers").as_array()?;
        peers.iter().find(|peer| peer["name"] == name).cloned()
    }

    /// So many writers at the doors of all agents, in turn.
    pub fn load(&self, name: &str, writers: usize) -> Load {
        Load::start_through(&self.doors(), name, writers)
    }

    /// Starts every agent that is not running.
    pub fn start_all(&mut self) {
        self.agents.iter_mut().filter(|agent| !agent.is_started()).for_each(Agent::start);
    }

    /// Ends a load after all faults are over, and checks what a site promises: nothing that was
    /// acknowledged is lost or doubled, all agents hold the same, no term had two leaders.
    ///
    /// # Panics
    /// If one of these does not hold.
    pub async fn judge(&self, load: Load) -> History {
        let leader = self.await_leader().await;
        let history = load.finish().await;
        history.check(&self.door(leader)).await;
        self.await_equal_digests().await;
        self.check_leaders();
        history
    }

    /// Waits until all running agents have applied the same, and checks their digests.
    ///
    /// # Panics
    /// If two have different digests at the same revision.
    pub async fn await_equal_digests(&self) {
        let started = self.started();
        let all = wait::until("all agents have applied the same", CONVERGE_LIMIT, || async {
            let all = self.statuses(&started).await?;
            let first = all.first()?.applied();
            all.iter().all(|status| status.applied() == first).then_some(all)
        })
        .await;
        let digests: BTreeSet<&str> = all.iter().map(Status::digest).collect();
        assert_eq!(digests.len(), 1, "different states at one revision: {all:?}");
    }

    /// Checks by what all agents have logged since they exist that no term had two leaders.
    ///
    /// # Panics
    /// If one had.
    pub fn check_leaders(&self) {
        let leaders = self.leaders();
        assert!(!leaders.is_empty(), "no log tells of a leader; has its line changed?");
        for (term, names) in leaders {
            assert_eq!(names.len(), 1, "leaders of term {term}: {names:?}");
        }
    }

    /// Who has led in which term, by what all agents have logged since they exist.
    pub fn leaders(&self) -> BTreeMap<u64, BTreeSet<String>> {
        let mut leaders: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for agent in &self.agents {
            for term in agent.log().lines().filter_map(led_term) {
                leaders.entry(term).or_default().insert(agent.name.clone());
            }
        }
        leaders
    }
}

/// The term, if this line of a log says that its node leads from now on.
fn led_term(line: &str) -> Option<u64> {
    if !line.contains("role, leader or term changed") || !line.contains("role=\"leader\"") {
        return None;
    }
    line.split("term=").nth(1)?.split_whitespace().next()?.parse().ok()
}
