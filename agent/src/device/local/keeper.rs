//! The thread that owns journal and book: everything is on disk before it takes effect.

use std::path::PathBuf;
use std::sync::Arc;

use fleet_protocol::local::LocalStage;
use fleet_state::{NodeId, SiteUid};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::book::{Begin, Begun, Book, Draft};
use super::journal::{Journal, JournalError};
use super::write::{Ended, LocalWrite};
use super::{LocalHandle, LocalRefusal};
use crate::device::metrics::DeviceMetrics;

/// Orders that may wait.
const ORDERS_MAX: usize = 256;
/// Writes that a follower of events may lag behind.
const TOLD_MAX: usize = 256;

/// Parts that ended: the number of the write, the property, the end.
pub(super) type Ends = Vec<(u64, Option<Arc<str>>, Ended)>;

/// What the keeper is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// A new write.
    Write { draft: Draft, reply: oneshot::Sender<Result<Arc<LocalWrite>, LocalRefusal>> },
    /// Parts of writes are about to be handed over; answered once that is on disk.
    Begin { begin: Begin, reply: oneshot::Sender<Begun> },
    /// A write got to another stage.
    Reach { number: u64, stage: LocalStage, detail: Arc<str> },
    /// Parts ended; answered once that is on disk.
    End { ends: Ends, reply: oneshot::Sender<()> },
    /// A majority was reached after the writes up to this number.
    Returned { number: u64 },
}

/// Whose local writes these are.
pub(super) struct Whose {
    pub(super) data_dir: PathBuf,
    pub(super) uid: SiteUid,
    pub(super) node: NodeId,
    pub(super) metrics: DeviceMetrics,
}

struct Keeper {
    /// None once it failed: nothing more can be written down.
    journal: Option<Journal>,
    book: Book,
    shown: watch::Sender<Arc<Book>>,
    told: broadcast::Sender<Arc<LocalWrite>>,
    metrics: DeviceMetrics,
}

/// Opens the journal and starts the thread, which ends with the last handle. A journal that can't
/// be used is no reason not to start: the gateway does all the rest, and says what it can't.
pub(super) fn start(whose: Whose) -> LocalHandle {
    let Whose { data_dir, uid, node, metrics } = whose;
    let (shown, book) = watch::channel(Arc::default());
    let (orders, asked) = mpsc::channel(ORDERS_MAX);
    let (told, _) = broadcast::channel(TOLD_MAX);
    let mut keeper = Keeper { journal: None, book: Book::default(), shown, told, metrics };
    match Journal::open(&data_dir, uid, node) {
        Ok(opened) => {
            let (book, ended) = Book::of(opened.writes);
            keeper.book = book;
            keeper.journal = Some(opened.journal);
            if let Some(trouble) = opened.trouble {
                tracing::error!(trouble, "local writes are not known");
                keeper.book.trouble = Some(Arc::from(trouble));
            }
            keeper.note(ended);
        }
        Err(error) => keeper.fail(&error),
    }
    keeper.show();
    let handle = LocalHandle { orders, book, told: keeper.told.clone() };
    let thread = std::thread::Builder::new().name("local-writes".to_owned());
    let spawned = thread.spawn(move || keeper.run(asked));
    if let Err(error) = spawned {
        // Without it every order is refused as the keeper is gone.
        tracing::error!(%error, "local writes can't be taken");
    }
    handle
}

impl Keeper {
    fn run(mut self, mut asked: mpsc::Receiver<Order>) {
        while let Some(order) = asked.blocking_recv() {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Write { draft, reply } => {
                let answer = self.write(draft);
                // An error says that nobody waits any more; it is on disk all the same.
                let _gone = reply.send(answer);
            }
            Order::Begin { begin, reply } => {
                let begins = self.book.begins(&begin);
                let begun = begins.map(|begins| begins.is_empty() || self.begin(begins));
                let _gone = reply.send(match begun {
                    None => Begun::Overtaken,
                    Some(true) => Begun::Begins,
                    Some(false) => Begun::NotOnDisk,
                });
            }
            Order::Reach { number, stage, detail } => {
                let reached = self.book.reached(number, stage, &detail);
                self.note(reached.into_iter().collect());
            }
            Order::End { ends, reply } => {
                for (_, _, ended) in &ends {
                    self.metrics.count_local_end(ended.end.as_str());
                }
                let touched = self.book.ended(ends);
                self.note(touched);
                let _gone = reply.send(());
            }
            Order::Returned { number } => {
                self.book.returned(number);
                self.show();
            }
        }
    }

    fn write(&mut self, draft: Draft) -> Result<Arc<LocalWrite>, LocalRefusal> {
        if let Some(known) = self.book.of_request(&draft.request_id) {
            let values = known.parts.iter().filter_map(|part| {
                let (property, value) = (part.property.as_ref()?, part.value.as_ref()?);
                Some((property, value))
            });
            let same = known.device == draft.device
                && known.op == draft.op
                && values.eq(draft.values.iter().map(|(property, value, _)| (property, value)));
            return if same { Ok(Arc::clone(known)) } else { Err(LocalRefusal::RequestIdReused) };
        }
        let touched = self.book.drafted(draft)?;
        let number = touched.last().map_or(0, |write| write.number);
        if !self.begin(touched) {
            let why = self.book.trouble.as_deref().unwrap_or("it can't be written down");
            return Err(LocalRefusal::Disk { why: why.to_owned() });
        }
        self.metrics.local_writes.inc();
        tracing::info!(number, "a local write was taken");
        self.book.get(number).cloned().ok_or(LocalRefusal::Stopping)
    }

    /// Writes down how writes stand; `false` when that can't be done any more.
    fn write_down(&mut self, touched: &[LocalWrite]) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        let written = journal.append(touched.iter());
        if let Err(error) = &written {
            self.fail(error);
        }
        written.is_ok()
    }

    /// Something began: it takes effect only once it is on disk.
    fn begin(&mut self, touched: Vec<LocalWrite>) -> bool {
        let written = self.write_down(&touched);
        if written {
            self.take_effect(touched);
        } else {
            self.show();
        }
        written
    }

    /// Something happened: that it can't be written down doesn't undo it. After a restart it is
    /// found out again.
    fn note(&mut self, touched: Vec<LocalWrite>) {
        if touched.is_empty() {
            return;
        }
        self.write_down(&touched);
        self.take_effect(touched);
        let kept = self.book.oldest_first().map(Arc::as_ref);
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.tidy(kept)
        {
            self.fail(&error);
        }
    }

    fn take_effect(&mut self, touched: Vec<LocalWrite>) {
        let numbers: Vec<u64> = touched.iter().map(|write| write.number).collect();
        self.book.put(touched);
        self.show();
        for write in numbers.into_iter().filter_map(|number| self.book.get(number)) {
            // An error says that nobody follows.
            let _nobody = self.told.send(Arc::clone(write));
        }
    }

    fn show(&mut self) {
        let open = self.book.open().count();
        self.metrics.local_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.shown.send_replace(Arc::new(self.book.clone()));
    }

    fn fail(&mut self, error: &JournalError) {
        tracing::error!(%error, "local writes can't be written down any more");
        self.journal = None;
        self.book.trouble = Some(Arc::from(format!("local writes can't be written down: {error}")));
    }
}

#[cfg(test)]
mod tests {
    use fleet_state::{Revision, Value};

    use super::super::LocalOp;
    use super::*;

    fn handle(dir: &tempfile::TempDir) -> LocalHandle {
        let uid = SiteUid::from_bytes([7; 16]);
        let data_dir = dir.path().to_owned();
        start(Whose { data_dir, uid, node: NodeId::FOUNDER, metrics: DeviceMetrics::default() })
    }

    fn draft(op: LocalOp, property: &str, request: &str) -> Draft {
        Draft {
            device: "lamp".parse().unwrap(),
            op,
            values: vec![(Arc::from(property), Value::from(1_i64), Revision::NONE)],
            actor: None,
            request_id: request.parse().unwrap(),
            wall_ms: 5,
        }
    }

    #[tokio::test]
    async fn a_request_id_stands_for_its_properties_as_well_as_for_its_values() {
        let dir = tempfile::tempdir().unwrap();
        let local = handle(&dir);
        let first = local.write(draft(LocalOp::Update, "a", "r")).await.unwrap();
        let again = local.write(draft(LocalOp::Update, "a", "r")).await.unwrap();
        assert_eq!(first.number, again.number);
        let other = local.write(draft(LocalOp::Update, "b", "r")).await;
        assert_eq!(other, Err(LocalRefusal::RequestIdReused));
    }

    #[tokio::test]
    async fn what_a_newer_write_has_overtaken_does_not_begin() {
        let dir = tempfile::tempdir().unwrap();
        let local = handle(&dir);
        let first = local.write(draft(LocalOp::Update, "a", "1")).await.unwrap().number;
        let second = local.write(draft(LocalOp::Update, "a", "2")).await.unwrap().number;
        let begin = |number| Begin::values([(number, Arc::from("a"))].into_iter());
        assert_eq!(local.begin(begin(first)).await, Begun::Overtaken);
        assert_eq!(local.begin(begin(second)).await, Begun::Begins);
        assert_eq!(local.book().get(second).unwrap().stage, LocalStage::Dispatching);
        // A policy's values come after nobody's word.
        let stop = LocalOp::Stop { action: Arc::from("halt") };
        let stop = Draft { values: Vec::new(), ..draft(stop, "a", "3") };
        let stop = local.write(stop).await.unwrap().number;
        assert_eq!(local.begin(begin(second)).await, Begun::Overtaken);
        let loss = local.write(draft(LocalOp::OnControlLoss, "a", "4")).await;
        assert_eq!(loss, Err(LocalRefusal::Stands));
        assert_eq!(local.begin(Begin::stop(stop)).await, Begun::Begins);
        assert_eq!(local.begin(Begin::stop(stop)).await, Begun::Overtaken);
    }
}
