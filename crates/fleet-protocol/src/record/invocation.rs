//! Invocations as replies and events show them.

use fleet_state::Invocation;
use serde::{Deserialize, Serialize};

use crate::Json;

/// An invocation of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvocationBody {
    /// The request that asked for it.
    pub id: String,
    /// Which device.
    pub device: String,
    /// What it is to do.
    pub action: String,
    /// With what.
    pub args: Json,
    /// Who is said to ask.
    pub actor: Option<String>,
    /// How far it got.
    pub stage: String,
    /// More about its end.
    pub detail: String,
    /// The node that took it, when one did.
    pub node: Option<u64>,
    /// That node's epoch.
    pub epoch: Option<u64>,
    /// Log time until which it may be handed over, when that is limited.
    pub deadline_log_ms: Option<u64>,
    /// Whether it may be carried out twice without harm.
    pub idempotent: bool,
    /// Revision at which it was asked for.
    pub committed: u64,
    /// Revision of its last change.
    pub revision: u64,
    /// When it last changed.
    pub changed_wall_ms: u64,
}

impl From<&Invocation> for InvocationBody {
    fn from(invocation: &Invocation) -> Self {
        Self {
            id: invocation.id.to_string(),
            device: invocation.device.to_string(),
            action: invocation.action.to_string(),
            args: Json::from(invocation.args.clone()),
            actor: invocation.actor.as_ref().map(ToString::to_string),
            stage: invocation.stage.as_str().to_owned(),
            detail: invocation.detail.to_string(),
            node: invocation.dispatch.as_ref().map(|dispatch| dispatch.node.get()),
            epoch: invocation.dispatch.as_ref().map(|dispatch| dispatch.epoch),
            deadline_log_ms: invocation.deadline_log_ms,
            idempotent: invocation.idempotent,
            committed: invocation.committed.get(),
            revision: invocation.revision.get(),
            changed_wall_ms: invocation.changed_wall_ms,
        }
    }
}
