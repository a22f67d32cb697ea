//! Round trips on demand: `/flotilla/<site>/echo/1`.
//!
//! Pings of the library go by themselves every two seconds and keep connections honest; this one
//! answers a person who asks now. Whoever opens a stream sends eight bytes and reads them back,
//! twice: the first round pays for opening the stream, the second is measured.

use std::io;
use std::time::{Duration, Instant};

use libp2p::futures::StreamExt as _;
use libp2p::futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams};
use tokio::time::timeout;

use super::per_peer::Places;
use crate::metrics::Metrics;

/// Echoes that are given at a time; more are refused by closing the stream, and counted.
const ECHOES_MAX: usize = 8;
/// Of these, for one peer.
const PER_PEER_MAX: usize = 4;
/// How long one may take, either side.
const ECHO_MAX: Duration = Duration::from_secs(3);
const ROUND_BYTES: usize = 8;
const ROUNDS: u64 = 2;

/// Asks for round trips.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) control: Control,
    pub(super) protocol: StreamProtocol,
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Echo").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Echo {
    /// One round trip to a peer that is connected.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub(super) async fn round_trip(&self, peer: PeerId) -> io::Result<Duration> {
        let mut control = self.control.clone();
        let asking = async {
            let opened = control.open_stream(peer, self.protocol.clone()).await;
            let mut stream = opened.map_err(io::Error::other)?;
            let mut took = Duration::ZERO;
            for round in 0..ROUNDS {
                let sent = round.to_be_bytes();
                let begun = Instant::now();
                stream.write_all(&sent).await?;
                stream.flush().await?;
                let mut back = [0; ROUND_BYTES];
                stream.read_exact(&mut back).await?;
                if back != sent {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                took = begun.elapsed();
            }
            Ok(took)
        };
        timeout(ECHO_MAX, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Gives echoes until the swarm has ended.
pub(super) async fn answer(mut incoming: IncomingStreams, metrics: Metrics) {
    let places = Places::new(ECHOES_MAX, PER_PEER_MAX);
    while let Some((peer, stream)) = incoming.next().await {
        let Some(place) = places.take(peer) else {
            metrics.refuse("echo", "too_many");
            continue;
        };
        tokio::spawn(async move {
            // Whoever does not read or write in time has no interest in the answer.
            let _ended = timeout(ECHO_MAX, give(stream)).await;
            drop(place);
        });
    }
}

async fn give(mut stream: Stream) -> io::Result<()> {
    for _ in 0..ROUNDS {
        let mut round = [0; ROUND_BYTES];
        stream.read_exact(&mut round).await?;
        stream.write_all(&round).await?;
        stream.flush().await?;
    }
    stream.close().await
}
