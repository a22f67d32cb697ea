//! `config show`: the effective configuration, with the origin of each value.

use std::fmt::Write;

use super::error::Origin;
use super::layers::Settings;
use super::schema::KEYS;
use super::values::Value;

/// Column at which the remark behind a value begins, where the value leaves room.
const REMARK_COLUMN: usize = 44;

/// The settings as TOML text. A key without a value stands as a remark.
pub(super) fn show(settings: &Settings) -> String {
    let mut out = String::new();
    let mut section = "";
    for spec in KEYS {
        if spec.section() != section {
            section = spec.section();
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}[{section}]");
        }
        let line = match settings.get(spec.name) {
            None => format!("# {} is not set", spec.last()),
            Some(_) if spec.secret => format!("{} = \"(hidden)\"", spec.last()),
            Some((value, _)) => format!("{} = {}", spec.last(), toml_text(value)),
        };
        let origin = settings.get(spec.name).map_or(&Origin::Default, |(_, origin)| origin);
        let remark = match settings.get(spec.name) {
            None => format!("# {}", spec.help),
            Some(_) => format!("# {origin}: {}", spec.help),
        };
        let _ = writeln!(out, "{line:<REMARK_COLUMN$} {remark}");
    }
    out
}

fn toml_text(value: &Value) -> String {
    match value {
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::List(items) => {
            // A URL may hold a password; an address of the mesh has no @.
            let shown = items.iter().map(|item| match item.rsplit_once('@') {
                Some(_) => crate::nats::redacted(item),
                None => item.clone(),
            });
            toml::Value::Array(shown.map(toml::Value::String).collect()).to_string()
        }
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
    }
}
