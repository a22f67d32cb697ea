//! From the configuration to servers and credentials that are ready to be used.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_nats::ServerAddr;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{NatsAuth, NatsConfig, Secret, TlsConfig};

use super::context::{self, Context};

/// Why no connection to NATS can be prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NatsError {
    /// A URL that can't be used.
    #[error("nats.urls: {url} {what}; write it as nats://host:4222 or tls://host:4222")]
    Url {
        /// The URL, its credentials hidden.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// URLs with different credentials.
    #[error(
        "nats.urls: the servers are given different credentials; an agent uses the same for all: put them into nats.user and nats.password_file"
    )]
    MixedCredentials,
    /// Credentials both in a URL and in the configuration.
    #[error("nats.urls: a URL holds credentials, and {key} is set too; keep one of them")]
    TwiceCredentials {
        /// The other place.
        key: &'static str,
    },
    /// A context that can't be used.
    #[error("nats.context: \"{}\": {what}; see `nats context ls`", name.escape_debug())]
    Context {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A secret file that can't be used; the text says what to do.
    #[error("{key}: {what}")]
    SecretFile {
        /// The key that names it.
        key: &'static str,
        /// What is wrong and what to do.
        what: String,
    },
    /// A file that doesn't hold what it should.
    #[error("{key}: {path} does not hold {wanted}; check that this is the right file")]
    Content {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// What was expected in it.
        wanted: &'static str,
    },
    /// An unencrypted connection over a network.
    #[error(
        "nats.urls: {url} is not on this machine and the connection would not be encrypted; use tls://, or set nats.allow_insecure = true if the network is trusted"
    )]
    Plaintext {
        /// The URL, its credentials hidden.
        url: String,
    },
    /// A connection over a network without proof of who we are.
    #[error(
        "nats.urls: {url} is not on this machine and no credentials are configured for it; set nats.creds_file, nats.nkey_file, nats.token_file, nats.user or nats.tls.cert, or nats.allow_insecure = true if the network is trusted"
    )]
    Unauthenticated {
        /// The URL, its credentials hidden.
        url: String,
    },
}

/// How the agent proves who it is, with the secrets read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    None,
    Password { user: String, password: Secret },
    Token(Secret),
    Nkey(Secret),
    Credentials(Secret),
}

/// Checked settings from which connections are made.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) proof: Proof,
    pub(super) tls: TlsConfig,
    pub(super) require_tls: bool,
    pub(super) ignore_discovered: bool,
    pub(super) inbox_prefix: Option<String>,
}

impl Prepared {
    /// The servers without credentials, for logs and for join tokens.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| redacted(server.as_url_str())).collect()
    }
}

/// Checks the configuration and reads the files it names.
///
/// # Errors
/// The first thing that is wrong, with its key and what to do.
pub fn prepare(config: &NatsConfig) -> Result<Prepared, NatsError> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    prepare_with(config, context::folder(variable).as_deref(), variable("HOME"))
}

/// As [`prepare`], with the folder of contexts and the home folder given.
pub(super) fn prepare_with(
    config: &NatsConfig,
    contexts: Option<&Path>,
    home: Option<PathBuf>,
) -> Result<Prepared, NatsError> {
    let (config, inbox_prefix, token) = match &config.context {
        Some(name) => {
            let context = context::read(contexts, name)?;
            with_context(config.clone(), name, &context, home)?
        }
        None => (config.clone(), None, None),
    };
    let servers = servers(&config.urls)?;
    let proof = match (proof(&config.auth)?, token) {
        (Proof::None, Some(token)) => Proof::Token(token),
        (proof, _) => proof,
    };
    let proof = with_url_credentials(&servers, proof)?;
    check_pem(&config.tls)?;
    let all_tls = servers.iter().all(|server| server.tls_required());
    // Who names whom to trust wants to know whom the password goes to.
    let named = config.tls.ca.is_some() || config.tls.client.is_some();
    let require_tls = config.tls.first || named || all_tls;
    let authenticated = proof != Proof::None || config.tls.client.is_some();
    if !config.allow_insecure {
        for server in servers.iter().filter(|server| !is_loopback(server.host())) {
            let url = redacted(server.as_url_str());
            if !require_tls && !server.tls_required() {
                return Err(NatsError::Plaintext { url });
            }
            if !authenticated {
                return Err(NatsError::Unauthenticated { url });
            }
        }
    }
    Ok(Prepared {
        servers,
        proof,
        tls: config.tls,
        require_tls,
        ignore_discovered: !(require_tls || config.allow_insecure),
        inbox_prefix,
    })
}

type WithContext = (NatsConfig, Option<String>, Option<Secret>);

/// Fills in from a context what the configuration leaves open.
fn with_context(
    mut config: NatsConfig,
    name: &str,
    context: &Context,
    home: Option<PathBuf>,
) -> Result<WithContext, NatsError> {
    let refuse = |what: &str| NatsError::Context { name: name.to_owned(), what: what.to_owned() };
    let set = |text: &String| (!text.is_empty()).then(|| text.clone());
    let path = |text: &String| set(text).map(|text| context::expand(&text, home.clone()));
    if config.urls_are_default && !context.url.is_empty() {
        config.urls = context.url.split(',').map(|url| url.trim().to_owned()).collect();
    }
    let mut token = None;
    if config.auth == NatsAuth::None {
        config.auth = if let Some(file) = path(&context.creds) {
            NatsAuth::CredsFile(file)
        } else if let Some(file) = path(&context.nkey) {
            NatsAuth::NkeyFile(file)
        } else if let Some(user) = set(&context.user) {
            let password = Secret::new(context.password.clone());
            NatsAuth::Password { user, password }
        } else {
            token = set(&context.token).map(Secret::new);
            NatsAuth::None
        };
    }
    if config.tls.ca.is_none() {
        config.tls.ca = path(&context.ca);
    }
    if config.tls.client.is_none() {
        config.tls.client = match (path(&context.cert), path(&context.key)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                return Err(refuse("cert and key belong together, and one of them is missing"));
            }
        };
    }
    config.tls.first |= context.tls_first;
    Ok((config, set(&context.inbox_prefix), token))
}

fn servers(urls: &[String]) -> Result<Vec<ServerAddr>, NatsError> {
    let mut servers = Vec::with_capacity(urls.len());
    for url in urls {
        let refuse = |what: &str| NatsError::Url { url: redacted(url), what: what.to_owned() };
        let server: ServerAddr = url.parse().map_err(|_| refuse("is not a URL"))?;
        match server.scheme() {
            "nats" | "tls" => {}
            _ => return Err(refuse("has a scheme that agents don't speak")),
        }
        if server.host().is_empty() {
            return Err(refuse("names no host"));
        }
        if server.port() == 0 {
            return Err(refuse("has port 0"));
        }
        let parsed = server.clone().into_inner();
        if !matches!(parsed.path(), "" | "/")
            || parsed.query().is_some()
            || parsed.fragment().is_some()
        {
            return Err(refuse("has something behind the port"));
        }
        servers.push(server);
    }
    Ok(servers)
}

fn proof(auth: &NatsAuth) -> Result<Proof, NatsError> {
    let read = |key: &'static str, path: &Path| {
        crate::config::read_secret_file(path)
            .map_err(|error| NatsError::SecretFile { key, what: error.to_string() })
    };
    let content = |key, path: &Path, wanted| NatsError::Content {
        key,
        path: path.display().to_string(),
        wanted,
    };
    Ok(match auth {
        NatsAuth::None => Proof::None,
        NatsAuth::Password { user, password } => {
            Proof::Password { user: user.clone(), password: password.clone() }
        }
        NatsAuth::PasswordFile { user, path } => {
            Proof::Password { user: user.clone(), password: read("nats.password_file", path)? }
        }
        NatsAuth::TokenFile(path) => Proof::Token(read("nats.token_file", path)?),
        NatsAuth::NkeyFile(path) => {
            let text = read("nats.nkey_file", path)?;
            // The file may carry remarks; the seed is the line that begins like one of a user.
            let seed = text.reveal().lines().map(str::trim).find(|line| line.starts_with("SU"));
            match seed {
                Some(seed) => Proof::Nkey(Secret::new(seed)),
                None => {
                    return Err(content("nats.nkey_file", path, "the seed of a user (SU…)"));
                }
            }
        }
        NatsAuth::CredsFile(path) => {
            let text = read("nats.creds_file", path)?;
            let both = ["NATS USER JWT", "USER NKEY SEED"];
            if !both.iter().all(|part| text.reveal().contains(part)) {
                return Err(content("nats.creds_file", path, "a user's JWT and seed"));
            }
            Proof::Credentials(text)
        }
    })
}

/// Looks into the TLS files now: the client would say no more than that TLS failed.
fn check_pem(tls: &TlsConfig) -> Result<(), NatsError> {
    let refuse = |key, path: &Path, wanted| NatsError::Content {
        key,
        path: path.display().to_string(),
        wanted,
    };
    let is_certificate = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .is_ok_and(|mut found| matches!(found.next(), Some(Ok(_))))
    };
    if let Some(ca) = tls.ca.as_deref().filter(|ca| !is_certificate(ca)) {
        return Err(refuse("nats.tls.ca", ca, "a certificate in PEM form"));
    }
    if let Some((cert, key)) = &tls.client {
        if !is_certificate(cert) {
            return Err(refuse("nats.tls.cert", cert, "a certificate in PEM form"));
        }
        if PrivateKeyDer::from_pem_file(key).is_err() {
            return Err(refuse("nats.tls.key", key, "a private key in PEM form"));
        }
    }
    Ok(())
}

/// Takes user and password, or a token, from the URLs; all must say the same.
fn with_url_credentials(servers: &[ServerAddr], proof: Proof) -> Result<Proof, NatsError> {
    let of = |server: &ServerAddr| match (server.username(), server.password()) {
        (None, _) => Proof::None,
        (Some(token), None) => Proof::Token(Secret::new(decoded(token))),
        (Some(user), Some(password)) => {
            Proof::Password { user: decoded(user), password: Secret::new(decoded(password)) }
        }
    };
    let mut found = servers.iter().map(of).filter(|proof| *proof != Proof::None);
    let Some(first) = found.next() else {
        return Ok(proof);
    };
    if found.any(|other| other != first) {
        return Err(NatsError::MixedCredentials);
    }
    match proof {
        Proof::None => Ok(first),
        Proof::Password { .. } => Err(NatsError::TwiceCredentials { key: "nats.user" }),
        Proof::Token(_) => Err(NatsError::TwiceCredentials { key: "nats.token_file" }),
        Proof::Nkey(_) => Err(NatsError::TwiceCredentials { key: "nats.nkey_file" }),
        Proof::Credentials(_) => Err(NatsError::TwiceCredentials { key: "nats.creds_file" }),
    }
}

/// Undoes percent encoding; what isn't valid stays as it is.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Only literal addresses and `localhost`: what another name means is up to somebody's DNS.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A URL without its credentials.
pub(crate) fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}").escape_debug().to_string()
}
