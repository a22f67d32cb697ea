//! The queue that what is heard of devices goes through.

use fleet_device::Observation;
use tokio::sync::mpsc;

/// Where a session puts what it hears.
#[derive(Clone, Debug)]
pub struct Reports(mpsc::Sender<Observation>);

impl Reports {
    /// A queue of `capacity` observations, and its end.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Observation>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(sender), receiver)
    }

    /// Reports, and waits while the queue is full. What is said after the session was closed is
    /// dropped.
    pub async fn send(&self, observation: Observation) {
        // Only a link task that is gone refuses, and then nobody wants to know.
        let _closed = self.0.send(observation).await;
    }

    /// Reports unless the queue is full; `false` when it was.
    #[must_use]
    pub fn try_send(&self, observation: Observation) -> bool {
        !matches!(self.0.try_send(observation), Err(mpsc::error::TrySendError::Full(_)))
    }
}
