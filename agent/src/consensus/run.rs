//! The loop that owns the replica.
//!
//! It runs on a thread of its own, because it waits for the disk: an answer is worth nothing
//! before its entry is durable. It never waits for the network. One turn takes everything that
//! lies in the inboxes (bounded), steps the replica, and carries the outputs out; so many
//! commands share one sync and one message per follower.
//!
//! The view is published before anybody is answered: who hears `committed` and reads this
//! node's view sees what was committed.

mod carry_out;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fleet_consensus::replica::BuiltSnapshot;
use fleet_consensus::{Fault, Now, Replica, View, Wire};
use fleet_log::Disk;
use fleet_state::NodeId;
use tokio::sync::{broadcast, mpsc, watch};

use super::clock::MonotonicClock;
use super::errands::Errands;
use super::handle::{AppliedBatch, Handle, Request, Submitted};
use super::own_ids::OwnIds;
use super::pulse::Pulse;
use super::reply::ReplyTo;
use super::stalls::Stalls;
use super::tally::Tally;
use crate::metrics::Metrics;
use crate::storage::{Space, SpaceGuard, quarantine};
use crate::transport::{Inbound, Inbox};

/// Requests that may wait for the loop; beyond it callers hear `busy`.
const REQUESTS_MAX: usize = 16_384;
/// Batches that a follower of applied entries may lag behind.
const APPLIED_BATCHES_MAX: usize = 4_096;
/// Observations of other nodes that a follower may lag behind.
const OBSERVED_MAX: usize = 1_024;
/// Milliseconds between two looks at the free space.
const SPACE_EVERY_MS: u64 = 2_000;
/// Busy turns after which the runtime is let in.
const TURNS_BETWEEN_YIELDS: u32 = 16;
/// Syncs in one turn, before input is looked at again.
const SYNCS_PER_TURN_MAX: usize = 4;
/// Inputs of a kind taken in one turn.
const INPUTS_PER_TURN_MAX: usize = 2_048;

/// What the loop needs besides the replica.
#[derive(Debug)]
pub struct LoopParts<W> {
    /// The way out.
    pub wire: W,
    /// Frames, whichever way they came.
    pub inbox: Inbox,
    /// The node's monotonic clock.
    pub clock: MonotonicClock,
    /// Milliseconds between ticks.
    pub tick_ms: u64,
    /// Where snapshots lie, for answers to people.
    pub snapshot_dir: PathBuf,
    /// Stores the site key when this node becomes a voter.
    pub store_site_key: fn(&std::path::Path, &[u8; 32]) -> io::Result<()>,
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// Watches the free space of the data directory.
    pub space: SpaceGuard,
    /// Nodes whose process is gone, as the mesh says, and since when.
    pub crashed: watch::Receiver<Arc<BTreeMap<NodeId, u64>>>,
    /// Counters.
    pub metrics: Metrics,
}

/// A replica that gives answers to callers of [`Handle`].
pub struct AgentReplica<D: Disk>(pub(super) Replica<D, ReplyTo>);

impl<D: Disk> AgentReplica<D> {
    /// Opens a node's files for the loop.
    ///
    /// # Errors
    /// See [`fleet_consensus::StartError`].
    pub fn open(
        parts: fleet_consensus::Parts<D>,
        clock: MonotonicClock,
    ) -> Result<(Self, OpenNotes), fleet_consensus::StartError> {
        let opened = Replica::open(parts, now(clock))?;
        let notes =
            OpenNotes { recovery: opened.recovery, damaged_snapshots: opened.damaged_snapshots };
        Ok((Self(opened.replica), notes))
    }
}

/// What was noticed while opening a node's files.
#[derive(Debug)]
pub struct OpenNotes {
    /// What the log had to cut.
    pub recovery: fleet_log::Recovery,
    /// Snapshots that did not decode and were renamed.
    pub damaged_snapshots: Vec<String>,
}

/// Starts the loop on its own thread. The thread ends with a drain, or with a fault.
///
/// # Errors
/// When the thread or its runtime can't be made.
pub fn start<D, W>(
    replica: AgentReplica<D>,
    parts: LoopParts<W>,
) -> io::Result<(Handle, JoinHandle<Result<(), Fault>>)>
where
    D: Disk + Send,
    D::File: Send,
    W: Wire + Send + 'static,
{
    let (requests, requests_in) = mpsc::channel(REQUESTS_MAX);
    let (view_out, view) = watch::channel(Arc::new(replica.0.view()));
    let (applied, _) = broadcast::channel(APPLIED_BATCHES_MAX);
    let (observed, _) = broadcast::channel(OBSERVED_MAX);
    let (leads_out, leads) = watch::channel(false);
    let pulse = Pulse::new(parts.tick_ms, parts.clock.now_ms());
    let handle = Handle {
        requests,
        view,
        applied: applied.clone(),
        observed: observed.clone(),
        leads,
        pulse: pulse.clone(),
        clock: parts.clock,
        own_ids: Arc::new(OwnIds::new()?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(2)
        .build()?;
    let (built_out, built) = mpsc::channel(1);
    let consensus = Loop {
        errands: Errands::new(parts.snapshot_dir.clone()),
        replica: replica.0,
        requests: requests_in,
        view: view_out,
        applied,
        observed,
        leads: leads_out,
        pulse,
        built_out,
        seen_applied: 0,
        tally: Tally::default(),
        stalls: Stalls::new(parts.tick_ms),
        low_space: false,
        space_due_ms: 0,
        parts,
    };
    let thread = std::thread::Builder::new().name("consensus".to_owned()).spawn(move || {
        let data_dir = consensus.parts.data_dir.clone();
        // Without a budget: with one, a busy turn would find every queue of the client
        // "full" and drop frames for which there was room.
        let ended = runtime.block_on(tokio::task::unconstrained(consensus.run(built)));
        if let Err(fault) = &ended {
            note(fault, &data_dir);
        }
        ended
    })?;
    Ok((handle, thread))
}

/// A fault that a restart can't mend keeps this directory from being started again. It is written
/// down before anything else can end the process.
fn note(fault: &Fault, data_dir: &std::path::Path) {
    tracing::error!(%fault, "the consensus loop has ended with a fault");
    if fault.is_final()
        && let Err(error) = quarantine::set(data_dir, &fault.to_string())
    {
        tracing::error!(%error, "the quarantine could not be written down; do not restart this node");
    }
}

type Built = io::Result<BuiltSnapshot>;

struct Loop<D: Disk, W> {
    replica: Replica<D, ReplyTo>,
    requests: mpsc::Receiver<Request>,
    view: watch::Sender<Arc<View>>,
    applied: broadcast::Sender<Arc<AppliedBatch>>,
    observed: broadcast::Sender<(NodeId, Bytes)>,
    leads: watch::Sender<bool>,
    pulse: Pulse,
    built_out: mpsc::Sender<Built>,
    errands: Errands,
    /// Applied index of the view published last.
    seen_applied: u64,
    tally: Tally,
    stalls: Stalls,
    low_space: bool,
    space_due_ms: u64,
    parts: LoopParts<W>,
}

fn now(clock: MonotonicClock) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now { mono_ms: clock.now_ms(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}

/// What ended the loop's sleep.
enum Woken {
    /// Something is due, or there is more to do.
    Due,
    Frame(Inbound),
    Request(Request),
    Built(Built),
}

impl<D, W> Loop<D, W>
where
    D: Disk + Send,
    D::File: Send,
    W: Wire,
{
    async fn run(mut self, mut built: mpsc::Receiver<Built>) -> Result<(), Fault> {
        let mut crashed = self.parts.crashed.clone();
        let mut turns = 0_u32;
        loop {
            let mut woken = Woken::Due;
            if !self.replica.has_more() {
                let (asleep_ms, rest) = (self.parts.clock.now_ms(), self.until_tick());
                // Only received here: what is done with it is no sleep.
                woken = tokio::select! {
                    () = tokio::time::sleep(rest) => Woken::Due,
                    Ok(()) = crashed.changed() => Woken::Due,
                    Some(frame) = self.parts.inbox.recv() => Woken::Frame(frame),
                    Some(request) = self.requests.recv() => Woken::Request(request),
                    Some(result) = built.recv() => Woken::Built(result),
                };
                self.stalls.slept(asleep_ms, rest, self.parts.clock.now_ms());
            }
            let began_ms = self.pulse.beat(self.parts.clock.now_ms());
            match woken {
                Woken::Due => {}
                Woken::Frame(frame) => self.take_frame(&frame)?,
                Woken::Request(request) => self.take_request(request),
                Woken::Built(result) => self.snapshot_written(result)?,
            }
            let last = self.turn()?;
            let ended_ms = self.pulse.beat(self.parts.clock.now_ms());
            self.stalls.turned(began_ms, ended_ms);
            if last {
                break;
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS_BETWEEN_YIELDS) {
                // The runtime looks at its timers and at finished snapshots.
                tokio::task::yield_now().await;
            }
        }
        self.replica.flush()?;
        self.errands.ended();
        Ok(())
    }

    /// How long nothing has to be looked at. A promise is looked after at every tick, and so is a
    /// node that may have crashed.
    fn until_tick(&self) -> Duration {
        let now_ms = self.parts.clock.now_ms();
        let left_ms = self.replica.next_tick_ms().saturating_sub(now_ms);
        let crashed = self.parts.crashed.borrow();
        if self.errands.are_done() && crashed.is_empty() {
            return Duration::from_millis(left_ms);
        }
        let due_ms = self.replica.crash_due_ms(&crashed, now_ms).unwrap_or(u64::MAX);
        Duration::from_millis(left_ms.min(self.parts.tick_ms).min(due_ms.saturating_sub(now_ms)))
    }

    /// One turn; `true` when it was the last.
    fn turn(&mut self) -> Result<bool, Fault> {
        self.take_waiting()?;
        let now = now(self.parts.clock);
        let ticked = self.replica.handle_tick(now)?;
        if ticked {
            self.look_at_space(now.mono_ms);
        }
        let crashed = Arc::clone(&self.parts.crashed.borrow());
        self.replica.handle_crashed(&crashed, now)?;
        for _ in 0..SYNCS_PER_TURN_MAX {
            let syncs = self.replica.poll_to_sync(now, &mut self.parts.wire)?;
            let outputs = self.replica.take_outputs();
            // Whoever is answered now does not wait for the sync of what came after.
            self.carry_out(outputs, ticked)?;
            if !syncs {
                break;
            }
        }
        let last = self.errands.go_on(&mut self.replica, now.mono_ms);
        let outputs = self.replica.take_outputs();
        self.carry_out(outputs, false)?;
        Ok(last)
    }

    /// Now and then: is there room on the disk?
    fn look_at_space(&mut self, now_ms: u64) {
        if now_ms < self.space_due_ms {
            return;
        }
        self.space_due_ms = now_ms + SPACE_EVERY_MS;
        let low = match self.parts.space.check() {
            Ok(space) => {
                self.say_space(space);
                !space.is_ok()
            }
            Err(error) => {
                tracing::warn!(%error, "the free space on the disk can't be told");
                return;
            }
        };
        self.low_space = low;
        self.replica.set_low_space(low);
    }

    /// Once per change.
    fn say_space(&self, space: Space) {
        match space {
            Space::Low { free_bytes, wanted_bytes } if !self.low_space => tracing::error!(
                free_bytes,
                wanted_bytes,
                "the disk is nearly full: this node hands leadership over and takes no proposals until space is freed"
            ),
            Space::Ok { free_bytes } if self.low_space => {
                tracing::info!(free_bytes, "there is room on the disk again");
            }
            Space::Low { .. } | Space::Ok { .. } => {}
        }
    }

    fn take_waiting(&mut self) -> Result<(), Fault> {
        for _ in 0..INPUTS_PER_TURN_MAX {
            let Ok(frame) = self.parts.inbox.try_recv() else {
                break;
            };
            self.take_frame(&frame)?;
        }
        for _ in 0..INPUTS_PER_TURN_MAX {
            let Ok(request) = self.requests.try_recv() else {
                break;
            };
            self.take_request(request);
        }
        Ok(())
    }

    fn take_frame(&mut self, inbound: &Inbound) -> Result<(), Fault> {
        let now = now(self.parts.clock);
        self.replica.handle_frame(&inbound.frame, inbound.path, now)
    }

    fn take_request(&mut self, request: Request) {
        match request {
            Request::Submit { reply, .. } if self.errands.is_draining() => {
                // Who has gone away needs no answer.
                let _gone = reply.send(Submitted::Stopping);
            }
            Request::Submit { proposal, deadline_ms, reply } => {
                self.replica.handle_submit(&proposal, deadline_ms, ReplyTo::Command(reply))
            }
            Request::Read { deadline_ms, reply } => {
                self.replica.handle_read(deadline_ms, ReplyTo::Read(reply));
            }
            Request::Transfer { to, deadline_ms, reply } => {
                self.errands.transfer(&mut self.replica, to, deadline_ms, reply)
            }
            Request::Snapshot { reply } => self.errands.snapshot(reply),
            Request::Seize { node, silent_ms, reply } => {
                let now_ms = self.parts.clock.now_ms();
                let _gone = reply.send(self.replica.seize(node, silent_ms, now_ms));
            }
            Request::Resume { node } => self.replica.resume(node),
            Request::Tell { observed } => self.replica.handle_tell(&observed),
            Request::Drain { deadline_ms, reply } => {
                self.errands.drain(&mut self.replica, deadline_ms, reply);
            }
        }
    }

    fn snapshot_written(&mut self, result: Built) -> Result<(), Fault> {
        self.errands.snapshot_written(result.as_ref());
        match result {
            Ok(built) => {
                self.parts.metrics.snapshots.inc();
                self.replica.handle_snapshot_built(Some(built))
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot could not be written; the log grows until one can");
                self.replica.handle_snapshot_built(None)
            }
        }
    }
}
