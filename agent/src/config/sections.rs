//! The typed configuration, section by section.

use std::net::SocketAddr;
use std::path::PathBuf;

use fleet_state::{NodeName, SiteName};

use super::secrets::Secret;

/// The whole configuration of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// Section `[site]`.
    pub site: SiteConfig,
    /// Section `[node]`.
    pub node: NodeConfig,
    /// Section `[nats]`.
    pub nats: NatsConfig,
    /// Section `[raft]`.
    pub raft: RaftConfig,
    /// Section `[mesh]`.
    pub mesh: MeshConfig,
    /// Section `[http]`.
    pub http: HttpConfig,
    /// Section `[devices]`.
    pub devices: DevicesConfig,
    /// Section `[log]`.
    pub log: LogConfig,
}

/// Section `[devices]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesConfig {
    /// Where simulated links may keep their journals, an absolute path. Whoever may register links
    /// has the agent write there; without it simulated links are refused.
    pub simulated_dir: Option<PathBuf>,
}

/// Section `[site]`.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// The site this agent expects to belong to; the data directory is the authority.
    pub name: Option<SiteName>,
}

/// Section `[node]`.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The name to join with.
    pub name: Option<NodeName>,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
}

/// Section `[nats]`, before contexts and secret files are read (`crate::nats` does that).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Whether NATS is used at all.
    pub enabled: bool,
    /// Server URLs, as written; checked when the connection is prepared.
    pub urls: Vec<String>,
    /// Whether `urls` is the built-in default, which a context may replace.
    pub urls_are_default: bool,
    /// A context of the `nats` CLI.
    pub context: Option<String>,
    /// How to prove who we are.
    pub auth: NatsAuth,
    /// TLS files.
    pub tls: TlsConfig,
    /// Accept a plaintext or unauthenticated server off the loopback.
    pub allow_insecure: bool,
}

/// How the agent proves to the NATS server who it is; one way at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsAuth {
    /// Not at all, or by what a URL, a context or a client certificate says.
    None,
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// User, and a file with the password.
    PasswordFile {
        /// The user.
        user: String,
        /// The file.
        path: PathBuf,
    },
    /// A file with a token.
    TokenFile(PathBuf),
    /// A file with an NKey seed.
    NkeyFile(PathBuf),
    /// A credentials file.
    CredsFile(PathBuf),
}

/// Section `[nats.tls]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates that vouch for the server.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// TLS before the server's greeting.
    pub first: bool,
}

/// Section `[raft]`; what each means stands in the table of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftConfig {
    /// Length of a tick in milliseconds.
    pub tick_ms: u64,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Shortest election timeout in ticks.
    pub election_ticks_min: u32,
    /// Longest election timeout in ticks.
    pub election_ticks_max: u32,
    /// A snapshot after so many entries.
    pub snapshot_every_entries: u64,
    /// A snapshot after so many bytes of log.
    pub snapshot_every_bytes: u64,
    /// Entries that stay in the log behind a snapshot.
    pub log_trailing_entries: u64,
    /// A log beyond this size keeps no more than a restart needs.
    pub log_bytes_max: u64,
    /// The way between agents.
    pub transport: TransportConfig,
}

/// The way that frames between agents take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportConfig {
    /// NATS while it works, the mesh as soon as it does not.
    Auto,
    /// NATS only.
    Nats,
    /// The mesh only.
    Mesh,
}

/// Section `[mesh]`. Addresses are checked for their form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// Whether this node takes part in the mesh.
    pub enabled: bool,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Whether `listen` is the built-in default, whose port may be taken.
    pub listen_is_default: bool,
    /// Addresses of other gateways.
    pub bootstrap: Vec<String>,
    /// Whether gateways are looked for on the local network.
    pub mdns: bool,
    /// How fast snapshots, and what devices report, go to one gateway.
    pub bulk_bytes_per_second: u64,
}

/// Section `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address for health and metrics; `None` when switched off.
    pub listen: Option<SocketAddr>,
    /// The socket of the local door.
    pub socket: SocketPlace,
    /// The address of the local door, on the loopback; `None` when switched off.
    pub door: Option<SocketAddr>,
}

/// Where the socket of the local door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPlace {
    /// In the data directory.
    DataDir,
    /// Elsewhere.
    At(PathBuf),
    /// Nowhere.
    Off,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How log lines look.
    pub format: LogFormat,
    /// A level or directives per module, checked.
    pub level: String,
}
