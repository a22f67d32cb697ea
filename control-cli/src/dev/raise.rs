//! Starting the agents of a site, until it is whole.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use fleet_protocol::door::DOOR_SOCKET;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::contact::Contact;
use super::health;
use super::manifest::{AgentEntry, Manifest};
use super::plan::{AgentPlan, Plan};
use super::process::Process;
use super::running::Running;

/// Starts the agents and waits until the site is whole; gives what to write down, the connection and
/// the leader's name.
pub(super) async fn raise(
    plan: &Plan,
    agent_bin: &Path,
    running: &mut Running,
) -> Result<(Manifest, Contact, String)> {
    let url = running.nats_url();
    let url = url.as_deref();
    let (known, new): (Vec<&AgentPlan>, Vec<&AgentPlan>) =
        plan.agents.iter().partition(|agent| agent.data_dir.join("node.json").exists());
    let mut new = new.into_iter();
    if known.is_empty() {
        let first = new.next().context("a plan has an agent")?;
        found(plan, agent_bin, first, url).await?;
        running.agents.push(run(agent_bin, first, url)?);
    }
    for agent in known {
        running.agents.push(run(agent_bin, agent, url)?);
    }
    let contact = contact(plan, running).await?;
    health::await_leader(&contact).await?;
    for agent in new {
        let token = contact.token().await?;
        join(agent_bin, agent, url, &token).await?;
        let mut process = run(agent_bin, agent, url)?;
        let joined = health::await_agent(&contact, &agent.name, &mut process).await;
        running.agents.push(process);
        joined?;
    }
    let names: Vec<String> = running.agents.iter().map(|agent| agent.name.clone()).collect();
    let leader = health::await_whole(&contact, &names, &mut running.agents).await?;
    let manifest = record(plan, &contact, running).await?;
    Ok((manifest, contact, leader))
}

/// Speaks to the site over NATS, or at the door of its first agent.
async fn contact(plan: &Plan, running: &mut Running) -> Result<Contact> {
    if let Some(url) = running.nats_url() {
        return Contact::connect(&url, &plan.site).await;
    }
    let process = running.agents.first_mut().context("a plan has an agent")?;
    let agent = plan.agents.iter().find(|agent| agent.name == process.name);
    let agent = agent.context("every process is an agent of the plan")?;
    let door = format!("unix:{}", agent.data_dir.join(DOOR_SOCKET).display());
    health::await_door(&door, &plan.site, process).await
}

/// What tells an agent how the site is reached. On one machine the mesh stays there, too.
fn reach(url: Option<&str>) -> Vec<&str> {
    let mut words = match url {
        Some(url) => vec!["--nats", url],
        None => vec!["--no-nats"],
    };
    words.extend(["--set", "mesh.listen=/ip4/127.0.0.1/tcp/0", "--set", "mesh.mdns=false"]);
    words
}

async fn record(plan: &Plan, contact: &Contact, running: &mut Running) -> Result<Manifest> {
    let mut agents = Vec::new();
    for agent in &plan.agents {
        let process = running.agents.iter_mut().find(|process| process.name == agent.name);
        let process = process.context("every agent of the plan was started")?;
        let status = health::await_agent(contact, &agent.name, process).await?;
        agents.push(AgentEntry {
            name: agent.name.clone(),
            node_id: status.node,
            pid: process.pid,
            data_dir: agent.data_dir.clone(),
            socket: agent.data_dir.join(DOOR_SOCKET),
        });
    }
    let (site, nats_url) = (plan.site.to_string(), running.nats_url());
    let nats_pid = running.nats.as_ref().map(|nats| nats.process.pid);
    Ok(Manifest { site, nats_url, nats_pid, agents })
}

/// Makes the site on the first agent's folder.
async fn found(plan: &Plan, agent_bin: &Path, agent: &AgentPlan, url: Option<&str>) -> Result<()> {
    let mut command = Command::new(agent_bin);
    command.args(["init", "--site", plan.site.as_ref(), "--name", &agent.name]);
    command.args(["--voters", &plan.voters.to_string()]).args(reach(url));
    command.arg("--data-dir").arg(&agent.data_dir).kill_on_drop(true);
    let done = command.output().await.context("flotilla-agent does not start")?;
    ensure!(
        done.status.success(),
        "the site could not be made: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}

fn run(agent_bin: &Path, agent: &AgentPlan, url: Option<&str>) -> Result<Process> {
    let mut command = Command::new(agent_bin);
    command.arg("run").args(reach(url)).arg("--data-dir").arg(&agent.data_dir);
    if let Some(root) = agent.data_dir.parent() {
        // What simulated links write lies beside the agents, and goes with them.
        command.arg("--set").arg(format!("devices.simulated_dir={}", root.display()));
    }
    Process::start(&agent.name, command, &agent.log)
}

/// Lets an agent join. The token goes to its standard input, so that it is in no process list.
async fn join(agent_bin: &Path, agent: &AgentPlan, url: Option<&str>, token: &str) -> Result<()> {
    let mut command = Command::new(agent_bin);
    command.args(["join", "-", "--only", "--name", &agent.name]).args(reach(url));
    command.arg("--data-dir").arg(&agent.data_dir).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("flotilla-agent does not start")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(token.as_bytes()).await.context("flotilla-agent takes no token")?;
    }
    let done = child.wait_with_output().await.context("flotilla-agent cannot be waited for")?;
    ensure!(
        done.status.success(),
        "{} could not join: {}",
        agent.name,
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}
