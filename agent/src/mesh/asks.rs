//! Questions from node to node: `/flotilla/<site>/ask/1`.
//!
//! Whoever stands at the door of one gateway wants to see the others too, and there may be no NATS
//! server that leads to them. A stream carries one question and its answer, each as four bytes of
//! length, big-endian, and as many bytes: a question is a verb, a line break and a payload; an
//! answer is the headers as one line of JSON, a line break and a payload.
//!
//! Only live members are answered, and only what they could ask over NATS of any node: nothing
//! here changes anything. Sizes, times and the number of streams are bounded on both sides.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_state::NodeId;
use libp2p::futures::StreamExt as _;
use libp2p::futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{AlreadyRegistered, Control};
use tokio::sync::watch;
use tokio::time::timeout;

use super::handle::MeshStatus;
use super::per_peer::Places;
use crate::metrics::Metrics;

/// Questions that are answered at a time; more are refused by closing the stream, and counted.
const ANSWERS_MAX: usize = 16;
/// Of these, for one peer.
const PER_PEER_MAX: usize = 4;
/// How long one may take on the answering side.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Largest question.
const QUESTION_BYTES_MAX: usize = 4 * 1024;
/// Largest answer: a piece of a snapshot, and its headers.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What one node asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The last word of the subject that it would have over NATS.
    pub verb: String,
    /// Its payload.
    pub payload: Bytes,
}

/// What the other says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Headers by their names.
    pub headers: BTreeMap<String, String>,
    /// The payload.
    pub payload: Bytes,
}

/// Asks other nodes.
#[derive(Clone)]
pub(super) struct Asks {
    pub(super) control: Control,
    pub(super) protocol: StreamProtocol,
    pub(super) metrics: Metrics,
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asks").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Asks {
    /// Asks a peer that is connected, for as long as the caller waits.
    ///
    /// A stream that was closed before anything came back may have been dropped unseen: the
    /// library takes one new stream of a peer at a time. Questions change nothing, so it is asked
    /// once more.
    pub(super) async fn ask(&self, peer: PeerId, question: &Question) -> io::Result<Told> {
        match self.ask_once(peer, question).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.ask_once(peer, question).await
            }
            told => told,
        }
    }

    async fn ask_once(&self, peer: PeerId, question: &Question) -> io::Result<Told> {
        let mut control = self.control.clone();
        let opened = control.open_stream(peer, self.protocol.clone()).await;
        let mut stream = opened.map_err(io::Error::other)?;
        let mut bytes = Vec::from(question.verb.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&question.payload);
        write(&mut stream, &bytes).await?;
        let told = read(&mut stream, ANSWER_BYTES_MAX).await?;
        told_in(&told).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Answers what members ask until the swarm has ended.
    pub(super) fn answer<A, F>(
        &self,
        members: watch::Receiver<Arc<MeshStatus>>,
        answer: A,
    ) -> Result<impl Future<Output = ()> + Send + use<A, F>, AlreadyRegistered>
    where
        A: Fn(Question) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Told>> + Send + 'static,
    {
        let mut incoming = self.control.clone().accept(self.protocol.clone())?;
        let metrics = self.metrics.clone();
        Ok(async move {
            let answer = Arc::new(answer);
            let places = Places::new(ANSWERS_MAX, PER_PEER_MAX);
            while let Some((peer, stream)) = incoming.next().await {
                if node_of(&members.borrow(), &peer).is_none() {
                    continue;
                }
                let Some(place) = places.take(peer) else {
                    metrics.refuse("ask", "too_many");
                    continue;
                };
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    // Whoever does not read or write in time has no interest in the answer.
                    let _ended = timeout(ANSWER_MAX, give(stream, &*answer)).await;
                    drop(place);
                });
            }
        })
    }
}

/// The member behind a peer.
fn node_of(status: &MeshStatus, peer: &PeerId) -> Option<NodeId> {
    status.peers.iter().find(|(_, held)| *held == peer).map(|(node, _)| *node)
}

async fn give<F>(mut stream: Stream, answer: &impl Fn(Question) -> F) -> io::Result<()>
where
    F: Future<Output = Option<Told>>,
{
    let bytes = read(&mut stream, QUESTION_BYTES_MAX).await?;
    let question = question_in(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let Some(told) = answer(question).await else { return stream.close().await };
    let mut bytes = serde_json::to_vec(&told.headers).map_err(io::Error::other)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&told.payload);
    write(&mut stream, &bytes).await?;
    stream.close().await
}

fn question_in(bytes: &Bytes) -> Option<Question> {
    let (verb, payload) = cut(bytes)?;
    Some(Question { verb: String::from_utf8(verb.to_vec()).ok()?, payload })
}

fn told_in(bytes: &Bytes) -> Option<Told> {
    let (headers, payload) = cut(bytes)?;
    Some(Told { headers: serde_json::from_slice(&headers).ok()?, payload })
}

/// The first line and the rest.
fn cut(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.slice(..end), bytes.slice(end.saturating_add(1)..)))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // What is announced is not allocated before it comes.
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_nothing_longer_or_shorter() {
        let mut sent = Cursor::new(Vec::new());
        write(&mut sent, b"status\n{}").await.unwrap();
        let sent = sent.into_inner();
        let mut whole = Cursor::new(sent.clone());
        let bytes = read(&mut whole, 64).await.unwrap();
        let question = question_in(&bytes).unwrap();
        assert_eq!((question.verb.as_str(), &question.payload[..]), ("status", &b"{}"[..]));
        assert!(read(&mut Cursor::new(sent.clone()), 8).await.is_err());
        for length in 0..sent.len() {
            assert!(read(&mut Cursor::new(sent[..length].to_vec()), 64).await.is_err());
        }
        let huge = u32::MAX.to_be_bytes().to_vec();
        assert!(read(&mut Cursor::new(huge), ANSWER_BYTES_MAX).await.is_err());
    }

    #[test]
    fn what_is_no_question_or_answer_is_dropped() {
        for bytes in [&b""[..], b"status", b"\xff\n"] {
            assert_eq!(question_in(&Bytes::from_static(bytes)), None);
            assert_eq!(told_in(&Bytes::from_static(bytes)), None);
        }
        assert_eq!(told_in(&Bytes::from_static(b"{\"a\":1}\nx")), None);
        let told = told_in(&Bytes::from_static(b"{\"a\":\"1\"}\nx\ny")).unwrap();
        assert_eq!((told.headers["a"].as_str(), &told.payload[..]), ("1", &b"x\ny"[..]));
    }
}
