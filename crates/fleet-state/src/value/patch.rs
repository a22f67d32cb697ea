//! RFC 7396, JSON merge patch.

use super::{Object, Value};

impl Object {
    /// This object with a merge patch applied: `null` removes, an object merges, anything else replaces.
    ///
    /// A `null` never stays, also not inside an object that the patch adds.
    #[must_use]
    pub fn merge_patch(&self, patch: &Object) -> Object {
        let mut merged = self.clone();
        for (key, change) in patch.iter() {
            match change {
                Value::Null => {
                    merged.remove(key);
                }
                Value::Map(inner) => {
                    let empty = Object::new();
                    let before = merged.get(key).and_then(Value::as_map).unwrap_or(&empty);
                    let after = before.merge_patch(inner);
                    merged.insert(key.clone(), Value::Map(after));
                }
                Value::Bool(_)
                | Value::I64(_)
                | Value::U64(_)
                | Value::F64(_)
                | Value::Text(_)
                | Value::List(_) => {
                    merged.insert(key.clone(), change.clone());
                }
            }
        }
        merged
    }
}
