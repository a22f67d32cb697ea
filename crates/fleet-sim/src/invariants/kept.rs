//! What is committed stays where it is: once a node has durably written an entry that is committed,
//! or will be, no leader ever replaces it there, no restart loses it.
//!
//! Every leader to come has a committed entry (leader completeness), and equal logs up to a place
//! stay equal, so there is never a reason to drop one. A quorum that has an entry so goes on to be
//! one: whoever drops it takes part of what `committed` promised back, long before anybody is
//! elected who lacks it.

use std::collections::BTreeMap;

use fleet_log::{Disk, Log};
use fleet_state::NodeId;

use super::{CommittedLog, Violation};

/// Up to where each node has what is committed.
#[derive(Debug, Default)]
pub struct Kept {
    through: BTreeMap<NodeId, u64>,
}

impl Kept {
    /// A node's log as it is on its disk.
    ///
    /// # Errors
    /// It had more of what is committed.
    pub fn observe<D: Disk>(
        &mut self,
        node: NodeId,
        log: &Log<D>,
        committed: &CommittedLog,
    ) -> Result<(), Violation> {
        let known = self.through.entry(node).or_default();
        // What lies before the log is in a snapshot, and was compared as a state.
        let start = log.start().index;
        let mut through = (*known).max(start);
        if through > start && log.term(through) != committed.term(through) {
            let (has, was) = (log.term(through), committed.term(through));
            let what = format!(
                "node {node} had the entry of term {was:?} that is committed at {through}; \
                 now it has one of term {has:?} there"
            );
            return Err(Violation::new("what is committed stays", what));
        }
        let same =
            |index: u64| log.term(index).is_some() && log.term(index) == committed.term(index);
        while same(through + 1) {
            through += 1;
        }
        *known = through;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fleet_log::{LogConfig, LogEntry, LogIdentity, MemoryDisk};

    use super::*;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index, term, kind: 0, data: vec![7; 4].into() }
    }

    #[test]
    fn an_entry_that_is_committed_must_not_be_replaced() {
        let identity = LogIdentity { site_uid: [1; 16], node: 1 };
        let start = fleet_log::Position { index: 0, term: 0 };
        let log = |terms: &[u64]| {
            let mut log = Log::create(
                MemoryDisk::new(),
                identity,
                LogConfig::default(),
                start,
                fleet_log::HardState::default(),
            )
            .unwrap();
            let entries: Vec<_> =
                (1..).zip(terms).map(|(index, term)| entry(index, *term)).collect();
            log.append(&entries).unwrap();
            log.sync().unwrap();
            log
        };
        let mut committed = CommittedLog::default();
        let node = NodeId::FOUNDER;
        committed.observe(node, 1, &log(&[1, 1, 2]), (2, 2)).unwrap();
        let mut kept = Kept::default();
        kept.observe(node, &log(&[1, 1, 2]), &committed).unwrap();
        kept.observe(node, &log(&[1, 1, 3]), &committed).unwrap();
        assert!(kept.observe(node, &log(&[1, 3]), &committed).is_err(), "replaced");
        let mut kept = Kept::default();
        kept.observe(node, &log(&[1, 1]), &committed).unwrap();
        assert!(kept.observe(node, &log(&[1]), &committed).is_err(), "lost");
    }
}
