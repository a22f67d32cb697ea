//! Devices and how far what is desired of them got, as replies and events show them.

use std::collections::BTreeMap;

use fleet_state::{
    Device, DriftPolicy, FleetState, OnControlLoss, OnReturn, Policy, StageFailure, Value,
    Watermarks, Wish,
};
use serde::{Deserialize, Serialize};

use super::labels;
use crate::{Json, duration::format_ms};

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceBody {
    /// Its id.
    pub id: String,
    /// The link that carries it.
    pub link: Option<String>,
    /// Where it is on its link.
    pub address: String,
    /// Free text.
    pub name: String,
    /// Free text by key.
    pub labels: BTreeMap<String, String>,
    /// What its desired state may look like.
    pub model: Option<Json>,
    /// What its connector was told of it.
    pub settings: Json,
    /// How its owner treats it.
    pub policy: PolicyBody,
    /// `observe`, `manual` or `auto`.
    pub mode: String,
    /// Why nothing is written to it, when somebody said so.
    pub hold: Option<HoldBody>,
    /// What it should be.
    pub desired: Json,
    /// By property: which command wants it, and until when it may be handed over.
    pub wishes: BTreeMap<String, WishBody>,
    /// Revision of its first registration.
    pub registered: u64,
    /// Revision at which its desired state last changed.
    pub desired_revision: u64,
    /// Revision of its last change.
    pub revision: u64,
    /// When it last changed.
    pub changed_wall_ms: u64,
    /// How far its newest wish got; in queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How far its wishes got; in queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermarks: Option<WatermarksBody>,
    /// The node that owns its link; in queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u64>,
    /// The owner's epoch; in queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What the owner last told of it; in queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Json>,
}

/// How the owner of a device's link treats the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyBody {
    /// For properties that have no rule of their own.
    #[serde(flatten)]
    pub drift: DriftBody,
    /// Rules by property.
    pub properties: BTreeMap<String, DriftBody>,
    /// `"hold"`, `"discard"` or `{"apply":"<time>"}`.
    pub on_return: Json,
    /// `"keep"` or an object of values.
    pub on_control_loss: Json,
    /// The action that brings it to a standstill.
    pub stop_action: Option<String>,
    /// Actions that may be carried out twice without harm.
    pub idempotent_actions: Vec<String>,
}

/// What happens when a property is not what it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftBody {
    /// `report`, `adopt` or `enforce`.
    pub on_drift: String,
    /// How long after a write the property may still be different.
    pub settle: String,
    /// By how much a number may be different.
    pub tolerance: Option<f64>,
}

/// Why nothing is written to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldBody {
    /// Free text.
    pub reason: String,
    /// Who is said to have asked for it.
    pub actor: Option<String>,
    /// Since when.
    pub revision: u64,
}

/// Which command wants a property to be as it is desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishBody {
    /// The command.
    pub revision: u64,
    /// Log time until which it may be handed over, when that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_log_ms: Option<u64>,
    /// How far it got; in queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// How far the wishes of a device got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarksBody {
    /// The device.
    pub device: String,
    /// Wishes up to here were handed over.
    pub sent: u64,
    /// Wishes up to here were acknowledged by the device.
    pub acknowledged: u64,
    /// Wishes up to here were seen in the device.
    pub verified: u64,
    /// Wishes that these marks say nothing of, with what keeps each of them.
    pub failures: Vec<StageFailureBody>,
    /// Commands with a time limit that were claimed in time.
    pub claimed: Vec<u64>,
    /// The last commands with a time limit that ended without being handed over.
    pub ends: Vec<WishEndBody>,
    /// Revision of its last change.
    pub revision: u64,
}

/// What keeps a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFailureBody {
    /// The wish.
    pub revision: u64,
    /// How far it got: `failed`; `verified`, where that came before; `sent` or `acknowledged`, where no more can be
    /// known.
    pub stage: String,
    /// The reason, for programs.
    pub code: String,
    /// The reason, for people.
    pub message: String,
}

/// A command with a time limit that ended without being handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishEndBody {
    /// The command.
    pub revision: u64,
    /// `expired` or `cancelled`.
    pub stage: String,
}

impl From<&Device> for DeviceBody {
    fn from(device: &Device) -> Self {
        let wishes = device.wishes.iter();
        Self {
            id: device.id.to_string(),
            link: device.spec.link.as_ref().map(ToString::to_string),
            address: device.spec.address.to_string(),
            name: device.spec.name.to_string(),
            labels: labels(&device.spec.labels),
            model: device.spec.model.as_ref().map(|model| Json(model.source().clone())),
            settings: Json::from(device.spec.settings.clone()),
            policy: PolicyBody::from(&*device.spec.policy),
            mode: device.mode.as_str().to_owned(),
            hold: device.hold.as_ref().map(|hold| HoldBody {
                reason: hold.reason.to_string(),
                actor: hold.actor.as_ref().map(ToString::to_string),
                revision: hold.revision.get(),
            }),
            desired: Json::from(device.desired()),
            wishes: wishes.map(|(name, wish)| (name.to_string(), WishBody::from(wish))).collect(),
            registered: device.registered.get(),
            desired_revision: device.desired_revision.get(),
            revision: device.revision.get(),
            changed_wall_ms: device.changed_wall_ms,
            stage: None,
            watermarks: None,
            owner: None,
            epoch: None,
            observed: None,
        }
    }
}

impl DeviceBody {
    /// A device with what the state holds beside it.
    #[must_use]
    pub fn within(device: &Device, state: &FleetState) -> Self {
        let stage = |revision| {
            let stage = state.wish_stage(&device.id, revision)?;
            Some(stage.as_str().to_owned())
        };
        let mut body = Self::from(device);
        for (wish, (_, held)) in body.wishes.values_mut().zip(device.wishes.iter()) {
            wish.stage = stage(held.revision);
        }
        body.stage = stage(device.wishes.newest()).filter(|_| !device.wishes.is_empty());
        body.watermarks = state.watermarks(&device.id).map(|marks| marks.as_ref().into());
        let link = device.spec.link.as_ref().and_then(|link| state.link(link));
        body.owner = link.and_then(|link| link.owner).map(|node| node.get());
        body.epoch = link.map(|link| link.epoch);
        body
    }
}

impl From<&Wish> for WishBody {
    fn from(wish: &Wish) -> Self {
        Self {
            revision: wish.revision.get(),
            deadline_log_ms: wish.ttl.as_ref().map(|ttl| ttl.deadline_log_ms),
            stage: None,
        }
    }
}

impl From<&Policy> for PolicyBody {
    fn from(policy: &Policy) -> Self {
        let properties = policy.properties.iter();
        Self {
            drift: DriftBody::from(&policy.drift),
            properties: properties
                .map(|(name, drift)| (name.to_string(), DriftBody::from(drift)))
                .collect(),
            on_return: Json(match policy.on_return {
                OnReturn::Hold => Value::from("hold"),
                OnReturn::Discard => Value::from("discard"),
                OnReturn::Apply { age_ms_max } => {
                    let mut apply = fleet_state::Object::new();
                    apply.insert("apply", format_ms(age_ms_max));
                    Value::Map(apply)
                }
            }),
            on_control_loss: Json(match &policy.on_control_loss {
                OnControlLoss::Keep => Value::from("keep"),
                OnControlLoss::Values(values) => Value::Map(values.clone()),
            }),
            stop_action: policy.stop_action.as_ref().map(ToString::to_string),
            idempotent_actions: policy.idempotent_actions.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&DriftPolicy> for DriftBody {
    fn from(drift: &DriftPolicy) -> Self {
        Self {
            on_drift: drift.on_drift.as_str().to_owned(),
            settle: format_ms(drift.settle_ms),
            tolerance: drift.tolerance.map(|number| number.get()),
        }
    }
}

impl From<&Watermarks> for WatermarksBody {
    fn from(marks: &Watermarks) -> Self {
        Self {
            device: marks.device.to_string(),
            sent: marks.sent.get(),
            acknowledged: marks.acknowledged.get(),
            verified: marks.verified.get(),
            failures: marks.failures.iter().map(StageFailureBody::from).collect(),
            claimed: marks.claimed.iter().map(|revision| revision.get()).collect(),
            ends: marks
                .ends
                .iter()
                .map(|end| WishEndBody {
                    revision: end.revision.get(),
                    stage: end.stage.as_str().to_owned(),
                })
                .collect(),
            revision: marks.revision.get(),
        }
    }
}

impl From<&StageFailure> for StageFailureBody {
    fn from(failure: &StageFailure) -> Self {
        Self {
            revision: failure.revision.get(),
            stage: failure.stage.as_str().to_owned(),
            code: failure.code.to_string(),
            message: failure.message.to_string(),
        }
    }
}
