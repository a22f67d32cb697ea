//! Frames over NATS: one connection of its own, one subject per node.
//!
//! Sending takes a place in the client's bounded queue or gives up at once; it never waits.
//! While the client says that it is not connected nothing is queued at all, or a reconnect
//! would deliver a burst of stale frames before the first fresh one. "Connected" is a hint:
//! whether the others hear is for raft's heartbeats to find out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use fleet_consensus::frame::{Class, Path, Route};
use fleet_protocol::Subjects;
use fleet_state::NodeId;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::inbox::{Dropped, InboxSender};
use crate::metrics::{Metrics, Way};
use crate::nats::{Connection, LinkState};

/// Room that the protocol line and headers of a message need beside its payload.
const PAYLOAD_MARGIN_BYTES: usize = 1_024;
/// A frame is no larger than this even where the server would take more: large messages hold
/// up the small ones behind them.
const FRAME_BYTES_PREFERRED: usize = 512 * 1024;
/// Before the server has said what it takes.
const FRAME_BYTES_UNKNOWN: usize = 32 * 1024;

const WAY: Way = Way { way: "nats" };

/// The sending side; owned by the loop.
#[derive(Debug)]
pub struct NatsWay {
    client: Client,
    state: watch::Receiver<LinkState>,
    subjects: Subjects,
    by_node: HashMap<NodeId, Subject>,
    frame_bytes_max: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// Could not listen.
#[derive(Debug, thiserror::Error)]
#[error("the subject for frames could not be subscribed to: {0}")]
pub struct SubscribeError(#[from] async_nats::SubscribeError);

impl NatsWay {
    /// Subscribes to this node's own subject and starts the task that fills the inbox.
    ///
    /// # Errors
    /// When the client has been closed.
    pub async fn open(
        connection: Connection,
        subjects: Subjects,
        node: NodeId,
        inbox: InboxSender,
        metrics: Metrics,
    ) -> Result<(Self, JoinHandle<()>), SubscribeError> {
        let Connection { client, state } = connection;
        let subscriber = client.subscribe(subjects.raft(node)).await?;
        let frame_bytes_max = Arc::new(AtomicUsize::new(FRAME_BYTES_UNKNOWN));
        let task = tokio::spawn(receive(
            subscriber,
            Follow {
                client: client.clone(),
                state: state.clone(),
                frame_bytes_max: Arc::clone(&frame_bytes_max),
            },
            inbox,
            metrics.clone(),
        ));
        let way =
            Self { client, state, subjects, by_node: HashMap::new(), frame_bytes_max, metrics };
        Ok((way, task))
    }

    fn subject(&mut self, node: NodeId) -> Subject {
        let subjects = &self.subjects;
        self.by_node.entry(node).or_insert_with(|| Subject::from(subjects.raft(node))).clone()
    }
}

impl NatsWay {
    /// What the client says of its connection; a hint.
    pub(super) fn state(&self) -> LinkState {
        *self.state.borrow()
    }

    /// The route to a node.
    pub(super) fn route(&self, to: NodeId, class: Class) -> Route {
        let frame_bytes_max = self.frame_bytes_max.load(Ordering::Relaxed);
        Route { to, path: Path::Nats, class, frame_bytes_max, unheard: None }
    }

    /// Queues a frame; `false` when there was no room.
    pub(super) fn send(&mut self, route: Route, frame: Bytes) -> bool {
        let subject = self.subject(route.to);
        // Polled once: either there is room in the client's queue now, or the frame is dropped.
        let queued = self.client.publish(subject, frame).now_or_never();
        let sent = matches!(queued, Some(Ok(())));
        if sent {
            self.metrics.frames_sent.get_or_create(&WAY).inc();
        } else {
            self.metrics.frames_dropped.get_or_create(&WAY).inc();
        }
        sent
    }
}

struct Follow {
    client: Client,
    state: watch::Receiver<LinkState>,
    frame_bytes_max: Arc<AtomicUsize>,
}

impl Follow {
    /// What the server that the client is connected to now takes in one message.
    fn note_limit(&self) {
        let announced = self.client.server_info().max_payload;
        let usable = if announced == 0 {
            FRAME_BYTES_UNKNOWN
        } else {
            announced
                .saturating_sub(PAYLOAD_MARGIN_BYTES)
                .clamp(PAYLOAD_MARGIN_BYTES, FRAME_BYTES_PREFERRED)
        };
        self.frame_bytes_max.store(usable, Ordering::Relaxed);
    }
}

async fn receive(
    mut subscriber: Subscriber,
    mut follow: Follow,
    inbox: InboxSender,
    metrics: Metrics,
) {
    follow.note_limit();
    loop {
        tokio::select! {
            message = subscriber.next() => match message {
                Some(message) => {
                    if !take(&inbox, &metrics, message.payload) {
                        return;
                    }
                }
                None => return,
            },
            changed = follow.state.changed() => match changed {
                Ok(()) => follow.note_limit(),
                Err(_) => return,
            },
        }
    }
}

/// `false` when the loop has ended.
fn take(inbox: &InboxSender, metrics: &Metrics, frame: Bytes) -> bool {
    match inbox.put(Path::Nats, frame) {
        Ok(()) => {
            metrics.frames_received.get_or_create(&WAY).inc();
            true
        }
        Err(Dropped::Stopped) => false,
        Err(dropped) => {
            metrics.refuse("frame", dropped.as_str());
            true
        }
    }
}
