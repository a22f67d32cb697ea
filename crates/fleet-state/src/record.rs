//! The records that the replicated state consists of.
//!
//! Each kind of record has a key, the revision at which it last changed, and an encoding that snapshots and digests
//! share (`record/encode.rs`). Records are immutable once they are in the state: a change puts a new one.

mod device;
mod encode;
mod encode_device;
mod invocation;

use std::sync::Arc;

pub use device::{Device, Former, Hold, StageFailure, Ttl, Watermarks, Wish, WishEnd, Wishes};
pub(crate) use encode_device::{decode_failure, encode_failure};
pub use invocation::{Dispatch, Invocation};

use crate::command::{Labels, LinkSpec, NodeKeys};
use crate::ids::{DeviceId, LinkId, NodeId, NodeName, ParamKey, RequestId, Revision, TokenId};
use crate::value::Value;

/// What carries devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its key.
    pub id: LinkId,
    /// What it is.
    pub spec: LinkSpec,
    /// The one node that may write to it.
    pub owner: Option<NodeId>,
    /// Grows with every change of owner. It begins at the revision of the registration, so that nothing which was
    /// said about a deleted link of the same id can fit.
    pub epoch: u64,
    /// Its owner may write without a lease: at some time in this epoch it was wired to it, so nobody else could own
    /// it. The owner need not have heard that this is over, so the link is not taken from it for its silence.
    pub unleased: bool,
    /// Its owner is asked to let go.
    pub releasing: bool,
    /// Who is to have it next, when somebody said so.
    pub wanted: Option<NodeId>,
    /// Nothing is written to any device on it while this stands.
    pub paused: bool,
    /// When it was registered first.
    pub registered: Revision,
    /// When it last changed.
    pub revision: Revision,
    /// Wall time of the last change, for display.
    pub changed_wall_ms: u64,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Its key.
    pub key: ParamKey,
    /// Its value.
    pub value: Value,
    /// When it was set first.
    pub created: Revision,
    /// When it last changed.
    pub revision: Revision,
    /// Wall time of the last change, for display.
    pub changed_wall_ms: u64,
}

/// What a member is to the site's consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Accepted, and not yet part of the configuration.
    Joining,
    /// Receives the log and has no vote.
    Learner,
    /// Has a vote.
    Voter,
    /// Was a member. Its id and keys are refused from now on.
    Removed,
}

impl Role {
    /// The role as it stands in replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Joining => "joining",
            Role::Learner => "learner",
            Role::Voter => "voter",
            Role::Removed => "removed",
        }
    }
}

/// A node that belongs or belonged to the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub id: NodeId,
    /// Its name, unique among members that are not removed.
    pub name: NodeName,
    /// Its keys.
    pub keys: NodeKeys,
    /// The site key's signature over [`crate::credential::credential_message`].
    pub credential: Option<[u8; 64]>,
    /// What it is. Follows the configuration changes in the log.
    pub role: Role,
    /// Somebody asked for it to become a voter.
    pub wanted_voter: bool,
    /// Somebody asked for it to leave; it becomes `Removed` by the configuration change that follows.
    pub leaving: bool,
    /// It is to own no link that another node could.
    pub draining: bool,
    /// What placements of links may ask for, beside its name.
    pub labels: Labels,
    /// The highest feature level that its program reads.
    pub feature_level: u16,
    /// When it was accepted.
    pub joined: Revision,
    /// When it last changed.
    pub revision: Revision,
}

impl Member {
    /// Whether it belongs to the site still.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.role != Role::Removed
    }
}

/// An invitation for nodes to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its key.
    pub id: TokenId,
    /// What proofs are made with.
    pub key: [u8; 32],
    /// Free text.
    pub note: Arc<str>,
    /// When it was made.
    pub created: Revision,
    /// When it last changed.
    pub revision: Revision,
    /// It is valid before this log time.
    pub expires_log_ms: u64,
    /// About when that is, for display.
    pub expires_wall_ms: u64,
    /// How many nodes may still join with it.
    pub uses_left: u32,
    /// Who joined with it.
    pub used_by: Vec<NodeId>,
}

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// A link.
    Link(LinkId),
    /// A device.
    Device(DeviceId),
    /// A parameter.
    Param(ParamKey),
    /// A member.
    Member(NodeId),
    /// A join token.
    Token(TokenId),
    /// How far the wishes of a device got.
    Watermarks(DeviceId),
    /// An invocation of a device.
    Invocation {
        /// Which device.
        device: DeviceId,
        /// Which invocation.
        id: RequestId,
    },
}

impl Entity {
    /// Comes before every other entity.
    pub(crate) fn lowest() -> Self {
        Entity::Link(LinkId::lowest())
    }

    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Entity::Link(_) => "link",
            Entity::Device(_) => "device",
            Entity::Param(_) => "param",
            Entity::Member(_) => "member",
            Entity::Token(_) => "token",
            Entity::Watermarks(_) => "watermarks",
            Entity::Invocation { .. } => "invocation",
        }
    }

    /// Its id as text.
    #[must_use]
    pub fn id_text(&self) -> String {
        match self {
            Entity::Link(id) => id.to_string(),
            Entity::Device(id) => id.to_string(),
            Entity::Param(key) => key.to_string(),
            Entity::Member(id) => id.to_string(),
            Entity::Token(id) => id.to_string(),
            Entity::Watermarks(device) => device.to_string(),
            Entity::Invocation { id, .. } => id.to_string(),
        }
    }
}

/// A record of any kind, shared with the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A link.
    Link(Arc<Link>),
    /// A device.
    Device(Arc<Device>),
    /// A parameter.
    Param(Arc<Param>),
    /// A member.
    Member(Arc<Member>),
    /// A join token.
    Token(Arc<Token>),
    /// How far the wishes of a device got.
    Watermarks(Arc<Watermarks>),
    /// An invocation.
    Invocation(Arc<Invocation>),
}

impl Record {
    /// When it last changed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Record::Link(link) => link.revision,
            Record::Device(device) => device.revision,
            Record::Param(param) => param.revision,
            Record::Member(member) => member.revision,
            Record::Token(token) => token.revision,
            Record::Watermarks(watermarks) => watermarks.revision,
            Record::Invocation(invocation) => invocation.revision,
        }
    }
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub entity: Entity,
    /// Its revision before, when it existed. Not known, hence `None`, in [`crate::FleetState::changes_since`].
    pub previous: Option<Revision>,
    /// What it is now; `None`: it was deleted.
    pub record: Option<Record>,
}
