//! One local write: what was commanded at this gateway, how far it got, and what became of it.

use std::sync::Arc;

use fleet_protocol::Json;
use fleet_protocol::local::{LocalEnd, LocalPartBody, LocalStage, LocalWriteBody};
use fleet_state::{DeviceId, RequestId, Revision, Value};

/// The words of operations, on disk and in replies.
const UPDATE: &str = "update";
const STOP: &str = "stop";
const ON_CONTROL_LOSS: &str = "on_control_loss";

/// What is commanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalOp {
    /// Values, wanted by somebody.
    Update,
    /// The device's stopping action.
    Stop {
        /// Its name.
        action: Arc<str>,
    },
    /// Values that the device's policy wants when control is lost.
    OnControlLoss,
}

/// A local write.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalWrite {
    /// Its number at this gateway; numbers only grow.
    pub number: u64,
    /// The device.
    pub device: DeviceId,
    /// What is commanded.
    pub op: LocalOp,
    /// Who is said to have asked for it.
    pub actor: Option<Arc<str>>,
    /// Its request id.
    pub request_id: RequestId,
    /// When it was taken, for display.
    pub wall_ms: u64,
    /// How far it got toward the device.
    pub stage: LocalStage,
    /// More about that, for people.
    pub detail: Arc<str>,
    /// Property by property; one without a property for a stop.
    pub parts: Vec<Part>,
}

/// One property of a local write.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The property; `None`: the stop itself.
    pub property: Option<Arc<str>>,
    /// What was written.
    pub value: Option<Value>,
    /// The wish that this gateway knew then; [`Revision::NONE`] when there was none.
    pub known: Revision,
    /// What became of it.
    pub end: Option<Ended>,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What.
    pub end: LocalEnd,
    /// When, for display.
    pub wall_ms: u64,
    /// What the site wanted of the property then.
    pub committed: Option<Value>,
    /// The revision of that wish, or of what was adopted or put on hold.
    pub revision: Option<Revision>,
}

impl Ended {
    /// An end that needs no more words.
    pub(in crate::device) fn plain(end: LocalEnd, wall_ms: u64) -> Self {
        Self { end, wall_ms, committed: None, revision: None }
    }
}

impl LocalWrite {
    /// Whether something of it is not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.parts.iter().any(|part| part.end.is_none())
    }

    /// It as it stands on disk, in replies and in events.
    #[must_use]
    pub fn body(&self) -> LocalWriteBody {
        let (op, action) = match &self.op {
            LocalOp::Update => (UPDATE, None),
            LocalOp::Stop { action } => (STOP, Some(action.to_string())),
            LocalOp::OnControlLoss => (ON_CONTROL_LOSS, None),
        };
        LocalWriteBody {
            local: self.number,
            device: self.device.to_string(),
            op: op.to_owned(),
            action,
            actor: self.actor.as_ref().map(ToString::to_string),
            request_id: self.request_id.to_string(),
            wall_ms: self.wall_ms,
            stage: self.stage.as_str().to_owned(),
            detail: self.detail.to_string(),
            parts: self.parts.iter().map(Part::body).collect(),
        }
    }

    /// What [`Self::body`] made; `None` when it is something else.
    pub(super) fn of_body(body: LocalWriteBody) -> Option<Self> {
        let op = match (body.op.as_str(), body.action) {
            (UPDATE, None) => LocalOp::Update,
            (STOP, Some(action)) => LocalOp::Stop { action: Arc::from(action) },
            (ON_CONTROL_LOSS, None) => LocalOp::OnControlLoss,
            _ => return None,
        };
        let parts: Option<Vec<Part>> = body.parts.into_iter().map(Part::of_body).collect();
        Some(Self {
            number: body.local,
            device: body.device.parse().ok()?,
            op,
            actor: body.actor.map(Arc::from),
            request_id: body.request_id.parse().ok()?,
            wall_ms: body.wall_ms,
            stage: LocalStage::from_name(&body.stage)?,
            detail: Arc::from(body.detail),
            parts: parts?,
        })
    }
}

impl Part {
    fn body(&self) -> LocalPartBody {
        let ended = self.end.as_ref();
        LocalPartBody {
            property: self.property.as_ref().map(ToString::to_string),
            value: self.value.clone().map(Json),
            known_revision: self.known.get(),
            end: ended.map(|ended| ended.end.as_str().to_owned()),
            end_wall_ms: ended.map(|ended| ended.wall_ms),
            committed: ended.and_then(|ended| ended.committed.clone()).map(Json),
            revision: ended.and_then(|ended| ended.revision).map(Revision::get),
        }
    }

    fn of_body(body: LocalPartBody) -> Option<Self> {
        let end = match (body.end, body.end_wall_ms) {
            (None, None) => None,
            (Some(end), Some(wall_ms)) => Some(Ended {
                end: LocalEnd::from_name(&end)?,
                wall_ms,
                committed: body.committed.map(|json| json.0),
                revision: body.revision.map(Revision::new),
            }),
            (Some(_), None) | (None, Some(_)) => return None,
        };
        Some(Self {
            property: body.property.map(Arc::from),
            value: body.value.map(|json| json.0),
            known: Revision::new(body.known_revision),
            end,
        })
    }
}
