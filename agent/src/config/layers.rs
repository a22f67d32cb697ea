//! The three sources and what they add up to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::{ConfigError, Origin};
use super::schema::{self, KEYS, KeySpec};
use super::values::{self, Value};
use super::{env, file};

/// Where the configuration is taken from, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration file; a file that is named and missing is an error.
    pub file: Option<PathBuf>,
    /// The environment, or the part of it that begins with `FLOTILLA_`.
    pub env: Vec<(String, String)>,
    /// Flags as pairs of key and value: `("node.data_dir", "/tmp/a")`.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// A source with the process's environment.
    ///
    /// A variable of ours that isn't UTF-8 is taken with replacement characters, which no key
    /// accepts silently: the message then shows what stood there.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                let ours = name.starts_with(schema::ENV_PREFIX);
                ours.then(|| (name, value.to_string_lossy().into_owned()))
            })
            .collect();
        Self { file, env, flags }
    }
}

/// The values that are set, each with its origin; a later layer replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    set: BTreeMap<&'static str, (Value, Origin)>,
}

impl Settings {
    pub(super) fn put(&mut self, spec: &KeySpec, value: Value, origin: Origin) {
        self.set.insert(spec.name, (value, origin));
    }

    /// The value and the origin of a key, if it is set or has a default.
    pub(super) fn get(&self, name: &str) -> Option<&(Value, Origin)> {
        self.set.get(name)
    }

    /// How many keys don't have their default.
    pub(super) fn set_count(&self) -> usize {
        self.set.values().filter(|(_, origin)| *origin != Origin::Default).count()
    }
}

/// Adds up defaults, file, environment and flags.
pub(super) fn collect(sources: &Sources) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    for spec in KEYS {
        let Some(default) = spec.default else {
            continue;
        };
        let raw = default.trim_matches(['[', ']']).replace('"', "");
        let value = values::parse(spec, &raw)
            .map_err(|misfit| ConfigError::new(None, spec.name, misfit.what, misfit.fix))?;
        settings.put(spec, value, Origin::Default);
    }
    if let Some(path) = &sources.file {
        file::read(path, &mut settings)?;
    }
    env::read(&sources.env, &mut settings)?;
    flags(&sources.flags, &mut settings)?;
    Ok(settings)
}

fn flags(flags: &[(String, String)], settings: &mut Settings) -> Result<(), ConfigError> {
    for (name, raw) in flags {
        let origin = Origin::Flag(format!("--set {}=…", values::escaped(name)));
        let Some(spec) = schema::find(name) else {
            let fix = match schema::similar(name) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "leave it out; `config show` lists all keys".to_owned(),
            };
            return Err(ConfigError::new(Some(origin), values::escaped(name), "unknown key", fix));
        };
        let value = values::parse(spec, raw).map_err(|misfit| {
            ConfigError::new(Some(origin.clone()), spec.name, misfit.what, misfit.fix)
        })?;
        settings.put(spec, value, origin);
    }
    Ok(())
}
