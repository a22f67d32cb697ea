//! One development site from its start to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleet_protocol::door::DOOR_SOCKET;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::contact::Contact;
use super::manifest::{AgentEntry, Manifest};
use super::plan::{AgentPlan, Plan};
use super::process::{self, Process};
use super::recipe::Recipe;
use super::{Wanted, health, nats, programs, report};

/// How often it is looked whether all processes are there.
const LOOK: Duration = Duration::from_millis(500);

/// What `flotilla dev` was asked to do.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) wanted: Wanted,
    pub(crate) data: Option<PathBuf>,
    pub(crate) detach: bool,
    pub(crate) no_nats: bool,
    pub(crate) nats_server: Option<PathBuf>,
    pub(crate) agent_bin: Option<PathBuf>,
    /// How long the start may take as a whole.
    pub(crate) within: Duration,
}

/// Where the site's files are.
#[derive(Debug)]
enum Place {
    Kept(PathBuf),
    /// Removed at the end.
    Passing(TempDir),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Passing(folder) => folder.path(),
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
struct Running {
    /// None on a site without NATS.
    nats: Option<NatsProcess>,
    agents: Vec<Process>,
    data_dirs: Vec<PathBuf>,
}

/// The server between the agents.
#[derive(Debug)]
struct NatsProcess {
    process: Process,
    port: u16,
}

impl Running {
    /// How a client or an agent finds the server.
    fn nats_url(&self) -> Option<String> {
        self.nats.as_ref().map(|nats| nats::url(nats.port))
    }

    /// Agents first: they say goodbye to each other over the server.
    async fn stop(mut self) {
        for agent in &mut self.agents {
            agent.terminate();
        }
        for agent in &mut self.agents {
            if !agent.stop().await {
                eprintln!("{} did not end by itself and was killed", agent.name);
            }
        }
        // Somebody may have started one of them again by hand.
        let by_hand: Vec<u32> =
            self.data_dirs.iter().flat_map(|folder| process::running_with(folder)).collect();
        process::stop_all(&by_hand).await;
        if let Some(nats) = &mut self.nats {
            nats.process.stop().await;
        }
    }
}

/// Starts a site, says so, and follows it until it is told to stop.
pub(crate) async fn start(start: Start) -> Result<()> {
    let place = place(start.data.as_deref(), start.detach)?;
    let root = place.path().to_path_buf();
    refuse_running(&root)?;
    let recipe = Recipe::read(&root)?;
    let earlier = recipe.as_ref().map(Recipe::earlier).transpose()?;
    let plan = Plan::new(&start.wanted, earlier.as_ref(), &root)?;
    let agent_bin = programs::agent(start.agent_bin.as_deref())?;
    // A site that was made without NATS goes on without.
    let without = start.no_nats || recipe.as_ref().is_some_and(|recipe| recipe.nats_port.is_none());
    fs::create_dir_all(plan.logs_dir())
        .with_context(|| format!("{} cannot be made", plan.logs_dir().display()))?;

    let nats = if without {
        None
    } else {
        let nats_bin = programs::nats_server(start.nats_server.as_deref())?;
        let wanted_port = recipe.and_then(|recipe| recipe.nats_port);
        let (process, port) =
            nats::start(&nats_bin, &plan.nats_dir(), &plan.nats_log(), wanted_port).await?;
        Some(NatsProcess { process, port })
    };
    let nats_port = nats.as_ref().map(|nats| nats.port);
    let mut running = Running {
        nats,
        agents: Vec::new(),
        data_dirs: plan.agents.iter().map(|agent| agent.data_dir.clone()).collect(),
    };
    let raised = tokio::select! {
        raised = raise(&plan, &agent_bin, &mut running) => raised.map(Some),
        () = told_to_stop() => Ok(None),
        () = tokio::time::sleep(start.within) => Err(too_late(start.within, &plan)),
    };
    match raised {
        Ok(Some((manifest, contact, leader))) => {
            let agents = u8::try_from(plan.agents.len()).unwrap_or(u8::MAX);
            let site = plan.site.to_string();
            Recipe { site, agents, nats_port }.write(&root)?;
            manifest.write(&root)?;
            print!("{}", report::ready(&manifest, &leader, &root, start.detach));
            if start.detach {
                return Ok(());
            }
            let followed = follow(contact, &mut running).await;
            eprintln!("stopping");
            running.stop().await;
            Manifest::remove(&root)?;
            followed
        }
        Ok(None) => {
            running.stop().await;
            Ok(())
        }
        Err(error) => {
            running.stop().await;
            Err(error)
        }
    }
}

/// Why a start was given up. A folder that goes away with its logs is no hint.
fn too_late(within: Duration, plan: &Plan) -> anyhow::Error {
    let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    anyhow::anyhow!(
        "the site was not whole after {}; with --data DIR the logs stay in DIR/logs (here {}), and --start-timeout gives it longer",
        fleet_protocol::duration::format_ms(ms),
        plan.logs_dir().display()
    )
}

/// Ends a site that was started with `--data` and `--detach`, or whose `flotilla dev` was killed.
pub(crate) async fn stop(root: &Path) -> Result<()> {
    let root =
        fs::canonicalize(root).with_context(|| format!("there is no folder {}", root.display()))?;
    let Some(manifest) = Manifest::read(&root)? else {
        bail!("no site runs in {}; it has no dev.json", root.display());
    };
    let agents: Vec<u32> =
        manifest.agents.iter().flat_map(|agent| process::running_with(&agent.data_dir)).collect();
    let killed = process::stop_all(&agents).await;
    let servers = process::running_with(&root.join("nats"));
    process::stop_all(&servers).await;
    for pid in &killed {
        eprintln!("process {pid} did not end by itself and was killed");
    }
    Manifest::remove(&root)?;
    let server = if manifest.nats_url.is_some() { " and nats-server" } else { "" };
    eprintln!("stopped {} agents{server} of site {}", agents.len(), manifest.site);
    Ok(())
}

fn place(data: Option<&Path>, detach: bool) -> Result<Place> {
    match data {
        Some(path) => {
            fs::create_dir_all(path)
                .with_context(|| format!("{} cannot be made", path.display()))?;
            // Absolute, because it is how `dev stop` recognises its processes.
            let path = fs::canonicalize(path)
                .with_context(|| format!("{} cannot be used", path.display()))?;
            Ok(Place::Kept(path))
        }
        None => {
            ensure!(!detach, "--detach needs --data DIR, by which `dev stop` finds the site again");
            let folder = tempfile::Builder::new().prefix("flotilla-dev-").tempdir();
            folder.map(Place::Passing).context("a temporary folder cannot be made; use --data DIR")
        }
    }
}

fn refuse_running(root: &Path) -> Result<()> {
    let Some(manifest) = Manifest::read(root)? else { return Ok(()) };
    let runs = manifest.agents.iter().any(|it| !process::running_with(&it.data_dir).is_empty());
    ensure!(
        !runs,
        "site {} runs already in {}; end it with `flotilla dev stop --data {}`",
        manifest.site,
        root.display(),
        root.display()
    );
    // What is left of a site whose machine went down.
    Manifest::remove(root)
}

/// Starts the agents and waits until the site is whole; gives what to write down, the connection and
/// the leader's name.
async fn raise(
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

/// Prints what happens until it is told to stop. Agents that end are told of, once.
async fn follow(contact: Contact, running: &mut Running) -> Result<()> {
    let mut changes = contact.changes().await?;
    let stop = told_to_stop();
    tokio::pin!(stop);
    let mut look = tokio::time::interval(LOOK);
    let mut gone: Vec<u32> = Vec::new();
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            line = changes.next() => println!("{line}"),
            _ = look.tick() => tell_of_ended(running, &mut gone),
        }
    }
}

fn tell_of_ended(running: &mut Running, gone: &mut Vec<u32>) {
    let nats = running.nats.as_mut().map(|nats| &mut nats.process);
    for process in running.agents.iter_mut().chain(nats) {
        if let Some(status) = process.ended()
            && !gone.contains(&process.pid)
        {
            gone.push(process.pid);
            eprintln!("{} (pid {}) has ended: {status}", process.name, process.pid);
        }
    }
}

/// Ends at Ctrl-C or SIGTERM.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
        }
        Err(_) => {
            let _ = interrupted.await;
        }
    }
}
