//! The table of all keys.

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Free text up to so many bytes; empty is refused.
    Text { bytes_max: usize },
    /// A path of a file or a folder.
    Path,
    /// A list of text; in the environment and in flags separated by commas.
    List { items_max: usize },
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds; the unit is the last word of the key.
    Number { min: u64, max: u64 },
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct KeySpec {
    /// Section and name joined by dots, as in `nats.tls.ca`.
    pub name: &'static str,
    pub kind: Kind,
    /// The default as it would stand in the file; `None` for a key that may be absent.
    pub default: Option<&'static str>,
    /// Hidden by `config show`.
    pub secret: bool,
    /// One line for `config show`.
    pub help: &'static str,
}

impl KeySpec {
    /// `FLOTILLA_NATS_TLS_CA` for `nats.tls.ca`.
    pub(super) fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The section in which the key stands, as in `nats.tls`.
    pub(super) fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The last part of the name.
    pub(super) fn last(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, last)| last)
    }
}

/// What our environment variables begin with.
pub(super) const ENV_PREFIX: &str = "FLOTILLA_";

/// Longest text or path value in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Longest id of a site or a node in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Most NATS servers in a list.
const URLS_MAX: usize = 32;
/// Most addresses of the mesh in a list.
const ADDRESSES_MAX: usize = 32;
/// Shortest and longest raft tick.
const TICK_MS_MIN: u64 = 5;
const TICK_MS_MAX: u64 = 1_000;
/// Most ticks of an election timeout.
const TICKS_MAX: u64 = 1_000;

const fn key(name: &'static str, kind: Kind, help: &'static str) -> KeySpec {
    KeySpec { name, kind, default: None, secret: false, help }
}

const fn with(spec: KeySpec, default: &'static str) -> KeySpec {
    KeySpec { default: Some(default), ..spec }
}

const fn secret(spec: KeySpec) -> KeySpec {
    KeySpec { secret: true, ..spec }
}

const TEXT: Kind = Kind::Text { bytes_max: TEXT_BYTES_MAX };
const NAME: Kind = Kind::Text { bytes_max: NAME_BYTES_MAX };

/// All keys, in the order in which `config show` prints them.
pub(super) const KEYS: &[KeySpec] = &[
    key("site.name", NAME, "the site this agent expects to belong to"),
    key("node.name", NAME, "the name of this gateway at the site"),
    with(
        key("node.data_dir", Kind::Path, "where the log, the snapshots and the node's key live"),
        "\"/var/lib/flotilla\"",
    ),
    with(
        key("nats.enabled", Kind::Bool, "use NATS; without it the mesh carries everything"),
        "true",
    ),
    with(
        key("nats.urls", Kind::List { items_max: URLS_MAX }, "NATS servers, nats:// or tls://"),
        "[\"nats://127.0.0.1:4222\"]",
    ),
    key("nats.context", TEXT, "a context of the nats CLI to take servers and credentials from"),
    key("nats.user", TEXT, "user at the NATS server"),
    secret(key("nats.password", TEXT, "its password; better in password_file")),
    key("nats.password_file", Kind::Path, "a file that holds the password"),
    key("nats.token_file", Kind::Path, "a file that holds a NATS token"),
    key("nats.nkey_file", Kind::Path, "a file that holds an NKey seed"),
    key("nats.creds_file", Kind::Path, "a credentials file (JWT and seed)"),
    with(
        key(
            "nats.allow_insecure",
            Kind::Bool,
            "accept plaintext or no credentials off the loopback",
        ),
        "false",
    ),
    key(
        "nats.tls.ca",
        Kind::Path,
        "certificates that vouch for the server, which then has to speak TLS; default: the system's",
    ),
    key("nats.tls.cert", Kind::Path, "client certificate (PEM)"),
    key("nats.tls.key", Kind::Path, "its key (PEM)"),
    with(key("nats.tls.first", Kind::Bool, "TLS before the server's greeting"), "false"),
    with(
        key(
            "raft.tick_ms",
            Kind::Number { min: TICK_MS_MIN, max: TICK_MS_MAX },
            "length of a tick",
        ),
        "25",
    ),
    with(
        key(
            "raft.heartbeat_ticks",
            Kind::Number { min: 1, max: TICKS_MAX },
            "ticks between heartbeats",
        ),
        "2",
    ),
    with(
        key(
            "raft.election_ticks_min",
            Kind::Number { min: 3, max: TICKS_MAX },
            "shortest election timeout",
        ),
        "10",
    ),
    with(
        key(
            "raft.election_ticks_max",
            Kind::Number { min: 4, max: TICKS_MAX },
            "longest election timeout",
        ),
        "30",
    ),
    with(
        key(
            "raft.snapshot_every_entries",
            Kind::Number { min: 100, max: 100_000_000 },
            "a snapshot after so many entries",
        ),
        "100000",
    ),
    with(
        key(
            "raft.snapshot_every_bytes",
            Kind::Number { min: 1 << 20, max: 1 << 40 },
            "or after so many bytes of log",
        ),
        "67108864",
    ),
    with(
        key(
            "raft.log_trailing_entries",
            Kind::Number { min: 0, max: 100_000_000 },
            "entries kept behind a snapshot, for gateways that were away for a moment",
        ),
        "10000",
    ),
    with(
        key(
            "raft.log_bytes_max",
            Kind::Number { min: 64 << 20, max: 1 << 40 },
            "a log beyond this size waits for no gateway that is away",
        ),
        "268435456",
    ),
    with(
        key(
            "raft.transport",
            Kind::Choice(&["auto", "nats", "mesh"]),
            "the way between agents: NATS while it works, or one way only",
        ),
        "\"auto\"",
    ),
    with(key("mesh.enabled", Kind::Bool, "join the mesh of the gateways, beside NATS"), "true"),
    with(
        key(
            "mesh.listen",
            Kind::List { items_max: ADDRESSES_MAX },
            "where the other gateways may connect, as multiaddresses",
        ),
        "[\"/ip4/0.0.0.0/tcp/4244\", \"/ip6/::/tcp/4244\"]",
    ),
    key(
        "mesh.bootstrap",
        Kind::List { items_max: ADDRESSES_MAX },
        "addresses of other gateways; one that is up is enough",
    ),
    with(key("mesh.mdns", Kind::Bool, "find gateways on the local network"), "true"),
    with(
        key(
            "mesh.bulk_bytes_per_second",
            Kind::Number { min: 2 << 20, max: 1 << 32 },
            "how fast snapshots go to one gateway over the mesh",
        ),
        "16777216",
    ),
    with(key("http.listen", TEXT, "health and metrics; \"off\" for none"), "\"127.0.0.1:0\""),
    with(
        key("http.allow_remote", Kind::Bool, "let http.listen be an address off the loopback"),
        "false",
    ),
    key(
        "http.socket",
        TEXT,
        "the local door's Unix socket, or \"off\"; default: door.sock in node.data_dir",
    ),
    with(
        key("http.door", TEXT, "the local door on a loopback port as well; \"off\" for none"),
        "\"off\"",
    ),
    key(
        "devices.simulated_dir",
        Kind::Path,
        "folder of the journals of simulated links; without it there are no simulated links",
    ),
    with(key("log.format", Kind::Choice(&["text", "json"]), "how log lines look"), "\"text\""),
    with(
        key("log.level", TEXT, "error, warn, info, debug, trace, or directives per module"),
        "\"info\"",
    ),
];

/// The key of that full name.
pub(super) fn find(name: &str) -> Option<&'static KeySpec> {
    KEYS.iter().find(|spec| spec.name == name)
}

/// Whether `name` is a section (`nats`, `nats.tls`).
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|spec| spec.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// Names in a foreign word are compared up to this length.
const COMPARED_BYTES_MAX: usize = 64;
/// Similarity (0 to 1) from which a suggestion helps more than it confuses.
const SIMILAR_ENOUGH: f64 = 0.7;

/// The key that was probably meant by `wrong`.
///
/// The full name is compared, and the last part too: a key put into another section is found.
pub(super) fn similar(wrong: &str) -> Option<&'static str> {
    if wrong.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let wrong_last = wrong.rsplit('.').next().unwrap_or(wrong);
    KEYS.iter()
        .map(|spec| {
            let whole = strsim::normalized_damerau_levenshtein(wrong, spec.name);
            // A hit in another section counts a little less than one in the same.
            let last = strsim::normalized_damerau_levenshtein(wrong_last, spec.last()) * 0.95;
            (whole.max(last), spec.name)
        })
        .filter(|(score, _)| *score >= SIMILAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
