//! What this gateway does with devices that are wired to it while no majority can be reached.
//!
//! A *local write* comes in at the gateway's own Unix socket, only while there is no leader, and
//! only for a device on a link that no other node may own. It is written down first (`journal`),
//! then lies over what the log wants of the device ([`Overlay`]) and is handed over by the same
//! planner. It is never told to the log as it stands: nobody else knows of it.
//!
//! 1. `keeper` is the one thread that owns journal and [`Book`]; everybody else holds a
//!    [`LocalHandle`] and sees the book as it was shown last.
//! 2. `returned` notices that a majority is reached again, by a read barrier.
//! 3. `merge` decides, property by property, what becomes of a local write then; the task of the
//!    link carries that out, since it holds the epoch.
//! 4. `control_loss` makes the writes that a device's policy asks for when nobody controls it.
//!
//! What must never happen here: a write that isn't on disk before it leaves; a stop that is handed
//! over twice, or by a later process; a local value that becomes desired over a newer wish.
//!
//! Tests: tables beside the parts; `fleet-device`'s `plan/tests/local.rs`; real sites in the workspace's
//! `tests/tests/local.rs`.

mod book;
pub(super) mod control_loss;
mod journal;
mod keeper;
pub(super) mod merge;
pub(super) mod returned;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use fleet_protocol::local::LocalStage;
use fleet_state::{NodeId, SiteUid};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub(super) use book::{Begin, Begun};
pub use book::{Book, Draft, LocalStop, LocalWish, Overlay};
use keeper::{Ends, Order, Whose};
pub use write::{Ended, LocalOp, LocalWrite, Part};

use super::metrics::DeviceMetrics;

/// Without a leader for so long, a gateway may act on its own.
pub const ALONE_AFTER_MS: u64 = 2_000;

/// Why a local write was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LocalRefusal {
    /// The request id stands for another write.
    #[error("the request id was used for another local write")]
    RequestIdReused,
    /// As many are open as may be.
    #[error("{open_max} local writes wait for a majority already, which is the limit")]
    TooMany {
        /// How many.
        open_max: usize,
    },
    /// A policy asks for it, and what somebody wrote locally stands there.
    #[error("what was written here before stands")]
    Stands,
    /// It can't be written down.
    #[error("{why}")]
    Disk {
        /// Why not.
        why: String,
    },
    /// The agent is stopping, or could not start what takes them.
    #[error("this agent takes no local writes now")]
    Stopping,
}

/// Takes local writes and shows them; cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalHandle {
    orders: mpsc::Sender<Order>,
    book: watch::Receiver<Arc<Book>>,
    told: broadcast::Sender<Arc<LocalWrite>>,
}

/// Opens the journal in a data directory and starts its thread.
#[must_use]
pub fn start(data_dir: PathBuf, uid: SiteUid, node: NodeId, metrics: DeviceMetrics) -> LocalHandle {
    keeper::start(Whose { data_dir, uid, node, metrics })
}

impl LocalHandle {
    /// The book as it stands.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.borrow())
    }

    /// Follows the book.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Book>> {
        self.book.clone()
    }

    /// Follows every write that came or got further. Who lags misses some.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<LocalWrite>> {
        self.told.subscribe()
    }

    /// Takes a write; it is on disk when this returns it.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn write(&self, draft: Draft) -> Result<Arc<LocalWrite>, LocalRefusal> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Write { draft, reply };
        self.orders.send(order).await.map_err(|_| LocalRefusal::Stopping)?;
        answer.await.unwrap_or(Err(LocalRefusal::Stopping))
    }

    /// Parts of writes are about to be handed over: whether they may, once that is on disk.
    pub(super) async fn begin(&self, begin: Begin) -> Begun {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Begin { begin, reply }).await.is_err() {
            return Begun::NotOnDisk;
        }
        answer.await.unwrap_or(Begun::NotOnDisk)
    }

    /// A write got to another stage, and that must be known.
    pub(super) async fn reached(&self, number: u64, stage: LocalStage, detail: Arc<str>) {
        // The keeper is gone only when the process ends.
        let _ending = self.orders.send(Order::Reach { number, stage, detail }).await;
    }

    /// A write got to another stage; `false` when there is no room to say so now.
    pub(super) fn reach(&self, number: u64, stage: LocalStage, detail: Arc<str>) -> bool {
        self.orders.try_send(Order::Reach { number, stage, detail }).is_ok()
    }

    /// Parts ended; `true` once that took effect.
    pub(super) async fn end(&self, ends: Ends) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(Order::End { ends, reply }).await;
        sent.is_ok() && answer.await.is_ok()
    }

    /// A majority was reached after the writes up to this number.
    async fn returned(&self, number: u64) {
        // The keeper is gone only when the process ends.
        let _ending = self.orders.send(Order::Returned { number }).await;
    }
}
