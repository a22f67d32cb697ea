//! Feature levels: how programs of different ages run one site.
//!
//! Each member says with every question for log time what its program reads. The leader writes it
//! into the log, and when all members read a higher level than the site has, the site has it from
//! that entry on, on every node alike. Only then is proposed what came with that level. A node
//! whose program reads less than the site has stops and says so; it would stop at the first such
//! entry anyway.

use fleet_log::Disk;
use fleet_state::{Body, Command, NodeId};

use super::Replica;
use crate::fault::Fault;
use crate::log_time::Now;
use crate::seeded;

impl<D: Disk, T> Replica<D, T> {
    /// A member says what its program reads. Only who leads wants to know, and forgets it with its
    /// term: what was said to a former leader may have changed since.
    pub(super) fn note_level(&mut self, from: NodeId, level: u16) {
        if self.is_leader() {
            self.told_levels.insert(from, level);
        }
    }

    /// As leader: writes down what a member's program reads, where the log doesn't know it; one
    /// member at a time, and not again before that is applied.
    pub(super) fn tend_levels(&mut self, now: Now) -> Result<(), Fault> {
        if self.applied.index < self.pace.level_told_at || self.pace.low_space {
            return Ok(());
        }
        let me = (self.config.node, self.config.levels.reads);
        let news = self.state.members().filter(|member| member.is_live()).find_map(|member| {
            let told = self.told_levels.get(&member.id).copied();
            let level = if member.id == me.0 { Some(me.1) } else { told };
            level.filter(|level| *level != member.feature_level).map(|level| (member.id, level))
        });
        match news {
            Some((node, level)) => {
                self.propose_body(Body::MemberLevel { node, level }, now)?;
                self.pace.level_told_at = self.raw.raft.raft_log.last_index();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether every member can read a command. What this node has applied is a lower bound.
    pub(super) fn all_read(&self, command: &Command) -> bool {
        (self.config.levels.needed)(command) <= self.state.feature_level()
            || seeded::on("level-not-asked")
    }

    /// Whether a member has told this leader that its program reads what the site has.
    pub(super) fn reads_enough(&self, member: NodeId) -> bool {
        let told = self.told_levels.get(&member).copied();
        member == self.config.node || told >= Some(self.state.feature_level())
    }

    /// Stops a node whose program reads less than the site has. One that the configuration is
    /// without holds nobody back any more, and has to hear that it was removed.
    pub(super) fn check_level(&self) -> Result<(), Fault> {
        if !self.conf.contains(self.config.node) {
            return Ok(());
        }
        self.check_reads(self.state.feature_level())
    }

    /// Stops a node whose program doesn't read what came with this level.
    pub(super) fn check_reads(&self, level: u16) -> Result<(), Fault> {
        let reads = self.config.levels.reads;
        if level > reads {
            return Err(Fault::TooOld { site: level, reads });
        }
        Ok(())
    }
}
