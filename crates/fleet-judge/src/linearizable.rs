//! Linearizable reads and writes, judged by index and real time.
//!
//! The log gives all operations one order; it remains to be checked that this order agrees with
//! real time. Whatever ended before an operation began lies at or below its index: a read sees
//! at least the highest index that anybody had been told before it was asked, and a new write
//! gets an index above it. Running maxima make this linear in the number of operations.
//!
//! What a read gives out must also be the value of its index: the last write at or below it.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Violation;

/// The highest index that anybody had been told when an operation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor(u64);

/// What anybody was told so far, and every parameter's history.
#[derive(Debug)]
pub struct Linearizable<K> {
    told: u64,
    values: BTreeMap<K, Vec<(u64, bool)>>,
    reads: u64,
}

impl<K> Default for Linearizable<K> {
    fn default() -> Self {
        Self { told: 0, values: BTreeMap::new(), reads: 0 }
    }
}

impl<K: Clone + Display + Ord> Linearizable<K> {
    /// An operation begins.
    #[must_use]
    pub fn begin(&self) -> Floor {
        Floor(self.told)
    }

    /// A write ended with this revision; `first` when this is its first decision.
    ///
    /// # Errors
    /// It lies before something that ended before it began.
    pub fn wrote(&mut self, floor: Floor, revision: u64) -> Result<(), Violation> {
        if revision <= floor.0 {
            return Err(Violation::new(
                "linearizable writes",
                format!("a write begun after index {} was known got index {revision}", floor.0),
            ));
        }
        self.told = self.told.max(revision);
        Ok(())
    }

    /// The log changed a parameter, seen for the first time.
    ///
    /// # Errors
    /// The change doesn't follow from the one before.
    pub fn changed(
        &mut self,
        key: &K,
        index: u64,
        previous: Option<u64>,
        exists: bool,
    ) -> Result<(), Violation> {
        let history = self.values.entry(key.clone()).or_default();
        let last = history.last().filter(|(_, exists)| *exists).map(|(index, _)| *index);
        let in_order = history.last().is_none_or(|(last, _)| *last < index);
        if last != previous || !in_order {
            return Err(Violation::new(
                "history of a key",
                format!("{key} at index {index} follows {previous:?}, but was {last:?}"),
            ));
        }
        history.push((index, exists));
        Ok(())
    }

    /// A read ended with a view of `applied`, in which the key has this revision.
    ///
    /// # Errors
    /// It is too old, or not the value of its index.
    pub fn read(
        &mut self,
        floor: Floor,
        applied: u64,
        key: &K,
        seen: Option<u64>,
    ) -> Result<(), Violation> {
        self.looked(floor, applied)?;
        let wanted = self.value_at(key, applied);
        if seen != wanted {
            return Err(Violation::new(
                "linearizable reads",
                format!("{key} at index {applied} is of {wanted:?}, a read saw {seen:?}"),
            ));
        }
        Ok(())
    }

    /// The same where nobody knows what the log holds, as with a real site: what was seen can't
    /// be judged, only when.
    ///
    /// # Errors
    /// It is too old.
    pub fn looked(&mut self, floor: Floor, applied: u64) -> Result<(), Violation> {
        if applied < floor.0 {
            return Err(Violation::new(
                "linearizable reads",
                format!("a read begun after index {} was known saw index {applied}", floor.0),
            ));
        }
        self.told = self.told.max(applied);
        self.reads += 1;
        Ok(())
    }

    /// The revision that a key has at an index.
    #[must_use]
    pub fn value_at(&self, key: &K, index: u64) -> Option<u64> {
        let history = self.values.get(key)?;
        let after = history.partition_point(|(at, _)| *at <= index);
        let (at, exists) = history.get(after.checked_sub(1)?)?;
        exists.then_some(*at)
    }

    /// All keys that were ever set.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.values.keys()
    }

    /// How many reads were judged.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }
}
