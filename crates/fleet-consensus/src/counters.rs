//! What was refused or dropped, by reason. Every bad input is counted here and has no effect.

use std::collections::BTreeMap;

/// Counts by surface and reason; both are closed sets of words from the code.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    refused: BTreeMap<(&'static str, &'static str), u64>,
    /// Frames sealed and handed to a way.
    pub frames_sent: u64,
    /// Frames opened.
    pub frames_received: u64,
    /// Frames that no way took.
    pub frames_unsent: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Commands handed on to the leader, repeats included.
    pub relayed: u64,
    /// Entries appended.
    pub entries_appended: u64,
}

impl Counters {
    pub(crate) fn refuse(&mut self, surface: &'static str, reason: &'static str) {
        *self.refused.entry((surface, reason)).or_default() += 1;
    }

    /// Refusals so far as (surface, reason, count).
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.refused.iter().map(|((surface, reason), count)| (*surface, *reason, *count))
    }
}
