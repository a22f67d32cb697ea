//! One node's part in the site's agreement, without any I/O of its own.
//!
//! A [`Replica`] owns the Raft state machine, the log, the fleet state and the frames. It is
//! driven from outside: inputs are `handle_*` calls with the time as an argument, then
//! [`Replica::poll`] carries out what has become due. Frames leave through a [`Wire`] that
//! never blocks; everything else comes back as values from [`Replica::take_outputs`]. The
//! agent and the simulator run the very same code.
//!
//! Order of things in one turn: inputs, then proposals and read rounds, then ready phases
//! (`ready.rs`), then relays and transfers. An `Err` from any call is a [`Fault`](crate::Fault): the
//! replica must not be used again, the process ends, and a restart reads the disk.
//!
//! - `inbox.rs`: what frames from other members lead to
//! - `ready.rs`: raft's ready, phase by phase
//! - `apply.rs`: committed entries, one after the other
//! - `snapshots.rs`: snapshots received and sent, installed and taken
//! - `levels.rs`: programs of different ages
//! - `steward.rs`: what is done at ticks: retries, deadlines, membership, time
//! - `open.rs`: from files to a running replica

mod acks;
mod apply;
mod crash;
mod inbox;
mod levels;
mod open;
mod outputs;
mod probe;
mod ready;
mod rest;
#[cfg(feature = "seeded-bugs")]
mod seeded_bugs;
mod snapshots;
mod steward;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use fleet_log::{Disk, Position};
use fleet_state::{
    AgentCommand, Answer, Change, Command, FleetState, NodeId, Proposal, RequestId, Revision,
};
use raft::{RawNode, StateRole};

pub use open::{FOUNDING, Founding, Opened, Parts, found, join};
pub use outputs::{AppliedEntry, BuildSnapshot, BuiltSnapshot, Notice, Outputs};
pub use wire::{Routes, Wire};

use crate::checkpoints::Checkpoints;
use crate::config::ReplicaConfig;
use crate::counters::Counters;
use crate::frame::limits::OBSERVED_BYTES_MAX;
use crate::frame::{Arrival, Class, FrameCodec, Payload};
use crate::guard::Guard;
use crate::leases::Leases;
use crate::log_time::LogTime;
use crate::raft_storage::RaftStorage;
use crate::reads::{ReadEnd, Reads};
use crate::status::{MemberProgress, NodeRole, Standing, View};
use crate::transfer::Transfer;
use crate::waiters::{CommandEnd, Waiters};

/// A proposal on its way into Raft.
struct Queued {
    id: RequestId,
    encoded: Bytes,
    origin: Origin,
}

/// Where a proposal came from.
#[derive(Clone, Copy)]
enum Origin {
    /// From a waiter of this node; which of its attempts it is.
    Own { copy: u64 },
    /// From this member.
    Relayed(NodeId),
}

/// The applied configuration, ascending.
#[derive(Clone, Debug, Default)]
struct Conf {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

impl Conf {
    fn from_raft(conf: &raft::eraftpb::ConfState) -> Self {
        Self { voters: nodes(conf.get_voters()), learners: nodes(conf.get_learners()) }
    }

    fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}

/// What paces a replica's chores.
#[derive(Default)]
struct Pace {
    last_tick_ms: u64,
    ticks: u64,
    /// The tick at which raft made heartbeats last; 0: never.
    beat_at_tick: u64,
    leaderless_since_ms: Option<u64>,
    applied_at_ms: u64,
    last_time_tick_ms: u64,
    last_site_key_ask_ms: u64,
    last_log_time_ask_ms: u64,
    /// As leader: where it wrote what a member's program reads; 0: nowhere.
    level_told_at: u64,
    /// As leader: where it said that it can't tell how late it is; 0: nowhere.
    time_lost_at: u64,
    entries_since_snapshot: u64,
    bytes_since_snapshot: u64,
    building: bool,
    /// No snapshot is begun before this tick.
    build_from_tick: u64,
    /// Snapshots that could not be written, one after the other.
    build_failures: u32,
    draining: bool,
    acks: acks::Acks,
    /// The disk is nearly full: proposals are refused and leadership is handed over.
    low_space: bool,
    /// How often leadership was given up for want of space, and before which tick it is kept.
    left_for_space: u32,
    leave_from_tick: u64,
    /// No look at membership before this tick.
    membership_from_tick: u64,
    /// Index at which the log was last marked as synced.
    marked_at: u64,
    last_append_ms: u64,
    last_role: Option<NodeRole>,
    last_leader: Option<NodeId>,
    last_term: u64,
    /// A complete snapshot that raft has not decided about yet.
    staged: Option<crate::snapshot_store::LoadedSnapshot>,
    /// Snapshot messages that no way took; raft is told at the next tick.
    failed_offers: Vec<NodeId>,
}

/// A node's replica of the site. `T` is whoever waits for an answer; see `waiters.rs`.
pub struct Replica<D: Disk, T> {
    config: ReplicaConfig,
    raw: RawNode<RaftStorage<D>>,
    state: FleetState,
    applied: Position,
    log_time: LogTime,
    frames: FrameCodec,
    boot: u64,
    guard: Guard,
    crash: crash::CrashWatch,
    conf: Conf,
    site_key: Option<SigningKey>,
    waiters: Waiters<T>,
    reads: Reads<T>,
    leases: Leases,
    /// As leader: when a member answered last. Raft's own word is forgotten at each election
    /// timeout, and until the next answer everybody would seem to be gone.
    answered_ms: BTreeMap<NodeId, u64>,
    /// As leader: what the programs of other members read, as they told it in this term.
    told_levels: BTreeMap<NodeId, u16>,
    transfer: Transfer<D>,
    checkpoints: Checkpoints,
    proposals: Vec<Queued>,
    /// A ready that waits for the disk.
    unsynced: Option<ready::Unsynced>,
    outbox: Vec<(NodeId, Class, Payload)>,
    /// Who was heard on which way since the last poll.
    heard: Vec<(NodeId, Arrival)>,
    pace: Pace,
    outputs: Outputs<D, T>,
    counters: Counters,
}

impl<D: Disk, T> Replica<D, T> {
    /// Takes a command in. Its end comes with the token from [`Replica::take_outputs`].
    pub fn handle_submit(&mut self, proposal: &Proposal, deadline_ms: u64, token: T) {
        if self.pace.draining {
            let end = CommandEnd::Busy("this agent is stopping; ask another one");
            self.outputs.commands.push((token, end));
            return;
        }
        if !self.all_read(&proposal.command) {
            self.outputs.commands.push((token, CommandEnd::Busy(NOT_READ_BY_ALL)));
            return;
        }
        let encoded: Bytes = proposal.encode().into();
        let id = proposal.request_id.clone();
        // Who may lose a link was judged by what this leader has heard of leases. Another one has
        // heard something else since: it must not be handed the judgement of a former one.
        let judged = matches!(&proposal.command, Command::Agents(AgentCommand::LinkAssign { .. }));
        match self.waiters.add(id.clone(), encoded, deadline_ms, token) {
            Ok(()) if judged => self.waiters.bind(&id, self.raw.raft.term),
            Ok(()) => {}
            Err(refused) => self.outputs.commands.push(refused),
        }
    }

    /// Takes a read barrier in; its end comes with the token from [`Replica::take_outputs`].
    pub fn handle_read(&mut self, deadline_ms: u64, token: T) {
        if let Err(refused) = self.reads.add(token, deadline_ms) {
            self.outputs.reads.push(refused);
        }
    }

    /// As leader: leaves a node's read barriers unanswered that asked for none for longer than
    /// `silent_ms`, until [`Replica::resume`]; `false` when it did, or this node doesn't lead.
    pub fn seize(&mut self, node: NodeId, silent_ms: u64, now_ms: u64) -> bool {
        self.is_leader() && self.leases.seize(node, silent_ms, now_ms)
    }

    /// Answers a node's read barriers again.
    pub fn resume(&mut self, node: NodeId) {
        self.leases.resume(node);
    }

    /// Tells all other members something that is observed, not agreed on: it may get lost, and
    /// nobody answers. Beyond what one frame takes it is refused.
    pub fn handle_tell(&mut self, observed: &Bytes) {
        if observed.len() > OBSERVED_BYTES_MAX {
            self.counters.refuse("observed_out", "too_large");
            return;
        }
        let me = self.config.node;
        let others = self.conf.voters.iter().chain(&self.conf.learners).filter(|to| **to != me);
        let observed = || Payload::Observed { bytes: observed.clone() };
        self.outbox.extend(others.map(|to| (*to, Class::Bulk, observed())));
    }

    /// Hands leadership to `to`, or to the most caught-up live voter. Returns whom, if that is
    /// known here: a node that does not lead asks the leader, which chooses.
    ///
    /// # Errors
    /// Says why not; the leader stays as it is.
    pub fn handle_transfer(
        &mut self,
        to: Option<NodeId>,
    ) -> Result<Option<NodeId>, TransferRefused> {
        if self.raw.raft.state != StateRole::Leader {
            let leader = self.leader().ok_or(TransferRefused::NoLeader)?;
            self.outbox.push((leader, Class::Normal, Payload::TransferWant { to }));
            return Ok(to);
        }
        let facts = self.member_facts();
        let fit = |m: &&crate::membership::MemberFacts| {
            m.is_voter && m.active && m.node != self.config.node
        };
        let heir = match to {
            Some(to) if to == self.config.node => return Ok(Some(to)),
            Some(to) => facts.iter().filter(fit).find(|m| m.node == to),
            None => facts.iter().filter(fit).max_by_key(|m| m.matched),
        };
        let heir = heir.map(|m| m.node).ok_or(TransferRefused::NoHeir)?;
        self.raw.transfer_leader(heir.get());
        Ok(Some(heir))
    }

    /// Asks for a snapshot of the state as applied now; it comes as `Outputs::build`.
    /// Returns `false` while one is being built.
    pub fn handle_snapshot_request(&mut self) -> bool {
        if self.pace.building {
            return false;
        }
        self.begin_snapshot();
        true
    }

    /// No more commands are taken in from here or from other members.
    pub fn begin_drain(&mut self) {
        self.pace.draining = true;
    }

    /// Whether the disk of this node is nearly full. A leader then hands over and refuses
    /// proposals, so that what space is left serves to follow, and to compact. It hands over
    /// once: where all disks are nearly full, leadership would go round and round.
    pub fn set_low_space(&mut self, low: bool) {
        self.pace.low_space = low;
        if !low {
            (self.pace.left_for_space, self.pace.leave_from_tick) = (0, 0);
        }
    }

    /// Commands and reads that still wait here.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Ends all who wait, as *unknown* where the command may have left this node. For the
    /// moment before the replica is dropped.
    pub fn end_all(&mut self) {
        self.outputs.commands.extend(self.waiters.end_all());
        self.outputs.reads.extend(self.reads.end_all());
    }

    /// A way to `node` failed: raft stops pouring entries into it.
    pub fn handle_unreachable(&mut self, node: NodeId) {
        self.raw.report_unreachable(node.get());
    }

    /// What has become due since the last call, for the caller to carry out.
    pub fn take_outputs(&mut self) -> Outputs<D, T> {
        std::mem::take(&mut self.outputs)
    }

    /// What was refused and dropped so far, by reason.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The leader of the current term, if known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        NodeId::new(self.raw.raft.leader_id)
    }

    /// The voters and the learners of the applied configuration, ascending.
    #[must_use]
    pub fn configuration(&self) -> (&[NodeId], &[NodeId]) {
        (&self.conf.voters, &self.conf.learners)
    }

    /// Whether the configuration has another voter than this node.
    #[must_use]
    pub fn has_other_voters(&self) -> bool {
        self.conf.voters.iter().any(|voter| *voter != self.config.node)
    }

    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The role of this node now.
    #[must_use]
    pub fn role(&self) -> NodeRole {
        match self.raw.raft.state {
            StateRole::Leader => NodeRole::Leader,
            StateRole::Candidate => NodeRole::Candidate,
            StateRole::PreCandidate => NodeRole::PreCandidate,
            StateRole::Follower if self.conf.voters.contains(&self.config.node) => {
                NodeRole::Follower
            }
            StateRole::Follower => NodeRole::Learner,
        }
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> Revision {
        Revision::new(self.applied.index)
    }

    /// The state as applied.
    #[must_use]
    pub fn state(&self) -> &FleetState {
        &self.state
    }

    /// The state as applied and where this node stands, as one value.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            state: self.state.clone(),
            applied: self.applied(),
            standing: Arc::new(self.standing()),
            applied_at_ms: self.pace.applied_at_ms,
            leaderless_since_ms: self.pace.leaderless_since_ms,
        }
    }

    fn standing(&self) -> Standing {
        let raft = &self.raw.raft;
        let store = self.raw.store();
        Standing {
            node: self.config.node,
            role: self.role(),
            leader: self.leader(),
            term: raft.term,
            commit: raft.raft_log.committed,
            first_index: store.log.first_index(),
            last_index: store.log.last_index(),
            voters: self.conf.voters.clone(),
            learners: self.conf.learners.clone(),
            progress: self.progress(),
            snapshot_index: store.snapshot.as_ref().map_or(0, |s| s.file.index),
            log_bytes: store.log.bytes_on_disk(),
            low_space: self.pace.low_space,
            leases: self.leases.clone(),
        }
    }

    /// Whether a member answered within the last election timeout.
    fn is_active(&self, node: NodeId) -> bool {
        let ticks = u64::try_from(self.config.election_ticks_min).unwrap_or(u64::MAX);
        let lately_ms = self.config.tick_ms.saturating_mul(ticks);
        let silent_ms = |at_ms: &u64| self.pace.last_tick_ms.saturating_sub(*at_ms);
        node == self.config.node
            || self.answered_ms.get(&node).is_some_and(|at_ms| silent_ms(at_ms) <= lately_ms)
    }

    fn progress(&self) -> Vec<MemberProgress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let mut progress: Vec<MemberProgress> = self
            .raw
            .raft
            .prs()
            .iter()
            .filter_map(|(id, progress)| {
                Some(MemberProgress {
                    node: NodeId::new(*id)?,
                    matched: progress.matched,
                    active: NodeId::new(*id).is_some_and(|node| self.is_active(node)),
                    in_snapshot: progress.state == raft::ProgressState::Snapshot,
                })
            })
            .collect();
        progress.sort_unstable_by_key(|p| p.node);
        progress
    }
}

const NOT_READ_BY_ALL: &str = "members of the site run programs that don't know this command yet; install the newest \
                               version on all of them (`flotilla member get NAME` shows what one reads)";

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefused {
    /// There is no leader that could hand over.
    #[error("no leader is known; there is nothing to hand over")]
    NoLeader,
    /// No live voter fits.
    #[error("there is no other live voter that could lead (or the named node is not one)")]
    NoHeir,
}

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = ids.iter().copied().filter_map(NodeId::new).collect();
    nodes.sort_unstable();
    nodes
}

/// Kept here so that outputs can name them without a second import path.
type Ended<T> = (T, CommandEnd);
type ReadEnded<T> = (T, ReadEnd);
/// What one applied entry changed.
type Changes = Vec<Change>;
/// What one applied entry decided.
type Decision = Option<Answer>;
