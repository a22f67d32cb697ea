//! A user's value inside a reply that serde writes or reads.
//!
//! Replies are fixed structures and go through serde; the values in them are the users' own and go
//! through `fleet_state::Value` only. [`Json`] joins the two: serde sees raw text. So no feature of
//! serde_json that some dependency switches on can change a digit of a user's value.

use fleet_state::{Limits, Object, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

/// Replies are read within these bounds; generous, because they come from our own agents.
const LIMITS: Limits = Limits { size_bytes_max: 64 * 1024 * 1024, depth_max: 64 };

/// A user's value.
#[derive(Debug, Clone, PartialEq)]
pub struct Json(pub Value);

impl Json {
    /// Reads a whole reply.
    pub fn parse(bytes: &[u8]) -> Result<Self, fleet_state::ParseError> {
        Value::parse(bytes, LIMITS).map(Self)
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self(Value::Map(object))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_json()).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get().as_bytes()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_pass_unchanged() {
        for text in ["18446744073709551615", "-9223372036854775808", "0.1", "[1e300,{\"a\":null}]"]
        {
            let wrapped: Vec<Json> = serde_json::from_str(&format!("[{text}]")).unwrap();
            let again = serde_json::to_string(&wrapped).unwrap();
            assert_eq!(again, format!("[{}]", Json::parse(text.as_bytes()).unwrap().0.to_json()));
        }
    }
}
