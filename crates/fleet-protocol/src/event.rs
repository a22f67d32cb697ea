//! Events: what the site tells everybody who listens, on `control.events.…`.
//!
//! After it applied an entry, the leader publishes one message per change, each with the revision,
//! its place among the changes of that revision (`part` of `parts`) and the thing's previous
//! revision. Every second it tells the current revision on the tick subject. Core NATS may lose any
//! of these. A listener that cares sees the loss (a part missing, a `previous` it never heard of, a
//! tick beyond what it knows) and closes the gap with `control.changes.since.<revision>`.
//!
//! A command that was sent without a reply subject tells its outcome as an event too.

use fleet_state::{Change, Revision};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    ChangeBody, CommandTarget, Failure, ReplyMessage, changes::change_json, local::LocalTold,
    mesh::WaySwitched, reply,
};

/// An event of a change, as a listener reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeEvent {
    /// Which change of its revision this is, from 1.
    pub part: usize,
    /// How many changes the revision has.
    pub parts: usize,
    /// Wall time of the entry.
    pub wall_time_ms: u64,
    /// The change.
    pub change: ChangeBody,
}

/// The current revision, told every second by the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Last applied entry.
    pub revision: u64,
    /// The leader's term.
    pub term: u64,
    /// The leader's node id.
    pub leader: u64,
    /// The leader's wall time.
    pub wall_time_ms: u64,
}

/// What came of a command without a reply subject, as a listener reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeEvent {
    /// The operation, as in `device.update`.
    pub op: String,
    /// The id it was about; a batch has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The reply that nobody was waiting for.
    pub reply: crate::Json,
}

/// Somebody else wrote to a device, as the owner of its link heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForeignWrite {
    /// The device.
    pub device: String,
    /// Its link.
    pub link: String,
    /// The link's owner.
    pub node: u64,
    /// In which epoch.
    pub epoch: u64,
    /// What the newest of them says, as far as it was understood.
    pub values: crate::Json,
    /// It was kept by the broker, and may be old.
    pub retained: bool,
    /// How many there were since it was told last.
    pub count: u64,
    /// When the newest was heard.
    pub wall_time_ms: u64,
}

#[derive(Serialize)]
struct ChangeOut<'a> {
    part: usize,
    parts: usize,
    wall_time_ms: u64,
    change: &'a RawValue,
}

#[derive(Serialize)]
struct OutcomeOut<'a> {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    reply: &'a RawValue,
}

/// The payloads of a revision's changes, in their order.
pub fn change_events(
    revision: Revision,
    wall_time_ms: u64,
    changes: &[Change],
) -> Result<Vec<Vec<u8>>, Failure> {
    let parts = changes.len();
    changes
        .iter()
        .enumerate()
        .map(|(at, change)| {
            let change = change_json(revision, change)?;
            let out =
                ChangeOut { part: at.saturating_add(1), parts, wall_time_ms, change: &change };
            Ok(reply::message(&out).payload)
        })
        .collect()
}

/// The payload of a tick.
#[must_use]
pub fn tick(tick: &Tick) -> Vec<u8> {
    reply::message(tick).payload
}

/// The payload of what a gateway did locally.
#[must_use]
pub fn local_write(told: &LocalTold) -> Vec<u8> {
    reply::message(told).payload
}

/// The payload of somebody else's write.
#[must_use]
pub fn foreign_write(told: &ForeignWrite) -> Vec<u8> {
    reply::message(told).payload
}

/// The payload of a changed way.
#[must_use]
pub fn way_switched(switched: &WaySwitched) -> Vec<u8> {
    reply::message(switched).payload
}

/// The payload of an outcome.
#[must_use]
pub fn outcome(target: &CommandTarget, reply_message: &ReplyMessage) -> Vec<u8> {
    let text = String::from_utf8_lossy(&reply_message.payload).into_owned();
    match RawValue::from_string(text) {
        Ok(raw) => {
            reply::message(&OutcomeOut { op: target.op().as_str(), id: target.id(), reply: &raw })
                .payload
        }
        // A reply is JSON; if it were not, it is told as it is.
        Err(_) => reply_message.payload.clone(),
    }
}
