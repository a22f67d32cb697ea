//! What somebody may want changed.
//!
//! A [`Proposal`] is a command with the request id that makes a retry safe, an optional precondition and the claimed
//! actor. Ids inside are validated types already. Sizes and counts are checked by [`Proposal::validate`], which the
//! edge calls before it proposes and `apply` calls again: what is in the log may have been put there by an older or
//! a broken edge.
//!
//! The encoding (`command/encode.rs`) gives each command a number that is never used for another one.

mod agents;
mod device;
mod encode;
mod encode_agents;
mod encode_device;
mod encode_link;
mod kind;
mod placement;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{DeviceId, LinkId, NodeId, NodeName, ParamKey, RequestId, Revision, TokenId};
use crate::value::{Object, Value};

pub use agents::{AgentCommand, ClaimItem, StageItem};
pub use device::{DeviceSpec, DriftPolicy, Mode, OnControlLoss, OnDrift, OnReturn, Policy};
pub(crate) use encode::{decode_keys, encode_keys};
pub(crate) use encode_device::decode_device_spec;
pub(crate) use encode_link::decode_link_spec;
pub use kind::CommandKind;
pub use placement::{LabelPatch, NODE_LABEL, Placement};
pub use validate::Invalid;
pub(crate) use validate::check_wishes;

/// Keys and values in free text, sorted by key.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// What somebody wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes a link, or gives it another specification.
    LinkRegister {
        /// Which.
        id: LinkId,
        /// What it is to be.
        spec: LinkSpec,
    },
    /// Removes a link that no device uses.
    LinkDelete {
        /// Which.
        id: LinkId,
    },
    /// Asks the owner of a link to let go of it.
    LinkMove {
        /// Which.
        id: LinkId,
        /// Who is to have it next; whoever is best, where nobody is named.
        to: Option<NodeName>,
    },
    /// Stops or resumes all writing to the devices of a link.
    LinkPause {
        /// Which.
        id: LinkId,
        /// Whether nothing is to be written.
        paused: bool,
    },
    /// Makes a device, or gives it another specification and leaves its desired state as it is.
    DeviceRegister {
        /// Which.
        id: DeviceId,
        /// What it is to be.
        spec: DeviceSpec,
    },
    /// Merges a patch (RFC 7396) into the desired state of a device.
    DeviceUpdate {
        /// Which.
        id: DeviceId,
        /// The patch.
        patch: Object,
        /// How long it may take until it is handed over; what was desired before comes back after that.
        ttl_ms: Option<u64>,
    },
    /// Replaces the desired state of a device.
    DeviceReplace {
        /// Which.
        id: DeviceId,
        /// The new desired state.
        desired: Object,
        /// How long it may take until it is handed over; what was desired before comes back after that.
        ttl_ms: Option<u64>,
    },
    /// Removes a device.
    DeviceDelete {
        /// Which.
        id: DeviceId,
    },
    /// Says whether a device is written to.
    DeviceMode {
        /// Which.
        id: DeviceId,
        /// How.
        mode: Mode,
    },
    /// Stops all writing to a device.
    DeviceHold {
        /// Which.
        id: DeviceId,
        /// Why.
        reason: Arc<str>,
    },
    /// Ends a hold.
    DeviceRelease {
        /// Which.
        id: DeviceId,
    },
    /// Asks a device to do something once.
    DeviceInvoke {
        /// Which.
        id: DeviceId,
        /// What.
        action: Arc<str>,
        /// With what.
        args: Object,
        /// How long it may take until it is handed over; it never is after that.
        ttl_ms: Option<u64>,
    },
    /// Takes a command back that was not handed over yet: an invocation, or wishes with a time limit.
    CommandCancel {
        /// The request that asked for it.
        request: RequestId,
    },
    /// Sets a parameter.
    ParamSet {
        /// Which.
        key: ParamKey,
        /// To what.
        value: Value,
    },
    /// Removes a parameter.
    ParamDelete {
        /// Which.
        key: ParamKey,
    },
    /// Several of the commands above, all or none; later ones see what earlier ones did.
    Batch(Vec<BatchItem>),
    /// Makes a join token.
    TokenCreate {
        /// Its public id.
        id: TokenId,
        /// What proofs are made with; see [`crate::credential::token_key`].
        key: [u8; 32],
        /// How long it is valid, in log time.
        ttl_ms: u64,
        /// How many nodes may join with it.
        uses: u32,
        /// Free text.
        note: Arc<str>,
    },
    /// Removes a join token.
    TokenRevoke {
        /// Which.
        id: TokenId,
    },
    /// Makes a node a member of the site.
    Join(JoinRequest),
    /// Records the credential that the site key signed for a member.
    Certify {
        /// Which member.
        node: NodeId,
        /// The signature.
        credential: [u8; 64],
    },
    /// Asks for a member to leave the site.
    MemberRemove {
        /// Which member.
        node: NodeId,
    },
    /// Asks for a member to become a voter.
    MemberPromote {
        /// Which member.
        node: NodeId,
    },
    /// Keeps the links that another node could own away from a member, or lets it have links again.
    NodeDrain {
        /// Which member.
        node: NodeId,
        /// Whether it is to own none.
        drain: bool,
    },
    /// Changes what placements of links may ask for of a member.
    MemberLabel {
        /// Which member.
        node: NodeId,
        /// Its new values by key; a key without one is taken away. The others stay.
        labels: LabelPatch,
    },
    /// What agents propose themselves.
    Agents(AgentCommand),
    /// Sets how many voters the site aims for.
    SetVoters {
        /// An odd number from 1 to 7.
        voters: u8,
    },
}

/// One command of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchItem {
    /// The command: of a link, a device or a parameter, and no invocation.
    pub command: Command,
    /// The revision that the entity must have; zero: it must not exist.
    pub if_revision: Option<Revision>,
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// The connector that speaks its protocol: one token.
    pub connector: Arc<str>,
    /// Where it is, in the connector's own notation.
    pub address: Arc<str>,
    /// Where it may be served.
    pub placement: Placement,
    /// Free text.
    pub name: Arc<str>,
    /// Free text.
    pub labels: Labels,
    /// What its connector must know of it. Checked by the connector.
    pub settings: Object,
}

/// The public keys of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKeys {
    /// Ed25519, for signatures.
    pub sign: [u8; 32],
    /// X25519, for the pairwise keys of frames.
    pub exchange: [u8; 32],
}

/// A node's wish to become a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The token it was given.
    pub token: TokenId,
    /// The name it wants.
    pub name: NodeName,
    /// Its keys.
    pub keys: NodeKeys,
    /// What shows that it knows the token's secret; see [`crate::credential::join_proof`].
    pub proof: [u8; 32],
}

/// A command as it is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The same on every retry.
    pub request_id: RequestId,
    /// The revision that the entity must have; zero: it must not exist. For a batch, see [`BatchItem`].
    pub if_revision: Option<Revision>,
    /// Who is said to ask. Nobody verified it.
    pub actor: Option<Arc<str>>,
    /// What is asked.
    pub command: Command,
}

impl Proposal {
    /// The proposal as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(256);
        self.write(&mut writer);
        writer.into_vec()
    }

    /// A proposal from bytes.
    ///
    /// # Errors
    /// The bytes are not exactly one proposal.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let proposal = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(proposal)
    }

    /// Checks sizes, counts and combinations.
    ///
    /// # Errors
    /// With the field, the limit and what to do.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate::check(self)
    }
}
