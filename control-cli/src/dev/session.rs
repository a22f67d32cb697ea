//! One development site from its start to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::contact::Contact;
use super::manifest::{AgentEntry, Manifest};
use super::plan::Plan;
use super::recipe::Recipe;
use super::running::{NatsProcess, Running};
use super::signals::Signals;
use super::{Wanted, nats, process, programs, raise, report};
use crate::exit::{Exit, Stop};
use crate::output::{put, say};

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

/// What a start is made with, once it is known.
struct Prepared {
    start: Start,
    root: PathBuf,
    plan: Plan,
    agent_bin: PathBuf,
    /// The server's program and the port that it had before; none on a site without NATS.
    nats: Option<(PathBuf, Option<u16>)>,
}

/// How a site that came up ended.
enum Ended {
    /// It is left running.
    Left,
    /// It was told to stop.
    Stopped,
}

/// Starts a site, says so, and follows it until it is told to stop.
pub(crate) async fn start(start: Start) -> Result<()> {
    let place = place(start.data.as_deref(), start.detach)?;
    let prepared = prepare(start, place.path().to_path_buf())?;
    let data_dirs = prepared.plan.agents.iter().map(|agent| agent.data_dir.clone()).collect();
    // From here on a signal is an event and ends nothing by itself.
    let mut signals = Signals::new()?;
    let mut running = Running::nothing_yet(data_dirs);
    // Whatever comes, what was started is stopped before its files may go.
    match live(&prepared, &mut running, &mut signals).await {
        Ok(Ended::Left) => {
            running.leave();
            Ok(())
        }
        ended => {
            say("stopping");
            running.stop().await;
            Manifest::remove(&prepared.root)?;
            ended.map(|_| ())
        }
    }
}

/// Finds out what is to be started; starts nothing.
fn prepare(start: Start, root: PathBuf) -> Result<Prepared> {
    refuse_running(&root)?;
    let recipe = Recipe::read(&root)?;
    let earlier = recipe.as_ref().map(Recipe::earlier).transpose()?;
    let plan = Plan::new(&start.wanted, earlier.as_ref(), &root)?;
    let agent_bin = programs::agent(start.agent_bin.as_deref())?;
    // A site that was made without NATS goes on without.
    let without = start.no_nats || recipe.as_ref().is_some_and(|recipe| recipe.nats_port.is_none());
    fs::create_dir_all(plan.logs_dir())
        .with_context(|| format!("{} cannot be made", plan.logs_dir().display()))?;
    let wanted_port = recipe.and_then(|recipe| recipe.nats_port);
    let nats = if without {
        None
    } else {
        Some((programs::nats_server(start.nats_server.as_deref())?, wanted_port))
    };
    Ok(Prepared { start, root, plan, agent_bin, nats })
}

/// From the first process to the word that ends them all.
async fn live(prepared: &Prepared, running: &mut Running, signals: &mut Signals) -> Result<Ended> {
    let Prepared { start, root, plan, .. } = prepared;
    let (manifest, contact, leader) = tokio::select! {
        raised = raise_all(prepared, running) => raised?,
        () = signals.told_to_stop() => {
            let why = "interrupted before the site was whole";
            return Err(Stop::new(Exit::Interrupted, why).into());
        }
        () = tokio::time::sleep(start.within) => return Err(too_late(start.within, plan)),
    };
    let agents = u8::try_from(plan.agents.len()).unwrap_or(u8::MAX);
    let nats_port = running.nats.as_ref().map(|nats| nats.port);
    Recipe { site: plan.site.to_string(), agents, nats_port }.write(root)?;
    manifest.write(root)?;
    let told = put(&report::ready(&manifest, &leader, root, start.detach));
    if start.detach {
        // Who reads no report still has the site, and its dev.json.
        return Ok(Ended::Left);
    }
    told?;
    follow(contact, running, signals).await.map(|()| Ended::Stopped)
}

/// Starts the server, if there is to be one, and the agents.
async fn raise_all(
    prepared: &Prepared,
    running: &mut Running,
) -> Result<(Manifest, Contact, String)> {
    let Prepared { plan, agent_bin, nats, .. } = prepared;
    if let Some((program, wanted_port)) = nats {
        let (process, port) =
            nats::start(program, &plan.nats_dir(), &plan.nats_log(), *wanted_port).await?;
        running.nats = Some(NatsProcess { process, port });
    }
    raise::raise(plan, agent_bin, running).await
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
    let of_agent = |agent: &AgentEntry| process::agents_on(&agent.data_dir, &[agent.pid]);
    let agents: Vec<u32> = manifest.agents.iter().flat_map(of_agent).collect();
    let killed = process::stop_all(&agents).await;
    let on_record = manifest.nats_pid.as_slice();
    process::stop_all(&process::servers_on(&root.join("nats"), on_record)).await;
    for pid in &killed {
        say(&format!("process {pid} did not end by itself and was killed"));
    }
    Manifest::remove(&root)?;
    let server = if manifest.nats_url.is_some() { " and nats-server" } else { "" };
    say(&format!("stopped {} agents{server} of site {}", agents.len(), manifest.site));
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
    let is_there = |it: &AgentEntry| !process::agents_on(&it.data_dir, &[it.pid]).is_empty();
    let runs = manifest.agents.iter().any(is_there);
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

/// Prints what happens until it is told to stop. Agents that end are told of, once.
async fn follow(contact: Contact, running: &mut Running, signals: &mut Signals) -> Result<()> {
    let mut changes = contact.changes().await?;
    let mut look = tokio::time::interval(LOOK);
    let mut gone: Vec<u32> = Vec::new();
    loop {
        tokio::select! {
            () = signals.told_to_stop() => return Ok(()),
            line = changes.next() => put(&format!("{line}\n"))?,
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
            say(&format!("{} (pid {}) has ended: {status}", process.name, process.pid));
        }
    }
}
