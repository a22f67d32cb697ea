//! The configuration of an agent: a TOML file, then the environment, then flags, the later ones
//! winning key by key.
//!
//! Every key stands once, in the table of `schema`: its section, what it may hold, its default
//! and what it is for. From that table come the reading of the file, the names of the
//! environment variables (`FLOTILLA_<SECTION>_<KEY>`, as in `FLOTILLA_NATS_URLS`), the flags
//! (`--set section.key=value`), the "did you mean" of an unknown key and the listing of
//! `config show`. Units stand last in a key's name (`tick_ms`), so values are plain numbers.
//!
//! Phases, in this order:
//! 1. `file` reads the file, within a bound, and turns it into settings with their place.
//! 2. `env` adds the environment, `layers` the flags.
//! 3. `build` turns the settings into a [`Config`], checking each range and then what must
//!    hold between keys (a heartbeat shorter than an election, a certificate with its key).
//!
//! An error always names the place (file, line and column, or the variable, or the flag), the
//! key, what is wrong with it and what to do. Nothing is started with a configuration that has
//! an error in it: there are no warnings and no half-taken values.
//!
//! This module opens the configuration file and looks at the permissions of the secret files it
//! names; it connects to nothing. Its tests are tables in `tests.rs` beside it.

mod build;
mod env;
mod error;
mod file;
mod layers;
mod schema;
mod secrets;
mod sections;
mod show;
mod values;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Origin};
pub use layers::Sources;
pub use secrets::Secret;
pub(crate) use secrets::read_file as read_secret_file;
pub use sections::{
    Config, HttpConfig, LogConfig, LogFormat, MeshConfig, NatsAuth, NatsConfig, NodeConfig,
    RaftConfig, SiteConfig, SocketPlace, TlsConfig, TransportConfig,
};

/// What `load` gives: the typed configuration and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The validated configuration.
    pub config: Config,
    settings: layers::Settings,
}

impl Loaded {
    /// The effective configuration as TOML, each line with its origin; secrets are hidden.
    ///
    /// The text is itself a valid configuration file, apart from the hidden secrets.
    #[must_use]
    pub fn show(&self) -> String {
        show::show(&self.settings)
    }
}

/// Reads and checks the configuration from its three sources.
///
/// # Errors
/// The first thing that is wrong, with its place, its key and what to do.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let settings = layers::collect(sources)?;
    let config = build::build(&settings)?;
    Ok(Loaded { config, settings })
}

/// Checks the configuration and gives the one line that `config check` prints.
///
/// # Errors
/// As [`load`].
pub fn check(sources: &Sources) -> Result<String, ConfigError> {
    let loaded = load(sources)?;
    let origin = match &sources.file {
        Some(path) => path.display().to_string(),
        None => "no file; defaults, environment and flags".to_owned(),
    };
    Ok(format!(
        "configuration is valid ({origin}; {} of {} keys set)",
        loaded.settings.set_count(),
        schema::KEYS.len()
    ))
}
