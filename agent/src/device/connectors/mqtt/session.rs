//! One connection of a link's owner to a broker, as the agent sees it.
//!
//! A [`MqttSession`] is a handle: one task ([`actor`]) owns the connection, the wiring and the
//! questions that wait for an answer, and everything asked of the session is a message to it. So
//! there is one order of things and no lock, and a caller that gives up costs nothing.
//!
//! What it promises: a write or one-shot ends as *sent* when the broker has confirmed it (QoS 1)
//! or the network has it (QoS 0), never as acknowledged, because a broker is not the device. What
//! was lost between the two may have acted. A one-shot goes out with QoS 0 and only to a device
//! that is there; what has a time limit is never left with a broker that can't keep it.

mod actor;
mod reading;

use fleet_state::{LinkId, SiteName};
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::device::connector::{
    CloseReason, Connect, ConnectError, DeviceSetup, Handed, Invoke, Read, ReadError,
    ReadErrorKind, Reading, Session, Write, WriteError, WriteErrorKind,
};

use super::wire::{Delivery, Opening, Undelivered, Wire};
use super::{credentials, link::Broker};
use actor::Actor;

/// What is asked of a session and not yet looked at.
const ASKED_MAX: usize = 256;
/// Longer than a goodbye to the broker may take.
const CLOSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// What is asked of the task that owns the connection.
enum Ask {
    Write { write: Write, answer: oneshot::Sender<Result<Vec<Delivery>, WriteError>> },
    Invoke { invoke: Invoke, answer: oneshot::Sender<Result<Vec<Delivery>, WriteError>> },
    Read { read: Read, answer: oneshot::Sender<Result<Reading, ReadError>> },
    Close { done: oneshot::Sender<()> },
}

/// A handle of a connection.
pub(crate) struct MqttSession {
    asks: mpsc::Sender<Ask>,
    devices: watch::Sender<Vec<DeviceSetup>>,
    closed: watch::Receiver<Option<CloseReason>>,
    task: JoinHandle<()>,
}

impl MqttSession {
    /// Connects, subscribes, and waits until the broker has confirmed both.
    pub(crate) async fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let broker = Broker::parse(&connect.link)
            .map_err(|refusal| ConnectError::new(refusal.to_string()))?;
        let login = credentials::login(&connect.secrets_dir, &broker)?;
        let certificates = match &broker.tls {
            Some(tls) => credentials::certificates(&connect.secrets_dir, tls)?,
            None => credentials::Certificates::default(),
        };
        let client_id = client_id(&connect);
        let (wire, events) = Wire::open(Opening { broker, client_id, login, certificates }).await?;
        let (asks, asked) = mpsc::channel(ASKED_MAX);
        let (devices, changed) = watch::channel(connect.devices);
        let (closing, closed) = watch::channel(None);
        let (ready, subscribed) = oneshot::channel();
        let inputs = actor::Inputs { events, asked, changed };
        let outputs = actor::Outputs { reports: connect.reports, closing, ready: Some(ready) };
        let actor = Actor::new(connect.link.id, wire, inputs, outputs);
        let session = Self { asks, devices, closed, task: tokio::spawn(actor.run()) };
        match subscribed.await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(problem)) => {
                // With a goodbye, or the broker would publish the last will.
                Box::new(session).close().await;
                Err(ConnectError::new(problem))
            }
            Err(_) => Err(ConnectError::new("the connection ended while subscribing")),
        }
    }

    async fn hand_over(
        &self,
        ask: Ask,
        answer: oneshot::Receiver<Result<Vec<Delivery>, WriteError>>,
    ) -> Result<Handed, WriteError> {
        if self.asks.send(ask).await.is_err() {
            return Err(lost(false));
        }
        // Without an answer nobody knows how far the task came.
        let deliveries = answer.await.unwrap_or_else(|_| Err(lost(true)))?;
        // All of them have left, whatever becomes of the first.
        judge(join_all(deliveries.into_iter().map(Delivery::wait)).await)
    }
}

impl Session for MqttSession {
    fn read<'a>(&'a self, read: &'a Read) -> BoxFuture<'a, Result<Reading, ReadError>> {
        Box::pin(async move {
            let gone = || ReadError {
                kind: ReadErrorKind::LinkLost,
                message: "the connection to the broker is gone".to_owned(),
            };
            let (answer, answered) = oneshot::channel();
            let ask = Ask::Read { read: read.clone(), answer };
            self.asks.send(ask).await.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
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

impl Drop for MqttSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who a link is to its broker: the same on every node, and no other link's. What separates its
/// parts can stand in none of them.
fn client_id(connect: &Connect) -> String {
    id_of(&connect.site, &connect.link.id)
}

pub(super) fn id_of(site: &SiteName, link: &LinkId) -> String {
    format!("flotilla:{site}:{link}")
}

fn lost(may_have_acted: bool) -> WriteError {
    let message = "the connection to the broker is gone".to_owned();
    WriteError { may_have_acted, kind: WriteErrorKind::LinkLost, message }
}

/// What the ends of the messages of one hand-over mean.
fn judge(ends: Vec<Result<(), Undelivered>>) -> Result<Handed, WriteError> {
    let acted = |end: &Result<(), Undelivered>| matches!(end, Ok(()) | Err(Undelivered::Lost));
    let partly = ends.iter().any(acted);
    match ends.into_iter().find_map(Result::err) {
        Some(why) => Err(undelivered(&why, partly)),
        None => Ok(Handed::Sent),
    }
}

/// What an undelivered message means; `partly`: another of the same write was delivered.
fn undelivered(why: &Undelivered, partly: bool) -> WriteError {
    let (kind, acted) = match why {
        Undelivered::NobodyListens => (WriteErrorKind::Offline, false),
        Undelivered::Refused(_) => (WriteErrorKind::Refused, false),
        Undelivered::Busy => (WriteErrorKind::Busy, false),
        Undelivered::Lost => (WriteErrorKind::LinkLost, true),
    };
    WriteError { may_have_acted: acted || partly, kind, message: why.to_string() }
}

/// Whole seconds until an instant, rounded down: a broker must not keep a message longer.
fn whole_seconds_until(instant: Instant) -> u32 {
    let left = instant.saturating_duration_since(Instant::now()).as_secs();
    u32::try_from(left).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_links_are_one_to_a_broker() {
        let id = |site: &str, link: &str| id_of(&site.parse().unwrap(), &link.parse().unwrap());
        assert_eq!(id("home", "hall.bus"), "flotilla:home:hall.bus");
        assert_ne!(id("home-a", "b"), id("home", "a-b"));
    }

    #[test]
    fn a_hand_over_of_which_a_part_was_delivered_may_have_acted() {
        let refused = || Err(Undelivered::Refused("no".to_owned()));
        for (ends, acted) in [
            (vec![refused(), Ok(())], true),
            (vec![Ok(()), refused()], true),
            (vec![refused(), Err(Undelivered::Lost)], true),
            (vec![refused(), Err(Undelivered::NobodyListens)], false),
        ] {
            let case = format!("{ends:?}");
            let error = judge(ends).unwrap_err();
            assert_eq!(error.may_have_acted, acted, "{case}");
            assert_ne!(error.kind, WriteErrorKind::LinkLost, "{case}");
        }
        assert_eq!(judge(vec![Ok(()), Ok(())]), Ok(Handed::Sent));
    }
}
