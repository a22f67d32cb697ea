//! What clients asked and heard, and what the judges say of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_judge::{Floor, Heard, Histories, Linearizable, Violation, Wanted};

/// Violations that are kept; the first is what matters.
const VIOLATIONS_MAX: usize = 20;

/// Takes down what all clients do. One lock gives their beginnings and ends one order.
#[derive(Debug, Default)]
pub struct Recorder {
    inner: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    histories: Histories<String>,
    order: Linearizable<String>,
    violations: Vec<Violation>,
    counts: Counts,
    last_end: Option<Instant>,
    next_id: u64,
}

/// How operations ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Operations that were begun.
    pub begun: u64,
    /// Writes that took effect.
    pub done: u64,
    /// Writes that the site decided against: unchanged, a precondition, nothing to delete.
    pub declined: u64,
    /// Reads that were answered.
    pub read: u64,
    /// Attempts without an answer, which were made again.
    pub repeated: u64,
    /// Operations whose clients gave up without knowing.
    pub unknown: u64,
    /// The longest time in which no operation ended.
    pub longest_gap: Duration,
}

/// One operation under way.
#[derive(Debug)]
pub struct Begun {
    /// Its number, which no other has; also the value that it writes.
    pub id: u64,
    key: String,
    floor: Floor,
}

/// What the judges have to say at the end.
#[derive(Debug)]
pub struct Verdict {
    /// What does not hold, if anything.
    pub violations: Vec<Violation>,
    /// Ends of operations for which the judge of histories found an explanation.
    pub explained: u64,
    /// How operations ended.
    pub counts: Counts,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Record> {
        // A client that panicked has ended its test already.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins; what it wants is made from its number.
    pub fn begin(&self, key: &str, wanted: impl FnOnce(u64) -> Wanted) -> Begun {
        let mut record = self.lock();
        record.next_id += 1;
        record.counts.begun += 1;
        let id = record.next_id;
        record.histories.begin(&key.to_owned(), id, wanted(id));
        Begun { id, key: key.to_owned(), floor: record.order.begin() }
    }

    /// The log has decided about a write, at this revision.
    pub fn decided(&self, begun: Begun, heard: Heard, revision: u64) {
        let mut record = self.lock();
        record.histories.end(&begun.key, begun.id, Some(heard));
        let judged = record.order.wrote(begun.floor, revision);
        record.keep(judged);
        let count = match heard {
            Heard::Done(_) => &mut record.counts.done,
            Heard::Unchanged | Heard::Mismatch | Heard::NotFound | Heard::Saw(_) => {
                &mut record.counts.declined
            }
        };
        *count += 1;
        record.ended();
    }

    /// A read was answered: value and revision of the key, and what the answer had seen of the
    /// log, where it says so.
    pub fn saw(&self, begun: Begun, saw: Option<(u64, u64)>, applied: Option<u64>) {
        let mut record = self.lock();
        record.histories.end(&begun.key, begun.id, Some(Heard::Saw(saw)));
        if let Some(applied) = applied {
            let judged = record.order.looked(begun.floor, applied);
            record.keep(judged);
        }
        record.counts.read += 1;
        record.ended();
    }

    /// An attempt brought no answer.
    pub fn repeated(&self) {
        self.lock().counts.repeated += 1;
    }

    /// Its client gives up: it may happen later, or never.
    pub fn given_up(&self, begun: Begun) {
        drop(begun);
        self.lock().counts.unknown += 1;
    }

    /// How operations ended so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Judges everything.
    pub fn judge(&self) -> Verdict {
        let mut record = self.lock();
        let judged = record.histories.check();
        record.keep(judged);
        Verdict {
            violations: record.violations.clone(),
            explained: record.histories.judged(),
            counts: record.counts,
        }
    }
}

impl Record {
    fn keep(&mut self, judged: Result<(), Violation>) {
        if let Err(violation) = judged
            && self.violations.len() < VIOLATIONS_MAX
        {
            self.violations.push(violation);
        }
    }

    fn ended(&mut self) {
        let now = Instant::now();
        let gap = self.last_end.map(|last| now - last).unwrap_or_default();
        self.counts.longest_gap = self.counts.longest_gap.max(gap);
        self.last_end = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(id: u64) -> Wanted {
        Wanted::Set { value: id, expected: None }
    }

    #[test]
    fn what_can_not_have_happened_is_found() {
        let good = Recorder::default();
        let first = good.begin("a", set);
        let value = first.id;
        good.decided(first, Heard::Done(5), 5);
        good.saw(good.begin("a", |_| Wanted::Read), Some((value, 5)), Some(6));
        let verdict = good.judge();
        assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
        assert_eq!((verdict.explained, verdict.counts.done, verdict.counts.read), (2, 1, 1));

        let lost = Recorder::default();
        lost.decided(lost.begin("a", set), Heard::Done(5), 5);
        lost.saw(lost.begin("a", |_| Wanted::Read), None, Some(6));
        assert_eq!(lost.judge().violations.len(), 1, "an acknowledged write is not there");

        let stale = Recorder::default();
        stale.decided(stale.begin("a", set), Heard::Done(5), 5);
        stale.saw(stale.begin("b", |_| Wanted::Read), None, Some(4));
        assert_eq!(stale.judge().violations.len(), 1, "a read of the past");

        let twice = Recorder::default();
        twice.decided(twice.begin("a", set), Heard::Done(5), 5);
        twice.decided(twice.begin("b", set), Heard::Done(5), 5);
        assert_eq!(twice.judge().violations.len(), 1, "one revision for two writes");
    }
}
