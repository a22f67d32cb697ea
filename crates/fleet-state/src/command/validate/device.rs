//! What may be said of devices and wanted of them.

use super::{Invalid, at_most, check_bounded, check_labels, check_settings, check_text, malformed};
use crate::command::{DeviceSpec, DriftPolicy, OnControlLoss, OnReturn, Policy};
use crate::limits::{
    ACTION_BYTES_MAX, ADDRESS_BYTES_MAX, ARGS_BYTES_MAX, IDEMPOTENT_ACTIONS_MAX, NAME_BYTES_MAX,
    POLICY_MS_MAX, POLICY_PROPERTIES_MAX, PROPERTY_BYTES_MAX, TTL_MS_MAX, TTL_MS_MIN,
    VALUE_BYTES_MAX, WISHES_MAX,
};
use crate::value::{Object, Value};

pub(super) fn check_device(spec: &DeviceSpec) -> Result<(), Invalid> {
    check_text("the address", &spec.address, ADDRESS_BYTES_MAX)?;
    check_text("the name", &spec.name, NAME_BYTES_MAX)?;
    check_labels(&spec.labels)?;
    check_settings(&spec.settings)?;
    check_policy(&spec.policy)
}

fn check_policy(policy: &Policy) -> Result<(), Invalid> {
    let properties = &policy.properties;
    at_most("the policy", properties.len(), POLICY_PROPERTIES_MAX, "properties")?;
    check_drift("the policy", &policy.drift)?;
    for (property, drift) in properties {
        check_property(property)?;
        check_drift(&format!("the policy of {property:?}"), drift)?;
    }
    match policy.on_return {
        OnReturn::Apply { age_ms_max } if age_ms_max > POLICY_MS_MAX => {
            return Err(malformed("what is applied on return may be 30 days old at most"));
        }
        OnReturn::Apply { .. } | OnReturn::Hold | OnReturn::Discard => {}
    }
    if let OnControlLoss::Values(values) = &policy.on_control_loss {
        check_wishes(values)?;
    }
    let actions = &policy.idempotent_actions;
    at_most("the policy", actions.len(), IDEMPOTENT_ACTIONS_MAX, "actions that may be repeated")?;
    actions.iter().chain(policy.stop_action.as_ref()).try_for_each(|action| check_action(action))
}

fn check_drift(field: &str, drift: &DriftPolicy) -> Result<(), Invalid> {
    if drift.settle_ms > POLICY_MS_MAX {
        return Err(malformed(format!("{field} settles in more than 30 days; give less")));
    }
    if drift.tolerance.is_some_and(|number| number.get() < 0.0) {
        return Err(malformed(format!("{field} has a tolerance below zero")));
    }
    Ok(())
}

/// An object of what is desired of a device, or a patch of it.
pub(crate) fn check_wishes(object: &Object) -> Result<(), Invalid> {
    at_most("the desired state", object.len(), WISHES_MAX, "properties")?;
    check_bounded("the object", object, VALUE_BYTES_MAX)?;
    for (property, value) in object.iter() {
        check_property(property)?;
        check_absolute(property, value)?;
    }
    Ok(())
}

fn check_property(property: &str) -> Result<(), Invalid> {
    if property.is_empty() {
        return Err(malformed("a property has an empty name; name it"));
    }
    check_text("a property's name", property, PROPERTY_BYTES_MAX)
}

/// A wish may be written more than once, so it must say what should be, not what should change.
fn check_absolute(property: &str, value: &Value) -> Result<(), Invalid> {
    match value {
        Value::Text(text) if text.eq_ignore_ascii_case("toggle") => {
            let shown = property.escape_debug();
            Err(malformed(format!(
                "\"{shown}\" is to toggle, which is no state to be in and might happen twice; say what it should \
                 be, or invoke an action"
            )))
        }
        Value::Map(object) => {
            object.iter().try_for_each(|(name, value)| check_absolute(name, value))
        }
        Value::Text(_)
        | Value::List(_)
        | Value::Null
        | Value::Bool(_)
        | Value::I64(_)
        | Value::U64(_)
        | Value::F64(_) => Ok(()),
    }
}

pub(super) fn check_ttl(ttl_ms: Option<u64>) -> Result<(), Invalid> {
    match ttl_ms {
        Some(ttl_ms) if !(TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) => {
            Err(malformed(format!("the time limit is {ttl_ms} ms; give {TTL_MS_MIN} ms to 7 days")))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn check_invoke(action: &str, args: &Object) -> Result<(), Invalid> {
    check_action(action)?;
    check_bounded("the arguments", args, ARGS_BYTES_MAX)
}

fn check_action(action: &str) -> Result<(), Invalid> {
    if action.is_empty() {
        return Err(malformed("the action has no name; name it"));
    }
    check_text("the action", action, ACTION_BYTES_MAX)
}
