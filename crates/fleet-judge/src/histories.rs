//! A second judge of linearizability, which knows nothing of the log.
//!
//! [`Linearizable`](super::Linearizable) is fast because it takes the log's word for the order of
//! things. This one asks only what clients asked and heard, and when, and looks for any order at
//! all that explains it: each operation takes effect at one moment between its beginning and its
//! end, or, where its client heard nothing, at any moment after its beginning or never.
//!
//! It goes through the events of one key in the order of time and keeps every state that the key
//! may be in, with the operations that have taken effect and not ended yet (Lowe, *Testing for
//! linearizability*, 2017). That is exponential in the operations that overlap, so it judges small
//! cuts: the beginning of each key's history, up to the bounds below. What lies beyond counts as
//! not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::Violation;

/// Operations under way on one key, with all that never ended.
const OPEN_MAX: usize = 20;
/// Explanations that are followed at a time.
const EXPLANATIONS_MAX: usize = 4_096;
/// Events of one key.
const EVENTS_MAX: usize = 600;

/// What somebody wants of a key. Values are told apart by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This value, if the key has the expected revision.
    Set {
        /// The value.
        value: u64,
        /// The precondition; 0 stands for a key that doesn't exist.
        expected: Option<u64>,
    },
    /// No value.
    Delete,
    /// To know.
    Read,
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was done, at this revision.
    Done(u64),
    /// It is so already.
    Unchanged,
    /// The precondition does not hold.
    Mismatch,
    /// There is nothing to delete.
    NotFound,
    /// A read: value and revision.
    Saw(Option<(u64, u64)>),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin(u64, Wanted),
    End(u64, Option<Heard>),
}

/// A revision, or that of an operation whose client never heard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Known(u64),
    Unheard,
}

/// The value of a key.
type State = Option<(u64, Version)>;

/// One way in which everything so far can have happened.
type Explanation = (State, u32);

/// What clients did to each key.
#[derive(Debug)]
pub struct Histories<K> {
    keys: BTreeMap<K, Vec<Event>>,
    judged: u64,
    heard: u64,
}

impl<K> Default for Histories<K> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), judged: 0, heard: 0 }
    }
}

impl<K: Clone + Display + Ord> Histories<K> {
    /// An operation begins; `id` is its own.
    pub fn begin(&mut self, key: &K, id: u64, wanted: Wanted) {
        self.note(key, Event::Begin(id, wanted));
    }

    /// An operation ended; `None` when it was refused and has no effect. One whose client never
    /// hears anything doesn't end.
    pub fn end(&mut self, key: &K, id: u64, heard: Option<Heard>) {
        self.heard += u64::from(heard.is_some());
        self.note(key, Event::End(id, heard));
    }

    fn note(&mut self, key: &K, event: Event) {
        let events = self.keys.entry(key.clone()).or_default();
        if events.len() < EVENTS_MAX {
            events.push(event);
        }
    }

    /// Judges all keys, at the end of a run.
    ///
    /// # Errors
    /// What clients heard of a key has no explanation.
    pub fn check(&mut self) -> Result<(), Violation> {
        for (key, events) in &self.keys {
            let judged = judge(events).map_err(|what| {
                Violation::new("histories have an explanation", format!("{key}: {what}"))
            })?;
            self.judged += judged;
        }
        Ok(())
    }

    /// How many ends of operations there were that say something of a key.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// How many of them were judged: from some number of events, operations or explanations on a key
    /// is given up.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.judged
    }
}

struct Open {
    id: u64,
    wanted: Wanted,
    /// Known in advance, as in a look back: it narrows what can have happened.
    heard: Option<Heard>,
}

/// Judges one key. Gives back how many ends were judged.
fn judge(events: &[Event]) -> Result<u64, String> {
    let ends = ends_of(events);
    let mut open: Vec<Option<Open>> = Vec::new();
    let mut explanations: BTreeSet<Explanation> = BTreeSet::from([(None, 0)]);
    let mut judged = 0;
    for event in events {
        match event {
            Event::Begin(id, wanted) => {
                let heard = match ends.get(id) {
                    // It has no effect, so it need not be followed.
                    Some(None) => continue,
                    Some(Some(heard)) => Some(*heard),
                    // Whoever never heard what it read proves nothing.
                    None if *wanted == Wanted::Read => continue,
                    None => None,
                };
                let slot = open.iter().position(Option::is_none).unwrap_or(open.len());
                if slot >= OPEN_MAX {
                    return Ok(judged);
                }
                if slot == open.len() {
                    open.push(None);
                }
                if let Some(free) = open.get_mut(slot) {
                    *free = Some(Open { id: *id, wanted: *wanted, heard });
                }
            }
            Event::End(id, Some(heard)) => {
                let of = |o: &Option<Open>| o.as_ref().is_some_and(|open| open.id == *id);
                let Some(slot) = open.iter().position(of) else {
                    continue;
                };
                let Some(next) = end(&explanations, &open, slot) else {
                    return Ok(judged);
                };
                if next.is_empty() {
                    return Err(unexplained(&open, slot, *heard, &explanations));
                }
                explanations = next;
                if let Some(ended) = open.get_mut(slot) {
                    *ended = None;
                }
                judged += 1;
            }
            Event::End(_, None) => {}
        }
    }
    Ok(judged)
}

fn ends_of(events: &[Event]) -> BTreeMap<u64, Option<Heard>> {
    let ends = events.iter().filter_map(|event| match event {
        Event::End(id, heard) => Some((*id, *heard)),
        Event::Begin(..) => None,
    });
    ends.collect()
}

/// The explanations in which the operation at `slot` has taken effect by now, without it; `None`
/// when there are too many to follow.
fn end(
    before: &BTreeSet<Explanation>,
    open: &[Option<Open>],
    slot: usize,
) -> Option<BTreeSet<Explanation>> {
    let mut seen = before.clone();
    let mut todo: Vec<Explanation> = before.iter().copied().collect();
    let mut done = BTreeSet::new();
    while let Some((state, taken)) = todo.pop() {
        if taken & (1 << slot) != 0 {
            done.insert((state, taken & !(1 << slot)));
            continue;
        }
        for (at, operation) in open.iter().enumerate() {
            let Some(operation) = operation.as_ref().filter(|_| taken & (1 << at) == 0) else {
                continue;
            };
            if let Some(state) = effect(state, operation.wanted, operation.heard) {
                let next = (state, taken | (1 << at));
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        if seen.len() > EXPLANATIONS_MAX {
            return None;
        }
    }
    Some(done)
}

/// What an operation makes of a state, if it can take effect there with what was heard.
fn effect(state: State, wanted: Wanted, heard: Option<Heard>) -> Option<State> {
    match (wanted, heard) {
        (Wanted::Set { value, expected }, Some(Heard::Done(revision))) => {
            let holds = expected.is_none_or(|expected| may_be(state, expected));
            let same = state.is_some_and(|(now, _)| now == value);
            (holds && !same).then_some(Some((value, Version::Known(revision))))
        }
        (Wanted::Set { value, .. }, Some(Heard::Unchanged)) => {
            state.is_some_and(|(now, _)| now == value).then_some(state)
        }
        (Wanted::Set { expected, .. }, Some(Heard::Mismatch)) => {
            let fails = expected.is_some_and(|expected| !must_be(state, expected));
            fails.then_some(state)
        }
        (Wanted::Set { value, expected }, None) => {
            let holds = expected.is_none_or(|expected| may_be(state, expected));
            let same = state.is_some_and(|(now, _)| now == value);
            (holds && !same).then_some(Some((value, Version::Unheard)))
        }
        (Wanted::Delete, Some(Heard::Done(_)) | None) => state.is_some().then_some(None),
        (Wanted::Delete, Some(Heard::NotFound)) => state.is_none().then_some(None),
        (Wanted::Read, Some(Heard::Saw(None))) => state.is_none().then_some(None),
        (Wanted::Read, Some(Heard::Saw(Some((value, revision))))) => {
            let (now, _) = state?;
            let known = Some((value, Version::Known(revision)));
            (now == value && may_be(state, revision)).then_some(known)
        }
        // An answer that fits no such question.
        (Wanted::Set { .. } | Wanted::Delete | Wanted::Read, _) => None,
    }
}

fn may_be(state: State, revision: u64) -> bool {
    match state {
        None => revision == 0,
        Some((_, Version::Known(now))) => now == revision,
        Some((_, Version::Unheard)) => revision != 0,
    }
}

fn must_be(state: State, revision: u64) -> bool {
    may_be(state, revision) && !matches!(state, Some((_, Version::Unheard)))
}

fn unexplained(
    open: &[Option<Open>],
    slot: usize,
    heard: Heard,
    explanations: &BTreeSet<Explanation>,
) -> String {
    let wanted = open.get(slot).and_then(Option::as_ref).map(|open| (open.id, open.wanted));
    let states: BTreeSet<&State> = explanations.iter().map(|(state, _)| state).collect();
    format!("{wanted:?} heard {heard:?}, but the key can only have been {states:?} before")
}

#[cfg(test)]
mod tests;
