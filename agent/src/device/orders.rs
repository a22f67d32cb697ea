//! From the records of the state to the words of the planner and of connectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{
    Device, DeviceId, DeviceSpec, DriftPolicy, FleetState, LinkId, LinkSpec, Mode, OnDrift,
    OnReturn, Revision, Value,
};

use super::connector::{DeviceSetup, LinkSetup, Profile};
use super::plan;

/// The setting that names what a device is, where a connector has presets.
const MODEL_SETTING: &str = "model";

/// Wishes with an end that this owner has claimed, and until when they may be handed over, in
/// milliseconds of the node's monotonic clock.
pub(super) type Claims = BTreeMap<Revision, u64>;

/// What a link's connector is told.
pub(crate) fn link_setup(id: &LinkId, spec: &LinkSpec) -> LinkSetup {
    LinkSetup {
        id: id.clone(),
        address: Arc::clone(&spec.address),
        settings: spec.settings.clone(),
    }
}

/// What a device's connector is told.
pub(crate) fn device_setup(id: &DeviceId, spec: &DeviceSpec) -> DeviceSetup {
    let model = spec.settings.get(MODEL_SETTING).and_then(Value::as_text);
    DeviceSetup {
        id: id.clone(),
        address: Arc::clone(&spec.address),
        model: model.map(Arc::from),
        settings: spec.settings.clone(),
    }
}

/// What the planner is told.
pub(super) fn orders(
    state: &FleetState,
    device: &Device,
    profile: &Arc<Profile>,
    claims: &Claims,
) -> plan::Orders {
    let marks = state.watermarks(&device.id);
    let policy = &device.spec.policy;
    let wishes = device.wishes.iter().map(|(property, wish)| {
        let ttl = if wish.ttl.is_none() {
            plan::Ttl::Unlimited
        } else if state.needs_claim(&device.id, wish) {
            plan::Ttl::Unclaimed
        } else {
            let claimed = claims.get(&wish.revision);
            let until_ms = claimed.copied();
            until_ms.map_or(plan::Ttl::ClaimedElsewhere, |until_ms| plan::Ttl::Claimed { until_ms })
        };
        let wish = plan::Wish { value: wish.value.clone(), revision: wish.revision, ttl };
        (Arc::clone(property), wish)
    });
    plan::Orders {
        mode: match device.mode {
            Mode::Observe => plan::Mode::Observe,
            Mode::Manual => plan::Mode::Manual,
            Mode::Auto => plan::Mode::Auto,
        },
        held: device.hold.is_some(),
        wishes: wishes.collect(),
        desired_revision: device.desired_revision,
        marks: marks.map_or_else(plan::Marks::default, |marks| plan::Marks {
            sent: marks.sent,
            acknowledged: marks.acknowledged,
            verified: marks.verified,
        }),
        policies: policy
            .properties
            .iter()
            .map(|(property, policy)| (Arc::clone(property), property_policy(policy)))
            .collect(),
        policy: property_policy(&policy.drift),
        on_return: match policy.on_return {
            OnReturn::Hold => plan::OnReturn::Hold,
            OnReturn::Apply { age_ms_max } => plan::OnReturn::Apply { age_ms_max },
            OnReturn::Discard => plan::OnReturn::Discard,
        },
        profile: Arc::clone(profile),
    }
}

fn property_policy(policy: &DriftPolicy) -> plan::PropertyPolicy {
    plan::PropertyPolicy {
        on_drift: match policy.on_drift {
            OnDrift::Report => plan::OnDrift::Report,
            OnDrift::Adopt => plan::OnDrift::Adopt,
            OnDrift::Enforce => plan::OnDrift::Enforce,
        },
        // Without a time of its own it gets the usual one: with none at all, a report that was on
        // its way when something was handed over would count as the device's answer to it.
        settle_ms: if policy.settle_ms == 0 { plan::SETTLE_MS_DEFAULT } else { policy.settle_ms },
        tolerance: policy.tolerance.map_or(0.0, |tolerance| tolerance.get()),
    }
}
