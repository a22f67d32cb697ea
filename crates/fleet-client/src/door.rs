//! The door of one agent: HTTP/1.1 over its Unix socket, or over a port of the loopback.
//!
//! Connections are opened as they are needed, carry one request at a time, and wait in a small pool
//! in between. A request that a connection of the pool did not take, because the agent closed it
//! meanwhile, goes out again on a new one; nothing else is sent twice here.

mod pool;
mod sse;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use fleet_protocol::{
    DoorFacts, Subjects,
    door::{DOOR_ROOT, EVENT_STREAM},
    limits::PAGE_BYTES_MAX,
    reply,
};
use fleet_state::SiteName;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::timeout;

use crate::{
    ClientError, ConnectError,
    transport::{Heard, Sent, Unheard},
};
use pool::{NotSent, Pool};
pub(crate) use sse::Sse;

/// Largest answer that is read: a page with its envelope, or a piece of a snapshot.
const ANSWER_BYTES_MAX: usize = PAGE_BYTES_MAX + 64 * 1024;
const SLOW: &str = "it takes too long";
const UNIX_SCHEME: &str = "unix:";
const HTTP_SCHEME: &str = "http://";

/// Where a door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// A host and a port.
    Address(String),
}

/// Whether a server's URL means the door of an agent.
#[must_use]
pub fn is_door(url: &str) -> bool {
    url.starts_with(UNIX_SCHEME) || url.starts_with(HTTP_SCHEME)
}

impl Place {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, ConnectError> {
        let wrong = |form: &str| {
            let shown: String = url.chars().take(256).flat_map(char::escape_debug).collect();
            ConnectError::Options(format!("\"{shown}\" is not the address of a door; write {form}"))
        };
        if let Some(path) = url.strip_prefix(UNIX_SCHEME) {
            // `unix:///run/x` is the same as `unix:/run/x`.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('\0') {
                return Err(wrong("unix:/var/lib/flotilla/door.sock"));
            }
            return Ok(Self::Socket(PathBuf::from(path)));
        }
        let rest = url.strip_prefix(HTTP_SCHEME).unwrap_or(url);
        let address = rest.strip_suffix('/').unwrap_or(rest);
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        if port.is_none() || !address.chars().all(plain) {
            return Err(wrong("http://127.0.0.1:8223"));
        }
        Ok(Self::Address(address.to_owned()))
    }

    /// What stands in `Host`.
    fn host(&self) -> &str {
        match self {
            Self::Socket(_) => "flotilla",
            Self::Address(address) => address,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{UNIX_SCHEME}{}", path.display()),
            Self::Address(address) => write!(f, "{HTTP_SCHEME}{address}"),
        }
    }
}

/// A door that answered. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    subjects: Subjects,
    facts: DoorFacts,
}

impl Door {
    /// Asks who answers there.
    pub(crate) async fn open(place: Place, patience: Duration) -> Result<Self, ConnectError> {
        let pool = Pool::new(place);
        let facts = timeout(patience, ask_facts(&pool)).await;
        let facts = facts.unwrap_or_else(|_| {
            Err(ConnectError::NoDoor { place: pool.place().to_string(), why: SLOW.to_owned() })
        })?;
        let site: SiteName = facts.site.parse().map_err(|_| strange(&pool, "no name of a site"))?;
        Ok(Self(Arc::new(Inner { pool, subjects: Subjects::new(&site), facts })))
    }

    /// The site.
    pub(crate) fn site(&self) -> &SiteName {
        self.0.subjects.site()
    }

    /// What the agent said of itself.
    pub(crate) fn facts(&self) -> &DoorFacts {
        &self.0.facts
    }

    /// Makes one attempt.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        sent: Sent,
    ) -> Result<Result<Heard, Unheard>, ClientError> {
        self.ask_path(&self.path(subject)?, sent).await
    }

    /// Makes one attempt at a path that no subject says.
    pub(crate) async fn ask_path(
        &self,
        path: &str,
        sent: Sent,
    ) -> Result<Result<Heard, Unheard>, ClientError> {
        let response = match self.send_to(path, sent).await? {
            Ok(response) => response,
            Err(unheard) => return Ok(Err(unheard)),
        };
        Ok(whole(response)
            .await
            .map_err(|why| Unheard::PerhapsTaken(format!("the answer did not come over: {why}"))))
    }

    /// Makes one attempt that several answers may come to.
    pub(crate) async fn ask_for_many(&self, subject: &str, sent: Sent) -> Result<Sse, ClientError> {
        let response = match self.send(subject, sent).await? {
            Ok(response) => response,
            Err(Unheard::NobodyThere) => {
                return Err(ClientError::Unavailable(self.nobody_there()));
            }
            Err(Unheard::PerhapsTaken(why)) => return Err(ClientError::Unavailable(why)),
        };
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENT_STREAM.as_bytes())) {
            return Ok(Sse::new(response));
        }
        // One answer that is no stream says why there is none, or is all there is.
        match whole(response).await {
            Ok(heard) => Ok(Sse::of_one(heard.payload)),
            Err(why) => Err(ClientError::Unavailable(why)),
        }
    }

    /// What it means when nobody takes a request.
    pub(crate) fn nobody_there(&self) -> String {
        format!("no agent answers at {} any more", self.0.pool.place())
    }

    async fn send(
        &self,
        subject: &str,
        sent: Sent,
    ) -> Result<Result<Response<Incoming>, Unheard>, ClientError> {
        self.send_to(&self.path(subject)?, sent).await
    }

    fn path(&self, subject: &str) -> Result<String, ClientError> {
        let strange = || ClientError::Local(format!("{subject} is none of this site's subjects"));
        self.0.subjects.path(subject).ok_or_else(strange)
    }

    async fn send_to(
        &self,
        path: &str,
        sent: Sent,
    ) -> Result<Result<Response<Incoming>, Unheard>, ClientError> {
        let request = request(self.0.pool.place(), Method::POST, path, sent)?;
        Ok(self.0.pool.send(request).await.map_err(|error| match error {
            NotSent::Nobody(_) | NotSent::Denied(_) => Unheard::NobodyThere,
            NotSent::Broken(why) => Unheard::PerhapsTaken(why),
        }))
    }
}

async fn ask_facts(pool: &Pool) -> Result<DoorFacts, ConnectError> {
    let place = || pool.place().to_string();
    let request = request(pool.place(), Method::GET, DOOR_ROOT, Sent::default())
        .map_err(|error| ConnectError::Options(error.to_string()))?;
    let response = pool.send(request).await.map_err(|error| match error {
        NotSent::Nobody(why) | NotSent::Broken(why) => ConnectError::NoDoor { place: place(), why },
        NotSent::Denied(why) => ConnectError::DoorClosed { place: place(), why },
    })?;
    let heard = whole(response).await.map_err(|why| strange(pool, &why))?;
    match reply::read_item::<DoorFacts>(&heard.payload) {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(failed)) => {
            Err(ConnectError::DoorClosed { place: place(), why: failed.error.message })
        }
        Err(error) => Err(strange(pool, &error.to_string())),
    }
}

/// Something answers that is not an agent's door.
fn strange(pool: &Pool, why: &str) -> ConnectError {
    let why = format!("what answers there is not an agent's door ({why})");
    ConnectError::NoDoor { place: pool.place().to_string(), why }
}

/// A request as it goes out.
fn request(
    place: &Place,
    method: Method,
    path: &str,
    sent: Sent,
) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = Request::new(Full::new(sent.payload));
    let wrong =
        |what: &dyn fmt::Display| ClientError::Local(format!("the request cannot be sent: {what}"));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|error| wrong(&error))?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, place.host().parse().map_err(|error| wrong(&error))?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in sent.headers {
        let name: HeaderName = name.parse().map_err(|error| wrong(&error))?;
        // Bytes beyond ASCII are allowed in a value, as in an actor's name.
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| wrong(&error))?;
        headers.insert(name, value);
    }
    Ok(request)
}

/// Reads a whole answer.
async fn whole(response: Response<Incoming>) -> Result<Heard, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let payload = body.map_err(|error| error.to_string())?.to_bytes();
    let headers = head.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    Ok(Heard { headers: headers.collect(), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_shown() {
        for (url, shown) in [
            ("unix:/run/door.sock", "unix:/run/door.sock"),
            ("unix:///run/door.sock", "unix:/run/door.sock"),
            ("unix:door.sock", "unix:door.sock"),
            ("http://127.0.0.1:8223", "http://127.0.0.1:8223"),
            ("http://[::1]:8223/", "http://[::1]:8223"),
            ("http://localhost:1", "http://localhost:1"),
        ] {
            assert!(is_door(url));
            assert_eq!(Place::parse(url).unwrap().to_string(), shown);
        }
        for url in [
            "unix:",
            "unix://",
            "http://",
            "http://h",
            "http://h:x",
            "http://u@h:1",
            "http://h:1/x",
        ] {
            let error = Place::parse(url).unwrap_err().to_string();
            assert!(error.contains("is not the address of a door; write"), "{error}");
        }
        for url in ["nats://h:4222", "h:4222", "https://h:1", "tls://h"] {
            assert!(!is_door(url), "{url}");
        }
    }
}
