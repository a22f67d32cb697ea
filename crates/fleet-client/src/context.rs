//! Contexts of the `nats` command: JSON files below `$XDG_CONFIG_HOME/nats/context`, one per name.
//!
//! Who uses the `nats` command has told it already where the servers are and how to log in. What is
//! given to us directly wins over the context. A setting that would change *who* we are or *where* we
//! go and that we do not know is refused; descriptions and JetStream settings do not matter here.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Auth, ConnectConfig, ConnectError, connect::SERVER_DEFAULT};

/// Largest context file.
const CONTEXT_BYTES_MAX: u64 = 64 * 1024;
const NAME_BYTES_MAX: usize = 128;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    url: String,
    token: String,
    user: String,
    password: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    tls_first: bool,
    inbox_prefix: String,
    socks_proxy: String,
    nsc: String,
    user_jwt: String,
    user_seed: String,
    windows_cert_store: String,
}

/// The configuration with what its context and the defaults add.
pub(crate) fn complete(config: &ConnectConfig) -> Result<ConnectConfig, ConnectError> {
    let variable =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = variable("HOME");
    let folder = variable("XDG_CONFIG_HOME")
        .or_else(|| home.as_ref().map(|home| home.join(".config")))
        .map(|folder| folder.join("nats").join("context"));
    let mut config = match &config.context {
        Some(name) => {
            filled(config.clone(), name, &read(folder.as_deref(), name)?, home.as_deref())?
        }
        None => config.clone(),
    };
    if config.servers.is_empty() {
        config.servers = vec![SERVER_DEFAULT.to_owned()];
    }
    Ok(config)
}

fn unusable(name: &str, what: &str) -> ConnectError {
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    ConnectError::Options(format!(
        "NATS context \"{}\": {what}; see `nats context ls`",
        shown.escape_debug()
    ))
}

fn read(folder: Option<&Path>, name: &str) -> Result<Context, ConnectError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.starts_with('.')
        || !name.chars().all(allowed)
    {
        return Err(unusable(name, "this cannot be the name of a context"));
    }
    let folder = folder.ok_or_else(|| unusable(name, "neither XDG_CONFIG_HOME nor HOME is set"))?;
    let path = folder.join(format!("{name}.json"));
    let size = std::fs::metadata(&path)
        .map_err(|error| unusable(name, &format!("{} cannot be read: {error}", path.display())))?
        .len();
    if size > CONTEXT_BYTES_MAX {
        return Err(unusable(
            name,
            &format!("{} is larger than {CONTEXT_BYTES_MAX} bytes", path.display()),
        ));
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| unusable(name, &format!("{} cannot be read: {error}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| unusable(name, &format!("{} is not a context: {error}", path.display())))
}

fn filled(
    mut config: ConnectConfig,
    name: &str,
    context: &Context,
    home: Option<&Path>,
) -> Result<ConnectConfig, ConnectError> {
    let foreign = [
        ("socks_proxy", &context.socks_proxy),
        ("nsc", &context.nsc),
        ("user_jwt", &context.user_jwt),
        ("user_seed", &context.user_seed),
        ("windows_cert_store", &context.windows_cert_store),
    ];
    if let Some((member, _)) = foreign.iter().find(|(_, value)| !value.is_empty()) {
        return Err(unusable(name, &format!("it uses {member}, which is not supported here")));
    }
    let set = |text: &String| (!text.is_empty()).then(|| text.clone());
    let path = |text: &String| {
        set(text).map(|text| match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        })
    };
    if config.servers.is_empty() && !context.url.is_empty() {
        config.servers = context.url.split(',').map(|url| url.trim().to_owned()).collect();
    }
    if config.auth == Auth::None {
        config.auth = match (
            path(&context.creds),
            path(&context.nkey),
            set(&context.user),
            set(&context.token),
        ) {
            (Some(file), ..) => Auth::CredsFile(file),
            (None, Some(file), ..) => Auth::NkeyFile(file),
            (None, None, Some(user), _) => {
                Auth::Password { user, password: context.password.clone() }
            }
            (None, None, None, Some(token)) => Auth::Token(token),
            (None, None, None, None) => Auth::None,
        };
    }
    if config.tls.cert.is_none() && config.tls.key.is_none() {
        config.tls.cert = path(&context.cert);
        config.tls.key = path(&context.key);
    }
    config.tls.ca = config.tls.ca.or_else(|| path(&context.ca));
    config.tls.first |= context.tls_first;
    config.inbox_prefix = config.inbox_prefix.or_else(|| set(&context.inbox_prefix));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> Context {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn a_context_fills_what_is_not_given() {
        let read = context(
            r#"{"description":"x","url":"nats://a:4222, nats://b:4222","creds":"~/me.creds","user":"ignored","ca":"/ca.pem","jetstream_domain":""}"#,
        );
        let home = Path::new("/home/me");
        let config = filled(ConnectConfig::default(), "x", &read, Some(home)).unwrap();
        assert_eq!(config.servers, ["nats://a:4222", "nats://b:4222"]);
        assert_eq!(config.auth, Auth::CredsFile("/home/me/me.creds".into()));
        assert_eq!(config.tls.ca, Some("/ca.pem".into()));

        let given = ConnectConfig {
            servers: vec!["nats://c".to_owned()],
            auth: Auth::Token("t".to_owned()),
            ..ConnectConfig::default()
        };
        let config = filled(given.clone(), "x", &read, Some(home)).unwrap();
        assert_eq!((config.servers, config.auth), (given.servers, given.auth));
    }

    #[test]
    fn what_we_cannot_honour_is_refused() {
        let read = context(r#"{"nsc":"nsc://op/acc/user"}"#);
        let error = filled(ConnectConfig::default(), "x", &read, None).unwrap_err();
        assert!(error.to_string().contains("nsc"), "{error}");
    }

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["", "../x", "a/b", ".hidden", "a\0", "a b"] {
            assert!(super::read(Some(Path::new("/nowhere")), name).is_err(), "{name}");
        }
        let error = super::read(Some(Path::new("/nowhere")), "absent").unwrap_err();
        assert!(error.to_string().contains("nats context ls"), "{error}");
    }
}
