//! What each command of `flotilla-agent` does. Data goes to stdout, talk to stderr.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_protocol::{JoinToken, NodeVerb, Subjects};
use fleet_state::{NodeName, SiteName};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::agent;
use crate::cli::{Cli, Command, ConfigCommand, Init, Join, Restore, Run, Settings};
use crate::config::{self, Config, Loaded, Sources};
use crate::logging;
use crate::mesh::{Joiner, JoinerParts};
use crate::nats::{ConnectionPlan, Prepared, prepare};
use crate::site::{
    self, Contacts, FoundRequest, Founded, JoinRequest, Joined, RestoreRequest, default_node_name,
};
use crate::storage::{DataDir, remember_servers, remembered_servers};

/// How long `init` listens for a site of the same name.
const LISTEN_FOR_NAMESAKE: Duration = Duration::from_millis(700);
/// How long it tries to reach a NATS server for that.
const REACH_NATS: Duration = Duration::from_millis(1_500);

/// Carries a command out.
///
/// # Errors
/// What went wrong, for people.
pub async fn carry_out(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Init(arguments) => init(arguments).await,
        Command::Join(arguments) => join(arguments).await,
        Command::Run(arguments) => run(arguments).await,
        Command::Restore(arguments) => restore(&arguments).await,
        Command::Store(command) => crate::storage::offline::carry_out(&command),
        Command::Config(command) => configuration(&command),
    }
}

fn load(settings: &Settings, name: Option<&NodeName>) -> anyhow::Result<Loaded> {
    let sources = Sources::from_process(settings.config.clone(), settings.flags(name));
    Ok(config::load(&sources)?)
}

fn begin(settings: &Settings, name: Option<&NodeName>) -> anyhow::Result<Config> {
    let config = load(settings, name)?.config;
    logging::start(&config.log).context("logging could not be started")?;
    Ok(config)
}

fn node_name(config: &Config) -> NodeName {
    config.node.name.clone().unwrap_or_else(default_node_name)
}

async fn run(arguments: Run) -> anyhow::Result<()> {
    let mut config = begin(&arguments.settings, None)?;
    if is_unsaid(&config) {
        match remembered_servers(&config.node.data_dir) {
            None => {}
            Some(servers) if servers.is_empty() => {
                tracing::info!("doing without NATS, as this node was made");
                config.nats.enabled = false;
            }
            Some(servers) => {
                tracing::info!(
                    servers = servers.join(", "),
                    "using the servers this node was made with"
                );
                config.nats.urls = servers;
                config.nats.urls_are_default = false;
            }
        }
    }
    agent::run(config).await
}

/// Whether nothing says which NATS servers to use.
fn is_unsaid(config: &Config) -> bool {
    config.nats.enabled && config.nats.urls_are_default && config.nats.context.is_none()
}

/// Lets a later `run` find the servers that this node was made with.
fn remember(dir: &DataDir, config: &Config, prepared: Option<&Prepared>) {
    // What a context says may change there, and the default needs no memory.
    if config.nats.enabled && (config.nats.urls_are_default || config.nats.context.is_some()) {
        return;
    }
    let servers = prepared.map(Prepared::urls).unwrap_or_default();
    if let Err(error) = remember_servers(dir.path(), &servers) {
        eprintln!("note: the NATS servers could not be written down for `run`: {error}");
    }
}

async fn init(arguments: Init) -> anyhow::Result<()> {
    let config = begin(&arguments.settings, arguments.name.as_ref())?;
    let prepared = prepare_nats(&config)?;
    let dir = DataDir::open(&config.node.data_dir)?;
    if let Some(prepared) = prepared.as_ref().filter(|_| matches!(dir.node(), Ok(None))) {
        refuse_namesake(prepared, &arguments.site, JOIN_IT).await?;
    }
    let request = FoundRequest {
        site: arguments.site,
        name: node_name(&config),
        voters: arguments.voters,
        token_uses: arguments.token_uses,
        token_ttl_ms: arguments.token_hours.saturating_mul(3_600_000),
        nats_urls: prepared.as_ref().map(Prepared::urls).unwrap_or_default(),
        mesh: config.mesh.clone(),
    };
    match site::found(&dir, &request)? {
        Founded::New { token } => {
            remember(&dir, &config, prepared.as_ref());
            eprintln!(
                "site {} is founded; {} is its first voter, in {}",
                request.site,
                request.name,
                dir.path().display()
            );
            eprintln!("start it:      {}", run_command(&dir));
            say_unreachable(&token);
            eprintln!("let others in: flotilla-agent join TOKEN, with this token (a secret):");
            println!("{token}");
        }
        Founded::Already(node) => eprintln!(
            "{} belongs to {} of site {} already; nothing was changed. A token: flotilla token create",
            dir.path().display(),
            node.name,
            node.site
        ),
    }
    Ok(())
}

/// What to do where the site is there that was to be founded.
const JOIN_IT: &str = "join it with a token (flotilla token create)";
/// What to do where the site is there that was to be restored.
const STOP_IT: &str = "if it is the one to be restored, first stop every agent of it that is left";

/// The NATS servers of the configuration; none where it does without.
fn prepare_nats(config: &Config) -> anyhow::Result<Option<Prepared>> {
    if !config.nats.enabled {
        return Ok(None);
    }
    Ok(Some(prepare(&config.nats)?))
}

/// A token with no address in it lets in those only who find the site by themselves.
fn say_unreachable(token: &str) {
    let Ok(token) = token.parse::<JoinToken>() else { return };
    if token.nats_urls.is_empty() && token.mesh.is_empty() {
        eprintln!(
            "note: the token names no address, because the ports of the mesh are not known before the agent runs; others find it on the local network by mDNS, or with a token made by flotilla token create"
        );
    }
}

/// Two sites of one name on one NATS server would take each other's commands; `instead` says what to
/// do where one is there. Without a server nobody can tell, and that is no reason to refuse: the first
/// gateway of a house may be there before its server is.
async fn refuse_namesake(
    prepared: &Prepared,
    site: &SiteName,
    instead: &str,
) -> anyhow::Result<()> {
    let mut connection = prepared.connect(&plan("flotilla-agent init")).await?;
    let connected = connection.state.wait_for(|s| *s == crate::nats::LinkState::Connected);
    if !matches!(tokio::time::timeout(REACH_NATS, connected).await, Ok(Ok(_))) {
        eprintln!(
            "warning: no NATS server answers at {}, so nobody knows whether a site named {site} is there already. If it is, don't start this one: remove its data directory, and {instead}",
            prepared.urls().join(", ")
        );
        return Ok(());
    }
    let subject = Subjects::new(site).all(NodeVerb::Status);
    let asked = connection.client.request(subject, bytes::Bytes::new());
    if let Ok(Ok(_)) = tokio::time::timeout(LISTEN_FOR_NAMESAKE, asked).await {
        bail!(
            "a site named {site} answers on {}; {instead}, or choose another name",
            prepared.urls().join(", ")
        );
    }
    Ok(())
}

fn plan(name: &str) -> ConnectionPlan {
    ConnectionPlan {
        name: name.to_owned(),
        purpose: "setup",
        subscription_capacity: 64,
        publish_capacity: 64,
        echo: true,
        slow_consumers: Counter::default(),
    }
}

async fn join(arguments: Join) -> anyhow::Result<()> {
    let mut settings = arguments.settings;
    let token: JoinToken = read_token(&arguments.token)?.parse()?;
    let mut config = begin(&settings, arguments.name.as_ref())?;
    if is_unsaid(&config) {
        // As the site does it; one that has no NATS is known by its mesh.
        settings.nats.clone_from(&token.nats_urls);
        settings.no_nats = token.nats_urls.is_empty() && !token.mesh.is_empty();
        config = load(&settings, arguments.name.as_ref())?.config;
    }
    if let Some(expected) = config.site.name.as_ref().filter(|name| **name != token.site) {
        bail!(
            "site.name is {expected}, but the token lets into site {}; correct the configuration, or use a token of site {expected}",
            token.site
        );
    }
    let prepared = prepare_nats(&config)?;
    let name = node_name(&config);
    {
        // The lock is let go before the agent takes it.
        let dir = DataDir::open(&config.node.data_dir)?;
        let contacts = contacts(&config, prepared.as_ref(), &dir, &token).await?;
        let deadline = Instant::now() + Duration::from_secs(arguments.timeout_s);
        let request = JoinRequest { token, name, deadline };
        match site::join(&dir, contacts, &request).await? {
            Joined::New(node) => {
                remember(&dir, &config, prepared.as_ref());
                eprintln!(
                    "{} is node {} of site {}; its files are in {}",
                    node.name,
                    node.node,
                    node.site,
                    dir.path().display()
                );
            }
            Joined::Already(node) => eprintln!(
                "{} belongs to {} of site {} already; nothing was changed",
                dir.path().display(),
                node.name,
                node.site
            ),
        }
    }
    if arguments.only {
        let dir = DataDir::open(&config.node.data_dir)?;
        eprintln!("start it: {}", run_command(&dir));
        return Ok(());
    }
    agent::run(config).await
}

/// The ways to ask the site: NATS if it is used, and the mesh if somebody may be found on it.
async fn contacts(
    config: &Config,
    prepared: Option<&Prepared>,
    dir: &DataDir,
    token: &JoinToken,
) -> anyhow::Result<Contacts> {
    let nats = match prepared {
        Some(prepared) => Some(prepared.connect(&plan("flotilla-agent join")).await?),
        None => None,
    };
    if dir.node()?.is_some() {
        return Ok(Contacts { nats, mesh: None });
    }
    let addresses: Vec<String> = token.mesh.iter().chain(&config.mesh.bootstrap).cloned().collect();
    let findable = !addresses.is_empty() || config.mesh.mdns;
    let mesh = if config.mesh.enabled && findable {
        Some(Joiner::start(&JoinerParts {
            sign_key: site::key_of(dir)?,
            site: token.site.clone(),
            uid: token.uid,
            addresses,
            mdns: config.mesh.mdns,
        })?)
    } else {
        None
    };
    anyhow::ensure!(
        nats.is_some() || mesh.is_some(),
        "the site can't be reached: {}",
        if config.mesh.enabled {
            "the token names neither a NATS server nor a gateway on the mesh, and mDNS is switched \
             off; make a token once a gateway listens, or set mesh.bootstrap"
        } else {
            "the token names no NATS server, and the mesh is switched off"
        }
    );
    Ok(Contacts { nats, mesh })
}

fn read_token(argument: &str) -> anyhow::Result<String> {
    /// Longer than any token.
    const TOKEN_BYTES_MAX: u64 = 16 * 1024;
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)
        .context("the token could not be read from standard input")?;
    Ok(text)
}

async fn restore(arguments: &Restore) -> anyhow::Result<()> {
    let config = begin(&arguments.settings, arguments.name.as_ref())?;
    let prepared = prepare_nats(&config)?;
    let dir = DataDir::open(&config.node.data_dir)?;
    if let Some(prepared) = &prepared {
        refuse_namesake(prepared, &arguments.site, STOP_IT).await?;
    }
    let request = RestoreRequest {
        file: arguments.file.clone(),
        site: arguments.site.clone(),
        name: node_name(&config),
        voters: arguments.voters,
    };
    let restored = site::restore(&dir, &request)?;
    remember(&dir, &config, prepared.as_ref());
    eprintln!(
        "site {} begins where site {} was at index {}: {} devices, {} parameters; {} is its node {}",
        request.site,
        restored.former_site,
        restored.index,
        restored.devices,
        restored.params,
        request.name,
        restored.node
    );
    eprintln!("start it: {}", run_command(&dir));
    Ok(())
}

/// The command that runs what was made. The directory remembers the NATS servers.
fn run_command(dir: &DataDir) -> String {
    format!("flotilla-agent run --data-dir {}", dir.path().display())
}

fn configuration(command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(run) => {
            let settings = &run.settings;
            let sources = Sources::from_process(settings.config.clone(), settings.flags(None));
            println!("{}", config::check(&sources)?);
        }
        ConfigCommand::Show(run) => print!("{}", load(&run.settings, None)?.show()),
    }
    Ok(())
}
