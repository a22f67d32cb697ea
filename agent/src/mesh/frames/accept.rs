//! Reads the frames of all inbound streams into the one inbox.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_consensus::frame::Path;
use libp2p::futures::StreamExt as _;
use libp2p::futures::io::{AsyncRead, AsyncWriteExt as _, BufReader};
use libp2p::{PeerId, Stream};
use libp2p_stream::IncomingStreams;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pace::{Pace, Rate};
use super::{READY, codec};
use crate::consensus::MonotonicClock;
use crate::metrics::{Metrics, Way};
use crate::transport::{Dropped, InboxSender};

/// Inbound streams of one peer: three classes, each maybe just reopened, with room.
const STREAMS_PER_PEER_MAX: usize = 8;
/// Inbound streams in all.
const STREAMS_MAX: usize = 2_048;
/// How long the rest of a frame may take once it has begun: the largest append takes half of it at
/// 64 kbit/s.
const FRAME_MAX: Duration = Duration::from_secs(60);
/// How long the other end may take to hear that it may send.
const READY_MAX: Duration = Duration::from_secs(5);
/// What is read ahead of a stream.
const READ_AHEAD_BYTES: usize = 32 * 1024;
/// What one peer may send. A site's whole write load is a small part of it.
const RATE: Rate = Rate {
    bytes_per_second: 64 * 1024 * 1024,
    burst_bytes: 16 * 1024 * 1024,
    frame_cost_bytes: 1_024,
};

const WAY: Way = Way { way: "mesh" };

/// Where frames go.
#[derive(Clone)]
pub(in crate::mesh) struct Intake {
    pub(in crate::mesh) inbox: InboxSender,
    pub(in crate::mesh) metrics: Metrics,
    pub(in crate::mesh) clock: MonotonicClock,
}

/// What the streams of one peer share.
struct Source {
    /// Held for a subtraction.
    pace: Mutex<Pace>,
}

/// Takes in streams until the swarm has ended.
pub(in crate::mesh) async fn accept(mut incoming: IncomingStreams, intake: Intake) {
    let mut sources: BTreeMap<PeerId, (Arc<Source>, usize)> = BTreeMap::new();
    let mut readers: JoinSet<PeerId> = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some((peer, stream)) => begin(peer, stream, &intake, &mut sources, &mut readers),
                None => return,
            },
            Some(ended) = readers.join_next() => {
                if let Ok(peer) = ended {
                    forget(peer, &mut sources);
                }
            }
        }
    }
}

fn begin(
    peer: PeerId,
    stream: Stream,
    intake: &Intake,
    sources: &mut BTreeMap<PeerId, (Arc<Source>, usize)>,
    readers: &mut JoinSet<PeerId>,
) {
    if readers.len() >= STREAMS_MAX {
        intake.metrics.refuse("mesh", "too_many_streams");
        return;
    }
    let (source, streams) = sources.entry(peer).or_insert_with(|| {
        let pace = Mutex::new(Pace::new(RATE, intake.clock.now_ms()));
        (Arc::new(Source { pace }), 0)
    });
    if *streams >= STREAMS_PER_PEER_MAX {
        intake.metrics.refuse("mesh", "too_many_streams");
        return;
    }
    *streams += 1;
    let (source, intake) = (Arc::clone(source), intake.clone());
    readers.spawn(async move {
        if let Err(error) = serve(stream, &source, &intake).await {
            tracing::debug!(%peer, %error, "an inbound stream was given up");
            intake.metrics.refuse("mesh", word_of(&error));
        }
        peer
    });
}

fn forget(peer: PeerId, sources: &mut BTreeMap<PeerId, (Arc<Source>, usize)>) {
    if let Some((_, streams)) = sources.get_mut(&peer) {
        *streams = streams.saturating_sub(1);
        if *streams == 0 {
            sources.remove(&peer);
        }
    }
}

fn word_of(error: &io::Error) -> &'static str {
    let kind = error.kind();
    if kind == io::ErrorKind::InvalidData {
        "frame_size"
    } else if kind == io::ErrorKind::TimedOut {
        "slow_frame"
    } else {
        "stream_ended"
    }
}

async fn serve(mut stream: Stream, source: &Source, intake: &Intake) -> io::Result<()> {
    let ready = async {
        stream.write_all(&[READY]).await?;
        stream.flush().await
    };
    timeout(READY_MAX, ready).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    read(BufReader::with_capacity(READ_AHEAD_BYTES, stream), source, intake).await
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    source: &Source,
    intake: &Intake,
) -> io::Result<()> {
    while let Some(length) = codec::read_length(&mut stream).await? {
        let body = timeout(FRAME_MAX, codec::read_body(&mut stream, length)).await;
        let frame = body.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        match intake.inbox.put(Path::Mesh, frame) {
            Ok(()) => {
                intake.metrics.frames_received.get_or_create(&WAY).inc();
            }
            Err(Dropped::Stopped) => return Ok(()),
            Err(dropped) => intake.metrics.refuse("frame", dropped.as_str()),
        }
        let wait_ms = {
            let mut pace = source.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(length, intake.clock.now_ms())
        };
        if wait_ms > 0 {
            // Not reading is what slows the sender down.
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }
    Ok(())
}
