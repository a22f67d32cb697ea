//! The settings of a simulated link.

use fleet_state::{Object, Value};

use super::super::super::connector::Refusal;

/// The longest that a simulated device takes.
const LATENCY_MS_MAX: u64 = 60_000;

/// How the devices of a link behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub latency_ms: u64,
    pub loss: f64,
    pub refusal: f64,
    pub drift: f64,
    pub seed: u64,
    pub readable: bool,
    pub reports: bool,
    pub acknowledges: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            loss: 0.0,
            refusal: 0.0,
            drift: 0.0,
            seed: 1,
            readable: true,
            reports: true,
            acknowledges: true,
        }
    }
}

impl Settings {
    pub(super) fn read(object: &Object) -> Result<Self, Refusal> {
        let mut settings = Self::default();
        for (key, value) in object.iter() {
            match key.as_ref() {
                "latency_ms" => settings.latency_ms = number(key, value, LATENCY_MS_MAX)?,
                "seed" => settings.seed = number(key, value, u64::MAX)?,
                "loss" => settings.loss = probability(key, value)?,
                "refusal" => settings.refusal = probability(key, value)?,
                "drift" => settings.drift = probability(key, value)?,
                "readable" => settings.readable = flag(key, value)?,
                "reports" => settings.reports = flag(key, value)?,
                "acknowledges" => settings.acknowledges = flag(key, value)?,
                _ => {
                    return Err(Refusal::new(format!("settings.{key}"), "there is no such setting").with_hint(
                        "there are latency_ms, seed, loss, refusal, drift, readable, reports and acknowledges",
                    ));
                }
            }
        }
        Ok(settings)
    }
}

fn wrong(key: &str, value: &Value, hint: String) -> Refusal {
    let problem = format!("{} is not valid", value.to_json());
    Refusal::new(format!("settings.{key}"), problem).with_hint(hint)
}

fn number(key: &str, value: &Value, max: u64) -> Result<u64, Refusal> {
    let number = match value {
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::U64(number) => Some(*number),
        Value::Null
        | Value::Bool(_)
        | Value::F64(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => None,
    };
    let hint = || wrong(key, value, format!("give a whole number from 0 to {max}"));
    number.filter(|number| *number <= max).ok_or_else(hint)
}

fn probability(key: &str, value: &Value) -> Result<f64, Refusal> {
    let number = match value {
        Value::F64(number) => Some(number.get()),
        Value::I64(0) => Some(0.0),
        Value::I64(1) => Some(1.0),
        Value::Null
        | Value::Bool(_)
        | Value::I64(_)
        | Value::U64(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => None,
    };
    let hint = || wrong(key, value, "give a number from 0 to 1".to_owned());
    number.filter(|number| (0.0..=1.0).contains(number)).ok_or_else(hint)
}

fn flag(key: &str, value: &Value) -> Result<bool, Refusal> {
    if let Value::Bool(flag) = value {
        return Ok(*flag);
    }
    Err(wrong(key, value, "give true or false".to_owned()))
}
