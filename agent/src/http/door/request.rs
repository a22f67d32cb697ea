//! From an HTTP request to one of the contract.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use fleet_protocol::door::{DoorFacts, DoorMethods, EVENT_STREAM, EventsTarget, parse_event_id};
use fleet_protocol::limits::{PAGE_ITEMS_MAX, PROTOCOL_VERSION, REQUEST_BYTES_MAX, TIMEOUT_MS_MAX};
use fleet_protocol::local::LocalTarget;
use fleet_protocol::{
    ChangesRequest, ChangesTarget, ErrorCode, Failure, HeaderName, Inbound, SubjectError, changes,
    duration,
};

use crate::control::{LocalCommand, LocalRequest, Wanted};

use super::browsers::Caller;
use super::{Desk, answer, browsers};

/// How long a body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// What browsers and their like send to go on with a stream.
const LAST_EVENT_ID: &str = "last-event-id";

/// Says who answers here.
pub(super) async fn facts(State(desk): State<Desk>, request: Request<Body>) -> Response {
    if let Err(failure) = browsers::check(desk.caller, request.headers()) {
        return answer::refused(&desk.door, &failure);
    }
    if *request.method() != Method::GET {
        return wrong_method(&desk, "GET");
    }
    let node = desk.door.node();
    answer::item(&DoorFacts {
        site: node.site.to_string(),
        uid: node.uid.to_string(),
        node: node.id.get(),
        name: node.name.to_string(),
        version: node.version.to_owned(),
        protocol: PROTOCOL_VERSION,
        nats_urls: desk.nats_urls.to_vec(),
    })
}

/// Serves one request of the contract.
pub(super) async fn serve(State(desk): State<Desk>, request: Request<Body>) -> Response {
    if let Some(target) = EventsTarget::parse(request.uri().path()) {
        return events(&desk, target, &request);
    }
    if let Some(target) = LocalTarget::parse(request.uri().path()) {
        return local_write(&desk, target, request).await;
    }
    match understand(&desk, request).await {
        Ok(asked) => {
            let mut headers = pairs(&asked.headers);
            headers.extend(asked.added.iter().map(|(name, value)| (*name, value.as_str())));
            let request = LocalRequest {
                subject: &asked.subject,
                headers: &headers,
                payload: &asked.payload,
            };
            let replies = desk.door.ask(request).await;
            answer::respond(replies).await
        }
        Err(Refused::Method(allow)) => wrong_method(&desk, allow),
        Err(Refused::Plain(failure)) => answer::refused(&desk.door, &failure),
    }
}

/// Takes a local write in: at the socket alone, whose permissions say who may stand there.
async fn local_write(
    desk: &Desk,
    target: Result<LocalTarget, SubjectError>,
    request: Request<Body>,
) -> Response {
    let (head, body) = request.into_parts();
    let checked = browsers::check(desk.caller, &head.headers).and_then(|()| {
        if desk.caller != Caller::Socket {
            let what = "local writes are taken at the agent's Unix socket only: whoever reaches this port is not known";
            return Err(Failure::new(ErrorCode::Denied, what));
        }
        target.map_err(|error| Failure::malformed(error.to_string()).with_hint(PATH_HINT))
    });
    let target = match checked {
        Ok(target) => target,
        Err(failure) => return answer::refused(&desk.door, &failure),
    };
    if head.method != Method::POST {
        return wrong_method(desk, "POST");
    }
    let payload = match read_body(&head.headers, body).await {
        Ok(payload) => payload,
        Err(failure) => return answer::refused(&desk.door, &failure),
    };
    let command =
        LocalCommand { target: &target, headers: &pairs(&head.headers), payload: &payload };
    answer::whole(desk.door.write_locally(command).await)
}

/// Tells what happens, until the client goes away.
fn events(
    desk: &Desk,
    target: Result<EventsTarget, SubjectError>,
    request: &Request<Body>,
) -> Response {
    let checked = browsers::check(desk.caller, request.headers()).and_then(|()| {
        target.map_err(|error| Failure::malformed(error.to_string()).with_hint(PATH_HINT))
    });
    let target = match checked {
        Ok(target) => target,
        Err(failure) => return answer::refused(&desk.door, &failure),
    };
    if *request.method() != Method::GET {
        return wrong_method(desk, "GET");
    }
    match desk.door.listen(Wanted { noun: target.noun, area: target.area }) {
        Some(feed) => answer::feed(feed),
        None => {
            let what = "as many listen at this agent as may";
            answer::refused(&desk.door, &Failure::new(ErrorCode::Busy, what))
        }
    }
}

fn wrong_method(desk: &Desk, allow: &'static str) -> Response {
    let failure = Failure::malformed(format!("this path takes {allow}"));
    let mut response = answer::refused(&desk.door, &failure);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}

/// Why a request doesn't come to the desk.
enum Refused {
    Plain(Failure),
    /// Another method must be used.
    Method(&'static str),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Plain(failure)
    }
}

/// A request as the desk takes it.
struct Asked {
    subject: String,
    headers: HeaderMap,
    /// Options that the request means without saying them.
    added: Vec<(&'static str, String)>,
    payload: Bytes,
}

async fn understand(desk: &Desk, request: Request<Body>) -> Result<Asked, Refused> {
    let (head, body) = request.into_parts();
    browsers::check(desk.caller, &head.headers)?;
    let subject = desk
        .subjects
        .subject_of_path(head.uri.path())
        .map_err(|error| Failure::malformed(error.to_string()).with_hint(PATH_HINT))?;
    if head.uri.query().is_some() {
        let what = "nothing may follow the path; options are headers, and filters are the body";
        return Err(Failure::malformed(what).into());
    }
    let is_get = check_method(desk, &subject, &head.method)?;
    let payload = read_body(&head.headers, body).await?;
    let mut asked = Asked { subject, headers: head.headers, added: Vec::new(), payload };
    if is_get && asked.payload.is_empty() && wants_events(&asked.headers) {
        as_stream(desk, &mut asked)?;
    }
    Ok(asked)
}

const PATH_HINT: &str = "docs/protocol.md lists the paths beside the subjects.";

/// Whether it is a `GET`.
fn check_method(desk: &Desk, subject: &str, method: &Method) -> Result<bool, Refused> {
    let is_get = *method == Method::GET;
    let allow = match desk.subjects.methods(subject) {
        DoorMethods::Post if *method != Method::POST => "POST",
        DoorMethods::GetOrPost if !is_get && *method != Method::POST => "GET, POST",
        DoorMethods::Post | DoorMethods::GetOrPost => return Ok(is_get),
    };
    Err(Refused::Method(allow))
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    let too_large = || {
        let what = format!("the body has more than {REQUEST_BYTES_MAX} bytes");
        Failure::new(ErrorCode::TooLarge, what)
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced: Option<usize> = length.and_then(|length| length.parse().ok());
    if announced.is_some_and(|announced| announced > REQUEST_BYTES_MAX) {
        return Err(too_large());
    }
    let whole = axum::body::to_bytes(body, REQUEST_BYTES_MAX);
    match tokio::time::timeout(BODY_WAIT, whole).await {
        Ok(Ok(payload)) => Ok(payload),
        // Either it is too long, or it broke off and nobody is left to be told.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Failure::malformed(format!(
            "the body did not come within {} s",
            BODY_WAIT.as_secs()
        ))),
    }
}

/// The headers as text. One whose value isn't text is shown as such, and refused if it is ours.
fn pairs(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers
        .iter()
        .filter(|(name, _)| is_of_contract(name.as_str()))
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("\u{fffd}")))
        .collect()
}

/// Whether a header is for the desk. HTTP brings a dozen of its own that mean nothing to it.
fn is_of_contract(name: &str) -> bool {
    name.starts_with("flotilla-")
        || HeaderName::ALL.iter().any(|header| header.as_str().eq_ignore_ascii_case(name))
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM))
    })
}

/// A `GET` that accepts a stream of events asks for one, as long as there may be, from where the
/// one before it ended.
fn as_stream(desk: &Desk, asked: &mut Asked) -> Result<(), Failure> {
    let Ok(Inbound::Changes(target)) = desk.subjects.parse(&asked.subject) else { return Ok(()) };
    let mut request = ChangesRequest { target, after: None, limit: PAGE_ITEMS_MAX, stream: true };
    if let Some(id) = asked.headers.get(LAST_EVENT_ID) {
        let unusable = || Failure::malformed("the Last-Event-ID is not one that was sent");
        let id = id.to_str().map_err(|_| unusable())?;
        let (since, after) = parse_event_id(id).ok_or_else(unusable)?;
        request.after = after.map(changes::parse_after).transpose().map_err(|_| unusable())?;
        request.target = ChangesTarget { since, ..request.target };
        asked.subject = desk.subjects.changes(&request.target);
    }
    asked.payload = request.to_payload().into();
    if !asked.headers.contains_key(HeaderName::Timeout.as_str()) {
        let whole = duration::format_ms(TIMEOUT_MS_MAX);
        asked.added.push((HeaderName::Timeout.as_str(), whole));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_of_the_contract_come_to_the_desk() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "flotilla"),
            ("user-agent", "x"),
            ("flotilla-if-revison", "1"),
            ("flotilla-timeout", "1s"),
            ("nats-msg-id", "a"),
            ("traceparent", "00"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers.insert("flotilla-actor", header::HeaderValue::from_bytes(b"\xff").unwrap());
        let mut found = pairs(&headers);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("flotilla-actor", "\u{fffd}"),
                ("flotilla-if-revison", "1"),
                ("flotilla-timeout", "1s"),
                ("nats-msg-id", "a"),
                ("traceparent", "00"),
            ]
        );
    }

    #[test]
    fn a_stream_is_asked_for_by_its_type() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().unwrap());
            wants_events(&headers)
        };
        assert!(accepts("text/event-stream"));
        assert!(accepts("text/html, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*"));
        assert!(!accepts("text/event-streams"));
    }
}
