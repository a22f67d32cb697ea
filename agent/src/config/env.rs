//! The environment layer: `FLOTILLA_<SECTION>_<KEY>`.

use super::error::{ConfigError, Origin};
use super::layers::Settings;
use super::schema::{self, ENV_PREFIX, KEYS};
use super::values;

/// Variables of ours that look like keys of the agent and are meant for somebody else.
const FOREIGN: &[&str] = &["FLOTILLA_NATS_SERVER", "FLOTILLA_NATS_CONTEXT_DIR"];

/// Takes the variables into `settings`, over what stands there.
///
/// A variable in one of our sections that no key has is refused, as it would be in the file;
/// others that begin with the prefix belong to the CLI.
pub(super) fn read(
    variables: &[(String, String)],
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    for (name, raw) in variables {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let origin = Origin::Env(name.clone());
        if let Some(spec) = KEYS.iter().find(|spec| spec.env_name() == *name) {
            let value = values::parse(spec, raw).map_err(|misfit| {
                ConfigError::new(Some(origin.clone()), spec.name, misfit.what, misfit.fix)
            })?;
            settings.put(spec, value, origin);
        } else if in_our_sections(rest) && !FOREIGN.contains(&name.as_str()) {
            let guess = rest.to_lowercase().replacen('_', ".", 1);
            let fix = match schema::similar(&guess).and_then(schema::find) {
                Some(meant) => format!("did you mean {}?", meant.env_name()),
                None => "unset it; `config show` lists all keys".to_owned(),
            };
            let key = values::escaped(&guess);
            return Err(ConfigError::new(Some(origin), key, "unknown key", fix));
        }
    }
    Ok(())
}

fn in_our_sections(rest: &str) -> bool {
    rest.split_once('_').is_some_and(|(section, _)| schema::is_section(&section.to_lowercase()))
}
