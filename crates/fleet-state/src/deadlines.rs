//! When time limits are over: of wishes that no owner claimed yet, per device, and of invocations.
//!
//! It follows from the records and is rebuilt when a snapshot is read.

use imbl::{OrdMap, OrdSet};

use crate::ids::{DeviceId, RequestId};

/// What has a time limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Wishes of a device.
    Wishes(DeviceId),
    /// An invocation.
    Invocation(RequestId),
}

#[derive(Clone, Default)]
pub(crate) struct Deadlines {
    by_due: OrdMap<Due, u64>,
    order: OrdSet<(u64, Due)>,
}

impl Deadlines {
    /// Notes when something's next time limit is over, or that it has none.
    pub(crate) fn set(&mut self, due: Due, deadline_log_ms: Option<u64>) {
        let before = match deadline_log_ms {
            Some(deadline) => self.by_due.insert(due.clone(), deadline),
            None => self.by_due.remove(&due),
        };
        if before == deadline_log_ms {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, due.clone()));
        }
        if let Some(deadline) = deadline_log_ms {
            self.order.insert((deadline, due));
        }
    }

    /// The first time limit.
    pub(crate) fn next(&self) -> Option<u64> {
        self.order.get_min().map(|(deadline, _)| *deadline)
    }

    /// What is over by now, the earliest first.
    pub(crate) fn over(&self, log_time_ms: u64, count_max: usize) -> Vec<Due> {
        let over = self.order.iter().take_while(|(deadline, _)| *deadline <= log_time_ms);
        over.take(count_max).map(|(_, due)| due.clone()).collect()
    }
}
