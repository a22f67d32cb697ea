//! What is commanded at one gateway while no majority can be reached, and what is told of it.
//!
//! A *local write* never goes through the log, so it has no subject: it is taken in at the Unix
//! socket of the gateway that the device is wired to, and nowhere else. What became of it is a
//! question to a node like any other ([`crate::NodeVerb::Partition`]).

use fleet_state::{Command, DeviceId, Object, Proposal, RequestId, Value};
use serde::{Deserialize, Serialize};

use crate::door::DOOR_ROOT;
use crate::operation::spelled;
use crate::reply::{self, ReplyMessage};
use crate::subjects::SubjectError;
use crate::{CommandTarget, ErrorCode, Failure, Json, Options, WaitFor, command, limits, suggest};

/// What such paths begin with, below the root.
const LOCAL: &str = "/local/device/";
const UPDATE: &str = "update";
const STOP: &str = "stop";

/// What is commanded locally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTarget {
    /// Values for a device; the payload is an object.
    Update(DeviceId),
    /// The action that brings a device to a standstill; no payload.
    Stop(DeviceId),
}

impl LocalTarget {
    /// Reads a path; `None` when it does not command anything locally.
    pub fn parse(path: &str) -> Option<Result<Self, SubjectError>> {
        let rest = path.strip_prefix(DOOR_ROOT)?.strip_prefix(LOCAL)?;
        let (verb, id) = rest.split_once('/').unwrap_or((rest, ""));
        let make = match verb {
            UPDATE => Self::Update,
            STOP => Self::Stop,
            other => {
                let suggestion = suggest::did_you_mean(other, [UPDATE, STOP]);
                return Some(Err(SubjectError::Unknown { part: other.to_owned(), suggestion }));
            }
        };
        let id = id.parse::<DeviceId>();
        Some(id.map(make).map_err(|error| SubjectError::Id(error.to_string())))
    }

    /// The path that says this.
    #[must_use]
    pub fn path(&self) -> String {
        let (verb, id) = match self {
            Self::Update(id) => (UPDATE, id),
            Self::Stop(id) => (STOP, id),
        };
        format!("{DOOR_ROOT}{LOCAL}{verb}/{id}")
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        match self {
            Self::Update(id) | Self::Stop(id) => id,
        }
    }
}

/// The values that a payload commands; an object without members for a stop, which takes none.
///
/// # Errors
/// What is wrong with the payload: what is wrong with one of a command, and what can't be local.
pub fn values(
    target: &LocalTarget,
    payload: &[u8],
    request_id: &RequestId,
) -> Result<Object, Failure> {
    let id = match target {
        LocalTarget::Update(id) => id.clone(),
        LocalTarget::Stop(_) if payload.is_empty() => return Ok(Object::new()),
        LocalTarget::Stop(_) => {
            return Err(Failure::malformed("a stop takes no payload").with_hint("Leave it empty."));
        }
    };
    if payload.len() > limits::LOCAL_BYTES_MAX {
        let what = format!(
            "the values have {} bytes; a local write takes {} at most",
            payload.len(),
            limits::LOCAL_BYTES_MAX
        );
        return Err(Failure::new(ErrorCode::TooLarge, what));
    }
    let command = command::parse(&CommandTarget::DeviceUpdate(id), payload, None)?;
    let request_id = request_id.clone();
    let proposal = Proposal { request_id, if_revision: None, actor: None, command };
    command::check(&proposal)?;
    let Command::DeviceUpdate { patch, .. } = proposal.command else {
        return Err(Failure::malformed("the payload is no object of values"));
    };
    if patch.is_empty() {
        return Err(Failure::malformed("the object is empty, so there is nothing to write"));
    }
    if let Some((property, _)) = patch.iter().find(|(_, value)| **value == Value::Null) {
        return Err(Failure::malformed(format!(
            "{property:?} is null: what the site wants can't be taken away locally"
        )));
    }
    Ok(patch)
}

#[derive(Serialize)]
struct DoneOut {
    ok: bool,
    #[serde(flatten)]
    done: LocalDone,
}

/// The reply to a local write.
#[must_use]
pub fn done(request_id: &RequestId, local: u64, stage: LocalStage, detail: &str) -> ReplyMessage {
    let mut told = "local, not committed".to_owned();
    if !detail.is_empty() {
        told.push_str(": ");
        told.push_str(detail);
    }
    let (request_id, stage) = (request_id.to_string(), stage.as_str().to_owned());
    reply::message(&DoneOut {
        ok: true,
        done: LocalDone { request_id, local, stage, detail: told },
    })
}

/// Refuses options that mean nothing to a local write: its sender counts on them.
///
/// # Errors
/// Which option, and why.
pub fn check_options(options: &Options) -> Result<(), Failure> {
    let idle = [
        ("Flotilla-If-Revision", options.if_revision.is_some()),
        ("Flotilla-Ttl", options.ttl_ms.is_some()),
        ("Flotilla-Consistency", options.consistency.is_some()),
    ];
    match idle.into_iter().find(|(_, given)| *given) {
        Some((header, _)) => {
            let what = format!("header {header} has no meaning for a local write");
            Err(Failure::new(ErrorCode::Malformed, what).with_hint("Leave it out."))
        }
        None => Ok(()),
    }
}

spelled! {
    /// How far a local write got.
    LocalStage {
        /// It is on this gateway's disk; nothing has left for the device.
        Local = "local",
        /// It may be on its way to the device.
        Dispatching = "dispatching",
        /// Handed to the device's protocol.
        Sent = "sent",
        /// The device said that it took it.
        Acknowledged = "acknowledged",
        /// The device reported the value after it was written.
        Verified = "verified",
        /// The device or its connector refused it, or the device shows something else.
        Failed = "failed",
        /// The agent was restarted before it was handed over: it never happened.
        Expired = "expired",
        /// A newer local write took its place.
        Superseded = "superseded",
        /// Nobody can tell whether the device acted.
        Unknown = "unknown",
    }
}

impl LocalStage {
    /// Whether nothing can follow.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Verified | Self::Failed | Self::Expired | Self::Superseded | Self::Unknown
        )
    }

    /// Whether the device may have acted.
    #[must_use]
    pub fn may_have_acted(self) -> bool {
        !matches!(self, Self::Local | Self::Expired)
    }

    /// What a stage means to who waits: reached, never to be reached, or `None` while it may still
    /// come.
    #[must_use]
    pub fn meets(self, wait: WaitFor) -> Option<bool> {
        let reached = match self {
            Self::Local | Self::Dispatching => wait == WaitFor::Committed,
            Self::Sent => wait <= WaitFor::Sent,
            Self::Acknowledged => wait <= WaitFor::Acknowledged,
            Self::Verified => true,
            Self::Failed | Self::Expired | Self::Superseded | Self::Unknown => {
                wait == WaitFor::Committed
            }
        };
        if reached { Some(true) } else { self.is_final().then_some(false) }
    }
}

spelled! {
    /// What became of a property that was written locally, once a majority could be reached again.
    LocalEnd {
        /// It is what the site wants of the device anyway.
        Agreed = "agreed",
        /// It stays in the device, and is shown as drift until somebody wishes anew.
        Kept = "kept",
        /// It became what the site wants.
        Adopted = "adopted",
        /// What the site wants is written again.
        Overruled = "overruled",
        /// The site wants nothing of this property, so there was nothing to merge.
        Unmanaged = "unmanaged",
        /// A newer local write took its place.
        Superseded = "superseded",
        /// It never got to the device.
        NotWritten = "not_written",
        /// The device was put on hold in the log, so that nothing moves it before somebody releases it.
        Held = "held",
        /// The device is gone, or is not wired to this gateway any more.
        Gone = "gone",
    }
}

/// The answer to a local write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalDone {
    /// The request id it answers.
    pub request_id: String,
    /// Its number at this gateway.
    pub local: u64,
    /// How far it got: a [`LocalStage`].
    pub stage: String,
    /// What that means, for people.
    pub detail: String,
}

/// What a gateway tells when it took a local write, and when that came to an end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalTold {
    /// The node.
    pub node: u64,
    /// The write as it stands now.
    pub write: LocalWriteBody,
}

/// What one node did while no majority could be reached: the answer to `partition`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodePartition {
    /// The node.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// For how long it has known no leader, while that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaderless_ms: Option<u64>,
    /// Local writes that wait for a majority.
    pub open: usize,
    /// Its local writes, the newest first.
    pub writes: Vec<LocalWriteBody>,
    /// There are older ones that had no room here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Why nothing can be written locally, or what is known to be missing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One local write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalWriteBody {
    /// Its number at this node.
    pub local: u64,
    /// The device.
    pub device: String,
    /// `update`, `stop`, or `on_control_loss`: what the device's policy asks for.
    pub op: String,
    /// The stopping action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Who is said to have asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Its request id.
    pub request_id: String,
    /// When it was taken, by the clock of its gateway.
    pub wall_ms: u64,
    /// How far it got toward the device: a [`LocalStage`].
    pub stage: String,
    /// More about that, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What became of it, property by property; one without a property for a stop.
    pub parts: Vec<LocalPartBody>,
}

/// What became of one property of a local write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalPartBody {
    /// The property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// What was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// The revision of the wish that this gateway knew then; 0: none.
    pub known_revision: u64,
    /// A [`LocalEnd`], once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// When that was, by the clock of its gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_wall_ms: Option<u64>,
    /// What the site wanted of the property when it was merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Json>,
    /// The revision of that wish, or of what was adopted or put on hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_commands_locally_or_not_at_all() {
        let read = |path: &str| LocalTarget::parse(path);
        let lamp: DeviceId = "hall2.lamp-1".parse().unwrap();
        for target in [LocalTarget::Update(lamp.clone()), LocalTarget::Stop(lamp)] {
            assert_eq!(read(&target.path()), Some(Ok(target.clone())));
        }
        for path in
            ["/v1/local/device/set/x", "/v1/local/device/update/", "/v1/local/device/stop/A"]
        {
            assert!(read(path).unwrap().is_err(), "{path}");
        }
        assert_eq!(read("/v1/commands/device/update/x"), None);
        assert_eq!(read("/local/device/update/x"), None);
    }

    #[test]
    fn who_waits_hears_when_there_is_nothing_to_wait_for() {
        assert_eq!(LocalStage::Local.meets(WaitFor::Committed), Some(true));
        assert_eq!(LocalStage::Local.meets(WaitFor::Sent), None);
        assert_eq!(LocalStage::Acknowledged.meets(WaitFor::Sent), Some(true));
        assert_eq!(LocalStage::Failed.meets(WaitFor::Sent), Some(false));
        assert_eq!(LocalStage::Verified.meets(WaitFor::Verified), Some(true));
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let read = |name, value| Options::parse([(name, value)]).unwrap();
        assert!(check_options(&read("Flotilla-Ttl", "5s")).is_err());
        assert!(check_options(&read("Flotilla-If-Revision", "5")).is_err());
        assert!(check_options(&read("Flotilla-Wait", "verified")).is_ok());
        assert!(check_options(&read("Flotilla-Actor", "jo")).is_ok());
    }
}
