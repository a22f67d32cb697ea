//! Tables of good and bad configurations.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::{LogFormat, NatsAuth, Sources, TransportConfig, check, load};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn from_text(text: impl AsRef<[u8]>) -> Result<super::Loaded, ConfigError> {
    let folder = folder();
    let file = write(folder.path(), "flotilla.toml", text);
    load(&Sources { file: Some(file), ..Sources::default() })
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn nothing_at_all_gives_the_defaults() {
    let config = load(&Sources::default()).unwrap().config;
    assert_eq!(config.nats.urls, ["nats://127.0.0.1:4222"]);
    assert!(config.nats.urls_are_default);
    assert_eq!(config.nats.auth, NatsAuth::None);
    assert_eq!(config.raft.tick_ms, 25);
    assert_eq!((config.raft.election_ticks_min, config.raft.election_ticks_max), (10, 30));
    assert_eq!((config.raft.log_trailing_entries, config.raft.log_bytes_max), (10_000, 256 << 20));
    assert_eq!(config.http.listen, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.log.format, LogFormat::Text);
    assert!(config.site.name.is_none());
    assert_eq!(config.raft.transport, TransportConfig::Auto);
    assert_eq!(config.mesh.listen, ["/ip4/0.0.0.0/tcp/4244", "/ip6/::/tcp/4244"]);
    assert!(config.mesh.listen_is_default && config.mesh.bootstrap.is_empty());
}

#[test]
fn later_layers_win_key_by_key() {
    let folder = folder();
    let file = write(
        folder.path(),
        "f.toml",
        "[site]\r\nname = \"home\"\r\n[raft]\r\ntick_ms = 0x14\r\nheartbeat_ticks = 1\r\n[http]\r\nlisten = \"off\"\r\n",
    );
    let sources = Sources {
        file: Some(file),
        env: pairs(&[
            ("FLOTILLA_RAFT_TICK_MS", "30"),
            ("FLOTILLA_RAFT_HEARTBEAT_TICKS", "2"),
            ("FLOTILLA_NATS_URLS", "nats://127.0.0.1:1, nats://[::1]:2"),
            ("FLOTILLA_NATS_TLS_FIRST", "true"),
            // Those of the CLI and of others are left alone.
            ("FLOTILLA_SERVER", "x"),
            ("FLOTILLA_TIMEOUT", "4s"),
            ("FLOTILLA_NATS_SERVER", "/usr/bin/nats-server"),
            ("PATH", "/bin"),
        ]),
        flags: pairs(&[("raft.heartbeat_ticks", "3")]),
    };
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.site.name.unwrap().to_string(), "home");
    assert_eq!(loaded.config.raft.tick_ms, 30);
    assert_eq!(loaded.config.raft.heartbeat_ticks, 3);
    assert_eq!(loaded.config.nats.urls, ["nats://127.0.0.1:1", "nats://[::1]:2"]);
    assert!(loaded.config.nats.tls.first);
    assert_eq!(loaded.config.http.listen, None);
    assert!(check(&sources).unwrap().contains("f.toml; 6 of"));
}

/// What stands in the file, and what the message must contain.
const BAD_FILES: &[(&str, &[&str])] = &[
    (
        "[mesh]\nlisten = [\"127.0.0.1:4244\"]\n",
        &[
            "flotilla.toml:2:10: mesh.listen: \"127.0.0.1:4244\" can't be used",
            "/ip4/192.168.1.7/tcp/4244",
        ],
    ),
    (
        "[mesh]\nbootstrap = [\"/ip4/10.0.0.1/udp/4244\"]\n",
        &["mesh.bootstrap", "only /ip4/…/tcp/…"],
    ),
    (
        "[raft]\ntransport = \"mesh\"\n[mesh]\nenabled = false\n",
        &["raft.transport", "mesh.enabled is false", "set mesh.enabled = true"],
    ),
    ("[raft]\ntransport = \"both\"\n", &["raft.transport", "auto, nats, mesh"]),
    (
        "[nats]\nurl = [\"nats://h\"]\n",
        &[":2:1:", "nats.url:", "unknown key", "did you mean nats.urls?"],
    ),
    ("[nat]\nurls = []\n", &[":1:2:", "nat:", "unknown key"]),
    (
        "[raft]\ntick_ms = 25\n  hartbeat_ticks = 2\n",
        &[":3:3:", "did you mean raft.heartbeat_ticks?"],
    ),
    ("[node]\nlisten = \"off\"\n", &[":2:1:", "did you mean http.listen?"]),
    ("tick_ms = 25\n", &[":1:1:", "did you mean raft.tick_ms?"]),
    ("qqqqqqq = 1\n", &[":1:1:", "unknown key; remove it"]),
    ("\"a\\nb\" = 1\n", &["a\\nb: unknown key"]),
    ("\"raft.tick_ms\" = 25\n", &["unknown key"]),
    ("raft = 3\n", &["raft: this is a section, not a whole number", "[raft]"]),
    ("[[raft]]\ntick_ms = 25\n", &["raft: this is a section, not a list"]),
    ("[raft]\ntick_ms = 25\ntick_ms = 30\n", &[":3:1:", "duplicate key", "keep one of them"]),
    ("[raft]\ntick_ms = 25\n[raft]\n", &[":3:", "duplicate"]),
    (
        "[raft]\ntick_ms = 0\n",
        &[":2:11:", "raft.tick_ms: 0 is out of range", "from 5 to 1000 (milliseconds)"],
    ),
    ("[raft]\ntick_ms = -25\n", &["raft.tick_ms: -25 is out of range"]),
    ("[raft]\ntick_ms = 2.5\n", &["raft.tick_ms: this is a number with a point", "a whole number"]),
    ("[raft]\ntick_ms = \"25ms\"\n", &["raft.tick_ms: this is a text", "a whole number"]),
    ("[raft]\ntick_ms = 99999999999999999999999\n", &["raft.tick_ms:", "out of range"]),
    (
        "[raft]\ntick_ms = 999999999999999999999999999999999999999999999\n",
        &["raft.tick_ms:", "out of range"],
    ),
    (
        "[raft]\nheartbeat_ticks = 10\n",
        &["raft.heartbeat_ticks: a heartbeat every 10 ticks", "three times"],
    ),
    (
        "[raft]\nelection_ticks_min = 5\n",
        &[":2:22:", "raft.election_ticks_min: a heartbeat every 2"],
    ),
    (
        "[raft]\nelection_ticks_max = 10\n",
        &["raft.election_ticks_max:", "not above the shortest (10)"],
    ),
    ("[raft]\nsnapshot_every_bytes = 5\n", &["(bytes)"]),
    ("[raft]\nlog_bytes_max = 1\n", &["raft.log_bytes_max: 1 is out of range", "67108864"]),
    (
        "[raft]\nsnapshot_every_bytes = 536870912\n",
        &["raft.snapshot_every_bytes: a log of at most 268435456 bytes", "raft.log_bytes_max"],
    ),
    ("[nats]\nurls = \"nats://h\"\n", &["nats.urls: this is a text", "a list of text"]),
    ("[nats]\nurls = []\n", &["nats.urls: the list is empty"]),
    ("[nats]\nurls = [\"a\", 3]\n", &["nats.urls: item 2 is a whole number"]),
    ("[nats]\nurls = [\"a\", \"a\"]\n", &["nats.urls: \"a\" stands twice"]),
    ("[nats]\nurls = [\"a b\"]\n", &["nats.urls: item 1", "space"]),
    ("[nats]\nurls = [\"\"]\n", &["nats.urls: item 1 is empty"]),
    (
        "[nats]\nallow_insecure = \"yes\"\n",
        &["nats.allow_insecure: this is a text", "true or false"],
    ),
    ("[nats]\nuser = \"u\"\n", &["nats.user: there is no password", "nats.password_file"]),
    ("[nats]\npassword_file = \"/x\"\n", &["nats.password_file: nats.user is not set"]),
    (
        "[nats]\nuser = \"u\"\npassword = \"p\"\npassword_file = \"/x\"\n",
        &["nats.password is set too"],
    ),
    (
        "[nats]\nnkey_file = \"/x\"\ncreds_file = \"/y\"\n",
        &["nats.creds_file: nats.nkey_file is set too"],
    ),
    ("[nats]\ncreds_file = \"/nowhere/x\"\n", &["nats.creds_file: /nowhere/x can't be read"]),
    ("[nats]\ncreds_file = \"/\"\n", &["nats.creds_file: / can't be read: it is not a file"]),
    ("[nats.tls]\ncert = \"/etc/hostname\"\n", &["nats.tls.cert: its key is missing"]),
    ("[nats.tls]\nkey = \"/etc/hostname\"\n", &["nats.tls.key: its certificate is missing"]),
    ("[nats.tls]\nca = \"/nowhere\"\n", &["nats.tls.ca: /nowhere is not a file"]),
    ("[site]\nname = \"Home\"\n", &[":2:8:", "site.name:"]),
    ("[site]\nname = \"\"\n", &["site.name: the value is empty"]),
    ("[site]\nname = \"a.b\"\n", &["site.name:"]),
    ("[site]\nname = 3\n", &["site.name: this is a whole number", "text in quotes"]),
    ("[node]\nname = \"an-id-that-is-longer-than-thirty-two-bytes\"\n", &["node.name:", "32"]),
    ("[node]\ndata_dir = \"a\\u0000b\"\n", &["node.data_dir:", "control character"]),
    (
        "[http]\nlisten = \"0.0.0.0:80\"\n",
        &["http.listen: 0.0.0.0:80 can be reached", "allow_remote"],
    ),
    ("[http]\nlisten = \"[::]:80\"\n", &["http.listen: [::]:80 can be reached"]),
    ("[http]\nlisten = \"example.com:80\"\n", &["http.listen:", "is not an address"]),
    ("[http]\nlisten = \"127.0.0.1\"\n", &["http.listen:", "is not an address"]),
    ("[http]\nlisten = \"127.0.0.1:65536\"\n", &["http.listen:", "is not an address"]),
    ("[log]\nformat = \"xml\"\n", &["log.format: \"xml\" is not a known word", "text, json"]),
    ("[log]\nlevel = \"inof\"\n", &["log.level: \"inof\" is not a log level"]),
    ("[raft\n", &[":1:", "TOML:"]),
    ("= 3\n", &[":1:1:", "TOML:"]),
    ("[log]\nlevel = info\n", &[":2:9:", "TOML:"]),
    ("[log]\nlevel = \"info\n", &[":2:", "TOML:"]),
];

#[test]
fn a_bad_file_is_refused_with_place_key_and_fix() {
    for (text, wanted) in BAD_FILES {
        let message = from_text(text).map(|_| ()).expect_err(text).to_string();
        for part in *wanted {
            assert!(message.contains(part), "{text:?}: {message:?} lacks {part:?}");
        }
        assert!(message.contains("; "), "{text:?}: {message:?} says nothing to do");
        assert!(!message.chars().any(char::is_control), "{text:?}: {message:?}");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let folder = folder();
    let huge = folder.path().join("huge");
    // Sparse: a file of 100 MB that takes no room.
    fs::File::create(&huge).unwrap().set_len(100_000_000).unwrap();
    let cases: &[(PathBuf, &str)] = &[
        (folder.path().join("missing.toml"), "can't be read"),
        (folder.path().to_owned(), "this is a directory"),
        (PathBuf::from("/dev/null"), "not a regular file"),
        (huge, "larger than 1048576 bytes"),
        (write(folder.path(), "bom", "\u{feff}[log]\n"), "byte order mark"),
        (write(folder.path(), "latin", b"[site]\nname = \"caf\xe9\"\n"), "not UTF-8 from byte 18"),
        (write(folder.path(), "nul", "\0\0\0"), "TOML"),
        (write(folder.path(), "deep", format!("a = {}", "[".repeat(100_000))), "TOML"),
    ];
    for (path, wanted) in cases {
        let sources = Sources { file: Some(path.clone()), ..Sources::default() };
        let message = load(&sources).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message:?} lacks {wanted:?}");
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
}

#[test]
fn bad_variables_and_flags_are_refused() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "FLOTILLA_RAFT_TICK_MS",
            "25ms",
            &["environment FLOTILLA_RAFT_TICK_MS", "not a whole number"],
        ),
        ("FLOTILLA_RAFT_TICK_MS", "", &["not a whole number"]),
        ("FLOTILLA_RAFT_TICK_MS", "-1", &["out of range"]),
        ("FLOTILLA_RAFT_TIK_MS", "25", &["unknown key", "did you mean FLOTILLA_RAFT_TICK_MS?"]),
        ("FLOTILLA_NATS_QQQQQQQQQQ", "25", &["unknown key", "unset it"]),
        ("FLOTILLA_NATS_ALLOW_INSECURE", "1", &["neither true nor false"]),
        ("FLOTILLA_NATS_URLS", "", &["item 1 is empty"]),
        ("FLOTILLA_NATS_URLS", "a,,b", &["item 2 is empty"]),
        ("FLOTILLA_LOG_FORMAT", "\u{1b}[2J", &["control character"]),
    ];
    for (name, value, wanted) in cases {
        let sources = Sources { env: pairs(&[(name, value)]), ..Sources::default() };
        let message = load(&sources).map(|_| ()).expect_err(name).to_string();
        for part in *wanted {
            assert!(message.contains(part), "{name}={value}: {message:?} lacks {part:?}");
        }
    }
    for (name, value, wanted) in [
        ("raft.tick", "25", "did you mean raft.tick_ms?"),
        ("zzz", "25", "unknown key"),
        ("raft.tick_ms", "x", "flag --set raft.tick_ms=…"),
    ] {
        let sources = Sources { flags: pairs(&[(name, value)]), ..Sources::default() };
        let message = load(&sources).map(|_| ()).expect_err(name).to_string();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn secrets_must_not_be_open_to_everybody() {
    let folder = folder();
    let secret = write(folder.path(), "secret", "s3cret\n");
    let text = format!("[nats]\nuser = \"u\"\npassword_file = {secret:?}\n");
    assert!(from_text(&text).is_ok());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let message = from_text(&text).unwrap_err().to_string();
    assert!(
        message.contains("nats.password_file:") && message.contains("chmod o-rwx"),
        "{message}"
    );

    let file = write(folder.path(), "f.toml", "[nats]\nuser = \"u\"\npassword = \"s3cret\"\n");
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    assert!(load(&sources).is_ok());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let message = load(&sources).unwrap_err().to_string();
    assert!(message.contains("nats.password:") && message.contains("chmod"), "{message}");
}

#[test]
fn show_tells_origins_hides_secrets_and_reads_back() {
    let folder = folder();
    let file = write(
        folder.path(),
        "f.toml",
        "[nats]\nuser = \"u\"\npassword = \"hunter2\"\nurls = [\"nats://a:hunter2@127.0.0.1\"]\n",
    );
    let sources = Sources {
        file: Some(file.clone()),
        env: pairs(&[("FLOTILLA_LOG_LEVEL", "debug")]),
        flags: pairs(&[("node.name", "gw1")]),
    };
    let loaded = load(&sources).unwrap();
    let shown = loaded.show();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{:?}", loaded.config.nats.auth).contains("hunter2"));
    for part in [
        "password = \"(hidden)\"",
        "urls = [\"nats://127.0.0.1\"]",
        "level = \"debug\"",
        "# environment FLOTILLA_LOG_LEVEL:",
        "# flag --set node.name=…:",
        "# default:",
        &format!("# {}:2:8:", file.display()),
        "# creds_file is not set",
    ] {
        assert!(shown.contains(part), "{shown} lacks {part}");
    }
    let again = from_text(&shown).unwrap();
    assert_eq!(again.config.node.name, loaded.config.node.name);
    assert_eq!(again.config.raft, loaded.config.raft);
}
