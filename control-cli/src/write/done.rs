//! What came of commands, in the words that are printed.

use std::time::Duration;

use fleet_client::{ClientError, Outcome};
use fleet_protocol::{WaitFor, reply::Committed};
use fleet_state::Stage;
use serde::Serialize;

use crate::{
    exit::{self, Exit, Stop},
    output::{Table, tame},
};

/// What was done, as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    pub(super) id: String,
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// For --if-revision of a later command.
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// From sending to the answer; where a stage was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u128>,
    #[serde(skip)]
    pub(super) stop: Option<Stop>,
}

/// What was waited for, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited {
    pub(super) wait: Option<WaitFor>,
    pub(super) took: Duration,
}

impl Done {
    pub(super) fn of(id: String, outcome: Result<Outcome, ClientError>, waited: Waited) -> Self {
        let beyond = |wait: &WaitFor| *wait != WaitFor::Committed;
        let took_ms = waited.wait.filter(beyond).map(|_| waited.took.as_millis());
        let none = Self {
            id,
            ok: false,
            request_id: None,
            revision: None,
            thing_revision: None,
            changed: None,
            stage: None,
            detail: None,
            error: None,
            took_ms,
            stop: None,
        };
        match outcome {
            Ok(Outcome::Committed(committed)) => {
                let stop = waited.wait.and_then(|wait| missed(&committed, wait));
                Self {
                    ok: true,
                    request_id: Some(committed.request_id),
                    revision: Some(committed.revision),
                    thing_revision: committed.thing_revision,
                    changed: Some(committed.changed),
                    stage: Some(committed.stage),
                    detail: committed.detail,
                    stop,
                    ..none
                }
            }
            Ok(Outcome::Rejected(failed)) => Self {
                request_id: failed.request_id.clone(),
                revision: failed.revision,
                error: Some(failed.error.code.clone()),
                stop: Some(exit::stop_of_failed(&failed)),
                ..none
            },
            Ok(outcome @ Outcome::Unknown(_)) => Self {
                request_id: match &outcome {
                    Outcome::Unknown(unknown) => Some(unknown.request_id.to_string()),
                    Outcome::Committed(_) | Outcome::Rejected(_) => None,
                },
                error: Some("unknown".to_owned()),
                stop: exit::stop_of_outcome(&outcome),
                ..none
            },
            Err(error) => {
                let stop = exit::stop_of_client(&error);
                Self { error: Some("unavailable".to_owned()), stop: Some(stop), ..none }
            }
        }
    }

    fn line(&self) -> [String; 2] {
        let what = match (self.ok, self.revision, self.changed) {
            (true, Some(revision), Some(true)) => match (self.stage.as_deref(), self.took_ms) {
                (Some(stage), Some(took_ms)) => way(revision, stage, took_ms),
                (None | Some("committed"), _) => format!("revision {revision}"),
                (Some(stage), None) => format!("revision {revision} {stage}"),
            },
            // The thing's own revision is the one that a later --if-revision compares.
            (true, Some(_), _) => match self.thing_revision {
                Some(revision) => format!("unchanged at revision {revision}"),
                None => "unchanged".to_owned(),
            },
            (true, None, _) => "done".to_owned(),
            (false, ..) => self.error.clone().unwrap_or_default(),
        };
        [self.id.clone(), what]
    }
}

/// How far a command got that was waited for: `committed r7 · sent · verified 38 ms`.
fn way(revision: u64, stage: &str, took_ms: u128) -> String {
    let stages = match Stage::from_name(stage) {
        None | Some(Stage::Committed) => String::new(),
        // Nothing is acknowledged or verified that was not sent before.
        Some(Stage::Acknowledged | Stage::Verified) => format!(" · sent · {stage}"),
        Some(_) => format!(" · {stage}"),
    };
    format!("committed r{revision}{stages} {took_ms} ms")
}

/// Why a command that is committed does not end as it was asked for.
fn missed(committed: &Committed, wait: WaitFor) -> Option<Stop> {
    if reached(&committed.stage, wait) {
        return None;
    }
    let why = committed.detail.as_ref().map(|why| format!(": {}", tame(why))).unwrap_or_default();
    let (exit, message, hint) = match Stage::from_name(&committed.stage) {
        Some(Stage::Unknown) => (
            Exit::Unknown,
            format!("it is committed, and nobody can say whether the device acted{why}"),
            "Look at the device, then decide whether to ask again.",
        ),
        Some(stage) if stage.is_final() => (
            Exit::StageNotReached,
            format!("it is committed, and ended {}, not {wait}{why}", committed.stage),
            "It goes no further. Look at the device: flotilla device get.",
        ),
        _ => (
            Exit::StageNotReached,
            format!("it is committed, and got as far as {}, not {wait}{why}", committed.stage),
            "What is committed holds; do not send it again, but look at the device later.",
        ),
    };
    Some(Stop::new(exit, message).with_hint(hint))
}

/// A stage that is newer than this program is taken for reached.
fn reached(stage: &str, wait: WaitFor) -> bool {
    Stage::from_name(stage).is_none_or(|stage| wait.met_by(stage) == Some(true))
}

pub(super) fn table(done: &[Done]) -> Table {
    let mut table = Table::new(&[]);
    for done in done {
        table.row(done.line());
    }
    table
}

/// One end for many: done when all are, partly when some are, else as the first that is not.
pub(super) fn stop_of_all(done: &[Done]) -> Option<Stop> {
    let first = done.iter().find_map(|done| done.stop.as_ref())?;
    let failed = done.iter().filter(|done| done.stop.is_some()).count();
    if failed == done.len() {
        return Some(Stop::said(first.exit));
    }
    Some(Stop::new(Exit::Partly, format!("{failed} of {} were not done", done.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(stage: &str) -> Outcome {
        Outcome::Committed(Committed {
            request_id: "r".to_owned(),
            revision: 7,
            thing_revision: Some(7),
            changed: true,
            stage: stage.to_owned(),
            detail: None,
            node: None,
        })
    }

    fn waited(wait: Option<WaitFor>) -> Waited {
        Waited { wait, took: Duration::from_millis(38) }
    }

    #[test]
    fn a_stage_that_was_not_reached_is_told() {
        let verified = waited(Some(WaitFor::Verified));
        let done = Done::of("a".to_owned(), Ok(committed("committed")), verified);
        assert!(done.ok);
        assert_eq!(done.stop.unwrap().exit, Exit::StageNotReached);
        let done = Done::of("a".to_owned(), Ok(committed("verified")), waited(Some(WaitFor::Sent)));
        assert!(done.stop.is_none());
    }

    #[test]
    fn the_way_of_a_command_is_told_with_its_time() {
        let line = |stage: &str, wait: Option<WaitFor>| {
            Done::of("a".to_owned(), Ok(committed(stage)), waited(wait)).line()[1].clone()
        };
        let wait = Some(WaitFor::Verified);
        assert_eq!(line("verified", wait), "committed r7 · sent · verified 38 ms");
        assert_eq!(line("sent", wait), "committed r7 · sent 38 ms");
        assert_eq!(line("expired", wait), "committed r7 · expired 38 ms");
        assert_eq!(line("committed", wait), "committed r7 38 ms");
        assert_eq!(line("committed", None), "revision 7");
        assert_eq!(line("committed", Some(WaitFor::Committed)), "revision 7");
    }

    #[test]
    fn a_list_ends_as_its_parts() {
        let good = || Done::of("a".to_owned(), Ok(committed("committed")), waited(None));
        let bad = || {
            Done::of("b".to_owned(), Err(ClientError::Unavailable("x".to_owned())), waited(None))
        };
        assert!(stop_of_all(&[good(), good()]).is_none());
        assert_eq!(stop_of_all(&[good(), bad()]).unwrap().exit, Exit::Partly);
        assert_eq!(stop_of_all(&[bad(), bad()]).unwrap().exit, Exit::Unavailable);
    }
}
