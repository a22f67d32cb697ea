//! What is known of one device: what was reported, when it is read next, whether it answers.
//!
//! Pure: time comes in. A device that doesn't answer is asked less and less often, so that it
//! doesn't slow its neighbours on the bus down, and is called offline after a few silences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_state::{Object, Value};
use tokio::time::Instant;

use crate::device::connector::{Availability, DeviceSetup, Refusal};

use super::super::settings::number_of;
use super::blocks::{Block, blocks};
use super::map::Map;

/// Silences in a row after which a device counts as offline.
const SILENCES_MAX: u32 = 3;
/// Longest pause between two questions to a silent device.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After this time a value is reported again though it has not changed.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// A device of the link.
pub(crate) struct Unit {
    /// What it was registered with.
    pub(crate) setup: DeviceSetup,
    /// Its registers.
    pub(crate) map: Map,
    jobs: Vec<Job>,
    reported: BTreeMap<Arc<str>, (Value, Instant)>,
    silences: u32,
    told: Option<Availability>,
    /// What was said last of a block that it refuses.
    pub(crate) complaint: Option<String>,
    /// How its watchdog is kept, where it has one.
    pub(crate) keeping: Option<Keeping>,
}

/// How a watchdog is kept.
pub(crate) struct Keeping {
    /// When it is refreshed next.
    pub(crate) at: Instant,
    /// It was armed in this session.
    pub(crate) is_armed: bool,
    /// Whose turn it is among its values.
    pub(crate) turn: usize,
    /// Refreshes that failed in a row.
    pub(crate) failures: u32,
    /// Why the last one failed, for people.
    pub(crate) problem: Option<String>,
}

/// A question that is asked again and again.
struct Job {
    block: Block,
    interval: Duration,
    at: Instant,
}

impl Unit {
    /// A device that nobody has asked yet.
    pub(crate) fn new(setup: DeviceSetup, now: Instant) -> Result<Self, Refusal> {
        let map = Map::parse(&setup)?;
        let mut jobs = Vec::new();
        for (name, group) in &map.groups {
            let members = map.registers.iter();
            let members =
                members.filter(|(_, register)| register.is_read() && register.group == *name);
            jobs.extend(blocks(members, *group).into_iter().map(|block| Job {
                block,
                interval: group.interval,
                at: now,
            }));
        }
        let (reported, told, complaint) = (BTreeMap::new(), None, None);
        let keeping = map.watchdog.as_ref().map(|_| Keeping {
            at: now,
            is_armed: false,
            turn: 0,
            failures: 0,
            problem: None,
        });
        Ok(Self { setup, map, jobs, reported, silences: 0, told, complaint, keeping })
    }

    /// When it is to be asked next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.jobs.iter().map(|job| job.at).min()
    }

    /// The question that is due, if one is; its next time is set.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Block> {
        let silences = self.silences;
        let job = self.jobs.iter_mut().filter(|job| job.at <= now).min_by_key(|job| job.at)?;
        let pause = job.interval.saturating_mul(1 << silences.min(8)).min(PAUSE_MAX);
        job.at = now + pause.max(job.interval);
        Some(job.block.clone())
    }

    /// The device has answered. Tells what is news.
    pub(crate) fn on_answer(&mut self) -> Option<Availability> {
        self.silences = 0;
        self.tell(Availability::Online)
    }

    /// It has not. Tells what is news.
    pub(crate) fn on_silence(&mut self) -> Option<Availability> {
        self.silences = self.silences.saturating_add(1);
        if self.silences < SILENCES_MAX { None } else { self.tell(Availability::Offline) }
    }

    fn tell(&mut self, availability: Availability) -> Option<Availability> {
        let news = self.told != Some(availability);
        self.told = Some(availability);
        news.then_some(availability)
    }

    /// These values were told as the answer to a question: what differs from them is news.
    pub(crate) fn note_told(&mut self, values: &Object, now: Instant) {
        let told = values.iter().map(|(name, value)| (Arc::clone(name), (value.clone(), now)));
        self.reported.extend(told);
    }

    /// Of values that were read, those that are worth a report.
    pub(crate) fn news(&mut self, values: Object, now: Instant) -> Object {
        let mut news = Object::new();
        for (name, value) in values.iter() {
            let deadband = self.map.registers.get(name).map_or(0.0, |register| register.deadband);
            let known = self.reported.get(name);
            let worth = known.is_none_or(|(before, at)| {
                now.saturating_duration_since(*at) >= REPEAT_AFTER
                    || differs(before, value, deadband)
            });
            if worth {
                self.reported.insert(Arc::clone(name), (value.clone(), now));
                news.insert(Arc::clone(name), value.clone());
            }
        }
        news
    }
}

/// Whether a value has changed by as much as matters.
fn differs(before: &Value, now: &Value, deadband: f64) -> bool {
    match (number_of(before), number_of(now)) {
        (Some(before), Some(now)) if deadband > 0.0 => (now - before).abs() >= deadband,
        _ => before != now,
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::tests::setup;
    use super::*;

    const MAP: &str = r#"{"groups": {"slow": {"interval_ms": 10000}}, "registers": {
        "speed": {"table": "holding", "address": 0, "type": "u16", "deadband": 5},
        "hours": {"table": "holding", "address": 1, "type": "u16", "group": "slow"},
        "start": {"table": "holding", "address": 2, "type": "u16", "access": "write"}}}"#;

    fn values(speed: i64) -> Object {
        let mut object = Object::new();
        object.insert("speed", Value::from(speed));
        object
    }

    #[test]
    fn groups_have_their_own_pace() {
        let mut now = Instant::now();
        let mut unit = Unit::new(setup("d", "1", MAP), now).unwrap();
        let mut asked = Vec::new();
        for _ in 0..3 {
            while let Some(block) = unit.take_due(now) {
                asked.push(block.members[0].to_string());
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(asked, ["speed", "hours", "speed", "speed"]);
        assert_eq!(unit.due(), Some(now));
    }

    #[test]
    fn a_silent_device_is_asked_less_often() {
        let start = Instant::now();
        let mut unit = Unit::new(setup("d", "1", MAP), start).unwrap();
        assert_eq!(unit.on_answer(), Some(Availability::Online));
        assert_eq!(unit.on_answer(), None);
        assert_eq!((unit.on_silence(), unit.on_silence()), (None, None));
        assert_eq!(unit.on_silence(), Some(Availability::Offline));
        assert_eq!(unit.on_silence(), None);
        while unit.take_due(start).is_some() {}
        assert_eq!(unit.due(), Some(start + Duration::from_secs(16)));
        assert_eq!(unit.on_answer(), Some(Availability::Online));
    }

    #[test]
    fn what_differs_from_an_answer_is_news() {
        let now = Instant::now();
        let mut unit = Unit::new(setup("d", "1", MAP), now).unwrap();
        assert!(!unit.news(values(100), now).is_empty());
        // It was set to 200 and asked, and goes back before it is polled again.
        unit.note_told(&values(200), now);
        assert!(unit.news(values(200), now).is_empty());
        unit.note_told(&values(200), now);
        assert_eq!(unit.news(values(100), now), values(100));
    }

    #[test]
    fn small_changes_are_not_worth_a_report() {
        let mut now = Instant::now();
        let mut unit = Unit::new(setup("d", "1", MAP), now).unwrap();
        let mut news = |unit: &mut Unit, speed, passed| {
            now += Duration::from_secs(passed);
            !unit.news(values(speed), now).is_empty()
        };
        assert!(news(&mut unit, 100, 1));
        assert!(!news(&mut unit, 104, 1));
        assert!(news(&mut unit, 105, 1));
        assert!(!news(&mut unit, 101, 1));
        assert!(news(&mut unit, 101, 60));
    }
}
