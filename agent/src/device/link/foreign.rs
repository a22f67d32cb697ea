//! What others write to devices of the link, past this node: shown, told as an event, counted.
//!
//! A flood of it is no flood of events: each device is told of at most once in [`DEVICE_EVERY_MS`],
//! and a link at most [`EVENTS_PER_SECOND_MAX`] times a second, with how many there were since.

use std::sync::Arc;

use fleet_protocol::event::ForeignWrite;
use fleet_state::{DeviceId, Object};

use super::tell::wall_ms;
use super::work::Work;
use crate::device::connector::Observation;

/// A device is told of at most once in this time.
const DEVICE_EVERY_MS: u64 = 1_000;
/// Events of one link in a second.
const EVENTS_PER_SECOND_MAX: u32 = 20;

/// What others wrote to one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Foreign {
    /// Since it was told last.
    untold: u64,
    /// Since the connection was made.
    count: u64,
    newest: Option<Newest>,
    /// Not told before this moment.
    next_ms: u64,
    /// As it is shown.
    pub(super) shown: Option<Arc<Object>>,
}

#[derive(Clone, Debug)]
struct Newest {
    values: Object,
    retained: bool,
    wall_ms: u64,
}

impl Foreign {
    /// One more.
    pub(super) fn heard(&mut self, heard: &Observation) {
        self.untold = self.untold.saturating_add(1);
        self.count = self.count.saturating_add(1);
        let (values, retained) = (heard.values.clone(), heard.retained);
        self.newest = Some(Newest { values, retained, wall_ms: wall_ms() });
    }

    /// From now on it is shown with the newest of them, whether that can be told or not.
    fn show(&mut self) {
        let Some(newest) = &self.newest else { return };
        let mut shown = Object::new();
        shown.insert("values", newest.values.clone());
        shown.insert("retained", newest.retained);
        shown.insert("count", self.count);
        shown.insert("heard_wall_ms", newest.wall_ms);
        self.shown = Some(Arc::new(shown));
    }

    fn take(&mut self, now_ms: u64) -> Option<(u64, Newest)> {
        let newest = self.newest.clone().filter(|_| self.untold > 0)?;
        // Those that wait for the link's next second come first then.
        self.next_ms = now_ms.saturating_add(DEVICE_EVERY_MS + 1);
        Some((std::mem::take(&mut self.untold), newest))
    }
}

/// How many events of a link may be told yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    since_ms: u64,
    told: u32,
}

impl Budget {
    /// Whether one more may be told; when not, the moment at which it may.
    fn spend(&mut self, now_ms: u64) -> Result<(), u64> {
        let over_ms = self.since_ms.saturating_add(1_000);
        if now_ms >= over_ms || self.told == 0 {
            *self = Self { since_ms: now_ms, told: 0 };
        } else if self.told >= EVENTS_PER_SECOND_MAX {
            return Err(over_ms);
        }
        self.told += 1;
        Ok(())
    }
}

impl Work<'_> {
    /// Tells what others wrote to a device, if that is news and its time has come.
    pub(super) fn tell_foreign(&mut self, id: &DeviceId, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.foreign.untold > 0) else {
            return;
        };
        let device_ms = slot.foreign.next_ms;
        let due = if now_ms < device_ms {
            Err(device_ms)
        } else {
            slot.foreign.show();
            self.foreign.spend(now_ms)
        };
        if let Err(at_ms) = due {
            self.agenda.insert((at_ms, id.clone()));
            return;
        }
        let Some((count, newest)) = slot.foreign.take(now_ms) else { return };
        if slot.foreign.count == count || slot.foreign.count.is_power_of_two() {
            tracing::info!(link = %self.link.id, device = %id, count = slot.foreign.count, "somebody else writes to a device");
        }
        self.task.parts.observed.put_foreign(ForeignWrite {
            device: id.to_string(),
            link: self.link.id.to_string(),
            node: self.task.parts.node.get(),
            epoch: self.task.epoch,
            values: newest.values.into(),
            retained: newest.retained,
            count,
            wall_time_ms: newest.wall_ms,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_tells_so_many_a_second_and_then_waits() {
        let mut budget = Budget::default();
        let told = |budget: &mut Budget, now_ms| {
            let spent = (0..100).map(|_| budget.spend(now_ms));
            spent.filter(Result::is_ok).count()
        };
        assert_eq!(told(&mut budget, 5_000), 20);
        assert_eq!(budget.spend(5_700), Err(6_000));
        assert_eq!(told(&mut budget, 6_000), 20);
    }

    #[test]
    fn what_is_not_told_is_counted() {
        let mut foreign = Foreign::default();
        assert!(foreign.take(0).is_none());
        for on in [true, false, true] {
            let mut values = Object::new();
            values.insert("on", on);
            let heard = Observation::fresh("lamp".parse().unwrap(), values);
            foreign.heard(&Observation { foreign_write: true, ..heard });
        }
        let (count, newest) = foreign.take(1_000).expect("news");
        assert_eq!((count, newest.values.to_json().as_str()), (3, r#"{"on":true}"#));
        assert!(foreign.take(1_000).is_none());
        assert_eq!(foreign.next_ms, 2_001);
    }
}
