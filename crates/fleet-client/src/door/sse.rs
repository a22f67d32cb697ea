//! Reading server-sent events, as far as the contract uses them: the data of each.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};

use super::ANSWER_BYTES_MAX;

/// What may have come of an event that isn't whole, with the beginning of the next one.
const HELD_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Sse {
    body: Option<Incoming>,
    held: Held,
}

impl Sse {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        Self { body: Some(response.into_body()), held: Held::default() }
    }

    /// A stream that consists of one answer.
    pub(super) fn of_one(payload: Bytes) -> Self {
        Self { body: None, held: Held { bytes: BytesMut::new(), one: Some(payload) } }
    }

    /// The data of the next event; `None` when the stream has ended, whatever the reason.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(data) = self.held.take() {
                return Some(data);
            }
            let frame = self.body.as_mut()?.frame().await?.ok()?;
            if let Ok(bytes) = frame.into_data() {
                self.held.put(&bytes)?;
            }
        }
    }
}

/// What has come and was not read yet.
#[derive(Debug, Default)]
struct Held {
    bytes: BytesMut,
    one: Option<Bytes>,
}

impl Held {
    /// `None` when an event is longer than any of ours.
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        if self.bytes.len().saturating_add(bytes.len()) > HELD_BYTES_MAX {
            return None;
        }
        self.bytes.extend_from_slice(bytes);
        Some(())
    }

    /// The data of the next whole event that has some.
    fn take(&mut self) -> Option<Bytes> {
        if let Some(one) = self.one.take() {
            return Some(one);
        }
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
            let event = self.bytes.split_to(end.saturating_add(2)).freeze();
            let mut data = event.split(|byte| *byte == b'\n').filter_map(|line| {
                let value = line.strip_prefix(b"data:")?;
                Some(value.strip_prefix(b" ").unwrap_or(value))
            });
            if let Some(data) = data.next() {
                return Some(event.slice_ref(data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_were_cut() {
        let text =
            b": a remark\n\nid: 7\nevent: page\ndata: {\"a\":1}\n\ndata:{}\n\nevent: x\ndata: 1";
        for size in 1..text.len() {
            let mut held = Held::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                held.put(piece).unwrap();
                found.extend(std::iter::from_fn(|| held.take()));
            }
            assert_eq!(found, [&b"{\"a\":1}"[..], b"{}"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_given_up() {
        let mut held = Held::default();
        assert!(held.put(&vec![b'x'; HELD_BYTES_MAX]).is_some());
        assert!(held.put(b"x").is_none());
    }
}
