//! What is asked of devices and handed to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_device::ReadErrorKind;
use fleet_state::{DeviceId, Object, RequestId, Revision, Value};
use thiserror::Error;
use tokio::time::Instant;

/// How long a device may take for an answer to anything, at most. What can't fit into it is refused
/// when it is registered.
pub const ANSWER_MS_MAX: u64 = 5_000;

/// A question to a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Which.
    pub device: DeviceId,
    /// What is wanted; `None`: all that can be read. A session may ask for more.
    pub properties: Option<BTreeSet<Arc<str>>>,
    /// After it nobody waits for the answer.
    pub deadline: Instant,
}

/// Why a device gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ReadError {
    /// What kind of reason.
    pub kind: ReadErrorKind,
    /// The reason, for people.
    pub message: String,
}

/// Values for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Which.
    pub device: DeviceId,
    /// The values; never empty.
    pub values: Object,
    /// The newest revision among them.
    pub revision: Revision,
    /// The epoch of the link.
    pub epoch: u64,
    /// Grows with everything handed over in this epoch.
    pub sequence: u64,
    /// After it the future is dropped, and nothing may leave any more: the lease may end with it.
    pub deadline: Instant,
    /// After it the values are not wanted any more: whatever keeps messages on the way must not
    /// keep this one longer.
    pub expires: Option<Instant>,
}

/// A one-shot for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Invoke {
    /// Which.
    pub device: DeviceId,
    /// What to do.
    pub action: Arc<str>,
    /// How.
    pub args: Value,
    /// The request that it came from.
    pub request_id: RequestId,
    /// The epoch of the link.
    pub epoch: u64,
    /// Grows with everything handed over in this epoch.
    pub sequence: u64,
    /// After it the future is dropped, and nothing may leave any more: the lease may end with it.
    pub deadline: Instant,
    /// After it it must not happen any more.
    pub expires: Option<Instant>,
}
