//! An HTTP client that knows nothing of Flotilla but its paths.
//!
//! It writes its requests itself, so that a test can send what no library would, and opens a
//! connection for each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::bare::{Answer, READ_LIMIT, REQUEST_LIMIT, Reply};
use crate::wait;

/// The door of one agent.
#[derive(Debug, Clone)]
pub struct BareDoor {
    place: Place,
    limit: Duration,
}

#[derive(Debug, Clone)]
enum Place {
    Socket(PathBuf),
    Address(String),
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Names in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// Its bytes, put together again if they came in chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(held, _)| held == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The data of each event, when the body is a stream of them.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).expect("data is JSON")).collect()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let rest = bytes.get(end + 4..)?;
        let chunked =
            headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked { unchunked(rest) } else { rest.to_vec() };
        Some(Self { status, headers, body })
    }
}

/// What the chunks hold, as far as they came.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = rest.get(..end).map(String::from_utf8_lossy).unwrap_or_default();
        let Ok(size) = usize::from_str_radix(&size, 16) else { break };
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..).unwrap_or_default();
    }
    body
}

impl BareDoor {
    /// The Unix socket in a data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self::at(&data_dir.join("door.sock"))
    }

    /// A Unix socket.
    pub fn at(socket: &Path) -> Self {
        Self { place: Place::Socket(socket.to_owned()), limit: REQUEST_LIMIT }
    }

    /// A TCP port.
    pub fn on(address: &str) -> Self {
        Self { place: Place::Address(address.to_owned()), limit: REQUEST_LIMIT }
    }

    /// The same door for somebody who waits longer, or less.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Sends bytes as they are and reads until the agent closes; `None` if it doesn't in time.
    pub async fn raw(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let exchange = async {
            match &self.place {
                Place::Socket(path) => exchange(UnixStream::connect(path).await?, bytes).await,
                Place::Address(address) => {
                    exchange(TcpStream::connect(address).await?, bytes).await
                }
            }
        };
        tokio::time::timeout(self.limit, exchange).await?
    }

    /// One request, and its whole response.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        let answer = self.raw(&bytes).await?;
        Response::parse(&answer).ok_or_else(|| std::io::Error::other("no response came"))
    }

    /// A request as the other bare client makes it: `control.commands.param.set.x` and the like.
    pub async fn request_with(
        &self,
        rest: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let words = rest.strip_prefix("control.").unwrap_or(rest);
        let slashes = if words.starts_with("changes.") { 4 } else { 3 };
        let path = format!("/v1/{}", words.replacen('.', "/", slashes));
        match self.send("POST", &path, headers, body.as_ref()).await {
            Ok(response) => match serde_json::from_slice(&response.body) {
                Ok(json) => Answer::Reply(Reply(json)),
                Err(error) => Answer::Failed(format!("a response that is no JSON: {error}")),
            },
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Answer::TimedOut,
            Err(error) if refused(&error) => Answer::NoResponders,
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    /// Sets a parameter under a request id of the caller's.
    pub async fn set_param(&self, key: &str, value: &Value, request_id: &str) -> Answer {
        let headers = [("Flotilla-Request-Id", request_id)];
        self.request_with(&format!("control.commands.param.set.{key}"), &headers, value.to_string())
            .await
    }

    /// Reads a parameter once, linearizable.
    pub async fn param(&self, key: &str) -> Answer {
        self.request(&format!("control.query.param.get.{key}"), "").await
    }

    /// Reads a parameter until it is answered, linearizable.
    ///
    /// # Panics
    /// If there is no answer within `READ_LIMIT`.
    pub async fn read_param(&self, key: &str) -> Reply {
        wait::until(&format!("{key} can be read at the door"), READ_LIMIT, || async {
            match self.param(key).await {
                Answer::Reply(reply) if reply.is_ok() => Some(reply),
                _ => None,
            }
        })
        .await
    }

    /// The same without headers.
    pub async fn request(&self, rest: &str, body: impl AsRef<[u8]>) -> Answer {
        self.request_with(rest, &[], body).await
    }
}

/// Whether nobody was there to connect to.
fn refused(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> std::io::Result<Vec<u8>> {
    // The agent may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}
