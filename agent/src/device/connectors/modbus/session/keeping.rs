//! Keeping devices armed: their watchdogs are refreshed as long as this node may write to them.
//!
//! What ends the refreshing is what the watchdog is for: the process is gone or stopped, the
//! network, the lease. So nothing here tries to be clever: a refresh that fails is tried again
//! when the next is due, and the device is armed anew before it. One that fails again and again
//! is tried less often, for each attempt takes the bus from all other devices.

use fleet_state::{DeviceId, Value};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::blocks::blocks;
use super::super::bus::Bus;
use super::super::bus_error::BusError;
use super::super::map::{Group, Map, Watchdog};
use super::actor::{Actor, End, ended};
use super::transfer::{Failure, read_block, register, same, write_one};

impl Actor {
    /// When a watchdog is to be refreshed next.
    pub(super) fn keeping_due(&self) -> Option<Instant> {
        self.units.values().filter_map(|unit| unit.keeping.as_ref()).map(|kept| kept.at).min()
    }

    /// Refreshes the watchdog that has waited longest.
    pub(super) async fn keep_one(&mut self) -> Option<End> {
        let now = Instant::now();
        let waiting = self.units.iter_mut().filter_map(|(id, unit)| {
            let at = unit.keeping.as_ref()?.at;
            (at <= now).then_some((at, id, unit))
        });
        let (_, id, unit) = waiting.min_by_key(|(at, _, _)| *at)?;
        let (id, map) = (id.clone(), &unit.map);
        let (watchdog, kept) = (map.watchdog.as_ref()?, unit.keeping.as_mut()?);
        kept.at = now + watchdog.refresh;
        self.kept_last = true;
        let Some(until) = self.may_write.until(&id) else {
            // What it was armed with may be another's by the time that this node may write again.
            kept.is_armed = false;
            (kept.failures, kept.problem) = (0, None);
            return None;
        };
        self.bus.limit(Some(until));
        let done = keep(&mut self.bus, map, watchdog, (kept.is_armed, kept.turn)).await;
        self.bus.limit(None);
        kept.is_armed = done.is_ok();
        match done {
            Ok(()) => {
                kept.turn = kept.turn.wrapping_add(1);
                kept.failures = 0;
                kept.problem = None;
                None
            }
            Err(failure) => {
                kept.failures = kept.failures.saturating_add(1);
                let problem = failure.told().message;
                complain(&id, kept.failures, &problem);
                // Counted from now: it may have taken as long as one interval.
                kept.at = Instant::now() + watchdog.refresh * kept.failures.min(REST_MAX);
                kept.problem = Some(format!("its watchdog isn't refreshed: {problem}"));
                match failure {
                    Failure::Bus { error: error @ BusError::NotConnected(_), .. } => {
                        Some(ended(&error))
                    }
                    Failure::Bus { .. }
                    | Failure::Refused(..)
                    | Failure::Partly(..)
                    | Failure::Unconfirmed(_) => None,
                }
            }
        }
    }
}

/// A watchdog that can't be refreshed is tried at least once in so many of its intervals.
const REST_MAX: u32 = 8;

/// Said at the 1st, 2nd, 4th, … time in a row.
fn complain(device: &DeviceId, failures: u32, problem: &str) {
    if failures.is_power_of_two() {
        warn!(%device, failures, problem, "a watchdog could not be refreshed");
    } else {
        debug!(%device, failures, problem, "a watchdog could not be refreshed");
    }
}

async fn keep(
    bus: &mut Bus,
    map: &Map,
    watchdog: &Watchdog,
    (is_armed, turn): (bool, usize),
) -> Result<(), Failure> {
    if !is_armed {
        for (name, value) in &watchdog.arm {
            if !is_so(bus, map, name, value).await? {
                write_one(bus, map.unit, register(map, name)?, value).await?;
            }
        }
    }
    let turn = turn.checked_rem(watchdog.values.len()).unwrap_or_default();
    let value = watchdog.values.get(turn).unwrap_or(&Value::Null);
    write_one(bus, map.unit, register(map, &watchdog.register)?, value).await
}

/// Whether a register says this already: what it is armed with may lie in memory that wears out.
/// One that can't be read is written.
async fn is_so(bus: &mut Bus, map: &Map, name: &str, value: &Value) -> Result<bool, Failure> {
    let member = map.registers.get_key_value(name);
    let Some(block) = blocks(member.into_iter(), Group::default()).into_iter().next() else {
        return Ok(false);
    };
    match read_block(bus, map, &block).await {
        Ok((values, _)) => Ok(values.get(name).is_some_and(|now| same(now, value))),
        Err(BusError::Exception(_)) => Ok(false),
        Err(error) => Err(Failure::Bus { error, acted: false }),
    }
}
