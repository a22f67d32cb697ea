//! Reads the frames of all inbound streams into the one inbox.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_consensus::frame::Path;
use libp2p::futures::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use libp2p::futures::{StreamExt as _, stream};
use libp2p::{PeerId, Stream};
use libp2p_stream::IncomingStreams;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pace::{Pace, Rate};
use super::paced::Told;
use super::{READY, WAY, codec};
use crate::consensus::MonotonicClock;
use crate::metrics::Metrics;
use crate::transport::{Dropped, InboxSender};

/// Inbound streams of one peer: three classes, each maybe just reopened, with room.
const STREAMS_PER_PEER_MAX: usize = 8;
/// Inbound streams in all.
const STREAMS_MAX: usize = 2_048;
/// How long the rest of a frame may take once it has begun: one of [`FRAME_BYTES_PREFERRED`] takes
/// an eighth of it at 64 kbit/s, if nothing else is on the cable.
///
/// [`FRAME_BYTES_PREFERRED`]: super::FRAME_BYTES_PREFERRED
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

/// What is expected of the reading end of a stream.
#[derive(Clone, Copy)]
enum Kind {
    Urgent,
    /// It tells how far it is.
    Paced,
}

/// Takes in streams, of what is urgent and of all else, until the swarm has ended.
pub(in crate::mesh) async fn accept(
    urgent: IncomingStreams,
    paced: IncomingStreams,
    intake: Intake,
) {
    let urgent = urgent.map(|(peer, stream)| (peer, Kind::Urgent, stream));
    let paced = paced.map(|(peer, stream)| (peer, Kind::Paced, stream));
    let mut incoming = stream::select(urgent, paced);
    let mut sources: BTreeMap<PeerId, (Arc<Source>, usize)> = BTreeMap::new();
    let mut readers: JoinSet<PeerId> = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(from) => begin(from, &intake, &mut sources, &mut readers),
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
    (peer, kind, stream): (PeerId, Kind, Stream),
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
        if let Err(error) = serve(kind, stream, &source, &intake).await {
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

async fn serve(kind: Kind, mut stream: Stream, source: &Source, intake: &Intake) -> io::Result<()> {
    let ready = async {
        stream.write_all(&[READY]).await?;
        stream.flush().await
    };
    timeout(READY_MAX, ready).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match kind {
        Kind::Urgent => read(stream, source, intake).await,
        Kind::Paced => {
            let (reading, writing) = stream.split();
            let told = Told::default();
            tokio::select! {
                ended = read(told.counted(reading), source, intake) => ended,
                error = told.tell(writing) => Err(error),
            }
        }
    }
}

async fn read(stream: impl AsyncRead + Unpin, source: &Source, intake: &Intake) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
    while let Some(first) = codec::read_first(&mut stream).await? {
        let rest = timeout(FRAME_MAX, codec::read_rest(&mut stream, first)).await;
        let frame = rest.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let length = frame.len();
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use tokio::time::{Instant, Interval, interval_at};

    use super::*;
    use crate::transport::inbox;

    /// A stream that gives so many bytes at a time, and then takes its time.
    struct Drip {
        bytes: Vec<u8>,
        at_once: usize,
        /// Of these, what is left of this time.
        here: usize,
        next: Interval,
    }

    impl Drip {
        fn new(bytes: Vec<u8>, at_once: usize, every: Duration) -> Self {
            Self { bytes, at_once, here: 0, next: interval_at(Instant::now() + every, every) }
        }
    }

    impl AsyncRead for Drip {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.here == 0 {
                ready!(self.next.poll_tick(context));
                self.here = self.at_once;
            }
            let count = self.here.min(buffer.len()).min(self.bytes.len());
            self.here -= count;
            let given: Vec<u8> = self.bytes.drain(..count).collect();
            buffer[..count].copy_from_slice(&given);
            Poll::Ready(Ok(count))
        }
    }

    fn frame(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).unwrap().to_be_bytes();
        [prefix.to_vec(), vec![7; length]].concat()
    }

    /// How reading ended, after which time, and how many frames had come.
    async fn serve(stream: Drip) -> (io::Result<()>, Duration, usize) {
        let (inbox, mut frames) = inbox();
        let clock = MonotonicClock::start();
        let intake = Intake { inbox, metrics: Metrics::new(), clock };
        let source = Source { pace: Mutex::new(Pace::new(RATE, clock.now_ms())) };
        let begun = Instant::now();
        let ended = read(stream, &source, &intake).await;
        let count = std::iter::from_fn(|| frames.try_recv().ok()).count();
        (ended, begun.elapsed(), count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_drips_is_given_up_wherever_it_is() {
        let second = Duration::from_secs(1);
        for (every, what) in [(second, "its bytes"), (30 * second, "its length")] {
            let (ended, took, frames) = serve(Drip::new(frame(1_000), 1, every)).await;
            let error = ended.expect_err(what);
            assert_eq!((word_of(&error), frames), ("slow_frame", 0), "{what}");
            assert!((FRAME_MAX..=FRAME_MAX + 2 * every).contains(&took), "{what}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_may_stay_and_who_is_slow_is_heard() {
        // A byte of a frame every two hours before it begins is no frame that drips.
        let rare = Drip::new([frame(1), frame(1)].concat(), 5, Duration::from_secs(7_200));
        let (ended, _, frames) = serve(rare).await;
        assert!(ended.is_ok() && frames == 2, "{ended:?}, {frames} frames");
        // 64 kbit/s.
        let (ended, took, frames) =
            serve(Drip::new(frame(256 * 1024), 800, Duration::from_millis(100))).await;
        assert!(ended.is_ok() && frames == 1, "{ended:?}, {frames} frames");
        assert!(took > Duration::from_secs(30), "{took:?}");
    }
}
