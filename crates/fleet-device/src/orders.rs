//! From the records of the state to the words of the planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{
    Device, DriftPolicy, FleetState, Mode, OnDrift, OnReturn, Revision, StageFailure,
};

use crate::{Profile, plan};

/// Wishes with an end that this owner has claimed, and until when they may be handed over, in
/// milliseconds of the node's monotonic clock.
pub type Claims = BTreeMap<Revision, u64>;

/// What the planner is told.
#[must_use]
pub fn orders(
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
        let previous = wish.ttl.as_ref().and_then(|ttl| ttl.previous.as_ref());
        let previous = previous.filter(|_| ttl == plan::Ttl::Unclaimed);
        let (value, revision) = (wish.value.clone(), wish.revision);
        let before = previous.map(|former| former.revision);
        let wish = plan::Wish { value, revision, ttl, before, local: None };
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
        given_up: marks.map(|marks| given_up(&marks.failures)).unwrap_or_default(),
        stood_down: BTreeMap::new(),
        profile: Arc::clone(profile),
    }
}

fn given_up(failures: &[StageFailure]) -> BTreeMap<Revision, plan::GivenUp> {
    let given_up = failures.iter().map(|failure| {
        let code = plan::TroubleCode::of_word(&failure.code);
        let (stage, message) = (failure.stage, Arc::clone(&failure.message));
        (failure.revision, plan::GivenUp { code, stage, message })
    });
    given_up.collect()
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

/// Until when something may be handed over that an owner asked for in the log, by its own
/// monotonic clock, when its time ends at `deadline_log_ms`.
///
/// The claim was stamped after it was asked for, so log time is now at most what the state shows
/// and the time since then.
#[must_use]
pub fn claimed_until_ms(state: &FleetState, deadline_log_ms: u64, asked_ms: u64) -> u64 {
    asked_ms.saturating_add(deadline_log_ms.saturating_sub(state.log_time_ms()))
}
