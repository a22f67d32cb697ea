//! What must hold at every moment, whatever the faults. One file each.
//!
//! The checks look from outside: they read what replicas give out and what their logs hold, and
//! remember what was seen on any node. None of them trusts a replica's own opinion. Those that
//! only look at what clients asked and heard live in fleet-judge, and judge real sites as well.

mod answers;
mod bounds;
mod commit_monotone;
mod committed_log;
mod election_safety;
mod hand_overs;
mod kept;
mod leader_completeness;
mod log_matching;
mod log_time;
mod membership;
mod progress;
mod state_machine;
mod wishes;

use fleet_state::ParamKey;

pub use answers::{Answers, Known};
pub use bounds::Bounds;
pub use commit_monotone::CommitMonotone;
pub use committed_log::CommittedLog;
pub use election_safety::ElectionSafety;
pub use fleet_judge::{Floor, Heard, Histories, Linearizable, Violation, Wanted};
pub use hand_overs::HandOvers;
pub use kept::Kept;
pub use leader_completeness::check_new_leader;
pub use log_matching::compare_logs;
pub use log_time::LogTime;
pub use membership::Membership;
pub use progress::check_progress;
pub use state_machine::StateMachine;
pub use wishes::check_wishes;

/// All of them, with what they remember.
#[derive(Debug, Default)]
pub struct Invariants {
    /// One leader in a term.
    pub election: ElectionSafety,
    /// Commit and applied index only grow.
    pub commit: CommitMonotone,
    /// One committed entry at an index.
    pub committed: CommittedLog,
    /// What is committed stays on every disk.
    pub kept: Kept,
    /// One state at an index.
    pub states: StateMachine,
    /// Answers come from the log, once, and stay.
    pub answers: Answers,
    /// Reads and writes see what ended before they began.
    pub order: Linearizable<ParamKey>,
    /// What clients saw of each key has an explanation.
    pub histories: Histories<ParamKey>,
    /// What leaves for devices, and what arrives.
    pub hand_overs: HandOvers,
    /// One history of configurations.
    pub membership: Membership,
    /// Log time goes on, and no faster than time.
    pub log_time: LogTime,
    /// Nothing grows without end.
    pub bounds: Bounds,
}
