//! A site of real agents on a real nats-server.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::bare::{Answer, BareClient};
use crate::cli::Cli;
use crate::nats_server::NatsServer;
use crate::status::Status;
use crate::wait;
use crate::workplace::Workplace;

/// Until a fresh site of three is whole: two joins, two snapshots, four changes.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// Until an election is over, with a wide margin for a busy machine.
pub const ELECTION_LIMIT: Duration = Duration::from_secs(20);
/// Until nodes that hear each other hold the same entries.
pub const CONVERGE_LIMIT: Duration = Duration::from_secs(60);

/// The mesh of tests stays on the loopback, and finds nobody but its own.
const MESH: &str = "[mesh]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n";

/// How a site is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The site's name.
    pub site: String,
    /// How many agents.
    pub agents: usize,
    /// How many of them vote in the end.
    pub voters: u8,
    /// Sections for every agent's configuration, such as `[raft]`.
    pub config: String,
    /// The nats-server's configuration; none if empty.
    pub nats_config: String,
    /// Another nats-server than the one that all tests use.
    pub nats_program: Option<PathBuf>,
    /// How agents and this test show the server who they are; not at all if `None`.
    pub logins: Option<Logins>,
}

/// Users of a server that asks for them.
#[derive(Debug, Clone)]
pub struct Logins {
    /// The server's configuration file.
    pub config: PathBuf,
    /// Environment variables of the server, which hold the passwords.
    pub environment: Vec<(String, String)>,
    /// The agents' user and password.
    pub agent: (String, String),
    /// User, password and inbox prefix of the bare client and the command line.
    pub operator: (String, String, String),
}

impl Plan {
    /// A site called `home` of so many agents, all of which vote if their number is odd.
    pub fn of(agents: usize) -> Self {
        let voters = if agents % 2 == 1 { agents } else { agents - 1 };
        Self {
            site: "home".to_owned(),
            agents,
            voters: u8::try_from(voters).expect("a small site"),
            config: String::new(),
            nats_config: String::new(),
            nats_program: None,
            logins: None,
        }
    }
}

fn serve(workplace: &Workplace, plan: &Plan) -> NatsServer {
    if let Some(Logins { config, environment, .. }) = &plan.logins {
        NatsServer::start_with_environment(workplace.path(), config, environment)
    } else if let Some(program) = &plan.nats_program {
        NatsServer::start_program(workplace.path(), program)
    } else if plan.nats_config.is_empty() {
        NatsServer::start(workplace.path())
    } else {
        NatsServer::start_with(workplace.path(), &plan.nats_config)
    }
}

async fn connect(nats: &NatsServer, plan: &Plan) -> BareClient {
    let options = match &plan.logins {
        None => async_nats::ConnectOptions::new(),
        Some(Logins { operator: (user, password, prefix), .. }) => {
            let login = (user.clone(), password.clone());
            async_nats::ConnectOptions::with_user_and_password(login.0, login.1)
                .custom_inbox_prefix(prefix)
        }
    };
    BareClient::connect_with(options, &nats.url(), &plan.site).await
}

/// A running site. Its agents are called n1, n2 and so on; n1 made the site.
#[derive(Debug)]
pub struct Site {
    /// The agents, also those that were stopped.
    pub agents: Vec<Agent>,
    /// The server between them.
    pub nats: NatsServer,
    /// A client that knows nothing of ours.
    pub client: BareClient,
    /// The command line.
    pub cli: Cli,
    plan: Plan,
    // Last, so that the processes are gone before their files.
    workplace: Workplace,
}

impl Site {
    /// Starts `agents` agents and waits until all are members and have a leader.
    pub async fn start(agents: usize) -> Self {
        Self::start_as(Plan::of(agents)).await
    }

    /// Starts a site by plan and waits until it is whole.
    pub async fn start_as(plan: Plan) -> Self {
        let workplace = Workplace::new();
        let nats = serve(&workplace, &plan);
        let client = connect(&nats, &plan).await;
        let mut cli = Cli::new(&nats.url(), &plan.site);
        if let Some(Logins { operator: (user, password, prefix), .. }) = &plan.logins {
            cli = cli.with_login(user, password, prefix);
        }
        let mut site = Self { agents: Vec::new(), nats, client, cli, plan, workplace };
        site.found().await;
        for _ in 1..site.plan.agents {
            let token = site.cli.token(1);
            site.add(&token).await;
        }
        site.await_voters(usize::from(site.plan.voters)).await;
        site
    }

    async fn found(&mut self) {
        let mut first = Agent::prepare(self.workplace.path(), "n1", &self.config());
        first.init(&self.plan.site, self.plan.voters);
        first.start();
        self.agents.push(first);
        self.await_status(0).await;
        self.await_leader().await;
    }

    /// What stands in every agent's configuration.
    pub fn config(&self) -> String {
        let login = self.plan.logins.as_ref().map_or_else(String::new, |logins| {
            let (user, password) = &logins.agent;
            format!("user = \"{user}\"\npassword = \"{password}\"\n")
        });
        let (url, more) = (self.nats.url(), &self.plan.config);
        format!("[nats]\nurls = [\"{url}\"]\n{login}{more}{MESH}")
    }

    /// The next agent, prepared and not started.
    pub fn prepare_next(&self) -> Agent {
        let name = format!("n{}", self.agents.len() + 1);
        Agent::prepare(self.workplace.path(), &name, &self.config())
    }

    /// Lets a new agent join with `token` and waits until it answers; gives its index.
    pub async fn add(&mut self, token: &str) -> usize {
        let mut agent = self.prepare_next();
        agent.join(token);
        self.agents.push(agent);
        let index = self.agents.len() - 1;
        self.await_status(index).await;
        index
    }

    /// The folder of this test.
    pub fn workplace(&self) -> &Workplace {
        &self.workplace
    }

    /// The site's name.
    pub fn name(&self) -> &str {
        &self.plan.site
    }

    /// What one agent says about itself, if it answers.
    pub async fn status(&self, index: usize) -> Option<Status> {
        self.status_of(&self.agents.get(index)?.name).await
    }

    /// Waits until the agent of this name answers, which need not be one of the site's own.
    pub async fn await_status_of(&self, name: &str) -> Status {
        wait::until(&format!("agent {name} answers"), READY_LIMIT, || self.status_of(name)).await
    }

    async fn status_of(&self, name: &str) -> Option<Status> {
        match self.client.request(&format!("control.node.{name}.status"), "").await {
            Answer::Reply(reply) if reply.is_ok() => Some(Status(reply.at("/item").clone())),
            _ => None,
        }
    }

    /// Waits until one agent answers.
    pub async fn await_status(&self, index: usize) -> Status {
        let what = format!("agent {} answers", index + 1);
        wait::until(&what, READY_LIMIT, || self.status(index)).await
    }

    /// The status of every agent that was started and not stopped.
    pub async fn statuses(&self) -> Vec<Option<Status>> {
        let started = (0..self.agents.len()).filter(|index| self.is_started(*index));
        join_all(started.map(|index| self.status(index))).await
    }

    fn is_started(&self, index: usize) -> bool {
        self.agents.get(index).is_some_and(Agent::is_started)
    }

    /// Waits until one agent leads and every started one agrees; gives its index.
    pub async fn await_leader(&self) -> usize {
        let status = wait::until("all agents agree on a leader", ELECTION_LIMIT, || async {
            let all: Vec<Status> = self.statuses().await.into_iter().collect::<Option<_>>()?;
            let leader = all.iter().find(|status| status.role() == "leader")?.clone();
            let agreed = all.iter().all(|status| {
                status.leader() == Some(leader.node_id()) && status.term() == leader.term()
            });
            agreed.then_some(leader)
        })
        .await;
        self.index_of(status.name())
    }

    /// What the site says about itself, read linearizable.
    pub async fn facts(&self) -> Option<Value> {
        match self.client.hasty().request("control.query.site.get", "").await {
            Answer::Reply(reply) if reply.is_ok() => Some(reply.at("/item").clone()),
            _ => None,
        }
    }

    /// The digests of everything that commands change, section by section. The site's own
    /// section is left out: it counts every entry, also a new leader's empty one.
    pub async fn await_section_digests(&self) -> Value {
        let mut facts = wait::until("the site answers", ELECTION_LIMIT, || self.facts()).await;
        let digests = facts.get_mut("digests").map(Value::take).unwrap_or_default();
        let Value::Object(mut digests) = digests else { panic!("no digests in {facts}") };
        digests.remove("site");
        digests.remove("combined");
        assert!(digests.len() >= 5, "sections are missing: {digests:?}");
        Value::Object(digests)
    }

    /// Waits until so many nodes vote, and one leads; gives the leader's index.
    pub async fn await_voters(&self, voters: usize) -> usize {
        wait::until_true(&format!("{voters} nodes vote"), READY_LIMIT, || async {
            let facts = self.facts().await;
            facts.is_some_and(|facts| facts.get("voters") == Some(&json!(voters)))
        })
        .await;
        self.await_leader().await
    }

    /// The index of a started agent that does not lead.
    pub async fn a_follower(&self) -> usize {
        let leader = self.await_leader().await;
        (0..self.agents.len())
            .find(|index| *index != leader && self.is_started(*index))
            .expect("a site of one has no follower")
    }

    fn index_of(&self, name: &str) -> usize {
        let found = self.agents.iter().position(|agent| agent.name == name);
        found.unwrap_or_else(|| panic!("{name} is none of this test's agents"))
    }

    /// Waits until all started agents have applied the same entries, and checks that
    /// their digests agree.
    ///
    /// # Panics
    /// If two agents have different digests at the same revision.
    pub async fn await_equal_digests(&self) -> Status {
        let all = wait::until("all agents have applied the same", CONVERGE_LIMIT, || async {
            let all: Vec<Status> = self.statuses().await.into_iter().collect::<Option<_>>()?;
            let first = all.first()?.applied();
            all.iter().all(|status| status.applied() == first).then_some(all)
        })
        .await;
        let first = all.first().expect("a site has an agent").clone();
        for status in &all {
            let revision = status.applied();
            assert_eq!(status.digest(), first.digest(), "{} at {revision}", status.name());
        }
        first
    }

    /// Starts every agent that is not running.
    pub fn start_all(&mut self) {
        for agent in self.agents.iter_mut().filter(|agent| !agent.is_started()) {
            agent.start();
        }
    }

    /// SIGKILL to every agent.
    pub fn kill_all(&mut self) {
        self.agents.iter_mut().for_each(Agent::kill);
    }
}
