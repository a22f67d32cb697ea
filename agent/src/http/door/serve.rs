//! Taking connections in, within bounds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::patient::Patient;

/// How long the head of a request may take, from the end of the one before it; so long, too, may a
/// connection be idle.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// How long a client may leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest head of a request, and what is held of a body that isn't read yet.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request; the contract's own bound is smaller.
const HEADERS_MAX: usize = 64;
/// Pause after a failed accept (too many open files), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Returns once the door is to be closed; also when it is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What connections are served with.
pub(super) struct Serving {
    pub router: Router,
    pub connections: Arc<Semaphore>,
    pub stopped: watch::Receiver<bool>,
}

/// Something that takes connections in.
pub(super) trait Accept: Send + Sync + 'static {
    /// What comes in.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Accept for UnixListener {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

impl Accept for TcpListener {
    type Connection = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // An answer is one small write; waiting for more would only delay it.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Serving {
    /// Serves what connects, until told to stop.
    pub(super) async fn run<A: Accept>(self, listener: A) {
        let mut stopped = self.stopped.clone();
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = told(&mut stopped) => break,
                Some(_) = open.join_next() => {}
                (permit, accepted) = self.next(&listener) => match accepted {
                    Ok(connection) => {
                        open.spawn(self.serve(connection, permit));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        // New clients hear at once that nobody is there.
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    /// The next connection, once there is a place for it.
    async fn next<A: Accept>(
        &self,
        listener: &A,
    ) -> (Option<OwnedSemaphorePermit>, io::Result<A::Connection>) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok();
        (permit, listener.accept().await)
    }

    fn serve<C>(
        &self,
        connection: C,
        permit: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = ()> + Send + use<C>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = TokioIo::new(Patient::new(connection, PATIENCE));
        let service = TowerToHyperService::new(self.router.clone());
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .keep_alive(true)
            .half_close(false)
            .serve_connection(connection, service);
        let mut stopped = self.stopped.clone();
        async move {
            let _permit = permit;
            let mut serving = std::pin::pin!(serving);
            let ended = tokio::select! {
                ended = serving.as_mut() => ended,
                () = told(&mut stopped) => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = ended {
                tracing::trace!(%error, "a connection at the local door ended early");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A client's end of a connection that is being served.
    fn connected(router: Router) -> (DuplexStream, watch::Sender<bool>) {
        let (near, far) = tokio::io::duplex(1_024);
        let (stop, stopped) = watch::channel(false);
        let serving = Serving { router, connections: Arc::new(Semaphore::new(1)), stopped };
        tokio::spawn(serving.serve(near, None));
        (far, stop)
    }

    async fn rest(mut client: DuplexStream) -> String {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let (mut client, _stop) = connected(Router::new());
        client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let answer = rest(client).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        // Nor is one that never begins: an idle connection.
        let (idle, _stop) = connected(Router::new());
        assert_eq!(rest(idle).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_is_given_up() {
        let router = Router::new().fallback(|_: Request| async { Body::from(vec![b'x'; 100_000]) });
        let (mut client, _stop) = connected(router);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(PATIENCE * 2).await;
        let answer = rest(client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.len() < 10_000, "{}", answer.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_that_closes_lets_a_request_under_way_finish() {
        let router = Router::new().fallback(|_: Request| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            "done"
        });
        let (mut client, stop) = connected(router);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.send_replace(true);
        assert!(rest(client).await.ends_with("done"));
    }
}
