//! Waiting until a development site is whole.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fleet_protocol::{NodeStatus, record::SiteBody};
use fleet_state::SiteName;
use tokio::time::{Instant, sleep};

use super::contact::Contact;
use super::process::Process;

/// Until one agent answers, or leads.
const AGENT_LIMIT: Duration = Duration::from_secs(60);
/// Until all voters vote.
const SITE_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Waits until the agent behind a door takes requests there.
pub(crate) async fn await_door(
    door: &str,
    site: &SiteName,
    process: &mut Process,
) -> Result<Contact> {
    let begun = Instant::now();
    loop {
        process.ensure_running()?;
        match Contact::connect(door, site).await {
            Ok(contact) => return Ok(contact),
            Err(error) if begun.elapsed() >= AGENT_LIMIT => return Err(error),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Waits until the agent called `name` answers; it must not end meanwhile.
pub(crate) async fn await_agent(
    contact: &Contact,
    name: &str,
    process: &mut Process,
) -> Result<NodeStatus> {
    let begun = Instant::now();
    while begun.elapsed() < AGENT_LIMIT {
        process.ensure_running()?;
        if let Some(status) = contact.status(name).await {
            return Ok(status);
        }
        sleep(POLL).await;
    }
    bail!("{name} does not answer after {AGENT_LIMIT:?}; its log may say why")
}

/// Waits until the site answers a linearizable question, so that it has a leader that a majority
/// follows.
pub(crate) async fn await_leader(contact: &Contact) -> Result<SiteBody> {
    let begun = Instant::now();
    while begun.elapsed() < AGENT_LIMIT {
        if let Some(site) = contact.site().await {
            return Ok(site);
        }
        sleep(POLL).await;
    }
    bail!("the site has no leader after {AGENT_LIMIT:?}; the agents' logs may say why")
}

/// Waits until as many members vote as can, and every agent knows the leader; gives the leader's name.
pub(crate) async fn await_whole(
    contact: &Contact,
    names: &[String],
    processes: &mut [Process],
) -> Result<String> {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < SITE_LIMIT {
        for process in &mut *processes {
            process.ensure_running()?;
        }
        if let Some(site) = contact.site().await {
            let statuses = statuses(contact, names).await;
            if let Some(leader) = leader_of_whole(&site, &statuses, names.len()) {
                return Ok(leader);
            }
            last = Some(site);
        }
        sleep(POLL).await;
    }
    let site = last.context("the site does not answer; the agents' logs may say why")?;
    bail!(
        "after {SITE_LIMIT:?} {} of {} members vote, {} are wanted; the agents' logs may say why",
        site.voters,
        site.members,
        site.voters_wanted
    )
}

async fn statuses(contact: &Contact, names: &[String]) -> Vec<NodeStatus> {
    let mut found = Vec::new();
    for name in names {
        found.extend(contact.status(name).await);
    }
    found
}

/// The leader's name if nothing is left to wait for.
fn leader_of_whole(site: &SiteBody, statuses: &[NodeStatus], agents: usize) -> Option<String> {
    let possible =
        if site.members.is_multiple_of(2) { site.members.saturating_sub(1) } else { site.members };
    let voters_wanted = usize::from(site.voters_wanted).min(possible);
    let agreed =
        statuses.iter().all(|it| it.leader.is_some() && it.leader == site.leader && it.intake);
    let whole = site.voters >= voters_wanted && site.members >= agents && statuses.len() == agents;
    let leader = statuses.iter().find(|it| Some(it.node) == site.leader)?;
    (whole && agreed).then(|| leader.name.clone())
}
