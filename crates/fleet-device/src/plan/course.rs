//! What the owner of a link remembers of one device, and what it makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{Object, Revision, Value};

use super::choice::would_write;
use super::property::{Case, Verdict};
use super::track::{Said, Track, pause_ms, pause_within};
use super::{Leave, Orders, Plan, Reported, Step, TroubleCode, alike};
use crate::{Availability, Observation, Quality, ReadErrorKind, Reading};

/// The first question after a hand-over; the pause doubles with each.
pub(super) const ASK_MS_FIRST: u64 = 20;
/// The longest pause between reads of a device that doesn't answer.
pub(super) const READ_MS_MAX: u64 = 10_000;
/// The longest pause between questions about something that was handed over.
const ASK_MS_MAX: u64 = 5_000;
/// The same, of one that has been silent for [`LONG_SILENT_MS`].
const READ_MS_MAX_SILENT: u64 = 60_000;
/// The longest pause between questions of either kind to a device that sleeps: it hears none of
/// them, and reports by itself when it wakes.
const ASK_MS_MAX_ASLEEP: u64 = 300_000;
/// A device that gave no answer for so long is asked less often.
const LONG_SILENT_MS: u64 = 300_000;
/// Properties of one device that are remembered, beside those that are wished.
pub(super) const PROPERTIES_MAX: usize = 512;

/// Whether the device was read in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstRead {
    /// Not yet; not before this moment.
    Due { at_ms: u64, tries: u32 },
    /// It answered.
    Done,
    /// It can't be asked.
    Impossible,
}

/// What the owner of a link remembers of one device, for one session.
#[derive(Clone, Debug)]
pub struct Course {
    pub(super) began_ms: u64,
    pub(super) first_read: FirstRead,
    pub(super) availability: Availability,
    pub(super) said: BTreeMap<Arc<str>, Said>,
    pub(super) tracks: BTreeMap<Arc<str>, Track>,
    /// That it is away was told before this session, and not in it.
    pub(super) is_hearsay: bool,
    /// That it is there shows by what it says itself, and nobody would tell that it has gone.
    pub(super) by_word: bool,
    /// A step is under way; it began then.
    pub(super) busy_since_ms: Option<u64>,
    pub(super) ask_next_ms: u64,
    /// When something last ended that may have changed the device: a hand-over, a one-shot.
    pub(super) acted_ms: Option<u64>,
    answered_ms: Option<u64>,
    /// Since when nothing that it was asked or handed was answered.
    pub(super) silent_since_ms: Option<u64>,
    pub(super) asked: u32,
    /// The orders allowed writing when they were looked at last.
    pub(super) writing: bool,
    /// What is being handed over: of each property, the wish or local write that it is of.
    pub(super) handing: BTreeMap<Arc<str>, (Revision, Option<u64>)>,
    /// What is to become a wish, and instead of which.
    pub(super) adopting: Option<(Arc<str>, Value, Revision)>,
    /// What there was of wishes when the session began has been seen.
    followed: bool,
    /// The last that it said can't be read.
    unreadable: bool,
    /// Values without room.
    dropped: u64,
}

impl Course {
    /// Nothing is known.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            began_ms: now_ms,
            first_read: FirstRead::Due { at_ms: now_ms, tries: 0 },
            availability: Availability::Unknown,
            said: BTreeMap::new(),
            tracks: BTreeMap::new(),
            is_hearsay: false,
            by_word: false,
            busy_since_ms: None,
            ask_next_ms: now_ms,
            acted_ms: None,
            answered_ms: None,
            silent_since_ms: None,
            asked: 0,
            writing: false,
            handing: BTreeMap::new(),
            adopting: None,
            followed: false,
            unreadable: false,
            dropped: 0,
        }
    }

    /// Whether a step is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy_since_ms.is_some()
    }

    /// Whether the device can be reached, as far as it is known.
    #[must_use]
    pub fn availability(&self) -> Availability {
        self.availability
    }

    /// The device, or somebody about it, said something.
    pub fn heard(&mut self, heard: &Observation, now_ms: u64) {
        if let Some(availability) = heard.availability {
            self.set_availability(availability, now_ms);
        }
        if heard.foreign_write {
            return;
        }
        let was_there = self.by_word && self.availability == Availability::Unknown;
        let is_missed = was_there || self.availability == Availability::Offline;
        if !heard.retained && !heard.values.is_empty() && is_missed {
            // It speaks.
            self.set_availability(Availability::Online, now_ms);
            self.by_word = true;
        }
        if heard.values.is_empty() {
            self.unreadable |= heard.quality == Quality::Bad;
            return;
        }
        if !heard.retained {
            self.is_there(now_ms);
            let unread = matches!(self.first_read, FirstRead::Due { .. });
            if unread && self.availability == Availability::Asleep && heard.quality == Quality::Good
            {
                // It is awake for this moment only, and has said how it is.
                self.first_read = FirstRead::Done;
            }
        }
        self.take_values(&heard.values, heard.quality, heard.retained, now_ms);
    }

    /// What people should know of what it says.
    #[must_use]
    pub fn note(&self) -> Option<&'static str> {
        if self.dropped > 0 {
            Some("it reports more properties than are kept")
        } else {
            self.unreadable.then_some("what it says can't be read")
        }
    }

    fn take_values(&mut self, values: &Object, quality: Quality, retained: bool, now_ms: u64) {
        self.unreadable &= values.is_empty();
        for (property, value) in values.iter() {
            let known = self.said.contains_key(property) || self.tracks.contains_key(property);
            if !known && self.said.len() >= PROPERTIES_MAX {
                self.dropped = self.dropped.saturating_add(1);
                continue;
            }
            let said = Said { value: value.clone(), at_ms: now_ms, quality, retained };
            self.said.insert(Arc::clone(property), said);
        }
    }

    pub(super) fn set_availability(&mut self, availability: Availability, now_ms: u64) {
        let returned = self.availability == Availability::Offline
            && matches!(availability, Availability::Online | Availability::Asleep);
        let left = availability == Availability::Offline && self.availability != availability;
        self.availability = availability;
        (self.is_hearsay, self.by_word) = (false, false);
        if (left || returned) && self.first_read != FirstRead::Impossible {
            // One that doesn't say that it is back is found by asking.
            let (tries, pause) = if left { (1, pause_ms(1)) } else { (0, 0) };
            self.first_read = FirstRead::Due { at_ms: now_ms.saturating_add(pause), tries };
        }
        match availability {
            Availability::Offline => self.kept_silent(now_ms),
            Availability::Online | Availability::Asleep => self.is_there(now_ms),
            Availability::Unknown => {}
        }
        if returned {
            self.returned();
        }
    }

    /// A read has ended.
    pub fn read_ended(&mut self, ended: Result<Reading, ReadErrorKind>, now_ms: u64) {
        self.busy_since_ms = None;
        match ended {
            Ok(reading) => {
                if self.availability != Availability::Asleep {
                    let told = self.availability == Availability::Online && !self.by_word;
                    self.set_availability(Availability::Online, now_ms);
                    self.by_word = !told;
                }
                self.is_there(now_ms);
                self.take_values(&reading.values, reading.quality, false, now_ms);
                self.answered(&reading, now_ms);
            }
            Err(ReadErrorKind::Unsupported) => {
                self.first_read = FirstRead::Impossible;
                if self.is_hearsay {
                    // Nobody might ever say that it is back.
                    self.availability = Availability::Unknown;
                    self.is_hearsay = false;
                    self.returned();
                }
            }
            Err(
                ReadErrorKind::Offline
                | ReadErrorKind::Timeout
                | ReadErrorKind::Refused
                | ReadErrorKind::NotAsked
                | ReadErrorKind::LinkLost,
            ) => {
                if !matches!(ended, Err(ReadErrorKind::Refused | ReadErrorKind::NotAsked)) {
                    self.kept_silent(now_ms);
                }
                if ended == Err(ReadErrorKind::Offline) {
                    self.set_availability(Availability::Offline, now_ms);
                }
                self.put_first_read_off(now_ms);
            }
        }
        self.asked = self.asked.saturating_add(1);
        let sleeps = self.availability == Availability::Asleep;
        let pause_ms_max = if sleeps { ASK_MS_MAX_ASLEEP } else { ASK_MS_MAX };
        let pause = ASK_MS_FIRST.saturating_mul(1 << self.asked.min(16)).min(pause_ms_max);
        self.ask_next_ms = now_ms.saturating_add(pause);
    }

    /// What was asked for was said, or as much of it as there was time for.
    fn answered(&mut self, reading: &Reading, now_ms: u64) {
        let said = |property: &Arc<str>| reading.complete || reading.values.get(property).is_some();
        if self.tracks.keys().all(said) {
            self.first_read = FirstRead::Done;
        } else {
            self.put_first_read_off(now_ms);
        }
        if reading.complete {
            self.answered_ms = Some(now_ms);
        }
        for (property, track) in &mut self.tracks {
            track.doubtful &= !said(property);
        }
    }

    /// A first question that was in vain is asked again later.
    fn put_first_read_off(&mut self, now_ms: u64) {
        let FirstRead::Due { tries, .. } = self.first_read else { return };
        let tries = tries.saturating_add(1);
        let since_ms = self.silent_since_ms.unwrap_or(now_ms);
        let long = now_ms.saturating_sub(since_ms) > LONG_SILENT_MS;
        let pause_ms_max = match (self.availability == Availability::Asleep, long) {
            (true, _) => ASK_MS_MAX_ASLEEP,
            (false, true) => READ_MS_MAX_SILENT,
            (false, false) => READ_MS_MAX,
        };
        let at_ms = now_ms.saturating_add(pause_within(tries, pause_ms_max));
        self.first_read = FirstRead::Due { at_ms, tries };
    }

    /// Whether nothing of a local write can have come to the device, as far as this course knows.
    #[must_use]
    pub fn is_untouched(&self, local: u64) -> bool {
        let mut tracks = self.tracks.values().filter(|track| track.local == Some(local));
        tracks.all(|track| track.handed.is_none() && !track.doubtful)
    }

    /// Everything that the device said, with when and how far it can be trusted.
    pub fn reported(&self) -> impl Iterator<Item = (&Arc<str>, &Value, Reported)> {
        self.said.iter().map(|(property, said)| {
            let Said { at_ms, quality, retained, .. } = *said;
            (property, &said.value, Reported { at_ms, quality, retained })
        })
    }

    /// Whether it has said in this session that a property is so.
    #[must_use]
    pub fn says(&self, property: &str, value: &Value, tolerance: f64) -> bool {
        let said = self.said.get(property).filter(|said| said.is_proof());
        said.is_some_and(|said| alike(value, &said.value, tolerance))
    }

    /// Where the device stands, without a step.
    pub fn look(&mut self, orders: &Orders, now_ms: u64) -> Plan {
        let busy = self.busy_since_ms.is_some();
        self.busy_since_ms.get_or_insert(now_ms);
        let plan = self.plan(orders, false, now_ms);
        if !busy {
            self.busy_since_ms = None;
        }
        plan
    }

    /// What to do now. A step that is given counts as under way until its end is told.
    pub fn plan(&mut self, orders: &Orders, may_write: bool, now_ms: u64) -> Plan {
        self.plan_within(orders, Leave { write: may_write, read: true }, now_ms)
    }

    /// The same, where there may be no room for a question.
    pub fn plan_within(&mut self, orders: &Orders, leave: Leave, now_ms: u64) -> Plan {
        self.follow(orders, now_ms);
        self.writing = orders.allows_writing();
        let verdicts = self.verdicts(orders, now_ms);
        let (step, why, again_ms) = self.choose(orders, &verdicts, leave, now_ms);
        if let Some(step) = &step {
            self.busy_since_ms = Some(now_ms);
            self.note_begun(step);
        }
        Plan {
            step,
            why,
            marks: self.marks(orders),
            trouble: self.trouble(orders),
            failures: self.failures(),
            overcome: self.overcome(orders),
            local: self.local(),
            drift: self.drift(orders, now_ms),
            would_write: would_write(orders, &verdicts),
            again_ms,
        }
    }

    /// Remembers what a step is about, so that its end is applied to that and nothing else.
    fn note_begun(&mut self, step: &Step) {
        match step {
            Step::Write { values, .. } => {
                let wish = |property: &Arc<str>| Some(self.tracks.get(property)?.wish());
                let named = values.iter().map(|(property, _)| property);
                self.handing = named.filter_map(|p| Some((Arc::clone(p), wish(p)?))).collect();
            }
            Step::Adopt { property, value, seen } => {
                self.adopting = Some((Arc::clone(property), value.clone(), *seen));
            }
            Step::Read | Step::Claim(_) => {}
        }
    }

    /// One track per wish; a new wish starts a new one.
    pub(super) fn follow(&mut self, orders: &Orders, now_ms: u64) {
        self.tracks.retain(|property, _| orders.wishes.contains_key(property));
        for (property, wish) in &orders.wishes {
            let known = self.tracks.get(property).is_some_and(|track| track.is_of(wish));
            if !known {
                let mut track = Track::new(property, wish, orders, now_ms);
                track.old = !self.followed;
                let said = self.said.get(property);
                let before = self.tracks.get(property);
                if self.handing.contains_key(property) {
                    // What that leads to is not known yet.
                    track.proof_from_ms = u64::MAX;
                } else if before.is_some_and(|before| before.is_unheard_of(said)) {
                    track.overtaken(now_ms);
                }
                self.tracks.insert(Arc::clone(property), track);
                self.asked = 0;
                self.ask_next_ms = self.ask_next_ms.min(now_ms);
            }
        }
        self.followed = true;
    }

    pub(super) fn verdicts(&mut self, orders: &Orders, now_ms: u64) -> BTreeMap<Arc<str>, Verdict> {
        let mut verdicts = BTreeMap::new();
        for (property, wish) in &orders.wishes {
            let Some(track) = self.tracks.get_mut(property) else { continue };
            let case = Case {
                wish,
                said: self.said.get(property),
                policy: orders.policy_of(property),
                mode: orders.mode,
                on_return: orders.on_return,
                can_ask: self.first_read != FirstRead::Impossible,
                sleeps: self.availability == Availability::Asleep,
                answered_ms: self.answered_ms,
                acted_ms: self.acted_ms,
                began_ms: self.began_ms,
                now_ms,
            };
            if !orders.profile.access(property).is_some_and(|access| access.is_writable()) {
                if track.over.is_none() {
                    track.give_up(TroubleCode::Refused, format!("{property} can't be written"));
                }
                continue;
            }
            verdicts.insert(Arc::clone(property), case.verdict(track));
        }
        verdicts
    }
}
