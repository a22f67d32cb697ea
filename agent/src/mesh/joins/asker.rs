//! The side that asks.

use std::io;
use std::time::Duration;

use libp2p::futures::io::AsyncWriteExt as _;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::Control;
use tokio::time::timeout;

use super::JoinQuestion;
use super::wire::{self, ANSWER_BYTES_MAX};

/// How long a whole exchange may take; the other side's own bounds are shorter together.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);

/// Asks peers that are connected.
#[derive(Clone)]
pub(in crate::mesh) struct Asker {
    pub(in crate::mesh) control: Control,
    pub(in crate::mesh) protocol: StreamProtocol,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Asks one peer, which should be connected.
///
/// # Errors
/// When it closes the stream instead of answering, or is too slow.
pub(in crate::mesh) async fn ask(
    asker: &Asker,
    peer: PeerId,
    question: &JoinQuestion,
) -> io::Result<Vec<u8>> {
    let mut control = asker.control.clone();
    let exchange = async {
        let opened = control.open_stream(peer, asker.protocol.clone()).await;
        let mut stream = opened.map_err(io::Error::other)?;
        wire::write(&mut stream, &question.encode()).await?;
        let bytes = wire::read(&mut stream, ANSWER_BYTES_MAX).await?;
        // The answer is here; whether the other end hears our goodbye does not matter.
        let _closed = stream.close().await;
        Ok(bytes)
    };
    timeout(EXCHANGE_MAX, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
