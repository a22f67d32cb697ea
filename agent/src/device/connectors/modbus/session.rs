//! One connection of a link's owner to a Modbus endpoint, as the agent sees it.
//!
//! A [`ModbusSession`] is a handle: one task ([`actor`]) owns the connection and everything on it
//! happens one after the other, as it has to on a bus. What somebody asks for comes before the
//! reading of poll groups.
//!
//! A device that answers a write has said itself that it has it: *acknowledged*. A write without
//! an answer may have acted.

mod actor;
mod keeping;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::device::connector::{
    CloseReason, Connect, ConnectError, DeviceSetup, Handed, Invoke, Read, ReadError,
    ReadErrorKind, Reading, Session, Write, WriteError, WriteErrorKind,
};

use super::budget::Budgets;
use super::bus::Bus;
use super::bus_error::BusError;
use super::link::Endpoint;
use actor::Actor;

/// What is asked of a session and not yet looked at.
const ASKED_MAX: usize = 256;
/// Time that is kept for the answer's way to whoever asked.
const MARGIN: std::time::Duration = std::time::Duration::from_millis(20);
/// Longer than closing a connection may take.
const CLOSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// What is asked of the task that owns the connection.
enum Ask {
    Write { write: Write, answer: oneshot::Sender<Result<Handed, WriteError>> },
    Invoke { invoke: Invoke, answer: oneshot::Sender<Result<Handed, WriteError>> },
    Close { done: oneshot::Sender<()> },
}

/// What is asked of a device: hand-overs come before it.
struct Question {
    read: Read,
    /// It has come to its turn.
    begun: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Reading, ReadError>>,
}

/// A handle of a connection.
pub(crate) struct ModbusSession {
    asks: mpsc::Sender<Ask>,
    questions: mpsc::Sender<Question>,
    devices: watch::Sender<Vec<DeviceSetup>>,
    closed: watch::Receiver<Option<CloseReason>>,
    task: JoinHandle<()>,
}

impl ModbusSession {
    /// Connects.
    pub(crate) async fn connect(
        connect: Connect,
        budgets: Arc<Budgets>,
    ) -> Result<Self, ConnectError> {
        let endpoint = Endpoint::parse(&connect.link)
            .map_err(|refusal| ConnectError::new(refusal.to_string()))?;
        let bus =
            Bus::connect(endpoint).await.map_err(|error| ConnectError::new(error.to_string()))?;
        let (asks, asked) = mpsc::channel(ASKED_MAX);
        let (questions, questioned) = mpsc::channel(ASKED_MAX);
        let (devices, changed) = watch::channel(connect.devices);
        let (closing, closed) = watch::channel(None);
        let inputs = actor::Inputs { asked, questioned, changed };
        let outputs = actor::Outputs { reports: connect.reports, closing };
        let own = (budgets, connect.may_write);
        let actor = Actor::new(connect.link.id, bus, own, inputs, outputs);
        Ok(Self { asks, questions, devices, closed, task: tokio::spawn(actor.run()) })
    }

    async fn hand_over(
        &self,
        ask: Ask,
        answer: oneshot::Receiver<Result<Handed, WriteError>>,
    ) -> Result<Handed, WriteError> {
        if self.asks.send(ask).await.is_err() {
            return Err(lost(false));
        }
        // Without an answer nobody knows how far the task came.
        answer.await.unwrap_or_else(|_| Err(lost(true)))
    }
}

impl Session for ModbusSession {
    fn read<'a>(&'a self, read: &'a Read) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(async move {
            let gone = || ReadError {
                kind: ReadErrorKind::LinkLost,
                message: "the connection to the endpoint is gone".to_owned(),
            };
            let (answer, answered) = oneshot::channel();
            let begun = Arc::new(AtomicBool::new(false));
            let question = Question { read: read.clone(), begun: Arc::clone(&begun), answer };
            let asked = async {
                self.questions.send(question).await.map_err(|_| gone())?;
                answered.await.unwrap_or_else(|_| Err(gone()))
            };
            let until = read.deadline.checked_sub(MARGIN).unwrap_or(read.deadline);
            timeout_at(until, asked).await.unwrap_or_else(|_| {
                let error =
                    if begun.load(Ordering::Relaxed) { BusError::Timeout } else { BusError::Late };
                Err(error.of_read())
            })
        })
    }

    fn write<'a>(&'a self, write: &'a Write) -> BoxFuture<'a, Result<Handed, WriteError>> {
        let (answer, answered) = oneshot::channel();
        Box::pin(self.hand_over(Ask::Write { write: write.clone(), answer }, answered))
    }

    fn invoke<'a>(&'a self, invoke: &'a Invoke) -> BoxFuture<'a, Result<Handed, WriteError>> {
        let (answer, answered) = oneshot::channel();
        Box::pin(self.hand_over(Ask::Invoke { invoke: invoke.clone(), answer }, answered))
    }

    fn devices_changed(&self, devices: Vec<DeviceSetup>) {
        self.devices.send_if_modified(|known| {
            let news = *known != devices;
            *known = devices;
            news
        });
    }

    fn closed<'a>(&'a self) -> BoxFuture<'a, CloseReason> {
        let mut closed = self.closed.clone();
        Box::pin(async move {
            let reason = closed.wait_for(Option::is_some).await;
            reason
                .ok()
                .and_then(|reason| reason.clone())
                .unwrap_or_else(|| CloseReason::Lost("the link's task has ended".to_owned()))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let (done, closed) = oneshot::channel();
            if self.asks.send(Ask::Close { done }).await.is_ok() {
                let _late = timeout(CLOSE_WITHIN, closed).await;
            }
        })
    }
}

impl Drop for ModbusSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lost(may_have_acted: bool) -> WriteError {
    let message = "the connection to the endpoint is gone".to_owned();
    WriteError { may_have_acted, kind: WriteErrorKind::LinkLost, message }
}
