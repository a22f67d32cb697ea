//! What the rest of the agent holds of the consensus loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_consensus::View;
use fleet_state::{AgentCommand, Answer, Change, Command, NodeId, Proposal, RequestId, Revision};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::clock::MonotonicClock;
use super::own_ids::OwnIds;
use super::pulse::Pulse;

/// How much longer than until its deadline a caller waits for the word of the loop, which knows
/// more: only a loop that stands still is later. Clients wait a little longer than this.
const GRACE: Duration = Duration::from_millis(100);
/// How long a caller waits that has no deadline of its own.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How a submitted command ended, as far as this node can know.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// The log has decided; this speaks for the request id for ever.
    Decided(Answer),
    /// Not taken in: a queue is full. Nothing was proposed by this attempt.
    Busy {
        /// Which bound was met.
        why: &'static str,
    },
    /// No leader was known until the deadline. Nothing was proposed by this attempt.
    NoLeader,
    /// The deadline passed and the command may or may not take effect yet.
    Unknown,
    /// This agent is draining. Nothing was proposed by this attempt.
    Stopping,
}

/// Why a read barrier failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No leader was known until the deadline.
    #[error("no leader is known; a majority of voters must be running and reach each other")]
    NoLeader,
    /// The leader did not confirm in time.
    #[error("the leader did not confirm the read before the deadline")]
    Deadline,
    /// Too many reads are waiting.
    #[error("too many reads are waiting on this agent; retry shortly")]
    Busy,
    /// The agent is going down.
    #[error("this agent is stopping; ask another one")]
    Stopping,
    /// The loop has not turned for a while.
    #[error(
        "this agent stands still and hears no leader: its disk does not answer, or its machine is too busy"
    )]
    Still,
}

/// Why an administrative call on this node failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// This node does not lead; ask the leader.
    #[error("this node does not lead the site")]
    NotLeader(Option<NodeId>),
    /// No leader is known that could be asked.
    #[error("no leader is known; a majority of voters must be running and reach each other")]
    NoLeader,
    /// Nobody fits to take the leadership over.
    #[error("{0}")]
    NoHeir(String),
    /// Too many wait for the same already.
    #[error("{0}")]
    Busy(&'static str),
    /// This node failed at it, as for want of space on its disk.
    #[error("{0}")]
    Failed(String),
    /// It did not happen before the deadline.
    #[error("it did not happen before the deadline")]
    Deadline,
    /// The agent is going down.
    #[error("this agent is stopping; ask another one")]
    Stopping,
}

/// A snapshot that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotTaken {
    /// Index of the last entry in it.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

/// One applied entry.
#[derive(Clone, Debug)]
pub struct AppliedItem {
    /// Its index.
    pub revision: Revision,
    /// The request that it came from, if any.
    pub request_id: Option<RequestId>,
    /// What was decided, for entries that carry a command.
    pub answer: Option<Answer>,
    /// What it changed, in order.
    pub changes: Vec<Change>,
    /// Wall time of the leader that proposed it; for display only.
    pub wall_time_ms: u64,
}

/// Entries applied in one turn of the loop, in log order.
#[derive(Clone, Debug)]
pub struct AppliedBatch {
    /// The entries; never empty.
    pub items: Vec<AppliedItem>,
    /// Whether this node led when it applied them: the leader publishes events.
    pub is_leader: bool,
}

/// A request to the loop.
#[derive(Debug)]
pub(super) enum Request {
    /// Decide a command.
    Submit {
        /// The command.
        proposal: Proposal,
        /// Reading of the monotonic clock after which nobody waits.
        deadline_ms: u64,
        /// Where the end goes.
        reply: oneshot::Sender<Submitted>,
    },
    /// Confirm that the view is as new as this moment.
    Read {
        /// As above.
        deadline_ms: u64,
        /// As above.
        reply: oneshot::Sender<Result<(), ReadError>>,
    },
    /// Hand leadership over.
    Transfer {
        /// To whom; `None` lets the leader choose.
        to: Option<NodeId>,
        /// As above.
        deadline_ms: u64,
        /// As above.
        reply: oneshot::Sender<Result<NodeId, AdminError>>,
    },
    /// Put a snapshot of the state as applied now on disk.
    Snapshot {
        /// As above.
        reply: oneshot::Sender<Result<SnapshotTaken, AdminError>>,
    },
    /// Leave a silent node's read barriers unanswered.
    Seize {
        /// Whose.
        node: NodeId,
        /// It asked for none for longer than this.
        silent_ms: u64,
        /// Whether that is so, and done.
        reply: oneshot::Sender<bool>,
    },
    /// Answer a node's read barriers again.
    Resume {
        /// Whose.
        node: NodeId,
    },
    /// Tell the other members what was observed here.
    Tell {
        /// In the agents' own form.
        observed: Bytes,
    },
    /// Stop taking commands in; end the loop once the waiting are answered.
    Drain {
        /// As above: the loop ends then at the latest.
        deadline_ms: u64,
        /// Told when the loop has ended.
        reply: oneshot::Sender<()>,
    },
}

/// A cheap handle on the consensus loop of this node.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) applied: broadcast::Sender<Arc<AppliedBatch>>,
    pub(super) observed: broadcast::Sender<(NodeId, Bytes)>,
    pub(super) leads: watch::Receiver<bool>,
    pub(super) pulse: Pulse,
    pub(super) clock: MonotonicClock,
    pub(super) own_ids: Arc<OwnIds>,
}

impl Handle {
    /// Submits a command and waits for its end, at most until `deadline`.
    ///
    /// The proposal is relayed to the leader where this node does not lead, again
    /// with the same request id whenever the leader changes. Dropping the future
    /// does not take the command back.
    pub async fn submit(&self, proposal: Proposal, deadline: Instant) -> Submitted {
        let (reply, answer) = oneshot::channel();
        let request = Request::Submit { proposal, deadline_ms: self.clock.at_ms(deadline), reply };
        match self.requests.try_send(request) {
            // It may be carried out when the loop goes on, so nothing else is true.
            Ok(()) => match timeout_at(deadline + GRACE, answer).await {
                Ok(Ok(end)) => end,
                Ok(Err(_)) | Err(_) => Submitted::Unknown,
            },
            Err(mpsc::error::TrySendError::Full(_)) => {
                Submitted::Busy { why: "the queue of commands on this agent is full" }
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Submitted::Stopping,
        }
    }

    /// Waits until the view holds everything that was committed before this call,
    /// and returns it.
    ///
    /// # Errors
    /// See [`ReadError`]; the view may still be read with [`Handle::view`], as stale.
    pub async fn linearizable(&self, deadline: Instant) -> Result<Arc<View>, ReadError> {
        let (reply, done) = oneshot::channel();
        let request = Request::Read { deadline_ms: self.clock.at_ms(deadline), reply };
        self.requests.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopping,
        })?;
        match timeout_at(deadline + GRACE, done).await {
            Ok(Ok(end)) => end?,
            Ok(Err(_)) => return Err(ReadError::Stopping),
            Err(_) => return Err(ReadError::Deadline),
        }
        Ok(self.view())
    }

    /// The newest view on this node; it may be older than what the site has committed.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Follows the view; intermediate views may be skipped.
    #[must_use]
    pub fn watch_view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Follows whether this node leads; unlike the view it changes with nothing else.
    #[must_use]
    pub fn watch_leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Follows applied entries from now on. A receiver that lags is told so and has to
    /// close its gap from a view (`FleetState::changes_since`).
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<AppliedBatch>> {
        self.applied.subscribe()
    }

    /// For how long the loop has stood still, and with it the view; `None` while it turns.
    #[must_use]
    pub fn still_ms(&self) -> Option<u64> {
        self.pulse.still_ms(self.clock.now_ms())
    }

    /// Submits a command of this agent's own, which no user could ask for, and waits for its end,
    /// at most until `deadline`.
    pub async fn submit_own(&self, command: AgentCommand, deadline: Instant) -> Submitted {
        let proposal = Proposal {
            request_id: self.own_ids.next(),
            if_revision: None,
            actor: None,
            command: Command::Agents(command),
        };
        self.submit(proposal, deadline).await
    }

    /// As leader: leaves a node's read barriers unanswered that asked for none for longer than
    /// `silent_ms`, until [`Handle::resume`]. `false` when it did, or this node doesn't lead.
    pub async fn seize(&self, node: NodeId, silent_ms: u64) -> bool {
        let (reply, done) = oneshot::channel();
        let seized = async {
            let sent = self.requests.send(Request::Seize { node, silent_ms, reply }).await;
            sent.is_ok() && done.await.unwrap_or(false)
        };
        // Whether a late one is done nobody learns here; the bound on seizing undoes it.
        timeout_at(Instant::now() + WAIT_MAX, seized).await.unwrap_or(false)
    }

    /// Answers a node's read barriers again.
    pub async fn resume(&self, node: NodeId) {
        // An error says that the loop has ended, and nobody is answered any more; without room in
        // its queue for so long, the bound on seizing does it.
        let resumed = self.requests.send(Request::Resume { node });
        let _ended = timeout_at(Instant::now() + WAIT_MAX, resumed).await;
    }

    /// Tells the other members what was observed here. It may get lost: it is dropped when the
    /// loop is busy, and `false` says so.
    pub fn tell(&self, observed: Bytes) -> bool {
        self.requests.try_send(Request::Tell { observed }).is_ok()
    }

    /// Follows what other members observe, from now on. A receiver that lags misses some.
    #[must_use]
    pub fn subscribe_observed(&self) -> broadcast::Receiver<(NodeId, Bytes)> {
        self.observed.subscribe()
    }

    /// Hands leadership to `to`, or to the most caught-up voter.
    ///
    /// # Errors
    /// [`AdminError::NotLeader`] names the leader to ask instead.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        deadline: Instant,
    ) -> Result<NodeId, AdminError> {
        let (reply, done) = oneshot::channel();
        let deadline_ms = self.clock.at_ms(deadline);
        let request = Request::Transfer { to, deadline_ms, reply };
        self.ask(request, done, deadline).await
    }

    /// Writes a snapshot of the state as applied on this node.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn take_snapshot(&self, deadline: Instant) -> Result<SnapshotTaken, AdminError> {
        let (reply, done) = oneshot::channel();
        self.ask(Request::Snapshot { reply }, done, deadline).await
    }

    /// Stops intake and ends the loop once the waiting are answered, at most at `deadline`.
    pub async fn drain(&self, deadline: Instant) {
        let (reply, done) = oneshot::channel();
        let deadline_ms = self.clock.at_ms(deadline);
        let request = Request::Drain { deadline_ms, reply };
        let drained = async {
            // An error means that the loop has ended already.
            if self.requests.send(request).await.is_ok() {
                let _ended = done.await;
            }
        };
        // The bound is the deadline.
        let _in_time = timeout_at(deadline, drained).await;
    }

    /// The node's monotonic clock, in which views and deadlines are counted.
    #[must_use]
    pub fn clock(&self) -> MonotonicClock {
        self.clock
    }

    async fn ask<T>(
        &self,
        request: Request,
        done: oneshot::Receiver<Result<T, AdminError>>,
        deadline: Instant,
    ) -> Result<T, AdminError> {
        let asked = async {
            match self.requests.send(request).await {
                Ok(()) => done.await.unwrap_or(Err(AdminError::Stopping)),
                Err(_) => Err(AdminError::Stopping),
            }
        };
        timeout_at(deadline + GRACE, asked).await.unwrap_or(Err(AdminError::Deadline))
    }
}
