//! From settings to the typed configuration, and what must hold between keys.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::error::{ConfigError, Origin};
use super::layers::Settings;
use super::secrets::{self, Secret};
use super::sections::{
    Config, DevicesConfig, HttpConfig, LogConfig, LogFormat, MeshConfig, NatsAuth, NatsConfig,
    NodeConfig, RaftConfig, SiteConfig, SocketPlace, TlsConfig, TransportConfig,
};
use super::values::{self, Value};

/// Builds and checks the typed configuration.
pub(super) fn build(settings: &Settings) -> Result<Config, ConfigError> {
    let reader = Reader { settings };
    Ok(Config {
        site: SiteConfig { name: reader.parsed("site.name")? },
        node: NodeConfig {
            name: reader.parsed("node.name")?,
            data_dir: reader.path("node.data_dir").unwrap_or_default(),
        },
        nats: nats(&reader)?,
        raft: raft(&reader)?,
        mesh: mesh(&reader)?,
        http: http(&reader)?,
        devices: devices(&reader)?,
        log: log(&reader)?,
    })
}

/// Typed access to the settings; the kinds were checked when they were put.
struct Reader<'a> {
    settings: &'a Settings,
}

impl Reader<'_> {
    fn origin(&self, name: &str) -> Option<Origin> {
        self.settings.get(name).map(|(_, origin)| origin.clone())
    }

    fn refuse(&self, name: &str, what: impl Into<String>, fix: impl Into<String>) -> ConfigError {
        ConfigError::new(self.origin(name), name, what, fix)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.settings.get(name)? {
            (Value::Text(text), _) => Some(text.clone()),
            (Value::List(_) | Value::Bool(_) | Value::Number(_), _) => None,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.settings.get(name) {
            Some((Value::List(items), _)) => items.clone(),
            _ => Vec::new(),
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.settings.get(name), Some((Value::Bool(true), _)))
    }

    fn number(&self, name: &str) -> u64 {
        match self.settings.get(name) {
            Some((Value::Number(number), _)) => *number,
            _ => 0,
        }
    }

    /// A tick count; the table of keys bounds it far below `u32::MAX`.
    fn ticks(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or(u32::MAX)
    }

    fn parsed<T>(&self, name: &str) -> Result<Option<T>, ConfigError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: T::Err| {
            self.refuse(name, error.to_string(), "use 1 to 32 of a-z, 0-9, _ and -")
        })
    }
}

/// The ways of proving who we are; at most one may be set.
const AUTH_KEYS: [&str; 4] = ["nats.user", "nats.token_file", "nats.nkey_file", "nats.creds_file"];

fn nats(reader: &Reader<'_>) -> Result<NatsConfig, ConfigError> {
    let mut set = AUTH_KEYS.iter().filter(|name| reader.text(name).is_some());
    if let (Some(first), Some(second)) = (set.next(), set.next()) {
        return Err(reader.refuse(
            second,
            format!("{first} is set too, and only one way to authenticate can be used"),
            "keep one of them",
        ));
    }
    for name in ["nats.password", "nats.password_file"] {
        if reader.text(name).is_some() && reader.text("nats.user").is_none() {
            return Err(reader.refuse(name, "nats.user is not set", "set nats.user as well"));
        }
    }
    exposed_password(reader)?;
    let auth = auth(reader)?;
    let urls_are_default = reader.origin("nats.urls") == Some(Origin::Default);
    Ok(NatsConfig {
        enabled: reader.flag("nats.enabled"),
        urls: reader.list("nats.urls"),
        urls_are_default,
        context: reader.text("nats.context"),
        auth,
        tls: tls(reader)?,
        allow_insecure: reader.flag("nats.allow_insecure"),
    })
}

fn auth(reader: &Reader<'_>) -> Result<NatsAuth, ConfigError> {
    if let Some(user) = reader.text("nats.user") {
        return match (reader.text("nats.password"), reader.path("nats.password_file")) {
            (Some(password), None) => {
                Ok(NatsAuth::Password { user, password: Secret::new(password) })
            }
            (None, Some(path)) => {
                secret_file(reader, "nats.password_file", &path)?;
                Ok(NatsAuth::PasswordFile { user, path })
            }
            (Some(_), Some(_)) => Err(reader.refuse(
                "nats.password_file",
                "nats.password is set too",
                "keep one of them, better the file",
            )),
            (None, None) => Err(reader.refuse(
                "nats.user",
                "there is no password for it",
                "set nats.password_file as well",
            )),
        };
    }
    type Make = fn(PathBuf) -> NatsAuth;
    let files: [(&str, Make); 3] = [
        ("nats.token_file", NatsAuth::TokenFile),
        ("nats.nkey_file", NatsAuth::NkeyFile),
        ("nats.creds_file", NatsAuth::CredsFile),
    ];
    for (name, make) in files {
        if let Some(path) = reader.path(name) {
            secret_file(reader, name, &path)?;
            return Ok(make(path));
        }
    }
    Ok(NatsAuth::None)
}

fn secret_file(reader: &Reader<'_>, name: &str, path: &std::path::Path) -> Result<(), ConfigError> {
    secrets::check_file(path).map_err(|error| split(reader, name, &error))
}

/// A secret file's message already ends in what to do, behind its last semicolon.
fn split(reader: &Reader<'_>, name: &str, error: &secrets::SecretFileError) -> ConfigError {
    let message = error.to_string();
    let (what, fix) = message.rsplit_once("; ").unwrap_or((&message, "check the file"));
    reader.refuse(name, what, fix)
}

/// A password in the configuration file makes that file a secret file.
fn exposed_password(reader: &Reader<'_>) -> Result<(), ConfigError> {
    match reader.origin("nats.password") {
        Some(Origin::File { path, .. }) => {
            secrets::check_file(&path).map_err(|error| split(reader, "nats.password", &error))
        }
        _ => Ok(()),
    }
}

fn tls(reader: &Reader<'_>) -> Result<TlsConfig, ConfigError> {
    for name in ["nats.tls.ca", "nats.tls.cert"] {
        if let Some(path) = reader.path(name)
            && !path.is_file()
        {
            let what = format!("{} is not a file that can be read", path.display());
            return Err(reader.refuse(name, what, "check the path and its permissions"));
        }
    }
    let client = match (reader.path("nats.tls.cert"), reader.path("nats.tls.key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            secret_file(reader, "nats.tls.key", &key)?;
            Some((cert, key))
        }
        (Some(_), None) => {
            return Err(reader.refuse("nats.tls.cert", "its key is missing", "set nats.tls.key"));
        }
        (None, Some(_)) => {
            return Err(reader.refuse(
                "nats.tls.key",
                "its certificate is missing",
                "set nats.tls.cert",
            ));
        }
    };
    Ok(TlsConfig { ca: reader.path("nats.tls.ca"), client, first: reader.flag("nats.tls.first") })
}

/// Heartbeats that must fit into the shortest election timeout.
const HEARTBEATS_PER_ELECTION_MIN: u32 = 3;

fn raft(reader: &Reader<'_>) -> Result<RaftConfig, ConfigError> {
    let config = RaftConfig {
        tick_ms: reader.number("raft.tick_ms"),
        heartbeat_ticks: reader.ticks("raft.heartbeat_ticks"),
        election_ticks_min: reader.ticks("raft.election_ticks_min"),
        election_ticks_max: reader.ticks("raft.election_ticks_max"),
        snapshot_every_entries: reader.number("raft.snapshot_every_entries"),
        snapshot_every_bytes: reader.number("raft.snapshot_every_bytes"),
        log_trailing_entries: reader.number("raft.log_trailing_entries"),
        log_bytes_max: reader.number("raft.log_bytes_max"),
        transport: match reader.text("raft.transport").as_deref() {
            Some("nats") => TransportConfig::Nats,
            Some("mesh") => TransportConfig::Mesh,
            Some(_) | None => TransportConfig::Auto,
        },
    };
    // A follower must miss several heartbeats before it may doubt the leader.
    if config.heartbeat_ticks.saturating_mul(HEARTBEATS_PER_ELECTION_MIN)
        > config.election_ticks_min
    {
        return Err(reader.refuse(
            blamed(reader, "raft.heartbeat_ticks", "raft.election_ticks_min"),
            format!(
                "a heartbeat every {} ticks is too slow for an election timeout of {} ticks",
                config.heartbeat_ticks, config.election_ticks_min
            ),
            "make raft.election_ticks_min at least three times raft.heartbeat_ticks",
        ));
    }
    if config.log_bytes_max < config.snapshot_every_bytes {
        return Err(reader.refuse(
            blamed(reader, "raft.log_bytes_max", "raft.snapshot_every_bytes"),
            format!(
                "a log of at most {} bytes can't reach from one snapshot to the next, {} bytes on",
                config.log_bytes_max, config.snapshot_every_bytes
            ),
            "make raft.log_bytes_max greater, best four times raft.snapshot_every_bytes",
        ));
    }
    if config.election_ticks_max <= config.election_ticks_min {
        return Err(reader.refuse(
            blamed(reader, "raft.election_ticks_max", "raft.election_ticks_min"),
            format!(
                "the longest election timeout ({}) is not above the shortest ({})",
                config.election_ticks_max, config.election_ticks_min
            ),
            "make raft.election_ticks_max greater, best three times raft.election_ticks_min",
        ));
    }
    Ok(config)
}

/// Of two keys that contradict each other, the one that somebody has set.
fn blamed<'a>(reader: &Reader<'_>, first: &'a str, second: &'a str) -> &'a str {
    if reader.origin(first) == Some(Origin::Default) { second } else { first }
}

fn mesh(reader: &Reader<'_>) -> Result<MeshConfig, ConfigError> {
    let config = MeshConfig {
        enabled: reader.flag("mesh.enabled"),
        listen: reader.list("mesh.listen"),
        listen_is_default: reader.origin("mesh.listen") == Some(Origin::Default),
        bootstrap: reader.list("mesh.bootstrap"),
        mdns: reader.flag("mesh.mdns"),
        bulk_bytes_per_second: reader.number("mesh.bulk_bytes_per_second"),
    };
    for (name, addresses) in
        [("mesh.listen", &config.listen), ("mesh.bootstrap", &config.bootstrap)]
    {
        for address in addresses {
            crate::mesh::check_address(address).map_err(|error| {
                let what = format!("{} can't be used: {error}", values::quoted(address));
                reader.refuse(name, what, "write it as /ip4/192.168.1.7/tcp/4244")
            })?;
        }
    }
    if !reader.flag("nats.enabled") {
        without_nats(reader, &config)?;
    }
    if !config.enabled && reader.text("raft.transport").as_deref() == Some("mesh") {
        return Err(reader.refuse(
            "raft.transport",
            "frames shall go over the mesh, and mesh.enabled is false",
            "set mesh.enabled = true, or raft.transport = \"auto\"",
        ));
    }
    Ok(config)
}

/// What must hold where the mesh carries everything.
fn without_nats(reader: &Reader<'_>, mesh: &MeshConfig) -> Result<(), ConfigError> {
    if !mesh.enabled {
        return Err(reader.refuse(
            blamed(reader, "mesh.enabled", "nats.enabled"),
            "NATS and the mesh are both switched off, so nobody could be reached",
            "set one of nats.enabled and mesh.enabled to true",
        ));
    }
    if reader.text("raft.transport").as_deref() == Some("nats") {
        return Err(reader.refuse(
            "raft.transport",
            "frames shall go over NATS, and nats.enabled is false",
            "set nats.enabled = true, or raft.transport = \"auto\"",
        ));
    }
    Ok(())
}

fn http(reader: &Reader<'_>) -> Result<HttpConfig, ConfigError> {
    let listen = address(reader, "http.listen")?;
    if let Some(address) = listen.filter(|address| !address.ip().is_loopback())
        && !reader.flag("http.allow_remote")
    {
        let what = format!("{address} {REMOTE}");
        let fix = "use 127.0.0.1, or set http.allow_remote = true";
        return Err(reader.refuse("http.listen", what, fix));
    }
    let door = address(reader, "http.door")?;
    if let Some(address) = door.filter(|address| !address.ip().is_loopback()) {
        let fix = "use 127.0.0.1 and a port, or the socket; other machines command over NATS";
        return Err(reader.refuse("http.door", format!("{address} {REMOTE}"), fix));
    }
    let socket = match reader.text("http.socket").as_deref() {
        None => SocketPlace::DataDir,
        Some("off") => SocketPlace::Off,
        Some(path) => SocketPlace::At(PathBuf::from(path)),
    };
    Ok(HttpConfig { listen, socket, door })
}

const REMOTE: &str = "can be reached from other machines, and nobody is asked who they are";

/// The address in a key; `None` for "off".
fn address(reader: &Reader<'_>, name: &str) -> Result<Option<SocketAddr>, ConfigError> {
    let text = reader.text(name).unwrap_or_default();
    if text == "off" {
        return Ok(None);
    }
    // Only literal addresses and localhost: a name that resolves elsewhere tomorrow would move
    // an unauthenticated listener.
    let address = match text.strip_prefix("localhost:") {
        Some(_) => text.to_socket_addrs().ok().and_then(|mut found| found.next()),
        None => text.parse().ok(),
    };
    let what = || format!("{} is not an address", values::quoted(&text));
    let fix = "write an address and a port such as \"127.0.0.1:8222\", or \"off\"";
    address.map(Some).ok_or_else(|| reader.refuse(name, what(), fix))
}

fn devices(reader: &Reader<'_>) -> Result<DevicesConfig, ConfigError> {
    let simulated_dir = reader.path("devices.simulated_dir");
    if let Some(path) = simulated_dir.as_ref().filter(|path| !path.is_absolute()) {
        let what = format!("{} is not an absolute path", path.display());
        let fix =
            "write a folder that all agents of this machine may write, such as \"/var/tmp/plant\"";
        return Err(reader.refuse("devices.simulated_dir", what, fix));
    }
    Ok(DevicesConfig { simulated_dir })
}

fn log(reader: &Reader<'_>) -> Result<LogConfig, ConfigError> {
    let level = reader.text("log.level").unwrap_or_default();
    crate::logging::check_level(&level).map_err(|what| {
        reader.refuse("log.level", what, "write error, warn, info, debug, trace or off")
    })?;
    let format = match reader.text("log.format").as_deref() {
        Some("json") => LogFormat::Json,
        _ => LogFormat::Text,
    };
    Ok(LogConfig { format, level })
}
