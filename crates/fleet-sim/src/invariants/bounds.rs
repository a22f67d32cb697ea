//! Bounded queues and logs: what nobody takes away must not pile up.

use fleet_consensus::config::{APPEND_BYTES_MAX, APPENDS_INFLIGHT_MAX};
use fleet_state::NodeId;

use super::Violation;

/// Whole windows under way to each node that there ever was. A leader whose window comes out of order,
/// or seconds too late, sends it again, as often as a follower says that something is missing; these
/// networks have room for all of it.
const WINDOWS_MAX: usize = 12;
/// Frames under way to a node beside them: heartbeats, votes, answers, pieces of snapshots.
const OTHERS_PER_NODE_MAX: usize = 2_000;
/// Entries beyond the snapshot cadence: what comes in while a snapshot is received, and what
/// a leader keeps for a follower that is slow and still heard.
const LOG_SLACK_ENTRIES: u64 = 1_000;
/// Entries of a fast site in each millisecond in which a snapshot is written, for the two that are kept.
const ENTRIES_PER_MS_MAX: u64 = 2;

/// The largest that were seen.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Entries of one log.
    pub log_entries: u64,
    /// Frames under way.
    pub in_flight: usize,
}

impl Bounds {
    /// A node's log after a turn, where a snapshot is due after so many entries and takes so long to
    /// write.
    ///
    /// # Errors
    /// It holds more than two snapshots apart explain.
    pub fn log(
        &mut self,
        node: NodeId,
        entries: u64,
        (cadence, build_ms): (u64, u64),
    ) -> Result<(), Violation> {
        self.log_entries = self.log_entries.max(entries);
        let meanwhile = ENTRIES_PER_MS_MAX * build_ms;
        if entries <= 4 * cadence + meanwhile + LOG_SLACK_ENTRIES {
            return Ok(());
        }
        let what =
            format!("the log of node {node} has {entries} entries, snapshots each {cadence}");
        Err(Violation::new("bounded log", what))
    }

    /// Commands that wait on a node, of so many that were submitted to it.
    ///
    /// # Errors
    /// More wait than were asked.
    pub fn waiting(&self, node: NodeId, waiting: usize, asked: usize) -> Result<(), Violation> {
        if waiting <= asked {
            return Ok(());
        }
        let what = format!("{waiting} commands wait on node {node}, {asked} were asked");
        Err(Violation::new("bounded waiters", what))
    }

    /// Events that are yet to come, where a frame has so many bytes at most.
    ///
    /// # Errors
    /// Too many.
    pub fn in_flight(
        &mut self,
        count: usize,
        nodes: usize,
        frame_bytes_max: usize,
    ) -> Result<(), Violation> {
        self.in_flight = self.in_flight.max(count);
        let append_bytes = usize::try_from(APPEND_BYTES_MAX).unwrap_or(usize::MAX);
        let window = APPENDS_INFLIGHT_MAX * append_bytes.div_ceil(frame_bytes_max);
        let limit = nodes * (WINDOWS_MAX * window + OTHERS_PER_NODE_MAX);
        if count <= limit {
            return Ok(());
        }
        let what = format!("{count} frames are under way, {limit} at most were thought of");
        Err(Violation::new("bounded network", what))
    }
}
