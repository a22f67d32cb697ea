//! What the command ends with. The numbers are part of the contract (`docs/protocol.md`) and scripts
//! rely on them.

use fleet_client::{ClientError, ConnectError, Outcome, Unknown};
use fleet_protocol::{ErrorCode, reply::Failed};

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something went wrong on this side.
    Failed = 1,
    /// The command line, a file or a value is not as it should be.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// It changed meanwhile.
    Precondition = 4,
    /// No server, no leader, no majority.
    Unavailable = 5,
    /// Not allowed.
    Denied = 6,
    /// Some of it was done, some was not.
    Partly = 7,
    /// The site said no.
    Rejected = 8,
    /// Nobody can say whether it was done.
    Unknown = 9,
    /// Done, but the awaited stage was not reached.
    StageNotReached = 10,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// An end that is no success: its code and what is said about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// What happened and why. Empty when everything was said already.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// A mistake in what was typed or in a file.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something larger than its limit, as the site's own `too_large` ends.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(Exit::Rejected, message).with_hint(ErrorCode::TooLarge.facts().hint)
    }

    /// An end about which everything was said already.
    pub(crate) fn said(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The exit of a refusal.
pub(crate) fn of_failed(failed: &Failed) -> Exit {
    match failed.error.code() {
        Some(code) => of_code(code),
        // A code of a newer agent: its retryable says which kind it is.
        None if failed.error.retryable => Exit::Unavailable,
        None => Exit::Rejected,
    }
}

fn of_code(code: ErrorCode) -> Exit {
    match code.facts().exit_code {
        2 => Exit::Usage,
        3 => Exit::NotFound,
        4 => Exit::Precondition,
        5 => Exit::Unavailable,
        6 => Exit::Denied,
        8 => Exit::Rejected,
        9 => Exit::Unknown,
        _ => Exit::Failed,
    }
}

/// The end that a refusal makes.
pub(crate) fn stop_of_failed(failed: &Failed) -> Stop {
    Stop::new(of_failed(failed), failed.error.message.clone()).with_hint(failed.error.hint.clone())
}

/// The end that an outcome makes, unless it is committed.
pub(crate) fn stop_of_outcome(outcome: &Outcome) -> Option<Stop> {
    match outcome {
        Outcome::Committed(_) => None,
        Outcome::Rejected(failed) => Some(stop_of_failed(failed)),
        Outcome::Unknown(unknown) => Some(stop_of_unknown(unknown)),
    }
}

/// The end that not knowing makes.
pub(crate) fn stop_of_unknown(unknown: &Unknown) -> Stop {
    let message = format!("nobody can say whether it was carried out: {}", unknown.why);
    Stop::new(Exit::Unknown, message).with_hint(format!(
        "Send it again with --request-id {}; it takes effect at most once and gives the first answer.",
        unknown.request_id
    ))
}

/// The end that a failed call makes.
pub(crate) fn stop_of_client(error: &ClientError) -> Stop {
    let exit = match error {
        ClientError::Connect(ConnectError::Options(_)) | ClientError::ManySites { .. } => {
            Exit::Usage
        }
        ClientError::Connect(ConnectError::Denied { .. } | ConnectError::DoorClosed { .. })
        | ClientError::Denied { .. } => Exit::Denied,
        ClientError::Connect(ConnectError::Unreachable { .. } | ConnectError::NoDoor { .. })
        | ClientError::NoSite { .. }
        | ClientError::UnknownSite { .. }
        | ClientError::Unavailable(_) => Exit::Unavailable,
        ClientError::Failed(failed) => return stop_of_failed(failed),
        ClientError::TooLarge(_) => Exit::Rejected,
        ClientError::Reply(_) | ClientError::Nats(_) | ClientError::Local(_) => Exit::Failed,
    };
    let stop = Stop::new(exit, error.to_string());
    if matches!(error, ClientError::Unavailable(_)) {
        return stop.with_hint("Nothing was changed. See which agents are up: flotilla status.");
    }
    stop
}

/// The end that any error makes; `None` when nobody reads what we write any more.
pub(crate) fn stop_of(error: anyhow::Error) -> Option<Stop> {
    let broken_pipe = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return None;
    }
    let error = match error.downcast::<Stop>() {
        Ok(stop) => return Some(stop),
        Err(error) => error,
    };
    Some(match error.downcast_ref::<ClientError>() {
        Some(client) => stop_of_client(client),
        None => Stop::new(Exit::Failed, format!("{error:#}")),
    })
}

#[cfg(test)]
mod tests {
    use fleet_protocol::reply::ErrorBody;

    use super::*;

    fn failed(code: &str, retryable: bool) -> Failed {
        let error = ErrorBody {
            code: code.to_owned(),
            message: "m".to_owned(),
            hint: "h".to_owned(),
            retryable,
        };
        Failed { request_id: None, revision: None, error }
    }

    #[test]
    fn every_code_has_the_exit_that_the_contract_says() {
        for code in ErrorCode::ALL {
            assert_eq!(of_code(*code).code(), code.facts().exit_code, "{code}");
        }
    }

    #[test]
    fn codes_of_newer_agents_end_by_their_kind() {
        assert_eq!(of_failed(&failed("newer", true)), Exit::Unavailable);
        assert_eq!(of_failed(&failed("newer", false)), Exit::Rejected);
    }

    #[test]
    fn an_unknown_outcome_gives_the_request_id_for_the_retry() {
        let request_id = "r-1".parse().unwrap();
        let stop = stop_of_outcome(&Outcome::Unknown(Unknown { request_id, why: "x".to_owned() }))
            .unwrap();
        assert_eq!(stop.exit, Exit::Unknown);
        assert!(stop.hint.unwrap().contains("--request-id r-1"));
    }

    #[test]
    fn errors_end_by_what_they_are() {
        let unreachable =
            ConnectError::Unreachable { servers: vec!["s".to_owned()], why: "w".to_owned() };
        let cases: [(anyhow::Error, Exit); 6] = [
            (ClientError::Connect(unreachable).into(), Exit::Unavailable),
            (
                ClientError::ManySites { server: String::new(), sites: Vec::new() }.into(),
                Exit::Usage,
            ),
            (ClientError::Denied { subject: String::new() }.into(), Exit::Denied),
            (ClientError::Failed(failed("revision_mismatch", false)).into(), Exit::Precondition),
            (Stop::said(Exit::Partly).into(), Exit::Partly),
            (anyhow::anyhow!("x").context("y"), Exit::Failed),
        ];
        for (error, exit) in cases {
            let shown = format!("{error:?}");
            assert_eq!(stop_of(error).unwrap().exit, exit, "{shown}");
        }
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(stop_of(anyhow::Error::from(pipe).context("writing")).is_none());
    }
}
