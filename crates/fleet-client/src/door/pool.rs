//! Connections to one door, each with one request at a time.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::Path,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::Place;

/// Connections that wait for the next request; more than that are closed after theirs.
const IDLE_MAX: usize = 64;
/// What the system takes as the address of a socket, with its end; longer paths take a detour.
const ADDRESS_BYTES_MAX: usize = 100;

type Sender = SendRequest<Full<Bytes>>;

/// The connections to one door.
#[derive(Debug)]
pub(super) struct Pool {
    place: Place,
    idle: Mutex<Vec<Sender>>,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotSent {
    /// Nobody is there; the request was certainly not taken.
    Nobody(String),
    /// We may not connect; the request was certainly not taken.
    Denied(String),
    /// The connection broke after the request had begun to go out.
    Broken(String),
}

impl Pool {
    pub(super) fn new(place: Place) -> Self {
        Self { place, idle: Mutex::new(Vec::new()) }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Sends a request, and waits for the head of its response.
    ///
    /// The connection goes back to the pool at once and is taken again only when the response was
    /// read, which is when it says that it is ready.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, NotSent> {
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.keep(sender, response)),
                Err(mut error) => match error.take_message() {
                    // The agent had closed the connection: nothing of the request was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(NotSent::Broken(error.into_error().to_string())),
                },
            }
        }
        let mut sender = self.connect().await?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok(self.keep(sender, response)),
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let why = error.into_error().to_string();
                Err(if unsent { NotSent::Nobody(why) } else { NotSent::Broken(why) })
            }
        }
    }

    fn keep(&self, sender: Sender, response: Response<Incoming>) -> Response<Incoming> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(sender);
        }
        response
    }

    /// A connection that can take a request now.
    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    async fn connect(&self) -> Result<Sender, NotSent> {
        let refused = |error: io::Error| {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let why = error.to_string();
            if denied { NotSent::Denied(why) } else { NotSent::Nobody(why) }
        };
        match &self.place {
            Place::Socket(path) => {
                let stream = connect_socket(path).await.map_err(refused)?;
                handshake(stream).await
            }
            Place::Address(address) => {
                let stream = TcpStream::connect(address.as_str()).await.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                handshake(stream).await
            }
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, NotSent> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| NotSent::Nobody(error.to_string()))?;
    // It ends with the connection; why it broke is told to the request that was on it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn connect_socket(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() < ADDRESS_BYTES_MAX {
        return UnixStream::connect(path).await;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return UnixStream::connect(path).await;
    };
    // The folder by its number is short.
    let folder = File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}
