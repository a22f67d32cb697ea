//! What clients asked and heard, and what the judges say of it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_judge::{Floor, Heard, Histories, Linearizable, Violation, Wanted};
use serde_json::{Value, json};

/// Violations that are kept; the first is what matters.
const VIOLATIONS_MAX: usize = 20;

/// Takes down what all clients do. One lock gives their beginnings and ends one order.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    inner: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// Where every event goes as well, one JSON object in a line.
    told_to: Option<File>,
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
    /// Operations that reached nobody.
    pub refused: u64,
    /// Operations whose clients gave up without knowing.
    pub unknown: u64,
    /// Operations that were answered over NATS; the others were at a door.
    pub over_nats: u64,
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

impl Counts {
    /// Operations that were answered, each of which asks for an explanation.
    pub fn answered(&self) -> u64 {
        self.done + self.declined + self.read
    }
}

/// What the judges have to say at the end.
#[derive(Debug)]
pub struct Verdict {
    /// What does not hold, if anything.
    pub violations: Vec<Violation>,
    /// Answers that the judge of histories has looked at and found an explanation for. It stops
    /// with a key whose explanations become too many.
    pub judged: u64,
    /// How operations ended.
    pub counts: Counts,
}

impl Verdict {
    /// Whether every answer was judged, and has an explanation.
    pub fn is_whole(&self) -> bool {
        self.violations.is_empty() && self.judged == self.counts.answered()
    }

    /// How many of a hundred answers were judged.
    pub fn judged_percent(&self) -> u64 {
        (self.judged * 100).checked_div(self.counts.answered()).unwrap_or_default()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self { begun: Instant::now(), inner: Mutex::default() }
    }
}

impl Recorder {
    /// Tells of every event in this file too, as it comes: a run that is ended leaves it behind.
    ///
    /// # Panics
    /// If the file can't be made.
    pub fn telling(path: &Path) -> Self {
        let file = File::create(path).expect("a history can be written");
        let record = Record { told_to: Some(file), ..Record::default() };
        Self { inner: Mutex::new(record), ..Self::default() }
    }

    /// How long ago it was made: the time that its events are told with.
    pub fn time(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Tells of something that is no operation, between the operations.
    pub fn tell(&self, event: Value) {
        let time = self.time();
        self.lock().tell(time, event);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // A client that panicked has ended its test already.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation of this client begins; what it wants is made from its number.
    pub fn begin(&self, client: &str, key: &str, wanted: impl FnOnce(u64) -> Wanted) -> Begun {
        let mut record = self.lock();
        record.next_id += 1;
        record.counts.begun += 1;
        let id = record.next_id;
        let wanted = wanted(id);
        record.histories.begin(&key.to_owned(), id, wanted);
        let wants = match wanted {
            Wanted::Set { value, expected } => json!({ "set": value, "expected": expected }),
            Wanted::Delete => json!("delete"),
            Wanted::Read => json!("read"),
        };
        record.tell(self.time(), json!({ "op": id, "client": client, "key": key, "wants": wants }));
        Begun { id, key: key.to_owned(), floor: record.order.begin() }
    }

    /// The log has decided about a write, at this revision.
    pub fn decided(&self, begun: Begun, heard: Heard, revision: u64) {
        let mut record = self.lock();
        record.histories.end(&begun.key, begun.id, Some(heard));
        let heard_text = format!("{heard:?}");
        record.tell(
            self.time(),
            json!({ "op": begun.id, "heard": heard_text, "revision": revision }),
        );
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

    /// A write was decided against, and that has no place in the order of writes.
    pub fn declined(&self, begun: Begun, heard: Heard) {
        let mut record = self.lock();
        record.histories.end(&begun.key, begun.id, Some(heard));
        record.tell(self.time(), json!({ "op": begun.id, "heard": format!("{heard:?}") }));
        record.counts.declined += 1;
        record.ended();
    }

    /// It reached nobody, and has no effect.
    pub fn refused(&self, begun: Begun) {
        let mut record = self.lock();
        record.histories.end(&begun.key, begun.id, None);
        record.counts.refused += 1;
        record.tell(self.time(), json!({ "op": begun.id, "refused": true }));
    }

    /// A read was answered: value and revision of the key, and what the answer had seen of the
    /// log, where it says so.
    pub fn saw(&self, begun: Begun, saw: Option<(u64, u64)>, applied: Option<u64>) {
        let mut record = self.lock();
        record.histories.end(&begun.key, begun.id, Some(Heard::Saw(saw)));
        let (value, revision) = saw.unzip();
        let seen = json!({ "value": value, "revision": revision, "applied": applied });
        record.tell(self.time(), json!({ "op": begun.id, "saw": seen }));
        if let Some(applied) = applied {
            let judged = record.order.looked(begun.floor, applied);
            record.keep(judged);
        }
        record.counts.read += 1;
        record.ended();
    }

    /// An attempt brought no answer.
    pub fn unanswered(&self, begun: &Begun) {
        let mut record = self.lock();
        record.counts.repeated += 1;
        record.tell(self.time(), json!({ "op": begun.id, "unanswered": true }));
    }

    /// Its client gives up: it may happen later, or never.
    pub fn given_up(&self, begun: Begun) {
        let mut record = self.lock();
        record.counts.unknown += 1;
        record.tell(self.time(), json!({ "op": begun.id, "given_up": true }));
    }

    /// What was just answered came over NATS.
    pub fn was_over_nats(&self) {
        self.lock().counts.over_nats += 1;
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
            judged: record.histories.judged(),
            counts: record.counts,
        }
    }
}

impl Record {
    fn tell(&mut self, time: Duration, mut event: Value) {
        let Some(file) = &mut self.told_to else { return };
        event["ms"] = json!(time.as_micros() as f64 / 1_000.0);
        writeln!(file, "{event}").expect("a history can be written");
    }

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
        let first = good.begin("me", "a", set);
        let value = first.id;
        good.decided(first, Heard::Done(5), 5);
        good.saw(good.begin("me", "a", |_| Wanted::Read), Some((value, 5)), Some(6));
        let verdict = good.judge();
        assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
        assert_eq!((verdict.judged, verdict.counts.answered()), (2, 2));

        assert!(verdict.is_whole() && verdict.judged_percent() == 100);

        let lost = Recorder::default();
        lost.decided(lost.begin("me", "a", set), Heard::Done(5), 5);
        lost.saw(lost.begin("me", "a", |_| Wanted::Read), None, Some(6));
        assert_eq!(lost.judge().violations.len(), 1, "an acknowledged write is not there");

        let stale = Recorder::default();
        stale.decided(stale.begin("me", "a", set), Heard::Done(5), 5);
        stale.saw(stale.begin("me", "b", |_| Wanted::Read), None, Some(4));
        assert_eq!(stale.judge().violations.len(), 1, "a read of the past");

        let twice = Recorder::default();
        twice.decided(twice.begin("me", "a", set), Heard::Done(5), 5);
        twice.decided(twice.begin("me", "b", set), Heard::Done(5), 5);
        assert_eq!(twice.judge().violations.len(), 1, "one revision for two writes");
    }
    #[test]
    fn what_was_not_judged_is_known() {
        let recorder = Recorder::default();
        // Too many that nobody ever heard of, and any of them may have come before an answer.
        for _ in 0..30 {
            recorder.given_up(recorder.begin("me", "a", set));
        }
        recorder.decided(recorder.begin("me", "a", set), Heard::Done(5), 5);
        let verdict = recorder.judge();
        assert!(verdict.violations.is_empty() && !verdict.is_whole());
        assert_eq!((verdict.judged, verdict.judged_percent()), (0, 0));
    }

    #[test]
    fn every_event_is_a_line() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("history.jsonl");
        let recorder = Recorder::telling(&path);
        let write = recorder.begin("me", "a", set);
        recorder.unanswered(&write);
        recorder.decided(write, Heard::Done(5), 5);
        recorder.saw(recorder.begin("you", "a", |_| Wanted::Read), Some((1, 5)), Some(6));
        recorder.given_up(recorder.begin("me", "a", |_| Wanted::Delete));
        let text = std::fs::read_to_string(&path).expect("it was written");
        let lines: Vec<Value> = text.lines().map(|it| it.parse().expect("JSON")).collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert_eq!(lines[0]["wants"], json!({ "set": 1, "expected": null }));
        assert_eq!(lines[2]["heard"], "Done(5)");
        assert_eq!(lines[4]["saw"], json!({ "value": 1, "revision": 5, "applied": 6 }));
        assert!(lines.windows(2).all(|it| it[0]["ms"].as_f64() <= it[1]["ms"].as_f64()));
    }
}
