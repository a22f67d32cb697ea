//! What became of a command: committed, rejected or unknown, and nothing else.

use fleet_protocol::reply::{Committed, Failed};
use fleet_state::RequestId;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds for good.
    Committed(Committed),
    /// It was refused, by the log (with a revision) or before it got there, and changed nothing.
    Rejected(Failed),
    /// Nobody can say. Sending it again with the same request id is safe and gives the answer.
    Unknown(Unknown),
}

/// A command whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The id to send it again with.
    pub request_id: RequestId,
    /// What was last heard.
    pub why: String,
}
