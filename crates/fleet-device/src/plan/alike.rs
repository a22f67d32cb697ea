//! Whether what a device says is what was wished.

use fleet_state::Value;

/// Whether `said` is as `wished`: numbers within `tolerance`, whatever their notation; objects in
/// the members that were wished; everything else exactly.
#[must_use]
pub fn alike(wished: &Value, said: &Value, tolerance: f64) -> bool {
    if let (Some(wished), Some(said)) = (number(wished), number(said)) {
        // Written so that it is false for whatever can't be compared.
        return (wished - said).abs() <= tolerance.max(0.0);
    }
    match (wished, said) {
        (Value::Map(wished), Value::Map(said)) => wished
            .iter()
            .all(|(key, value)| said.get(key).is_some_and(|said| alike(value, said, tolerance))),
        (Value::List(wished), Value::List(said)) => {
            let pairs = || wished.iter().zip(said);
            wished.len() == said.len() && pairs().all(|(w, s)| alike(w, s, tolerance))
        }
        (wished, said) => wished == said,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 neighbours count as equal")]
        Value::I64(number) => Some(*number as f64),
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        Value::U64(number) => Some(*number as f64),
        Value::F64(number) => Some(number.get()),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    }
}
