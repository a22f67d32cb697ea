//! Since when a device is not as it should be, over sessions and owners.
//!
//! A session begins without knowing anything of its device, and its course sees a difference anew.
//! What was known before counts on as long as the same is wanted and the device has not been seen
//! to be so meanwhile: in this epoch it is remembered, and a new owner takes it from what the one
//! before has told.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{Object, Value};

use crate::plan::Drift;

/// What is known of one property that is different.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    wished: Value,
    since_wall_ms: u64,
}

/// Since when properties are different.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DriftSince(BTreeMap<Arc<str>, Known>);

impl DriftSince {
    /// What the last owner has told, in the form in which drift is shown.
    #[must_use]
    pub fn of_shown(shown: &Object) -> Self {
        let known = shown.iter().filter_map(|(property, told)| {
            let told = told.as_map()?;
            let (wished, since) = (told.get("desired")?.clone(), told.get("since_wall_ms")?);
            let since_wall_ms = match since {
                Value::I64(number) => u64::try_from(*number).ok()?,
                Value::U64(number) => *number,
                Value::Null
                | Value::Bool(_)
                | Value::F64(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Map(_) => return None,
            };
            Some((Arc::clone(property), Known { wished, since_wall_ms }))
        });
        Self(known.collect())
    }

    /// Takes in what is different now. `is_over` says of a property, and of what was wanted of it,
    /// whether something else is wanted now, or the device has been seen to be so: what it has not
    /// spoken of yet is not known to be over.
    pub fn follow(
        &mut self,
        drift: &[Drift],
        offset_ms: u64,
        is_over: impl Fn(&str, &Value) -> bool,
    ) {
        let before = std::mem::take(&mut self.0);
        for drift in drift {
            let seen_ms = drift.since_ms.saturating_add(offset_ms);
            let known = before.get(&drift.property).filter(|known| known.wished == drift.wished);
            let since_wall_ms = known.map_or(seen_ms, |known| known.since_wall_ms.min(seen_ms));
            let known = Known { wished: drift.wished.clone(), since_wall_ms };
            self.0.insert(Arc::clone(&drift.property), known);
        }
        for (property, known) in before {
            if !is_over(&property, &known.wished) {
                self.0.entry(property).or_insert(known);
            }
        }
    }

    /// Since when a property is different, if it is known to be.
    #[must_use]
    pub fn of(&self, property: &str) -> Option<u64> {
        self.0.get(property).map(|known| known.since_wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(wished: i64, since_ms: u64) -> Drift {
        let (wished, said) = (Value::from(wished), Value::from(9_i64));
        Drift { property: "on".into(), wished, said, since_ms }
    }

    fn shown(desired: i64, since_wall_ms: u64) -> Object {
        let mut told = Object::new();
        told.insert("desired", desired);
        told.insert("since_wall_ms", since_wall_ms);
        let mut shown = Object::new();
        shown.insert("on", told);
        shown
    }

    #[test]
    fn a_session_that_sees_a_difference_anew_goes_on_from_what_was_known() {
        // What is wanted in the second session, whether the device is seen to be as wished there
        // first, and since when it is different then.
        for (wished, over, since_ms) in [(1, false, 5_100), (2, false, 7_300), (1, true, 7_300)] {
            let mut since = DriftSince::default();
            since.follow(&[drift(1, 100)], 5_000, |_, _| true);
            assert_eq!(since.of("on"), Some(5_100));
            // Another session: nothing has been heard, or that it is as wished.
            since.follow(&[], 5_000, |_, _| over);
            since.follow(&[drift(wished, 2_300)], 5_000, |_, _| true);
            assert_eq!(since.of("on"), Some(since_ms), "{wished} {over}");
        }
    }

    #[test]
    fn a_new_owner_goes_on_from_what_the_one_before_has_told() {
        let mut since = DriftSince::of_shown(&shown(1, 800));
        since.follow(&[drift(1, 20)], 5_000, |_, _| true);
        assert_eq!(since.of("on"), Some(800));
        let mut since = DriftSince::of_shown(&shown(0, 800));
        since.follow(&[drift(1, 20)], 5_000, |_, _| true);
        assert_eq!(since.of("on"), Some(5_020));
        // Its clock is ahead: what this one sees itself is true in any case.
        let mut since = DriftSince::of_shown(&shown(1, 9_000));
        since.follow(&[drift(1, 20)], 5_000, |_, _| true);
        assert_eq!(since.of("on"), Some(5_020));
        let nothing = Object::new();
        assert_eq!(DriftSince::of_shown(&nothing), DriftSince::default());
    }
}
