//! Which sites answer on a NATS server: asked as `nats micro ping` does.

use std::{collections::BTreeSet, time::Duration};

use fleet_protocol::{Subjects, subjects::SERVICE_PING};
use fleet_state::SiteName;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::{ClientError, connect::Violations, transport::Connection};

/// How long agents may take to answer.
const ANSWER_WAIT: Duration = Duration::from_millis(300);
/// How long to wait for the first of them, when the server is far or busy.
const FIRST_ANSWER_WAIT: Duration = Duration::from_millis(1_500);
/// Most answers that are looked at.
const ANSWERS_MAX: usize = 4_096;

#[derive(Deserialize)]
struct Ping {
    name: String,
}

/// The site that was named, or the one that answers. Behind a door there is one, and no other is meant.
pub(crate) async fn chosen(
    connection: &Connection,
    named: Option<&SiteName>,
) -> Result<SiteName, ClientError> {
    match (named, connection.only_site()) {
        (Some(named), Some(found)) if *named != found => Err(ClientError::UnknownSite {
            site: named.clone(),
            server: connection.servers.join(", "),
            others: vec![found.to_string()],
        }),
        (_, Some(found)) => Ok(found),
        (Some(named), None) => Ok(named.clone()),
        (None, None) => only_site(connection).await,
    }
}

/// The site that answers, if it is the only one.
async fn only_site(connection: &Connection) -> Result<SiteName, ClientError> {
    let server = connection.servers.join(", ");
    let sites = connection.sites().await?;
    let mut sites = sites.into_iter();
    match (sites.next(), sites.next()) {
        (Some(site), None) => Ok(site),
        (None, _) => Err(ClientError::NoSite { server }),
        (Some(first), Some(second)) => {
            let names =
                [first, second].into_iter().chain(sites).map(|site| site.to_string()).collect();
            Err(ClientError::ManySites { server, sites: names })
        }
    }
}

/// The sites that answer on a NATS server.
pub(crate) async fn sites(
    nats: &async_nats::Client,
    violations: &Violations,
) -> Result<BTreeSet<SiteName>, ClientError> {
    let failed = |error: &dyn std::fmt::Display| ClientError::Nats(error.to_string());
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    nats.publish_with_reply(SERVICE_PING, inbox, "".into())
        .await
        .map_err(|error| failed(&error))?;
    let mut until = Instant::now() + FIRST_ANSWER_WAIT;
    let mut found = BTreeSet::new();
    for _ in 0..ANSWERS_MAX {
        let Ok(Some(message)) = timeout_at(until, answers.next()).await else { break };
        if message.status.is_some() {
            // No responders: nobody at all is a service here.
            break;
        }
        let ping: Option<Ping> = serde_json::from_slice(&message.payload).ok();
        if let Some(site) = ping.and_then(|ping| Subjects::site_of_service(&ping.name)) {
            if found.is_empty() {
                until = until.min(Instant::now() + ANSWER_WAIT);
            }
            found.insert(site);
        }
    }
    if found.is_empty()
        && let Some(subject) = violations.about(SERVICE_PING)
    {
        return Err(ClientError::Local(format!(
            "the NATS server does not allow this user to use {subject}, so the site cannot be found; name it with --site or FLOTILLA_SITE"
        )));
    }
    Ok(found)
}
