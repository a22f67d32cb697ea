//! Streams of what is not urgent: the reading end tells how far it is, the writing end keeps to it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::window::Window;
use crate::consensus::MonotonicClock;

/// Bytes of one telling.
const TOLD_BYTES: usize = 4;
/// What is read within this time is told together: small frames come by the thousand.
const TELL_AFTER: Duration = Duration::from_millis(5);

/// How far the reading end of a stream is, and what of that was not told yet.
#[derive(Debug, Default)]
pub(super) struct Told {
    bytes: AtomicU32,
    more: Notify,
}

impl Told {
    /// Counts what is taken from the stream.
    pub(super) const fn counted<R>(&self, inner: R) -> Counted<'_, R> {
        Counted { inner, told: self }
    }

    /// Tells it to the other end. Ends with the reason why that can't be done any more.
    pub(super) async fn tell(&self, mut writing: impl AsyncWrite + Unpin) -> io::Error {
        loop {
            self.more.notified().await;
            tokio::time::sleep(TELL_AFTER).await;
            let bytes = self.bytes.swap(0, Ordering::Relaxed);
            if bytes == 0 {
                continue;
            }
            let told = async {
                writing.write_all(&bytes.to_be_bytes()).await?;
                writing.flush().await
            };
            if let Err(error) = told.await {
                return error;
            }
        }
    }
}

/// The reading half of a stream.
pub(super) struct Counted<'a, R> {
    inner: R,
    told: &'a Told,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        // The other end has no more on its way than its window, which is far smaller.
        self.told.bytes.fetch_add(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.told.more.notify_one();
        Poll::Ready(Ok(bytes))
    }
}

/// The writing end of a stream.
pub(super) struct Paced {
    window: Mutex<Window>,
    /// There is room again.
    room: Notify,
    clock: MonotonicClock,
    /// How long the other end may take to read on.
    read_max: Duration,
}

impl Paced {
    pub(super) fn new(clock: MonotonicClock, read_max: Duration) -> Self {
        Self { window: Mutex::default(), room: Notify::new(), clock, read_max }
    }

    /// Takes in what the other end tells. Ends with the reason why no more can be told.
    pub(super) async fn listen(&self, mut reading: impl AsyncRead + Unpin) -> io::Error {
        loop {
            let mut told = [0; TOLD_BYTES];
            if let Err(error) = reading.read_exact(&mut told).await {
                return error;
            }
            let bytes = usize::try_from(u32::from_be_bytes(told)).unwrap_or(usize::MAX);
            if self.window().read(bytes, self.clock.now_ms()).is_err() {
                return io::ErrorKind::InvalidData.into();
            }
            self.room.notify_one();
        }
    }

    /// Writes piece by piece, each when there is room for it.
    pub(super) async fn write(
        &self,
        writing: &mut (impl AsyncWrite + Unpin),
        mut bytes: &[u8],
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = timeout(self.read_max, self.room()).await.map_err(|_| late())?;
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            let written = async {
                writing.write_all(piece).await?;
                writing.flush().await
            };
            // Counted first: the other end may have read it before this one is asked again.
            self.window().written(piece.len(), self.clock.now_ms());
            timeout(self.read_max, written).await.map_err(|_| late())??;
            bytes = rest;
        }
        Ok(())
    }

    async fn room(&self) -> usize {
        loop {
            let room = self.window().room();
            if room > 0 {
                return room;
            }
            self.room.notified().await;
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Held for a few additions, in which nothing panics.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, ReadBuf, duplex};

    use super::*;

    const MAX: Duration = Duration::from_secs(10);

    /// One end of a stream in memory.
    struct End(DuplexStream);

    impl AsyncRead for End {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut buffer = ReadBuf::new(buffer);
            let read = Pin::new(&mut self.0);
            ready!(tokio::io::AsyncRead::poll_read(read, context, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        }
    }

    impl AsyncWrite for End {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &[u8],
        ) -> Poll<io::Result<usize>> {
            tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), context, buffer)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
        }

        fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
        }
    }

    fn stream(holds_bytes: usize) -> (End, End) {
        let (near, far) = duplex(holds_bytes);
        (End(near), End(far))
    }

    #[tokio::test]
    async fn what_is_written_is_read_however_it_is_cut() {
        let (near, far) = stream(700);
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let (reading, mut writing) = near.split();
        let paced = Paced::new(MonotonicClock::start(), MAX);
        let (far_reading, far_writing) = far.split();
        let told = Told::default();
        let write = async {
            for part in sent.chunks(33_333) {
                paced.write(&mut writing, part).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            let mut read = vec![0; sent.len()];
            told.counted(far_reading).read_exact(&mut read).await.unwrap();
            assert!(read == sent, "it came otherwise");
        };
        tokio::select! {
            () = read => {}
            () = write => {}
            error = paced.listen(reading) => panic!("{error}"),
            error = told.tell(far_writing) => panic!("{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_on_is_given_up_and_so_is_who_claims_too_much() {
        let (near, mut far) = stream(64 * 1024);
        let (reading, mut writing) = near.split();
        let paced = Paced::new(MonotonicClock::start(), MAX);
        let written = paced.write(&mut writing, &[1; 100_000]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        far.write_all(&1_000_000_u32.to_be_bytes()).await.unwrap();
        assert_eq!(paced.listen(reading).await.kind(), io::ErrorKind::InvalidData);
    }
}
