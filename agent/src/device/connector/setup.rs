//! What links and devices are registered with.

use std::fmt;
use std::sync::Arc;

use fleet_state::{DeviceId, LinkId, Object};
use thiserror::Error;

/// The longest part of a refusal.
const SHOWN_CHARS_MAX: usize = 600;

/// What a link is registered with, as far as it concerns its connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSetup {
    /// Its id.
    pub id: LinkId,
    /// Where it is, in the connector's own form.
    pub address: Arc<str>,
    /// The connector's own settings.
    pub settings: Object,
}

/// What a device is registered with, as far as it concerns its connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSetup {
    /// Its id.
    pub id: DeviceId,
    /// Where it is on its link, in the connector's own form.
    pub address: Arc<str>,
    /// What it is, where a connector has presets.
    pub model: Option<Arc<str>>,
    /// The connector's own settings: topics, templates, a register map.
    pub settings: Object,
}

/// What is wrong with a registration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Refusal {
    /// The field, as the user wrote it: `settings.registers[2].type`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: shown(&field.into()), problem: shown(&problem.into()), hint: None }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shown(&hint.into()));
        self
    }
}

/// What somebody wrote, as it can be shown: without characters that a terminal obeys, and not longer
/// than anybody reads.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(SHOWN_CHARS_MAX));
    for c in text.chars().take(SHOWN_CHARS_MAX) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}
