//! Carries the replica's counts over into the agent's metrics.

use std::collections::BTreeMap;

use fleet_consensus::Counters;

use crate::metrics::{Metrics, Refusal};

/// What was carried over already.
#[derive(Debug, Default)]
pub(super) struct Tally {
    refused: BTreeMap<(&'static str, &'static str), u64>,
    entries_appended: u64,
    relayed: u64,
}

impl Tally {
    /// Adds what is new since the last call.
    pub(super) fn carry_over(&mut self, counters: &Counters, metrics: &Metrics) {
        for (surface, reason, count) in counters.refused() {
            let carried = self.refused.entry((surface, reason)).or_default();
            let fresh = count.saturating_sub(*carried);
            if fresh > 0 {
                let label = Refusal { surface, reason };
                metrics.refused.get_or_create(&label).inc_by(fresh);
                *carried = count;
            }
        }
        let appended = counters.entries_appended;
        let fresh = appended.saturating_sub(self.entries_appended);
        metrics.proposals.inc_by(fresh);
        self.entries_appended = appended;
        metrics.relayed.inc_by(counters.relayed.saturating_sub(self.relayed));
        self.relayed = counters.relayed;
    }
}
