//! Administrative calls that take more than one turn: a transfer that has to happen, a
//! snapshot that has to be written, a drain that has to finish.

use std::path::PathBuf;

use fleet_consensus::Replica;
use fleet_consensus::replica::{BuiltSnapshot, TransferRefused};
use fleet_log::Disk;
use fleet_state::NodeId;
use tokio::sync::oneshot;

use super::handle::{AdminError, SnapshotTaken};
use super::reply::ReplyTo;

/// Callers that may wait for the same snapshot.
const SNAPSHOT_CALLERS_MAX: usize = 64;
/// Milliseconds between two offers of leadership while draining.
const OFFER_EVERY_MS: u64 = 150;
/// Transfers that may be waited for.
const TRANSFERS_MAX: usize = 64;

type TransferReply = oneshot::Sender<Result<NodeId, AdminError>>;
type SnapshotReply = oneshot::Sender<Result<SnapshotTaken, AdminError>>;

#[derive(Debug)]
struct Transfer {
    /// The heir, where it is known here.
    to: Option<NodeId>,
    /// Who led when it was asked for.
    from: Option<NodeId>,
    deadline_ms: u64,
    reply: TransferReply,
}

#[derive(Debug)]
struct Drain {
    deadline_ms: u64,
    reply: oneshot::Sender<()>,
    /// When leadership is offered next; an offer may get lost, or the heir be gone.
    next_offer_ms: u64,
}

/// What the loop has promised and not yet done.
#[derive(Debug)]
pub(super) struct Errands {
    snapshot_dir: PathBuf,
    transfers: Vec<Transfer>,
    snapshot_next: Vec<SnapshotReply>,
    snapshot_now: Vec<SnapshotReply>,
    drain: Option<Drain>,
}

/// Tells a caller; one that has gone away is no error.
fn tell<A>(reply: oneshot::Sender<A>, what: A) {
    let _gone = reply.send(what);
}

impl Errands {
    pub(super) fn new(snapshot_dir: PathBuf) -> Self {
        Self {
            snapshot_dir,
            transfers: Vec::new(),
            snapshot_next: Vec::new(),
            snapshot_now: Vec::new(),
            drain: None,
        }
    }

    pub(super) fn transfer<D: Disk>(
        &mut self,
        replica: &mut Replica<D, ReplyTo>,
        to: Option<NodeId>,
        deadline_ms: u64,
        reply: TransferReply,
    ) {
        if self.transfers.len() >= TRANSFERS_MAX {
            return tell(reply, Err(AdminError::Busy("too many transfers are waited for")));
        }
        let from = replica.leader();
        match replica.handle_transfer(to) {
            Ok(to) => self.transfers.push(Transfer { to, from, deadline_ms, reply }),
            Err(TransferRefused::NoLeader) => tell(reply, Err(AdminError::NoLeader)),
            Err(refused @ TransferRefused::NoHeir) => {
                tell(reply, Err(AdminError::NoHeir(refused.to_string())));
            }
        }
    }

    pub(super) fn snapshot(&mut self, reply: SnapshotReply) {
        if self.snapshot_next.len() >= SNAPSHOT_CALLERS_MAX {
            return tell(reply, Err(AdminError::Busy("too many wait for a snapshot")));
        }
        self.snapshot_next.push(reply);
    }

    pub(super) fn drain<D: Disk>(
        &mut self,
        replica: &mut Replica<D, ReplyTo>,
        deadline_ms: u64,
        reply: oneshot::Sender<()>,
    ) {
        replica.begin_drain();
        self.drain = Some(Drain { deadline_ms, reply, next_offer_ms: 0 });
    }

    /// Whether nothing is promised that is not done.
    pub(super) const fn are_done(&self) -> bool {
        self.transfers.is_empty()
            && self.snapshot_next.is_empty()
            && self.snapshot_now.is_empty()
            && self.drain.is_none()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// A snapshot was written, or could not be.
    pub(super) fn snapshot_written(&mut self, built: Result<&BuiltSnapshot, &std::io::Error>) {
        for reply in self.snapshot_now.drain(..) {
            let result = match built {
                Ok(built) => Ok(SnapshotTaken {
                    index: built.file().index,
                    term: built.file().term,
                    path: self.snapshot_dir.join(&built.file().name),
                    size_bytes: built.file().size_bytes,
                }),
                Err(error) => Err(AdminError::Failed(format!(
                    "the snapshot could not be written: {error}; free space in {}",
                    self.snapshot_dir.display()
                ))),
            };
            tell(reply, result);
        }
    }

    /// Goes on with what is open; `true` when a drain has ended and with it the loop.
    pub(super) fn go_on<D: Disk>(
        &mut self,
        replica: &mut Replica<D, ReplyTo>,
        now_ms: u64,
    ) -> bool {
        let leader = replica.leader();
        for open in std::mem::take(&mut self.transfers) {
            let done = leader.filter(|now| open.to.map_or(leader != open.from, |to| to == *now));
            if let Some(leader) = done {
                tell(open.reply, Ok(leader));
            } else if now_ms >= open.deadline_ms {
                tell(open.reply, Err(AdminError::Deadline));
            } else {
                self.transfers.push(open);
            }
        }
        let nothing_building = self.snapshot_now.is_empty();
        if nothing_building && !self.snapshot_next.is_empty() && replica.handle_snapshot_request() {
            self.snapshot_now = std::mem::take(&mut self.snapshot_next);
        }
        let Some(drain) = &mut self.drain else {
            return false;
        };
        let leads_others = replica.is_leader() && replica.has_other_voters();
        if leads_others && now_ms >= drain.next_offer_ms {
            drain.next_offer_ms = now_ms + OFFER_EVERY_MS;
            // Without an heir yet it is tried again; the deadline ends it.
            let _offered = replica.handle_transfer(None);
        }
        let done = !leads_others && replica.waiting() == 0;
        if !done && now_ms < drain.deadline_ms {
            return false;
        }
        replica.end_all();
        true
    }

    /// The loop has ended.
    pub(super) fn ended(self) {
        if let Some(drain) = self.drain {
            tell(drain.reply, ());
        }
    }
}
