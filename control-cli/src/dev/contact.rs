//! What a development site is asked, through the client that everybody uses.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fleet_client::{Client, CommandOptions, ConnectConfig, Followed, Invitation, News, Outcome};
use fleet_protocol::record::SiteBody;
use fleet_protocol::{Consistency, NodeStatus, QueryTarget};
use fleet_state::{Revision, SiteName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::report;

/// How long one question may take while the site is coming up.
const ASK_LIMIT: Duration = Duration::from_millis(1_000);
/// A token is used within the minute.
const TOKEN_TTL_MS: u64 = 10 * 60 * 1_000;
/// Lines that wait to be printed.
const LINES_MAX: usize = 256;

/// A connection to the site.
#[derive(Debug)]
pub(crate) struct Contact {
    client: Client,
}

/// Lines that tell what happens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Changes {
    lines: mpsc::Receiver<String>,
    task: JoinHandle<()>,
}

impl Contact {
    /// Connects to the server; agents need not be there yet.
    pub(crate) async fn connect(url: &str, site: &SiteName) -> Result<Self> {
        let config = ConnectConfig {
            servers: vec![url.to_owned()],
            name: "flotilla dev".to_owned(),
            ..ConnectConfig::default()
        };
        let client = Client::connect(&config, Some(site)).await?;
        Ok(Self { client: client.with_timeout(ASK_LIMIT) })
    }

    /// What the node called `name` says about itself; `None` if it does not answer.
    pub(crate) async fn status(&self, name: &str) -> Option<NodeStatus> {
        self.client.node_status(&name.parse().ok()?).await.ok()
    }

    /// What the site says about itself; `None` while it has no leader.
    pub(crate) async fn site(&self) -> Option<SiteBody> {
        let asked = self.client.get::<SiteBody>(&QueryTarget::Site, Consistency::Linearizable);
        Some(asked.await.ok()?.item)
    }

    /// A join token for one node.
    pub(crate) async fn token(&self) -> Result<String> {
        let invitation = Invitation {
            uses: 1,
            ttl_ms: TOKEN_TTL_MS,
            note: "flotilla dev".to_owned(),
            nats_urls: Vec::new(),
            mesh: Vec::new(),
        };
        let patient = self.client.clone().with_timeout(10 * ASK_LIMIT);
        match patient.invite(&invitation, &CommandOptions::default()).await? {
            Ok(invited) => Ok(invited.text),
            Err(Outcome::Rejected(failed)) => bail!("no join token: {}", failed.error.message),
            Err(Outcome::Unknown(unknown)) => bail!("no join token: {}", unknown.why),
            Err(Outcome::Committed(_)) => bail!("no join token came with the answer"),
        }
    }

    /// Everything that changes from now on.
    pub(crate) async fn changes(self) -> Result<Changes> {
        let from = self.client.get::<SiteBody>(&QueryTarget::Site, Consistency::Stale).await;
        let revision = from.context("the site cannot be followed")?.revision;
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let task = tokio::spawn(follow(self.client, Revision::new(revision), sender));
        Ok(Changes { lines, task })
    }
}

async fn follow(client: Client, since: Revision, lines: mpsc::Sender<String>) {
    let mut follower = client.follow(since, Followed::default());
    loop {
        let line = match follower.next().await {
            Ok(News::Change(change)) => {
                let record =
                    change.record.as_ref().and_then(|record| serde_json::to_value(record).ok());
                report::change(&change.noun, &change.id, change.revision, record.as_ref())
            }
            Ok(News::Waiting(why)) => format!("        the site is silent: {why}"),
            Ok(News::Back) => "        the site is back".to_owned(),
            Ok(News::StartedOver) => "        too far behind; starting over".to_owned(),
            Err(error) => {
                let _ = lines.send(format!("        no more changes: {error}")).await;
                return;
            }
        };
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

impl Changes {
    /// The next line; never, once there are no more.
    pub(crate) async fn next(&mut self) -> String {
        match self.lines.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}
