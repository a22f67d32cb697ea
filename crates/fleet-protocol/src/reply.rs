//! Replies: what an agent says, and what a client understands.
//!
//! A reply is one JSON object that begins with `"ok"`. Two rules make retries safe and are kept
//! here, so that neither side can get them wrong:
//! - a reply to a command that carries a `revision` comes from the log and speaks for its request id
//!   for ever, whether it was accepted or rejected;
//! - one without speaks for this attempt only. After an `unknown`, a later `busy` or `no_leader`
//!   leaves the outcome unknown.
//!
//! A failure also carries the headers of the NATS Services protocol, so that `nats req` and
//! `nats micro` show it as one.

use fleet_state::{Answer, Outcome, RequestId, Revision, Stage};
use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Failure, Noun};

/// NATS Services: what went wrong.
pub const SERVICE_ERROR_HEADER: &str = "Nats-Service-Error";
/// NATS Services: the error's number.
pub const SERVICE_ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// A message that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyMessage {
    /// Header names and values; often none.
    pub headers: Vec<(&'static str, String)>,
    /// The bytes.
    pub payload: Vec<u8>,
}

#[derive(Serialize)]
struct CommittedOut<'a> {
    ok: bool,
    request_id: &'a str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_revision: Option<u64>,
    changed: bool,
    stage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u64>,
}

#[derive(Serialize)]
struct FailedOut<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    error: ErrorBody,
}

#[derive(Serialize)]
struct PlainOut<'a, T> {
    ok: bool,
    request_id: &'a str,
    item: &'a T,
}

/// What went wrong, inside a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The code; a client may meet one that is newer than itself.
    pub code: String,
    /// What happened and why.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Whether the same request may succeed when it is sent again.
    pub retryable: bool,
}

impl ErrorBody {
    /// The code, when it is one this crate knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_name(&self.code)
    }
}

impl From<&Failure> for ErrorBody {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code.to_string(),
            message: failure.message.clone(),
            hint: failure.hint().to_owned(),
            retryable: failure.code.retryable(),
        }
    }
}

/// What is told beside the answer of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// How far the command got, or how it ended.
    pub stage: Stage,
    /// More about that, for people: why it failed, or why it gets no further.
    pub detail: Option<String>,
    /// The thing's own revision, where it is certain that the answer was decided on that one.
    pub thing_revision: Option<Revision>,
    /// What kind of thing the command is about, for the hint of a rejection.
    pub noun: Option<Noun>,
}

impl Beside {
    /// Nothing but how far the command got.
    #[must_use]
    pub const fn stage(stage: Stage) -> Self {
        Self { stage, detail: None, thing_revision: None, noun: None }
    }
}

/// What the log answered.
#[must_use]
pub fn answered(request_id: &RequestId, answer: &Answer, beside: Beside) -> ReplyMessage {
    let (changed, node) = match &answer.outcome {
        Outcome::Accepted(accepted) => (true, accepted.node.map(|node| node.get())),
        Outcome::Unchanged => (false, None),
        Outcome::Rejected(rejection) => {
            let mut failure = Failure::new(rejection.code.into(), rejection.message.clone());
            if let Some(noun) = beside.noun {
                failure = failure.about(noun);
            }
            return failed_at(Some(request_id), Some(answer.revision), &failure);
        }
    };
    let text = request_id.to_string();
    message(&CommittedOut {
        ok: true,
        request_id: &text,
        revision: answer.revision.get(),
        changed,
        thing_revision: beside.thing_revision.map(Revision::get),
        stage: beside.stage.as_str(),
        detail: beside.detail.as_deref(),
        node,
    })
}

/// A failure that did not come from the log.
#[must_use]
pub fn failed(request_id: Option<&RequestId>, failure: &Failure) -> ReplyMessage {
    failed_at(request_id, None, failure)
}

fn failed_at(
    request_id: Option<&RequestId>,
    revision: Option<Revision>,
    failure: &Failure,
) -> ReplyMessage {
    let text = request_id.map(ToString::to_string);
    let body = FailedOut {
        ok: false,
        request_id: text.as_deref(),
        revision: revision.map(Revision::get),
        error: ErrorBody::from(failure),
    };
    let mut reply = message(&body);
    reply.headers.push((SERVICE_ERROR_HEADER, header_text(&failure.message)));
    reply.headers.push((SERVICE_ERROR_CODE_HEADER, failure.code.facts().service_code.to_string()));
    reply
}

/// An answer that holds one item: status, snapshot facts and the like.
#[must_use]
pub fn item<T: Serialize>(request_id: &RequestId, item: &T) -> ReplyMessage {
    let text = request_id.to_string();
    message(&PlainOut { ok: true, request_id: &text, item })
}

/// A body as a message. Our structures always serialise; if one did not, the client would be told.
pub(crate) fn message<T: Serialize>(body: &T) -> ReplyMessage {
    match serde_json::to_vec(body) {
        Ok(payload) => ReplyMessage { headers: Vec::new(), payload },
        Err(error) => {
            let failure = Failure::new(
                ErrorCode::Internal,
                format!("the reply could not be written: {error}"),
            );
            let body = FailedOut {
                ok: false,
                request_id: None,
                revision: None,
                error: ErrorBody::from(&failure),
            };
            ReplyMessage {
                headers: Vec::new(),
                payload: serde_json::to_vec(&body).unwrap_or_default(),
            }
        }
    }
}

/// Header values hold one line of printable ASCII.
fn header_text(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(256).collect()
}

/// An accepted or unchanged command, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The request id it answers.
    pub request_id: String,
    /// The entry that decided.
    pub revision: u64,
    /// The thing's own revision, for the condition of a later command; absent when there is no such
    /// thing (a batch, a deletion) or when it changed again meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thing_revision: Option<u64>,
    /// Whether anything is different now.
    pub changed: bool,
    /// How far it got, or how it ended.
    pub stage: String,
    /// More about that, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The node id given by a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
}

/// A failure, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The request id it answers, where the agent could read it.
    #[serde(default)]
    pub request_id: Option<String>,
    /// Present when the log decided: then the answer is final.
    #[serde(default)]
    pub revision: Option<u64>,
    /// What went wrong.
    pub error: ErrorBody,
}

/// A reply that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the reply is not one of this contract: {0}")]
pub struct ReplyError(pub String);

#[derive(Deserialize)]
struct Envelope {
    ok: bool,
}

#[derive(Deserialize)]
struct PlainIn<T> {
    item: T,
}

/// Reads a reply whose good form is `T`.
pub fn read<T: for<'de> Deserialize<'de>>(payload: &[u8]) -> Result<Result<T, Failed>, ReplyError> {
    let not_ours = |error: serde_json::Error| ReplyError(error.to_string());
    let envelope: Envelope = serde_json::from_slice(payload).map_err(not_ours)?;
    if envelope.ok {
        serde_json::from_slice(payload).map(Ok).map_err(not_ours)
    } else {
        serde_json::from_slice(payload).map(Err).map_err(not_ours)
    }
}

/// Reads a reply that holds one item.
pub fn read_item<T: for<'de> Deserialize<'de>>(
    payload: &[u8],
) -> Result<Result<T, Failed>, ReplyError> {
    read::<PlainIn<T>>(payload).map(|reply| reply.map(|plain| plain.item))
}
