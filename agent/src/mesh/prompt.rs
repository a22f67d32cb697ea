//! Connections that close promptly.
//!
//! Closing a connection in good order means to send what is left, and over a cable that was
//! pulled, or from an address that the machine has lost, nothing can be sent. The system goes on
//! trying for a quarter of an hour; as long the swarm counts the peer as connected, and nobody
//! dials it anew. So closing has a bound, and then the socket is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::Sleep;

/// To close in good order takes one round trip where it works at all.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A multiplexed connection whose closing ends.
pub(super) struct Prompt<M> {
    inner: M,
    /// Once it is being closed.
    give_up: Option<Pin<Box<Sleep>>>,
}

impl<M> Prompt<M> {
    pub(super) const fn new(inner: M) -> Self {
        Self { inner, give_up: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Prompt<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_inbound(context)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_outbound(context)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.inner).poll_close(context) {
            return Poll::Ready(closed);
        }
        let give_up = self.give_up.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_MAX)));
        // The owner drops it then, and the socket with it.
        give_up.as_mut().poll(context).map(Ok)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use libp2p::core::muxing::StreamMuxerExt as _;
    use tokio::time::Instant;

    use super::*;

    /// One whose other end answers nothing, or is closed at once.
    struct Dead {
        closes: bool,
    }

    impl StreamMuxer for Dead {
        type Substream = libp2p::futures::io::Cursor<Vec<u8>>;
        type Error = Infallible;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<Self::Substream, Self::Error>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<Self::Substream, Self::Error>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            if self.closes { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_whether_anybody_answers_or_not() {
        for (closes, took) in [(true, Duration::ZERO), (false, CLOSE_MAX)] {
            let begun = Instant::now();
            let closed = Prompt::new(Dead { closes }).close();
            let limit = tokio::time::timeout(2 * CLOSE_MAX, closed);
            limit.await.expect("it ends").expect("it never fails");
            // The clock of a test goes in steps of a millisecond.
            assert!(begun.elapsed() - took <= Duration::from_millis(2), "{:?}", begun.elapsed());
        }
    }
}
