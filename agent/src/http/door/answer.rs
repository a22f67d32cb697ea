//! From the answers of the contract to an HTTP response.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use fleet_protocol::door::{EVENT_STREAM, event_id};
use fleet_protocol::node::SNAPSHOT_INDEX_HEADER;
use fleet_protocol::reply::SERVICE_ERROR_CODE_HEADER;
use fleet_protocol::{ErrorCode, Failure, ReplyMessage, reply};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::control::{EventFeed, LocalDoor, Replies, Said};

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// The response that the answers make: one body, or a stream of events.
pub(super) async fn respond(mut replies: Replies) -> Response {
    match replies.next().await {
        Some(Said::Last(message)) => whole(message),
        Some(Said::Page(first)) => stream(first, replies),
        None => whole(Replies::none()),
    }
}

/// The response to what doesn't come to the desk.
pub(super) fn refused(door: &LocalDoor, failure: &Failure) -> Response {
    whole(door.refuse(failure))
}

#[derive(Serialize)]
struct Item<'a, T> {
    ok: bool,
    item: &'a T,
}

/// The response with an item that no request id goes with.
pub(super) fn item<T: Serialize>(item: &T) -> Response {
    // Text and numbers only: writing them can't fail.
    let payload = serde_json::to_vec(&Item { ok: true, item }).unwrap_or_default();
    whole(ReplyMessage { headers: Vec::new(), payload })
}

/// One answer as a response: the number of a failure's code is the status.
pub(super) fn whole(message: ReplyMessage) -> Response {
    let held = |name: &str| message.headers.iter().find(|(held, _)| *held == name);
    let status = match held(SERVICE_ERROR_CODE_HEADER) {
        None => StatusCode::OK,
        Some((_, number)) => number
            .parse()
            .ok()
            .and_then(|number| StatusCode::from_u16(number).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let kind = if held(SNAPSHOT_INDEX_HEADER).is_some() { BYTES } else { JSON };
    let mut response = Response::new(Body::from(message.payload));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in message.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    response
}

/// A stream of events. The next page is made when the client has taken the one before.
fn stream(first: ReplyMessage, replies: Replies) -> Response {
    let rest =
        futures_util::stream::unfold((Some(first), Some(replies)), |(first, replies)| async {
            let mut replies = replies?;
            if let Some(first) = first {
                return Some((event(&first), (None, Some(replies))));
            }
            match replies.next().await? {
                Said::Page(page) => Some((event(&page), (None, Some(replies)))),
                Said::Last(last) => Some((event(&last), (None, None))),
            }
        });
    streamed(rest)
}

/// The events of a feed.
pub(super) fn feed(feed: EventFeed) -> Response {
    streamed(futures_util::stream::unfold(feed, |mut feed| async {
        let told = feed.next().await?;
        let mut text = format!("event: {}\ndata: ", told.kind).into_bytes();
        text.extend_from_slice(&told.payload);
        text.extend_from_slice(b"\n\n");
        Some((Bytes::from(text), feed))
    }))
}

fn streamed(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let events = futures_util::StreamExt::map(events, Ok::<Bytes, Infallible>);
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What an event's head is made of.
#[derive(Deserialize)]
struct PageHead<'a> {
    kind: &'a str,
    revision: u64,
    #[serde(default)]
    after: Option<&'a str>,
}

/// One page as a server-sent event. Our JSON is one line, which the format needs; what another
/// node answers may be anything, and a line break in it would begin the next field of the event.
fn event(message: &ReplyMessage) -> Bytes {
    if message.payload.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        let why = "a node gave an answer that is no line of JSON";
        return event(&reply::failed(None, &Failure::new(ErrorCode::Unreachable, why)));
    }
    let mut text = Vec::with_capacity(message.payload.len().saturating_add(64));
    match serde_json::from_slice::<PageHead<'_>>(&message.payload) {
        Ok(PageHead { kind, revision, after }) => {
            let head = format!("id: {}\nevent: {kind}\n", event_id(revision, after));
            text.extend_from_slice(head.as_bytes());
        }
        // An answer of another kind: one node's, or a failure, which says so itself.
        Err(_) => text.extend_from_slice(b"event: answer\n"),
    }
    text.extend_from_slice(b"data: ");
    text.extend_from_slice(&message.payload);
    text.extend_from_slice(b"\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_code_is_the_status() {
        for code in ErrorCode::ALL {
            let response = whole(reply::failed(None, &Failure::new(*code, "why")));
            assert_eq!(response.status().as_u16(), code.facts().service_code);
            assert_eq!(response.headers()["Nats-Service-Error"], "why");
        }
        let fine = whole(ReplyMessage { headers: Vec::new(), payload: b"{}".to_vec() });
        assert_eq!(
            (fine.status(), &fine.headers()["content-type"]),
            (StatusCode::OK, &HeaderValue::from_static(JSON))
        );
    }

    #[test]
    fn a_page_is_one_event_that_says_where_to_go_on() {
        let page = br#"{"ok":true,"request_id":"a","kind":"page","sequence":1,"changes":[],"revision":7,"more":false}"#;
        let message = ReplyMessage { headers: Vec::new(), payload: page.to_vec() };
        let text = String::from_utf8(event(&message).to_vec()).unwrap();
        assert!(text.starts_with("id: 7\nevent: page\ndata: {\"ok\":true,"), "{text}");
        assert!(text.ends_with("}\n\n"), "{text}");
        for forged in ["{}\n\nevent: change\ndata: {}", "{}\revent: change"] {
            let message = ReplyMessage { headers: Vec::new(), payload: forged.into() };
            let text = String::from_utf8(event(&message).to_vec()).unwrap();
            assert!(text.starts_with("event: answer\ndata: {\"ok\":false,"), "{text}");
            assert_eq!(text.matches("event:").count(), 1, "{text}");
        }
        let failed = reply::failed(None, &Failure::new(ErrorCode::Compacted, "gone"));
        assert!(event(&failed).starts_with(b"event: answer\ndata: {\"ok\":false,"));
    }
}
