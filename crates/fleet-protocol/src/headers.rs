//! The options of a request, carried in its NATS headers.
//!
//! Names match without regard to case. Everything that begins with `Flotilla-` must be known and may
//! stand once: a misspelt precondition that was skipped would become an unconditional write, and of
//! two that differ nobody could say which was meant. Headers of others (`Nats-…`, tracing, proxies)
//! pass unread, except those that the contract names.
//!
//! This module knows no NATS type: it takes names and values, and gives them back for a request that
//! is to be sent, so that both directions stand side by side.

use fleet_state::{
    RequestId, Revision, Stage,
    limits::{ACTOR_BYTES_MAX, TTL_MS_MAX, TTL_MS_MIN},
};

use crate::{
    Failure, duration,
    limits::{
        HEADER_VALUE_BYTES_MAX, HEADERS_MAX, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX, TIMEOUT_MS_MIN,
    },
    operation::spelled,
    suggest,
};

spelled! {
    /// Every header of the contract that a request may carry.
    HeaderName {
        /// Made by the client, the same on every retry.
        RequestId = "Flotilla-Request-Id",
        /// Another name of the request id.
        MsgId = "Nats-Msg-Id",
        /// Carry it out only if the thing is at this revision; 0: only if it does not exist.
        IfRevision = "Flotilla-If-Revision",
        /// How long to wait for the answer.
        Timeout = "Flotilla-Timeout",
        /// How long it may take until a command is handed to its device.
        Ttl = "Flotilla-Ttl",
        /// Which stage to wait for.
        Wait = "Flotilla-Wait",
        /// How fresh a read must be.
        Consistency = "Flotilla-Consistency",
        /// Who the sender says it is.
        Actor = "Flotilla-Actor",
        /// W3C trace context.
        Traceparent = "traceparent",
    }
}

spelled! {
    /// How far a command is to get before it is answered.
    WaitFor {
        /// A majority holds it for good and it took effect in the replicated state.
        Committed = "committed",
        /// Handed to the device's link.
        Sent = "sent",
        /// The device said that it took it.
        Acknowledged = "acknowledged",
        /// The device reported the value after it was written.
        Verified = "verified",
    }
}

impl WaitFor {
    /// What a stage means to who waits for this: reached, never to be reached, or `None` while it may still come.
    #[must_use]
    pub fn met_by(self, stage: Stage) -> Option<bool> {
        let reached = match stage {
            Stage::Committed | Stage::Dispatching => self == Self::Committed,
            Stage::Sent => self <= Self::Sent,
            Stage::Acknowledged => self <= Self::Acknowledged,
            Stage::Verified => true,
            Stage::Failed
            | Stage::Expired
            | Stage::Cancelled
            | Stage::Superseded
            | Stage::Unknown => self == Self::Committed,
        };
        if reached { Some(true) } else { stage.is_final().then_some(false) }
    }
}

spelled! {
    /// How fresh a read must be.
    Consistency {
        /// It sees everything that was answered before it was asked.
        Linearizable = "linearizable",
        /// Whatever the agent that answers has, with its age.
        Stale = "stale",
    }
}

/// Prefix of all headers that are ours alone.
const OURS: &str = "flotilla-";

/// The options of one request, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The client's request id.
    pub request_id: Option<RequestId>,
    /// The precondition.
    pub if_revision: Option<Revision>,
    /// How long the sender waits for its answer.
    pub timeout_ms: Option<u64>,
    /// How long it may take until it is handed to its device.
    pub ttl_ms: Option<u64>,
    /// The stage to wait for.
    pub wait: Option<WaitFor>,
    /// How fresh a read must be.
    pub consistency: Option<Consistency>,
    /// Who the sender says it is. It is shown, and authorises nothing.
    pub actor: Option<String>,
    /// W3C trace context, passed on as it came.
    pub traceparent: Option<String>,
}

impl Options {
    /// No options: every default.
    pub const NONE: Self = Self {
        request_id: None,
        if_revision: None,
        timeout_ms: None,
        ttl_ms: None,
        wait: None,
        consistency: None,
        actor: None,
        traceparent: None,
    };

    /// The wait, or its default.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT)
    }

    /// The freshness, or its default.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        self.consistency.unwrap_or(Consistency::Linearizable)
    }

    /// The stage to wait for, or its default.
    #[must_use]
    pub fn wait(&self) -> WaitFor {
        self.wait.unwrap_or(WaitFor::Committed)
    }

    /// Reads the headers of a message.
    pub fn parse<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Failure> {
        let mut options = Self::NONE;
        let mut seen: Vec<HeaderName> = Vec::new();
        for (count, (name, value)) in headers.into_iter().enumerate() {
            if count >= HEADERS_MAX {
                return Err(Failure::malformed(format!(
                    "the message has more than {HEADERS_MAX} headers"
                )));
            }
            let Some(header) = known(name)? else { continue };
            if seen.contains(&header) {
                return Err(Failure::malformed(format!("header {header} is given twice"))
                    .with_hint("Give it once."));
            }
            seen.push(header);
            options.take(header, value.trim())?;
        }
        Ok(options)
    }

    fn take(&mut self, header: HeaderName, value: &str) -> Result<(), Failure> {
        if value.len() > HEADER_VALUE_BYTES_MAX {
            return Err(Failure::malformed(format!(
                "the value of header {header} is longer than {HEADER_VALUE_BYTES_MAX} bytes"
            )));
        }
        match header {
            HeaderName::RequestId | HeaderName::MsgId => self.take_request_id(header, value)?,
            HeaderName::IfRevision => self.if_revision = Some(revision(value)?),
            HeaderName::Timeout => {
                let ms = duration::parse_ms(value, TIMEOUT_MS_MIN, TIMEOUT_MS_MAX)
                    .map_err(|error| invalid(header, &error.to_string()))?;
                self.timeout_ms = Some(ms);
            }
            HeaderName::Ttl => {
                let ms = duration::parse_ms(value, TTL_MS_MIN, TTL_MS_MAX)
                    .map_err(|error| invalid(header, &error.to_string()))?;
                self.ttl_ms = Some(ms);
            }
            HeaderName::Wait => {
                self.wait = Some(word(header, value, WaitFor::from_name, WaitFor::ALL)?)
            }
            HeaderName::Consistency => {
                self.consistency =
                    Some(word(header, value, Consistency::from_name, Consistency::ALL)?);
            }
            HeaderName::Actor => self.actor = Some(actor(value)?),
            // A broken trace context is dropped, as its specification asks; it is not ours to refuse.
            HeaderName::Traceparent => self.traceparent = traceparent(value),
        }
        Ok(())
    }

    fn take_request_id(&mut self, header: HeaderName, value: &str) -> Result<(), Failure> {
        let id: RequestId = value
            .parse()
            .map_err(|error: fleet_state::IdError| invalid(header, &error.to_string()))?;
        if self.request_id.as_ref().is_some_and(|other| *other != id) {
            return Err(Failure::malformed(format!(
                "headers {} and {} name different request ids",
                HeaderName::RequestId,
                HeaderName::MsgId
            ))
            .with_hint("Give one of them."));
        }
        self.request_id = Some(id);
        Ok(())
    }

    /// The headers of a request with these options.
    #[must_use]
    pub fn to_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let mut push = |name: HeaderName, value: Option<String>| {
            headers.extend(value.map(|value| (name.as_str(), value)));
        };
        push(HeaderName::RequestId, self.request_id.as_ref().map(ToString::to_string));
        push(HeaderName::IfRevision, self.if_revision.map(|revision| revision.get().to_string()));
        push(HeaderName::Timeout, self.timeout_ms.map(duration::format_ms));
        push(HeaderName::Ttl, self.ttl_ms.map(duration::format_ms));
        push(HeaderName::Wait, self.wait.map(|stage| stage.to_string()));
        push(HeaderName::Consistency, self.consistency.map(|consistency| consistency.to_string()));
        push(HeaderName::Actor, self.actor.clone());
        push(HeaderName::Traceparent, self.traceparent.clone());
        headers
    }
}

/// Which header of ours a name is; `None` for a header of somebody else.
fn known(name: &str) -> Result<Option<HeaderName>, Failure> {
    let header =
        HeaderName::ALL.iter().copied().find(|header| header.as_str().eq_ignore_ascii_case(name));
    if header.is_some() {
        return Ok(header);
    }
    if !name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS)) {
        return Ok(None);
    }
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    let suggestion =
        suggest::did_you_mean(name, HeaderName::ALL.iter().map(|header| header.as_str()));
    Err(Failure::malformed(format!("header \"{shown}\" is not known{suggestion}"))
        .with_hint("Correct the header's name; an unknown one is refused, so that a misspelt condition is never dropped."))
}

fn invalid(header: HeaderName, why: &str) -> Failure {
    Failure::malformed(format!("header {header}: {why}"))
}

fn revision(value: &str) -> Result<Revision, Failure> {
    // `parse` alone would take "+5".
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).map(Revision::new).ok_or_else(|| {
        let shown: String = value.chars().take(32).flat_map(char::escape_debug).collect();
        invalid(HeaderName::IfRevision, &format!("\"{shown}\" is not a revision")).with_hint(
            "A revision is a whole number as replies give it; 0 means: must not exist yet.",
        )
    })
}

fn word<T: Copy + std::fmt::Display>(
    header: HeaderName,
    value: &str,
    from_name: fn(&str) -> Option<T>,
    all: &[T],
) -> Result<T, Failure> {
    from_name(&value.to_ascii_lowercase()).ok_or_else(|| {
        let known: Vec<String> = all.iter().map(ToString::to_string).collect();
        let shown: String = value.chars().take(32).flat_map(char::escape_debug).collect();
        invalid(header, &format!("\"{shown}\" is not one of {}", known.join(", ")))
    })
}

fn actor(value: &str) -> Result<String, Failure> {
    if value.is_empty() || value.len() > ACTOR_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(invalid(
            HeaderName::Actor,
            &format!("an actor is 1 to {ACTOR_BYTES_MAX} bytes without control characters"),
        ));
    }
    Ok(value.to_owned())
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, or nothing.
fn traceparent(value: &str) -> Option<String> {
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    let hex = value.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (hex && lengths == [2, 32, 16, 2]).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
