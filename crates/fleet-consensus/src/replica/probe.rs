//! What a simulator needs and no agent does: chance taken out, and a look at what is inside.

use fleet_log::{Disk, Log};

use super::Replica;

impl<D: Disk, T> Replica<D, T> {
    /// Sets raft's next election timeout, which is otherwise drawn from the thread's random
    /// source, so that a seed replays. Raft draws anew at each change of term or role: call it
    /// before every tick.
    #[doc(hidden)]
    pub fn pin_election_timeout(&mut self, ticks: usize) {
        let (min, max) = (self.config.election_ticks_min, self.config.election_ticks_max);
        self.raw.raft.set_randomized_election_timeout(ticks.clamp(min, max - 1));
    }

    /// Raft's term and commit index.
    #[doc(hidden)]
    pub fn term_and_commit(&self) -> (u64, u64) {
        (self.raw.raft.term, self.raw.raft.raft_log.committed)
    }

    /// As leader: the members with what each is known to have, and what it would be sent next.
    #[doc(hidden)]
    pub fn sent_next(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let leads = self.is_leader();
        let progress = self.raw.raft.prs().iter().filter(move |_| leads);
        progress.map(|(node, progress)| (*node, progress.matched, progress.next_idx))
    }

    /// Whether this node has a vote in the configuration that it has applied.
    #[doc(hidden)]
    pub fn has_vote(&self) -> bool {
        self.conf.voters.contains(&self.config.node)
    }

    /// The log, to be compared with those of other nodes.
    #[doc(hidden)]
    pub fn log(&self) -> &Log<D> {
        &self.raw.store().log
    }
}
