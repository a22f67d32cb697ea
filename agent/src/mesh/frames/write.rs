//! Writes the frames of one node and class to a stream, for as long as the node is connected.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fleet_consensus::frame::Class;
use libp2p::futures::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::Control;
use tokio::time::timeout;

use super::pace::{Pace, Rate};
use super::paced::Paced;
use super::{READY, WAY, codec};
use crate::consensus::MonotonicClock;
use crate::mesh::lanes::NodeLanes;
use crate::metrics::Metrics;

/// How long it may take until the other end reads.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Wait before a stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(100);
/// Bulk frames may go at once for this part of a second, and then at their rate.
const BULK_BURSTS_PER_SECOND: u64 = 4;
/// Small frames are written together up to this many bytes.
const TOGETHER_BYTES_MAX: usize = 16 * 1024;

/// How long the other end may take to make room for a piece. This is for one that does not read any
/// more: a narrow cable, on which other streams have their turn as well, must fit in.
const fn write_max(class: Class) -> Duration {
    match class {
        Class::Urgent => Duration::from_secs(3),
        Class::Normal => Duration::from_secs(10),
        Class::Bulk => Duration::from_secs(20),
    }
}

/// Where a writer writes.
pub(in crate::mesh) struct StreamTo {
    pub(in crate::mesh) peer: PeerId,
    pub(in crate::mesh) class: Class,
    pub(in crate::mesh) protocol: StreamProtocol,
    pub(in crate::mesh) control: Control,
    pub(in crate::mesh) lanes: Arc<NodeLanes>,
    pub(in crate::mesh) metrics: Metrics,
    /// How fast bulk frames may go.
    pub(in crate::mesh) bulk_bytes_per_second: u64,
    pub(in crate::mesh) clock: MonotonicClock,
}

impl StreamTo {
    /// The bound on the rate of this stream, if it has one.
    fn pace(&self) -> Option<Pace> {
        let rate = Rate {
            bytes_per_second: self.bulk_bytes_per_second,
            burst_bytes: self.bulk_bytes_per_second / BULK_BURSTS_PER_SECOND,
            frame_cost_bytes: 0,
        };
        (self.class == Class::Bulk).then(|| Pace::new(rate, self.clock.now_ms()))
    }
}

/// Goes on until it is aborted, which happens when the node is not connected any more.
pub(in crate::mesh) async fn write(mut to: StreamTo) {
    loop {
        match open(&mut to).await {
            Ok(stream) => {
                let error = write_frames(stream, &to).await;
                tracing::debug!(peer = %to.peer, class = to.class.as_str(), %error, "stream given up");
                to.metrics.refuse("mesh", "stream_given_up");
            }
            Err(error) => {
                let class = to.class.as_str();
                tracing::debug!(peer = %to.peer, class, %error, "no stream could be opened");
            }
        }
        // What waited meanwhile is old.
        let dropped = u64::try_from(to.lanes.queue(to.class).clear()).unwrap_or(u64::MAX);
        to.metrics.frames_dropped.get_or_create(&WAY).inc_by(dropped);
        tokio::time::sleep(REOPEN_AFTER).await;
    }
}

async fn open(to: &mut StreamTo) -> io::Result<Stream> {
    let opening = async {
        let opened = to.control.open_stream(to.peer, to.protocol.clone()).await;
        let mut stream = opened.map_err(io::Error::other)?;
        let mut ready = [0];
        stream.read_exact(&mut ready).await?;
        if ready == [READY] { Ok(stream) } else { Err(io::ErrorKind::InvalidData.into()) }
    };
    timeout(OPEN_MAX, opening).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Ends with the reason why the stream is of no more use.
async fn write_frames(stream: Stream, to: &StreamTo) -> io::Error {
    match to.class {
        Class::Urgent => write_urgent(stream, to).await,
        Class::Normal | Class::Bulk => write_paced(stream, to).await,
    }
}

async fn write_urgent(mut stream: impl AsyncWrite + Unpin, to: &StreamTo) -> io::Error {
    let mut buffer = BytesMut::new();
    loop {
        take(to, &mut buffer).await;
        let written = async {
            stream.write_all(&buffer).await?;
            stream.flush().await
        };
        match timeout(write_max(to.class), written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return io::ErrorKind::TimedOut.into(),
        }
    }
}

/// No faster than it is read, and what is large at its rate at most.
async fn write_paced(stream: Stream, to: &StreamTo) -> io::Error {
    let (reading, mut writing) = stream.split();
    let paced = Paced::new(to.clock, write_max(to.class));
    let frames = async {
        let (mut pace, mut buffer) = (to.pace(), BytesMut::new());
        loop {
            take(to, &mut buffer).await;
            if let Some(pace) = &mut pace {
                let wait_ms = pace.take(buffer.len(), to.clock.now_ms());
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            if let Err(error) = paced.write(&mut writing, &buffer).await {
                return error;
            }
        }
    };
    tokio::select! {
        error = frames => error,
        error = paced.listen(reading) => error,
    }
}

/// Waits for a frame, and takes with it the small ones that wait behind.
async fn take(to: &StreamTo, buffer: &mut BytesMut) {
    let queue = to.lanes.queue(to.class);
    buffer.clear();
    codec::put(buffer, &queue.pop().await);
    while buffer.len() < TOGETHER_BYTES_MAX
        && let Some(frame) = queue.try_pop()
    {
        codec::put(buffer, &frame);
    }
}
