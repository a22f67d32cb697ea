//! The log as a vector: what a history of calls should lead to.

use fleet_log::{HardState, Log, LogEntry, LogError, MemoryDisk, Position};

use super::{Contents, entry};

/// A call on a log. Numbers are taken relative to what the log holds, so that every call is
/// allowed.
#[derive(Clone, Debug)]
pub enum Call {
    Append { back: u64, count: u64, newer_term: bool },
    HardState { terms: u64, vote: u64, commits: u64 },
    Sync,
    Mark,
    Compact { ahead: u64 },
    Reset { ahead: u64 },
}

#[derive(Clone, Debug)]
pub struct Model {
    /// What the log holds.
    pub now: Contents,
    /// What it held when it last was synced.
    pub synced: Contents,
}

impl Model {
    pub fn new(contents: Contents) -> Self {
        Self { now: contents.clone(), synced: contents }
    }

    pub fn last(&self) -> Position {
        self.now
            .entries
            .last()
            .map_or(self.now.start, |entry| Position { index: entry.index, term: entry.term })
    }

    fn term(&self, index: u64) -> u64 {
        let after_start = usize::try_from(index - self.now.start.index).unwrap();
        after_start.checked_sub(1).map_or(self.now.start.term, |at| self.now.entries[at].term)
    }

    /// Makes the call on both. On an error the model is what the log may hold if the call's
    /// batch reached the disk after all, and `synced` what it holds otherwise.
    pub fn call(&mut self, log: &mut Log<MemoryDisk>, call: &Call) -> Result<(), LogError> {
        match *call {
            Call::Append { back, count, newer_term } => {
                let keep = self.last().index.saturating_sub(back).max(self.now.hard_state.commit);
                let term = self.term(keep) + u64::from(newer_term);
                let new: Vec<LogEntry> =
                    (keep + 1..=keep + count).map(|index| entry(index, term)).collect();
                if count > 0 {
                    let kept = usize::try_from(keep - self.now.start.index).unwrap();
                    self.now.entries.truncate(kept);
                }
                self.now.entries.extend(new.iter().cloned());
                log.append(&new)
            }
            Call::HardState { terms, vote, commits } => {
                let old = self.now.hard_state;
                let vote = if terms == 0 && old.vote != 0 { old.vote } else { vote };
                let commit = (old.commit + commits).min(self.last().index);
                self.now.hard_state = HardState { term: old.term + terms, vote, commit };
                log.set_hard_state(self.now.hard_state)
            }
            Call::Sync => self.synced_by(log.sync()),
            Call::Mark => self.synced_by(log.mark()),
            Call::Compact { ahead } => {
                let through = (self.now.start.index + ahead).min(self.last().index);
                if through == self.now.start.index {
                    return log.compact(through);
                }
                let start = Position { index: through, term: self.term(through) };
                let gone = usize::try_from(through - self.now.start.index).unwrap();
                self.now.entries.drain(..gone);
                self.now.start = start;
                self.now.hard_state.commit = self.now.hard_state.commit.max(through);
                self.synced_by(log.compact(through))
            }
            Call::Reset { ahead } => {
                let index = self.now.hard_state.commit + ahead;
                let start = Position { index, term: self.last().term + 1 };
                self.now.start = start;
                self.now.entries.clear();
                self.now.hard_state.commit = index;
                self.synced_by(log.reset(start))
            }
        }
    }

    fn synced_by(&mut self, result: Result<(), LogError>) -> Result<(), LogError> {
        if result.is_ok() {
            self.synced = self.now.clone();
        }
        result
    }

    /// The log was opened again and holds `found`: it must be what was synced, or all of what was
    /// on its way.
    pub fn settle(&mut self, found: Contents, may_be_newer: bool) {
        if !(may_be_newer && found == self.now) {
            assert_eq!(found, self.synced);
        }
        *self = Self::new(found);
    }
}
