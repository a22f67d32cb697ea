//! Commands that are remembered, as queries show them.

use fleet_state::{CommandFound, Invocation, Outcome};
use serde::{Deserialize, Serialize};

use crate::{Json, Noun};

/// A command that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandBody {
    /// Its request id.
    pub request_id: String,
    /// What it was, as in `device.update`.
    pub op: String,
    /// The kind of thing that it was about, when it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noun: Option<String>,
    /// That thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The entry that decided it.
    pub revision: u64,
    /// `accepted`, `unchanged` or `rejected`.
    pub outcome: String,
    /// Why it was rejected, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How far it got toward its device, or how it ended, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// More about that, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The action that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// What it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Json>,
    /// The node that handed it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// That node's epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Log time until which it might be handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_log_ms: Option<u64>,
}

impl CommandBody {
    /// What is remembered of a command, and of the invocation that it made.
    #[must_use]
    pub fn of(found: &CommandFound, invocation: Option<&Invocation>) -> Self {
        let (outcome, code, message) = match &found.answer.outcome {
            Outcome::Accepted(_) => ("accepted", None, None),
            Outcome::Unchanged => ("unchanged", None, None),
            Outcome::Rejected(rejection) => {
                ("rejected", Some(rejection.code.to_string()), Some(rejection.message.clone()))
            }
        };
        let invoked = invocation
            .filter(|invocation| invocation.committed == found.answer.revision)
            .map(Self::from)
            .unwrap_or_default();
        Self {
            request_id: found.request_id.to_string(),
            op: found.kind.as_str().to_owned(),
            noun: found.about.as_ref().map(|about| Noun::from(about).to_string()),
            id: found.about.as_ref().map(crate::target::id_text),
            revision: found.answer.revision.get(),
            outcome: outcome.to_owned(),
            code,
            stage: found.stage.map(|stage| stage.as_str().to_owned()),
            detail: message.or(invoked.detail).or(found.failure.as_deref().map(str::to_owned)),
            ..invoked
        }
    }
}

impl From<&Invocation> for CommandBody {
    fn from(invocation: &Invocation) -> Self {
        let detail = Some(invocation.detail.to_string()).filter(|detail| !detail.is_empty());
        Self {
            request_id: invocation.id.to_string(),
            op: "device.invoke".to_owned(),
            noun: Some(Noun::Device.to_string()),
            id: Some(invocation.device.to_string()),
            revision: invocation.committed.get(),
            outcome: "accepted".to_owned(),
            code: None,
            stage: Some(invocation.stage.as_str().to_owned()),
            detail,
            action: Some(invocation.action.to_string()),
            args: Some(Json::from(invocation.args.clone())),
            node: invocation.dispatch.as_ref().map(|dispatch| dispatch.node.get()),
            epoch: invocation.dispatch.as_ref().map(|dispatch| dispatch.epoch),
            deadline_log_ms: invocation.deadline_log_ms,
        }
    }
}
