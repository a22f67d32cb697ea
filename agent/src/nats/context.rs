//! Contexts of the `nats` CLI: JSON files with servers and credentials, one per name.
//!
//! They lie at `$XDG_CONFIG_HOME/nats/context/<name>.json`, or below `~/.config`. Members that
//! this agent can't honour are refused by name, because dropping them would connect in another
//! way than the operator's CLI does; unknown members (descriptions, JetStream settings) don't
//! matter for us.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::prepare::NatsError;

/// Largest context file in bytes.
const CONTEXT_BYTES_MAX: u64 = 64 * 1024;
/// Longest name of a context in bytes.
const CONTEXT_NAME_BYTES_MAX: usize = 128;

/// What a context may hold that we use. Empty text means "not set", as in the CLI.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub url: String,
    pub token: String,
    pub user: String,
    pub password: String,
    pub creds: String,
    pub nkey: String,
    pub cert: String,
    pub key: String,
    pub ca: String,
    pub tls_first: bool,
    pub inbox_prefix: String,
    socks_proxy: String,
    nsc: String,
    user_jwt: String,
    user_seed: String,
    windows_cert_store: String,
}

/// Where contexts lie, from the environment of this process.
pub(super) fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    variable("XDG_CONFIG_HOME")
        .filter(absolute)
        .or_else(|| variable("HOME").filter(absolute).map(|home| home.join(".config")))
        .map(|config| config.join("nats").join("context"))
}

/// Reads the context of that name.
pub(super) fn read(folder: Option<&Path>, name: &str) -> Result<Context, NatsError> {
    let refuse = |what: String| NatsError::Context { name: name.to_owned(), what };
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.len() > CONTEXT_NAME_BYTES_MAX || name.starts_with('.') || !name.chars().all(ok) {
        return Err(refuse("that can't be the name of a context".to_owned()));
    }
    let folder =
        folder.ok_or_else(|| refuse("neither XDG_CONFIG_HOME nor HOME is set".to_owned()))?;
    let path = folder.join(format!("{name}.json"));
    let shown = path.display();
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(CONTEXT_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| refuse(format!("{shown} can't be read: {error}")))?;
    if text.len() as u64 > CONTEXT_BYTES_MAX {
        return Err(refuse(format!("{shown} has more than {CONTEXT_BYTES_MAX} bytes")));
    }
    let context: Context = serde_json::from_str(&text)
        .map_err(|error| refuse(format!("{shown} is not a valid context: {error}")))?;
    for (member, value) in [
        ("socks_proxy", &context.socks_proxy),
        ("nsc", &context.nsc),
        ("user_jwt", &context.user_jwt),
        ("user_seed", &context.user_seed),
        ("windows_cert_store", &context.windows_cert_store),
    ] {
        if !value.is_empty() {
            return Err(refuse(format!("it uses {member}, which agents don't support")));
        }
    }
    Ok(context)
}

/// A path from a context; the CLI lets `~/` stand for the home folder.
pub(super) fn expand(path: &str, home: Option<PathBuf>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}
