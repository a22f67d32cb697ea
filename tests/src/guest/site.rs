//! A site whose gateways are guests: one agent on each, a nats-server beside them.

use std::time::Duration;

use futures_util::future::join_all;

use crate::agent::write_private;
use crate::bare::{Answer, BareClient};
use crate::cli::Cli;
use crate::guest::machine::DISK;
use crate::guest::row::Row;
use crate::guest::wire::{OURS, Wire, address};
use crate::nats_server::NatsServer;
use crate::status::Status;
use crate::{programs, wait};

/// Until guests have booted, their agents agree, and everything is applied; on a busy machine.
pub const WHOLE_LIMIT: Duration = Duration::from_secs(120);

const SITE: &str = "home";
/// A guest has one slow processor, so its clock for elections is slower too. Snapshots are
/// frequent, so that cuts meet them.
const CONFIG: &str = "[raft]\ntick_ms = 100\nsnapshot_every_entries = 300\n";

/// Agents called n1, n2 and so on, each on a guest of its own.
#[derive(Debug)]
pub struct GuestSite {
    /// The server, which is not in a guest.
    pub nats: NatsServer,
    /// A client that knows nothing of ours.
    pub client: BareClient,
    /// The guests, also those without power.
    pub row: Row,
}

impl GuestSite {
    /// Founds a site of so many guests on a network that this thread has entered.
    pub async fn start(wire: Wire, guests: usize) -> Self {
        let row = Row::new(wire);
        let nats = NatsServer::start_at(row.workplace().path(), OURS);
        let client = BareClient::connect(&nats.url(), SITE).await;
        let cli = Cli::new(&nats.url(), SITE);
        let mut site = Self { nats, client, row };
        let init = format!("init --site {SITE} --name n1 --voters {guests}");
        site.add(&init).await;
        for number in 2..=guests {
            let join = format!("join {} --only --name n{number}", cli.token(1));
            site.add(&join).await;
        }
        wait::until_true("all guests vote", WHOLE_LIMIT, || async {
            let facts = site.client.hasty().request("control.query.site.get", "").await;
            matches!(facts, Answer::Reply(reply) if *reply.at("/item/voters") == guests)
        })
        .await;
        site.await_whole().await;
        site
    }

    /// One more guest, whose agent becomes a member by `first`, the first time only.
    async fn add(&mut self, first: &str) {
        let number = self.row.guests.len() + 1;
        let name = format!("n{number}");
        let (urls, address) = (self.nats.url(), address(number));
        let config = format!(
            "[nats]\nurls = [\"{urls}\"]\nallow_insecure = true\n\
             [mesh]\nlisten = [\"/ip4/{address}/tcp/7000\"]\nmdns = false\n{CONFIG}"
        );
        let path = self.row.workplace().join(&format!("{name}.toml"));
        write_private(&path, &config).expect("the workplace is writable");
        let agent = programs::agent().display().to_string();
        let options = format!("--data-dir {DISK}/data --config {}", path.display());
        let program = format!(
            "[ -e {DISK}/data/node.json ] || {agent} {first} {options} >/dev/null\n\
             {agent} run {options}"
        );
        self.row.add(&name, &program);
        let at = number - 1;
        wait::until(&format!("{name} answers"), WHOLE_LIMIT, || self.status(at)).await;
    }

    /// What one agent says about itself, if it answers.
    pub async fn status(&self, at: usize) -> Option<Status> {
        let name = &self.row.guests.get(at)?.name;
        let subject = format!("control.node.{name}.status");
        match self.client.hasty().request(&subject, "").await {
            Answer::Reply(reply) if reply.is_ok() => Some(Status(reply.at("/item").clone())),
            _ => None,
        }
    }

    /// What every agent says, if every one answers.
    async fn statuses(&self) -> Option<Vec<Status>> {
        let all = join_all((0..self.row.guests.len()).map(|at| self.status(at))).await;
        all.into_iter().collect()
    }

    /// Waits until every agent answers and all agree on a leader; gives where it is.
    pub async fn await_whole(&self) -> usize {
        wait::until("all agents are back and agree", WHOLE_LIMIT, || async {
            let all = self.statuses().await?;
            let leader = all.iter().position(|status| status.role() == "leader")?;
            let (id, term) = (all.get(leader)?.node_id(), all.get(leader)?.term());
            let agreed = all.iter().all(|it| it.leader() == Some(id) && it.term() == term);
            agreed.then_some(leader)
        })
        .await
    }

    /// Waits until all agents have applied the same, and checks that it is the same.
    ///
    /// # Panics
    /// If two have different digests at one revision.
    pub async fn await_equal_digests(&self) {
        let all = wait::until("all agents have applied the same", WHOLE_LIMIT, || async {
            let all = self.statuses().await?;
            let first = all.first()?.applied();
            all.iter().all(|status| status.applied() == first).then_some(all)
        })
        .await;
        let first = all.first().expect("a site has an agent");
        for status in &all {
            let revision = status.applied();
            assert_eq!(status.digest(), first.digest(), "{} at {revision}", status.name());
        }
    }
}
