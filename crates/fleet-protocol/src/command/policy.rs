//! The policy of a device, as it is registered.

use std::{collections::BTreeMap, sync::Arc};

use fleet_state::{
    DriftPolicy, Finite, OnControlLoss, OnDrift, OnReturn, Policy, Value, limits::POLICY_MS_MAX,
};

use crate::{Failure, duration, fields::Fields, suggest};

const POLICY_FIELDS: [&str; 8] = [
    "on_drift",
    "settle",
    "tolerance",
    "properties",
    "on_return",
    "on_control_loss",
    "stop_action",
    "idempotent_actions",
];
const DRIFT_FIELDS: [&str; 3] = ["on_drift", "settle", "tolerance"];

/// The field `policy` of a device.
pub(super) fn read(device: &Fields<'_>) -> Result<Policy, Failure> {
    let Some(value) = device.value("policy") else {
        return Ok(Policy::default());
    };
    let fields = Fields::of("the policy", value, &POLICY_FIELDS)?;
    Ok(Policy {
        drift: drift(&fields, DriftPolicy::default())?,
        properties: properties(&fields)?,
        on_return: on_return(&fields)?,
        on_control_loss: on_control_loss(&fields)?,
        stop_action: fields.text("stop_action")?.map(Arc::from),
        idempotent_actions: fields.text_list("idempotent_actions")?.into_iter().collect(),
    })
}

/// What a rule doesn't say is as in `base`.
fn drift(fields: &Fields<'_>, base: DriftPolicy) -> Result<DriftPolicy, Failure> {
    Ok(DriftPolicy {
        on_drift: match fields.text("on_drift")? {
            None => base.on_drift,
            Some(name) => on_drift(fields, name)?,
        },
        settle_ms: match fields.text("settle")? {
            None => base.settle_ms,
            Some(text) => duration::parse_ms(text, 0, POLICY_MS_MAX)
                .map_err(|error| fields.wrong("settle", &error.to_string()))?,
        },
        tolerance: match fields.value("tolerance") {
            None => base.tolerance,
            Some(value) => Some(number(value).ok_or_else(|| {
                fields.wrong("tolerance", "must be a number that is not negative")
            })?),
        },
    })
}

fn on_drift(fields: &Fields<'_>, name: &str) -> Result<OnDrift, Failure> {
    let known = OnDrift::ALL.into_iter().find(|known| known.as_str() == name);
    known.ok_or_else(|| {
        let names = OnDrift::ALL.map(OnDrift::as_str);
        let suggestion = suggest::did_you_mean(name, names);
        fields.wrong("on_drift", &format!("must be one of {}{suggestion}", names.join(", ")))
    })
}

fn number(value: &Value) -> Option<Finite> {
    let number = match value {
        Value::F64(number) => *number,
        // Its one printed form is also how it is read.
        Value::I64(_) | Value::U64(_) => Finite::new(value.to_json().parse().ok()?)?,
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            return None;
        }
    };
    (number.get() >= 0.0).then_some(number)
}

/// Rules by property; what they don't say is as for all properties.
fn properties(policy: &Fields<'_>) -> Result<BTreeMap<Arc<str>, DriftPolicy>, Failure> {
    let base = drift(policy, DriftPolicy::default())?;
    let object = policy.object("properties")?;
    let read = |(property, value): (&Arc<str>, &Value)| {
        let shown: String = property.chars().take(64).flat_map(char::escape_debug).collect();
        let what = format!("the policy of \"{shown}\"");
        let fields = Fields::of(&what, value, &DRIFT_FIELDS)?;
        Ok((property.clone(), drift(&fields, base)?))
    };
    object.iter().map(read).collect()
}

/// `"hold"`, `"discard"`, or `{"apply":"5m"}`.
fn on_return(fields: &Fields<'_>) -> Result<OnReturn, Failure> {
    let wrong =
        || fields.wrong("on_return", "must be \"hold\", \"discard\" or {\"apply\":\"<time>\"}");
    match fields.value("on_return") {
        None => Ok(OnReturn::default()),
        Some(Value::Text(text)) if &**text == "hold" => Ok(OnReturn::Hold),
        Some(Value::Text(text)) if &**text == "discard" => Ok(OnReturn::Discard),
        Some(value @ Value::Map(_)) => {
            let inner = Fields::of("on_return", value, &["apply"])?;
            let age = inner.text("apply")?.ok_or_else(wrong)?;
            let age_ms_max = duration::parse_ms(age, 0, POLICY_MS_MAX)
                .map_err(|error| inner.wrong("apply", &error.to_string()))?;
            Ok(OnReturn::Apply { age_ms_max })
        }
        Some(_) => Err(wrong()),
    }
}

/// `"keep"`, or an object of values.
fn on_control_loss(fields: &Fields<'_>) -> Result<OnControlLoss, Failure> {
    match fields.value("on_control_loss") {
        None => Ok(OnControlLoss::Keep),
        Some(Value::Text(text)) if &**text == "keep" => Ok(OnControlLoss::Keep),
        Some(Value::Map(values)) => Ok(OnControlLoss::Values(values.clone())),
        Some(_) => Err(fields.wrong("on_control_loss", "must be \"keep\" or an object of values")),
    }
}
