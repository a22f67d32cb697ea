//! What users type and send.

use fleet_protocol::{JoinToken, Subjects, duration, reply_subject, request};
use fleet_state::{
    DeviceId, Limits, LinkId, NodeName, ParamKey, Proposal, RequestId, SiteName, TokenId, Value,
};

use super::kind;

/// Headers of one message.
const HEADERS_MAX: usize = 16;

/// A message as text: the subject, then lines with headers, an empty line, the payload.
pub(super) fn request(bytes: &[u8]) -> String {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, rest) = bytes.split_at(end);
    let payload = rest.strip_prefix(b"\n\n").unwrap_or(rest);
    let Ok(head) = std::str::from_utf8(head) else {
        return "no text".to_owned();
    };
    let mut lines = head.lines();
    let subject = lines.next().unwrap_or_default();
    let headers: Vec<(&str, &str)> =
        lines.take(HEADERS_MAX).map(|line| line.split_once(": ").unwrap_or((line, ""))).collect();
    let parts = ("home".parse::<SiteName>(), "gw-1".parse(), "fallback-1".parse::<RequestId>());
    let (Ok(site), Ok(node), Ok(fallback)) = parts else {
        return "no site".to_owned();
    };
    let incoming = request::Incoming { subject, payload };
    match request::parse(&Subjects::new(&site), &node, incoming, headers, fallback) {
        Ok(request) => {
            if let fleet_protocol::Action::Command(command) = &request.action {
                let proposal = &command.proposal;
                assert!(proposal.validate().is_ok(), "an invalid command was let in");
                let again = Proposal::decode(&proposal.encode());
                assert_eq!(again.as_ref(), Ok(proposal), "it came back otherwise");
            }
            kind(&request.action).chars().take(40).collect()
        }
        Err(refused) => {
            let message = refused.failure.message.clone();
            assert!(!message.chars().any(char::is_control), "a refusal repeats what it was sent");
            format!(
                "{:?} {}",
                refused.failure.code,
                kind(&message).chars().take(24).collect::<String>()
            )
        }
    }
}

/// What was read is printed and read as the same.
pub(super) fn value(bytes: &[u8]) -> String {
    match Value::parse(bytes, Limits::default()) {
        Ok(value) => {
            let mut text = String::new();
            value.write_json(&mut text);
            let again = Value::parse(text.as_bytes(), Limits::default());
            assert_eq!(again.as_ref(), Ok(&value), "{text} came back otherwise");
            kind(&value).chars().take(24).collect()
        }
        Err(error) => kind(&error),
    }
}

/// An id is one that NATS takes as tokens of a subject, and prints as it was written.
pub(super) fn ids(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "no text".to_owned();
    };
    fn read<I: std::str::FromStr + ToString>(text: &str) -> Option<String> {
        text.parse::<I>().ok().map(|id| id.to_string())
    }
    let subject = [read::<DeviceId>(text), read::<LinkId>(text), read::<ParamKey>(text)];
    let single = [read::<NodeName>(text), read::<SiteName>(text)];
    for id in subject.iter().chain(&single).flatten() {
        assert_eq!(id, text, "it is printed otherwise");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        assert!(id.chars().all(plain), "{id:?} in a subject");
        assert!(id.split('.').all(|token| !token.is_empty()), "{id:?} has an empty token");
    }
    assert!(!single.iter().flatten().any(|id| id.contains('.')), "a name of two tokens");
    let others = [read::<RequestId>(text), read::<TokenId>(text)];
    subject
        .iter()
        .chain(&single)
        .chain(&others)
        .map(|id| if id.is_some() { '1' } else { '0' })
        .collect()
}

pub(super) fn tokens() -> Vec<Vec<u8>> {
    vec![fleet_protocol::JOIN_TOKEN_PREFIX.as_bytes().to_vec()]
}

pub(super) fn token(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "no text".to_owned();
    };
    match text.trim().parse::<JoinToken>() {
        Ok(token) => {
            let again = token.encode().ok().and_then(|text| text.parse::<JoinToken>().ok());
            assert!(again.is_some_and(|again| again.encode() == token.encode()), "another token");
            "a token".to_owned()
        }
        Err(error) => kind(&error),
    }
}

/// What an agent would answer to is a subject of the asker's own.
pub(super) fn reply_subject(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "no text".to_owned();
    };
    match reply_subject::check(text) {
        Ok(()) => {
            let forbidden = text.starts_with("flotilla.") || text.starts_with('$');
            assert!(!forbidden && !text.contains(['*', '>', ' ', '\n', '\0']), "{text:?}");
            "taken".to_owned()
        }
        Err(error) => kind(&error),
    }
}

pub(super) fn duration(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "no text".to_owned();
    };
    match duration::parse_ms(text, 10, 86_400_000) {
        Ok(ms) => {
            assert!((10..=86_400_000).contains(&ms), "{text} is {ms} ms");
            let again = duration::parse_ms(&duration::format_ms(ms), 10, 86_400_000);
            assert_eq!(again.as_ref(), Ok(&ms), "{text} is printed otherwise");
            format!("{} digits", ms.ilog10())
        }
        Err(error) => kind(&error),
    }
}
