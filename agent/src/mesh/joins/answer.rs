//! The side that is asked.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fleet_state::NodeId;
use libp2p::futures::StreamExt as _;
use libp2p::futures::io::AsyncWriteExt as _;
use libp2p::{PeerId, Stream};
use libp2p_stream::IncomingStreams;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::wire::{self, ANSWER_BYTES_MAX, JoinQuestion, QUESTION_BYTES_MAX};
use super::{JoinAsk, JoinAsked};
use crate::mesh::per_peer::Places;
use crate::metrics::Metrics;

/// Questions that are being answered at a time.
const ASKS_MAX: usize = 4;
/// Of these, for one peer: a joiner has one question at a time.
const PER_PEER_MAX: usize = 2;
/// How long a question may take to come.
const QUESTION_MAX: Duration = Duration::from_secs(3);
/// How long control may take; its own default is shorter.
const CONTROL_MAX: Duration = Duration::from_secs(6);
/// How long the answer may take to leave.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What answering needs.
#[derive(Clone)]
pub(in crate::mesh) struct Answerer {
    /// Which peer is which node.
    pub(in crate::mesh) nodes: watch::Receiver<Arc<BTreeMap<PeerId, NodeId>>>,
    /// Where questions go.
    pub(in crate::mesh) joins: mpsc::Sender<JoinAsk>,
    pub(in crate::mesh) metrics: Metrics,
}

/// Takes questions in until the swarm has ended.
pub(in crate::mesh) async fn answer(mut incoming: IncomingStreams, answerer: Answerer) {
    let places = Places::new(ASKS_MAX, PER_PEER_MAX);
    while let Some((peer, stream)) = incoming.next().await {
        let Some(place) = places.take(peer) else {
            answerer.metrics.refuse("join", "too_many");
            continue;
        };
        let answerer = answerer.clone();
        tokio::spawn(async move {
            if let Err(error) = answerer.serve(peer, stream).await {
                tracing::debug!(%peer, %error, "a question was not answered");
            }
            drop(place);
        });
    }
}

impl Answerer {
    async fn serve(&self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        let read = timeout(QUESTION_MAX, wire::read(&mut stream, QUESTION_BYTES_MAX)).await;
        let bytes = read
            .map_err(|_| self.refuse("slow"))
            .and_then(|read| read.map_err(|_| self.refuse("malformed")))?;
        let question = JoinQuestion::decode(&bytes).map_err(|_| self.refuse("malformed"))?;
        let asked = self.allowed(peer, question)?;
        let (answer, answered) = oneshot::channel();
        self.joins.try_send(JoinAsk { asked, answer }).map_err(|_| self.refuse("too_many"))?;
        let bytes = match timeout(CONTROL_MAX, answered).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) | Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(self.refuse("answer_too_large"));
        }
        let sent = async {
            wire::write(&mut stream, &bytes).await?;
            stream.close().await
        };
        timeout(ANSWER_MAX, sent).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Who may ask what: everybody to join, and a member for its own record.
    fn allowed(&self, peer: PeerId, question: JoinQuestion) -> io::Result<JoinAsked> {
        match question {
            JoinQuestion::Join { request_id, body } => Ok(JoinAsked::Join { request_id, body }),
            JoinQuestion::Record => {
                let node = self.nodes.borrow().get(&peer).copied();
                node.map(JoinAsked::Record).ok_or_else(|| self.refuse("denied"))
            }
        }
    }

    fn refuse(&self, reason: &'static str) -> io::Error {
        self.metrics.refuse("join", reason);
        io::Error::new(io::ErrorKind::PermissionDenied, reason)
    }
}
