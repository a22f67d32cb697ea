//! What a proposal may hold.

mod agents;
mod device;

use std::sync::Arc;

use thiserror::Error;

use agents::check_agents;
pub(crate) use device::check_wishes;
use device::{check_device, check_invoke, check_ttl};

use super::{Command, LabelPatch, Labels, LinkSpec, NODE_LABEL, Placement, Proposal};
use crate::codec::Writer;
use crate::ids::check_tokens;
use crate::limits::{
    ACTOR_BYTES_MAX, ADDRESS_BYTES_MAX, BATCH_ITEMS_MAX, LABEL_KEY_BYTES_MAX,
    LABEL_VALUE_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, NOTE_BYTES_MAX, PROPOSAL_BYTES_MAX,
    REASON_BYTES_MAX, SETTINGS_BYTES_MAX, TOKEN_TTL_MS_MAX, TOKEN_TTL_MS_MIN, TOKEN_USES_MAX,
    VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VOTERS_MAX,
};
use crate::outcome::{RejectCode, Rejection};
use crate::value::{Object, Value};

/// Why a proposal cannot be taken, whatever the state is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Invalid {
    /// [`RejectCode::Malformed`] or [`RejectCode::TooLarge`].
    pub code: RejectCode,
    /// The field, the limit and what to do.
    pub message: String,
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Rejection::new(invalid.code, invalid.message)
    }
}

fn malformed(message: impl Into<String>) -> Invalid {
    Invalid { code: RejectCode::Malformed, message: message.into() }
}

fn too_large(field: &str, found: usize, limit: usize, unit: &str) -> Invalid {
    let message = format!("{field} has {found} {unit}; the limit is {limit}; make it smaller");
    Invalid { code: RejectCode::TooLarge, message }
}

fn at_most(field: &str, found: usize, limit: usize, unit: &str) -> Result<(), Invalid> {
    if found > limit { Err(too_large(field, found, limit, unit)) } else { Ok(()) }
}

pub(super) fn check(proposal: &Proposal) -> Result<(), Invalid> {
    if let Some(actor) = &proposal.actor {
        check_text("the actor", actor, ACTOR_BYTES_MAX)?;
    }
    if proposal.if_revision.is_some() && !takes_precondition(&proposal.command) {
        return Err(malformed(
            "this command has no entity of its own, so it takes no revision to compare with",
        ));
    }
    check_command(&proposal.command)?;
    if may_be_large(&proposal.command) {
        let mut writer = Writer::new();
        proposal.write(&mut writer);
        at_most("the command", writer.len(), PROPOSAL_BYTES_MAX, "bytes")?;
    }
    Ok(())
}

/// Everything else is bounded by the limits of its own fields.
fn may_be_large(command: &Command) -> bool {
    matches!(command, Command::Batch(_) | Command::DeviceRegister { .. } | Command::Agents(_))
}

fn takes_precondition(command: &Command) -> bool {
    !matches!(
        command,
        Command::Batch(_)
            | Command::Join(_)
            | Command::Certify { .. }
            | Command::SetVoters { .. }
            | Command::CommandCancel { .. }
            | Command::Agents(_)
    )
}

fn check_command(command: &Command) -> Result<(), Invalid> {
    match command {
        Command::LinkRegister { spec, .. } => check_link(spec),
        Command::DeviceRegister { spec, .. } => check_device(spec),
        Command::DeviceUpdate { patch: object, ttl_ms, .. }
        | Command::DeviceReplace { desired: object, ttl_ms, .. } => {
            check_ttl(*ttl_ms)?;
            check_wishes(object)
        }
        Command::DeviceHold { reason, .. } => check_text("the reason", reason, REASON_BYTES_MAX),
        Command::DeviceInvoke { action, args, ttl_ms, .. } => {
            check_ttl(*ttl_ms)?;
            check_invoke(action, args)
        }
        Command::Agents(command) => check_agents(command),
        Command::ParamSet { value, .. } => check_value(value),
        Command::Batch(items) => {
            if items.is_empty() {
                return Err(malformed("the batch is empty; give 1 to 256 commands"));
            }
            at_most("the batch", items.len(), BATCH_ITEMS_MAX, "commands")?;
            let mut numbered = items.iter().enumerate();
            numbered.try_for_each(|(position, item)| check_item(position, &item.command))
        }
        Command::MemberLabel { labels, .. } => check_label_patch(labels),
        Command::TokenCreate { ttl_ms, uses, note, .. } => check_token(*ttl_ms, *uses, note),
        Command::SetVoters { voters } if voters.is_multiple_of(2) || *voters > VOTERS_MAX => {
            Err(malformed(format!("{voters} voters are asked for; give 1, 3, 5 or 7")))
        }
        Command::LinkDelete { .. }
        | Command::LinkMove { .. }
        | Command::LinkPause { .. }
        | Command::DeviceDelete { .. }
        | Command::DeviceMode { .. }
        | Command::DeviceRelease { .. }
        | Command::CommandCancel { .. }
        | Command::NodeDrain { .. }
        | Command::ParamDelete { .. }
        | Command::TokenRevoke { .. }
        | Command::Join(_)
        | Command::Certify { .. }
        | Command::MemberRemove { .. }
        | Command::MemberPromote { .. }
        | Command::SetVoters { .. } => Ok(()),
    }
}

fn check_item(position: usize, command: &Command) -> Result<(), Invalid> {
    let checked = if command.kind().in_batch() {
        check_command(command)
    } else {
        Err(malformed(
            "a batch holds commands of links, devices and parameters only, and no invocation",
        ))
    };
    checked.map_err(|inner| Invalid {
        message: format!("item {} of the batch: {}", position + 1, inner.message),
        ..inner
    })
}

fn check_token(ttl_ms: u64, uses: u32, note: &str) -> Result<(), Invalid> {
    if !(TOKEN_TTL_MS_MIN..=TOKEN_TTL_MS_MAX).contains(&ttl_ms) {
        return Err(malformed(format!(
            "the token's life is {ttl_ms} ms; give 1 second to 30 days"
        )));
    }
    if !(1..=TOKEN_USES_MAX).contains(&uses) {
        return Err(malformed(format!("the token is for {uses} uses; give 1 to {TOKEN_USES_MAX}")));
    }
    check_text("the token's note", note, NOTE_BYTES_MAX)
}

fn check_link(spec: &LinkSpec) -> Result<(), Invalid> {
    check_tokens("the connector", &spec.connector, 1)
        .map_err(|error| malformed(error.to_string()))?;
    check_text("the address", &spec.address, ADDRESS_BYTES_MAX)?;
    check_text("the name", &spec.name, NAME_BYTES_MAX)?;
    check_labels(&spec.labels)?;
    check_settings(&spec.settings)?;
    match &spec.placement {
        Placement::Any { labels } => check_labels(labels),
        Placement::On(_) => Ok(()),
    }
}

fn check_labels(labels: &Labels) -> Result<(), Invalid> {
    at_most("the list of labels", labels.len(), LABELS_MAX, "labels")?;
    for (key, value) in labels {
        if key.is_empty() {
            return Err(malformed("a label has an empty key; name it"));
        }
        check_text("a label's key", key, LABEL_KEY_BYTES_MAX)?;
        check_text("a label's value", value, LABEL_VALUE_BYTES_MAX)?;
    }
    Ok(())
}

fn check_label_patch(patch: &LabelPatch) -> Result<(), Invalid> {
    if patch.is_empty() {
        return Err(malformed("no label is named; give at least one"));
    }
    if patch.contains_key(NODE_LABEL) {
        return Err(malformed(format!(
            "the label {NODE_LABEL:?} is the member's name and can't be changed; choose another key"
        )));
    }
    let entry = |(key, value): (&Arc<str>, &Option<Arc<str>>)| {
        (Arc::clone(key), value.clone().unwrap_or_default())
    };
    check_labels(&patch.iter().map(entry).collect())
}

/// Free text: bounded, and without control characters, which would play tricks on terminals and logs.
fn check_text(field: &str, text: &str, limit: usize) -> Result<(), Invalid> {
    at_most(field, text.len(), limit, "bytes")?;
    match text.chars().find(|c| c.is_control()) {
        Some(found) => Err(malformed(format!(
            "{field} contains the control character {}",
            found.escape_default()
        ))),
        None => Ok(()),
    }
}

fn check_settings(settings: &Object) -> Result<(), Invalid> {
    check_bounded("the settings", settings, SETTINGS_BYTES_MAX)
}

pub(crate) fn check_value(value: &Value) -> Result<(), Invalid> {
    at_most("the value", value.depth(VALUE_DEPTH_MAX), VALUE_DEPTH_MAX, "levels")?;
    at_most("the value", value.size_bytes(), VALUE_BYTES_MAX, "bytes as JSON")
}

fn check_bounded(field: &str, object: &Object, bytes_max: usize) -> Result<(), Invalid> {
    let deepest = object.iter().map(|(_, value)| value.depth(VALUE_DEPTH_MAX)).max().unwrap_or(0);
    at_most(field, deepest + 1, VALUE_DEPTH_MAX, "levels")?;
    at_most(field, object.size_bytes(), bytes_max, "bytes as JSON")
}
