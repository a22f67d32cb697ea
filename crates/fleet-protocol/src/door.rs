//! The contract at an agent's own door: the same requests over HTTP/1.1, on a Unix socket or on
//! the loopback.
//!
//! A path is a subject without the site's prefix, `/v1/` before it, and slashes between the words
//! up to the id, which stays as it is:
//!
//! ```text
//! flotilla.home.control.commands.device.update.hall2.lamp-1
//!               POST /v1/commands/device/update/hall2.lamp-1
//! ```
//!
//! So every subject that can be asked has one path, and a path says one subject or none. Headers,
//! bodies and codes are those of NATS; the number of an error code is the status of the response.
//! What lies beyond a single answer (a stream of changes, events) is sent as server-sent events.

use fleet_state::Revision;
use serde::{Deserialize, Serialize};

use crate::subjects::SubjectError;
use crate::{Area, AreaError, Noun, Subjects};

/// The version of the contract, and what every path begins with.
pub const DOOR_ROOT: &str = "/v1";
/// File name of the socket in an agent's data directory.
pub const DOOR_SOCKET: &str = "door.sock";
/// The content type of a stream.
pub const EVENT_STREAM: &str = "text/event-stream";
/// Slashes in the path of a question for changes, which names a revision before the noun.
const CHANGES_SLASHES: usize = 4;
/// Slashes in all other paths.
const SLASHES: usize = 3;

/// Who answers at a door: the answer to `GET /v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorFacts {
    /// The site.
    pub site: String,
    /// The site's uid.
    pub uid: String,
    /// The node's id.
    pub node: u64,
    /// The node's name.
    pub name: String,
    /// Version of the agent.
    pub version: String,
    /// Version of the contract.
    pub protocol: u16,
    /// The NATS servers that the agent uses, without secrets; for join tokens.
    #[serde(default)]
    pub nats_urls: Vec<String>,
}

/// Which events a path asks for: all, those of a noun, or those of a noun in an area.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsTarget {
    /// Only of this noun.
    pub noun: Option<Noun>,
    /// Only in this area.
    pub area: Option<Area>,
}

impl EventsTarget {
    /// Reads a path; `None` when it does not ask for events.
    pub fn parse(path: &str) -> Option<Result<Self, SubjectError>> {
        let rest = path.strip_prefix(DOOR_ROOT)?.strip_prefix("/events")?;
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Some(Ok(Self::default())),
            None => None,
            Some(rest) => Some(Self::of(rest)),
        }
    }

    fn of(rest: &str) -> Result<Self, SubjectError> {
        let (noun, area) = match rest.split_once('/') {
            Some((noun, area)) => (noun, Some(area)),
            None => (rest, None),
        };
        let found = Noun::from_name(noun).filter(|noun| *noun != Noun::Site);
        let noun = found.ok_or_else(|| SubjectError::Unknown {
            part: noun.to_owned(),
            suggestion: Noun::suggestion(noun),
        })?;
        let area = area.map(str::parse).transpose();
        let area = area.map_err(|error: AreaError| SubjectError::Id(error.to_string()))?;
        Ok(Self { noun: Some(noun), area })
    }
}

/// What a path is read and written with: how requests of this kind are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorMethods {
    /// `POST` only, because something may change.
    Post,
    /// `GET`, or `POST` when there is a body.
    GetOrPost,
}

impl Subjects {
    /// The path of a subject; `None` when it isn't one of this site's that can be asked. A door is
    /// one agent's, so what only the leader shall take has none.
    #[must_use]
    pub fn path(&self, subject: &str) -> Option<String> {
        let rest = self.below_control(subject)?;
        let slashes = match self.area_of(subject) {
            Some("changes") => CHANGES_SLASHES,
            Some("leader") => return None,
            Some(_) | None => SLASHES,
        };
        Some(format!("{DOOR_ROOT}/{}", rest.replacen('.', "/", slashes)))
    }

    /// The subject that a path says.
    ///
    /// # Errors
    /// When the path is not one that [`Subjects::path`] makes.
    pub fn subject_of_path(&self, path: &str) -> Result<String, SubjectError> {
        let words = path.strip_prefix(DOOR_ROOT).and_then(|rest| rest.strip_prefix('/'));
        let unknown = |suggestion| SubjectError::Unknown { part: path.to_owned(), suggestion };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':');
        let Some(words) = words.filter(|words| words.chars().all(plain)) else {
            return Err(unknown(format!("; paths begin with {DOOR_ROOT}/")));
        };
        let subject = self.below_site(&words.replace('/', "."));
        match self.path(&subject) {
            Some(made) if made == path => Ok(subject),
            Some(made) => Err(unknown(format!("; did you mean {made}?"))),
            None => Err(unknown(String::new())),
        }
    }

    /// How a subject is sent to a door.
    #[must_use]
    pub fn methods(&self, subject: &str) -> DoorMethods {
        match self.area_of(subject) {
            Some("query" | "changes" | "node" | "all" | "events") => DoorMethods::GetOrPost,
            Some(_) | None => DoorMethods::Post,
        }
    }
}

/// The `id` of a page of changes in a stream: its revision, and the thing within it that was told
/// last, if there are more. A client that comes back sends it as `Last-Event-ID`.
#[must_use]
pub fn event_id(revision: u64, after: Option<&str>) -> String {
    match after {
        Some(after) => format!("{revision}/{after}"),
        None => revision.to_string(),
    }
}

/// Reads what [`event_id`] wrote.
#[must_use]
pub fn parse_event_id(text: &str) -> Option<(Revision, Option<&str>)> {
    let (revision, after) = match text.split_once('/') {
        Some((revision, after)) => (revision, Some(after)),
        None => (text, None),
    };
    let number: u64 = revision.parse().ok()?;
    (number.to_string() == revision).then(|| (Revision::new(number), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects() -> Subjects {
        Subjects::new(&"home".parse().unwrap())
    }

    #[test]
    fn every_subject_has_one_path_and_back() {
        for (subject, path) in [
            ("commands.device.update.hall2.lamp-1", "/v1/commands/device/update/hall2.lamp-1"),
            ("commands.param.set.a.b.c.d", "/v1/commands/param/set/a.b.c.d"),
            ("commands.batch", "/v1/commands/batch"),
            ("query.site.get", "/v1/query/site/get"),
            ("query.device.list", "/v1/query/device/list"),
            ("query.device.list.hall2.east", "/v1/query/device/list/hall2.east"),
            ("changes.since.42", "/v1/changes/since/42"),
            ("changes.since.42.device.hall2.east", "/v1/changes/since/42/device/hall2.east"),
            ("admin.member.join", "/v1/admin/member/join"),
            ("node.gw-1.status", "/v1/node/gw-1/status"),
            ("all.status", "/v1/all/status"),
        ] {
            let subject = format!("flotilla.home.control.{subject}");
            assert_eq!(subjects().path(&subject).as_deref(), Some(path));
            assert_eq!(subjects().subject_of_path(path).as_deref(), Ok(subject.as_str()));
        }
        assert_eq!(subjects().path("flotilla.other.control.all.status"), None);
        assert_eq!(subjects().path("flotilla.home.raft.1"), None);
    }

    #[test]
    fn a_path_that_says_nothing_is_refused() {
        let refused = |path: &str| subjects().subject_of_path(path).unwrap_err().to_string();
        for path in ["", "/", "/v1", "/v2/query/site/get", "/v1x/query", "/v1/%2e%2e/x", "/v1/ä"] {
            assert!(refused(path).contains("does not exist"), "{path}");
        }
        let other = refused("/v1/commands/device/update/hall2/lamp-1");
        assert!(other.contains("did you mean /v1/commands/device/update/hall2.lamp-1?"), "{other}");
        for path in ["/v1/commands.device/update/x", "/v1/query.site.get"] {
            assert!(refused(path).contains("did you mean"), "{path}");
        }
    }

    #[test]
    fn events_are_asked_for_by_noun_and_area() {
        let read = |path: &str| EventsTarget::parse(path);
        assert_eq!(read("/v1/events"), Some(Ok(EventsTarget::default())));
        let some = read("/v1/events/device/hall2.east").unwrap().unwrap();
        assert_eq!((some.noun, some.area), (Some(Noun::Device), "hall2.east".parse().ok()));
        for path in ["/v1/events/", "/v1/events/site", "/v1/events/lamp", "/v1/events/device/A"] {
            assert!(read(path).unwrap().is_err(), "{path}");
        }
        for path in ["/v1/query/site/get", "/v1/eventsx", "/events"] {
            assert_eq!(read(path), None);
        }
    }

    #[test]
    fn a_stream_goes_on_where_it_was_left() {
        assert_eq!(parse_event_id(&event_id(42, None)), Some((Revision::new(42), None)));
        let id = event_id(42, Some("device.hall2.x"));
        assert_eq!(parse_event_id(&id), Some((Revision::new(42), Some("device.hall2.x"))));
        for text in ["", "x", "+5", "05", "/x"] {
            assert_eq!(parse_event_id(text), None, "{text}");
        }
    }
}
