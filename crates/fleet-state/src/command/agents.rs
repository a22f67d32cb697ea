//! What agents propose themselves: who owns a link, and what an owner tells of its devices.
//!
//! None of these can be asked for by a user. Each but the assignment carries the epoch of the link as its proposer
//! knows it. Once the link has changed hands, the entry is refused as stale and changes nothing, however late it
//! comes; so these need no memory of request ids and have none.

use std::sync::Arc;

use crate::ids::{DeviceId, LinkId, NodeId, RequestId, Revision};
use crate::record::StageFailure;
use crate::stage::Stage;
use crate::value::Value;

/// What agents propose themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentCommand {
    /// Gives a link to a node, or to nobody. Proposed by the leader, which has seen that nobody else still writes.
    LinkAssign {
        /// Which.
        link: LinkId,
        /// The epoch that ends.
        expect_epoch: u64,
        /// Who owns it from now on.
        owner: Option<NodeId>,
    },
    /// Gives a link back. Proposed by its owner, which has closed its connection.
    LinkRelease {
        /// Which.
        link: LinkId,
        /// The owner's epoch.
        epoch: u64,
    },
    /// Tells how far what is desired got.
    Stages {
        /// The link that carries the devices.
        link: LinkId,
        /// The owner's epoch.
        epoch: u64,
        /// Device by device.
        items: Vec<StageItem>,
    },
    /// Asks for what may end otherwise, before the first byte of it leaves.
    Claim {
        /// The link that carries the devices.
        link: LinkId,
        /// The owner's epoch.
        epoch: u64,
        /// What is asked for.
        items: Vec<ClaimItem>,
    },
    /// Tells what became of an invocation.
    InvocationEnd {
        /// The link that carries the device.
        link: LinkId,
        /// The owner's epoch.
        epoch: u64,
        /// Which.
        id: RequestId,
        /// Sent, acknowledged, verified, failed or unknown.
        stage: Stage,
        /// More about it, for people.
        detail: Arc<str>,
    },
    /// Makes what a device says of itself desired.
    Adopt {
        /// The link that carries the device.
        link: LinkId,
        /// The owner's epoch.
        epoch: u64,
        /// Which device.
        device: DeviceId,
        /// Which property.
        property: Arc<str>,
        /// What it says.
        value: Value,
        /// The wish that the owner compared it with; a newer one stays.
        seen_revision: Revision,
    },
}

/// How far what is desired of one device got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageItem {
    /// Which device.
    pub device: DeviceId,
    /// Every wish up to here was handed over, or is done with.
    pub sent: Revision,
    /// Every wish up to here was acknowledged by the device.
    pub acknowledged: Revision,
    /// Every wish up to here was seen in the device.
    pub verified: Revision,
    /// Commands that the marks say nothing of, with what keeps each of them, as far as the log doesn't know it yet.
    pub failures: Vec<StageFailure>,
    /// Commands that nothing keeps any more.
    pub overcome: Vec<Revision>,
}

/// Something that an owner asks for before the first byte of it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimItem {
    /// What one command with a time limit wants of a device.
    Wish {
        /// Which device.
        device: DeviceId,
        /// The revision of the wishes.
        revision: Revision,
    },
    /// An invocation.
    Invocation(RequestId),
}

impl AgentCommand {
    /// The link that it is about.
    #[must_use]
    pub fn link(&self) -> &LinkId {
        match self {
            AgentCommand::LinkAssign { link, .. }
            | AgentCommand::LinkRelease { link, .. }
            | AgentCommand::Stages { link, .. }
            | AgentCommand::Claim { link, .. }
            | AgentCommand::InvocationEnd { link, .. }
            | AgentCommand::Adopt { link, .. } => link,
        }
    }
}
