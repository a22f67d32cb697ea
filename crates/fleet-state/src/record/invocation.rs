//! One-shot actions and what became of them.

use std::sync::Arc;

use crate::ids::{DeviceId, LinkId, NodeId, RequestId, Revision};
use crate::stage::Stage;
use crate::value::Object;

/// A one-shot action of a device: handed over at most once, unless it is idempotent, and never after its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its key: the request that asked for it.
    pub id: RequestId,
    /// Which device.
    pub device: DeviceId,
    /// What it is to do.
    pub action: Arc<str>,
    /// With what.
    pub args: Object,
    /// Who is said to ask.
    pub actor: Option<Arc<str>>,
    /// It must be dispatching before this log time.
    pub deadline_log_ms: Option<u64>,
    /// It may be carried out twice without harm.
    pub idempotent: bool,
    /// How far it got.
    pub stage: Stage,
    /// Who took it, when somebody did.
    pub dispatch: Option<Dispatch>,
    /// More about its end, for people.
    pub detail: Arc<str>,
    /// When it was asked for.
    pub committed: Revision,
    /// When it last changed.
    pub revision: Revision,
    /// Wall time of the last change, for display.
    pub changed_wall_ms: u64,
}

/// Who took an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// The link.
    pub link: LinkId,
    /// Its owner then.
    pub node: NodeId,
    /// The owner's epoch.
    pub epoch: u64,
}
