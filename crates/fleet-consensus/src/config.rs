//! Settings of a replica, written out field by field.

use fleet_log::LogConfig;
use fleet_state::limits::{
    DEDUP_RECORDS_MAX, DEVICES_MAX, FEATURE_LEVEL, PARAMS_MAX, SITE_BYTES_MAX, TOMBSTONES_MAX,
};
use fleet_state::{Command, NodeId, SiteUid};
use thiserror::Error;

use crate::seeded;

/// What a program reads of what members of different ages write.
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// The highest feature level that it reads.
    pub reads: u16,
    /// The level that a command came with. The simulator has one come later than it did, and
    /// programs that don't read it yet.
    pub needed: fn(&Command) -> u16,
}

impl Levels {
    /// Those of this program.
    pub const OURS: Self = Self { reads: FEATURE_LEVEL, needed: Command::feature_level };
}

/// Largest append message, in bytes of entries; well below NATS' default payload of 1 MiB.
pub const APPEND_BYTES_MAX: u64 = 256 * 1024;
/// Append messages on their way to one follower at a time.
pub const APPENDS_INFLIGHT_MAX: usize = 48;
/// Bytes proposed here and not yet committed; beyond it proposals are refused as busy.
pub const UNCOMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of committed entries applied in one turn.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 2 * 1024 * 1024;
/// Entries proposed to Raft in one step.
pub const PROPOSALS_PER_STEP_MAX: usize = 1024;
/// Bytes proposed to Raft in one step; one proposal may go beyond.
pub const PROPOSED_BYTES_PER_STEP_MAX: usize = 4 * 1024 * 1024;
/// Bytes proposed before the next ready is handled; well below what one batch of the log takes.
pub const PROPOSED_BYTES_PER_ROUND_MAX: usize = 8 * 1024 * 1024;
/// Commands that wait for their end on one node.
pub const WAITERS_MAX: usize = 16_384;
/// Bytes of the commands that may wait on one node; beyond it callers hear `busy`.
pub const WAITERS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Reads that wait on one node.
pub const READS_MAX: usize = 16_384;
/// A relayed proposal is sent again after this time without an end.
pub const RELAY_RETRY_MS: u64 = 400;
/// A read is asked for again after this time without a confirmation.
pub const READ_RETRY_MS: u64 = 150;
/// Read rounds under way at a time; more reads join the next round.
pub const READ_ROUNDS_MAX: usize = 8;
/// Ticks made up for after a pause; a burst of ticks would depose a healthy leader.
pub const CATCH_UP_TICKS_MAX: u64 = 2;
/// Turns of ready handling in one poll, so that input is looked at again.
pub const READY_ROUNDS_MAX: usize = 16;
/// Bytes of a snapshot asked for at a time, at most.
pub const SNAPSHOT_WINDOW_BYTES: u64 = 512 * 1024;
/// Bytes of a snapshot in one chunk: two seconds at 64 kbit/s, well below
/// [`SNAPSHOT_STALL_MS`] also where heartbeats take half of that.
pub const SNAPSHOT_CHUNK_BYTES: u64 = 16 * 1024;
/// A part of a snapshot is asked for again after this time without a chunk, as long as none has come.
pub const SNAPSHOT_PATIENCE_MS: u64 = 2_000;
/// The same where chunks come quickly.
pub const SNAPSHOT_PATIENCE_MIN_MS: u64 = 500;
/// The same where they take long.
pub const SNAPSHOT_PATIENCE_MAX_MS: u64 = 8_000;
/// A receiver that waits for chunks says so this often.
pub const SNAPSHOT_TELL_MS: u64 = 500;
/// A receiver says something every [`SNAPSHOT_TELL_MS`]; after so long without a word the offer
/// was lost or the receiver restarted, and the snapshot is offered anew. It goes on where it was.
pub const SNAPSHOT_SILENCE_MS: u64 = 2_000;
/// A receiver that got nothing of a snapshot for this long gives it up for another one.
pub const SNAPSHOT_STALL_MS: u64 = 30_000;
const _: () = assert!(SNAPSHOT_STALL_MS > 3 * SNAPSHOT_PATIENCE_MAX_MS);
/// A node that could not store a snapshot takes no offer for this long.
pub const SNAPSHOT_REFUSED_REST_MS: u64 = 5_000;
/// Largest snapshot file that is written, offered, received or read.
pub const SNAPSHOT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Largest state that is unpacked from one.
pub const SNAPSHOT_STATE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// What a snapshot holds beside links, devices and parameters, generously: members, tokens,
/// remembered answers, tombstones, and the framing of every record.
const SNAPSHOT_REST_BYTES: u64 = 256 * 1024 * 1024;
// A state within its own limits is one that can be written, sent and read, packed or not: LZ4
// makes what it can't pack larger by less than a hundredth.
const _: () = {
    let state_bytes = SITE_BYTES_MAX + SNAPSHOT_REST_BYTES;
    assert!(state_bytes <= SNAPSHOT_STATE_BYTES_MAX);
    assert!(state_bytes + state_bytes / 100 <= SNAPSHOT_BYTES_MAX);
    let records = DEDUP_RECORDS_MAX + TOMBSTONES_MAX + DEVICES_MAX + PARAMS_MAX;
    assert!(records as u64 * 256 <= SNAPSHOT_REST_BYTES);
};
/// Snapshots that are kept beyond the newest two because a member is being sent them.
pub const SNAPSHOTS_SENT_KEPT_MAX: usize = 2;
/// Ticks between a snapshot that could not be written and the next attempt; it doubles with
/// each failure.
pub const SNAPSHOT_RETRY_TICKS: u64 = 40;
/// Doublings of [`SNAPSHOT_RETRY_TICKS`] at most: about a minute.
pub const SNAPSHOT_RETRY_DOUBLINGS_MAX: u32 = 6;
/// Ticks for which a node that gave leadership up for want of space keeps it, should it come
/// back; it doubles each time.
pub const LEAVE_AGAIN_TICKS: u64 = 400;
/// Doublings of [`LEAVE_AGAIN_TICKS`] at most: about five minutes.
pub const LEAVE_DOUBLINGS_MAX: u32 = 5;
/// Entries that a learner may lack and still count as caught up.
pub const CAUGHT_UP_ENTRIES: u64 = 256;

/// Settings of one replica. Time is counted in ticks.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// This node.
    pub node: NodeId,
    /// The site it belongs to.
    pub site_uid: SiteUid,
    /// Milliseconds between two ticks.
    pub tick_ms: u64,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout in ticks; also the window of the quorum check.
    pub election_ticks_min: usize,
    /// Longest election timeout in ticks, exclusive.
    pub election_ticks_max: usize,
    /// A snapshot is taken after so many applied entries.
    pub snapshot_every_entries: u64,
    /// A snapshot is taken after so many bytes of applied entries.
    pub snapshot_every_bytes: u64,
    /// So many entries stay in the log behind its end, for members that are a little behind: a
    /// snapshot would cost them, and the network, far more. No more than there are between two
    /// snapshots.
    pub log_trailing_entries: u64,
    /// Bytes proposed here and not yet committed; beyond it proposals are refused as busy.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries in one append message, which holds one entry in any case.
    pub append_bytes_max: u64,
    /// A log beyond this size keeps no more than a restart needs, whoever is behind.
    pub log_bytes_max: u64,
    /// Settings of the log.
    pub log: LogConfig,
    /// What this program reads.
    pub levels: Levels,
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The heartbeat is not well below the election timeout.
    #[error(
        "heartbeat_ticks is {heartbeat} and election_ticks_min is {election}; a heartbeat must be sent at least three times within the shortest election timeout"
    )]
    HeartbeatTooSlow {
        /// As configured.
        heartbeat: usize,
        /// As configured.
        election: usize,
    },
    /// The range of election timeouts is empty.
    #[error(
        "election_ticks_min is {min} and election_ticks_max is {max}; the maximum must be larger, or votes split"
    )]
    ElectionRangeEmpty {
        /// As configured.
        min: usize,
        /// As configured.
        max: usize,
    },
    /// A value is zero.
    #[error("{0} is 0; it must be at least 1")]
    Zero(&'static str),
}

impl ReplicaConfig {
    /// Defaults for a node: ticks of 25 ms, a heartbeat each 2, elections after 10 to 30.
    #[must_use]
    pub fn new(node: NodeId, site_uid: SiteUid) -> Self {
        Self {
            node,
            site_uid,
            tick_ms: 25,
            heartbeat_ticks: 2,
            election_ticks_min: 10,
            election_ticks_max: 30,
            snapshot_every_entries: 100_000,
            snapshot_every_bytes: 64 * 1024 * 1024,
            log_trailing_entries: 10_000,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            append_bytes_max: APPEND_BYTES_MAX,
            log_bytes_max: 256 * 1024 * 1024,
            log: LogConfig::default(),
            levels: Levels::OURS,
        }
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, value) in [
            ("tick_ms", self.tick_ms),
            ("heartbeat_ticks", self.heartbeat_ticks as u64),
            ("snapshot_every_entries", self.snapshot_every_entries),
            ("snapshot_every_bytes", self.snapshot_every_bytes),
            ("log_bytes_max", self.log_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        if self.heartbeat_ticks.saturating_mul(3) > self.election_ticks_min {
            return Err(ConfigError::HeartbeatTooSlow {
                heartbeat: self.heartbeat_ticks,
                election: self.election_ticks_min,
            });
        }
        if self.election_ticks_min >= self.election_ticks_max {
            return Err(ConfigError::ElectionRangeEmpty {
                min: self.election_ticks_min,
                max: self.election_ticks_max,
            });
        }
        Ok(())
    }

    /// The same for `raft`, with every field said.
    pub(crate) fn to_raft(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.node.get(),
            election_tick: self.election_ticks_min,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            // Raft wants no message to be larger than what may wait for its commit.
            max_size_per_msg: self.append_bytes_max.min(self.uncommitted_bytes_max),
            max_inflight_msgs: APPENDS_INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: self.election_ticks_min,
            max_election_tick: self.election_ticks_max,
            // A lease read after a pause is a stale read.
            read_only_option: if seeded::on("reads-by-lease") {
                raft::ReadOnlyOption::LeaseBased
            } else {
                raft::ReadOnlyOption::Safe
            },
            skip_bcast_commit: false,
            batch_append: true,
            priority: 0,
            max_uncommitted_size: self.uncommitted_bytes_max,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
        }
    }

    /// Entries between snapshots on this node: nodes differ, so that they don't all write at once.
    pub(crate) fn snapshot_entries_here(&self) -> u64 {
        let eighth = self.snapshot_every_entries / 8;
        self.snapshot_every_entries.saturating_add(eighth.saturating_mul(self.node.get() % 4))
    }

    /// Entries that stay in the log behind its end.
    pub(crate) fn trailing_entries(&self) -> u64 {
        self.log_trailing_entries.min(self.snapshot_every_entries)
    }
}
