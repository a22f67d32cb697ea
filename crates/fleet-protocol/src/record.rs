//! The things of a site as replies and events show them.
//!
//! One structure per noun, read by clients as it is written by agents. A client ignores fields it
//! does not know, so a newer agent may tell more. Times are wall times in milliseconds since 1970,
//! for people; nothing is ever decided by them.

mod command;
mod device;
mod invocation;

use std::{collections::BTreeMap, sync::Arc};

use fleet_state::{Labels, Link, Member, Param, Placement, Record, Token};
use serde::{Deserialize, Serialize};

pub use command::CommandBody;
pub use device::{
    DeviceBody, DriftBody, HoldBody, PolicyBody, StageFailureBody, WatermarksBody, WishBody,
    WishEndBody,
};
pub use invocation::InvocationBody;

use crate::{Json, hex};

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkBody {
    /// Its id.
    pub id: String,
    /// The connector that speaks its protocol.
    pub connector: String,
    /// Where it is.
    pub address: String,
    /// Where it may be served.
    pub placement: PlacementBody,
    /// Free text.
    pub name: String,
    /// Free text by key.
    pub labels: BTreeMap<String, String>,
    /// What its connector was told of it.
    pub settings: Json,
    /// The one node that may write to it.
    pub owner: Option<u64>,
    /// Counts changes of owner, from the revision of its registration on.
    pub epoch: u64,
    /// Whether its owner is asked to let go.
    pub releasing: bool,
    /// The node that is to have it next, when somebody said so.
    pub wanted: Option<u64>,
    /// Whether nothing is written to its devices.
    pub paused: bool,
    /// Revision of its first registration.
    pub registered: u64,
    /// Revision of its last change.
    pub revision: u64,
    /// When it last changed.
    pub changed_wall_ms: u64,
    /// How it stands, as its owner says: `state`, `detail`, `next_try_wall_ms`; in answers to queries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Json>,
}

/// Where a link may be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementBody {
    /// On any node with these labels.
    Any(BTreeMap<String, String>),
    /// On the node of this name.
    On(String),
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamBody {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Json,
    /// Revision at which it came to be.
    pub created: u64,
    /// Revision of its last change.
    pub revision: u64,
    /// When it last changed.
    pub changed_wall_ms: u64,
}

/// A member of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBody {
    /// Its node id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// `joining`, `learner`, `voter` or `removed`.
    pub role: String,
    /// Whether somebody asked for it to become a voter.
    pub wanted_voter: bool,
    /// Whether somebody asked for it to leave.
    pub leaving: bool,
    /// Whether it is to own no link that another node could.
    pub draining: bool,
    /// What placements of links may ask for, beside its name.
    pub labels: BTreeMap<String, String>,
    /// The highest feature level that its program reads; 0 from an agent that does not say.
    #[serde(default)]
    pub feature_level: u16,
    /// Its Ed25519 key, in hex.
    pub sign_key: String,
    /// Its X25519 key, in hex.
    pub exchange_key: String,
    /// The site key's signature over its record, in hex; absent until the leader made it.
    pub credential: Option<String>,
    /// Revision at which it joined.
    pub joined: u64,
    /// Revision of its last change.
    pub revision: u64,
}

/// A join token; its secret is known to nobody but who was given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBody {
    /// Its public id.
    pub id: String,
    /// Free text.
    pub note: String,
    /// How many nodes may still join with it.
    pub uses_left: u32,
    /// Who joined with it.
    pub used_by: Vec<u64>,
    /// About when it expires; what decides is the site's log time.
    pub expires_wall_ms: u64,
    /// Revision at which it was made.
    pub created: u64,
    /// Revision of its last change.
    pub revision: u64,
}

/// The site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteBody {
    /// Its name.
    pub site: String,
    /// Its uid; another uid under the same name is another site.
    pub uid: String,
    /// Its public key, in hex.
    pub site_public_key: String,
    /// How many voters it wants.
    pub voters_wanted: u8,
    /// How many members vote.
    pub voters: usize,
    /// How many members there are, without removed ones.
    pub members: usize,
    /// The feature level that the programs of all members read; 0 from an agent that does not say.
    #[serde(default)]
    pub feature_level: u16,
    /// The leader's node id, as the answering agent knows it.
    pub leader: Option<u64>,
    /// The Raft term, as the answering agent knows it.
    pub term: u64,
    /// How many links there are.
    pub links: usize,
    /// How many devices there are.
    pub devices: usize,
    /// How many parameters there are.
    pub params: usize,
    /// Digest of each section of the state, and of all together.
    pub digests: BTreeMap<String, String>,
    /// Wall time of the newest entry.
    pub wall_time_ms: u64,
}

fn labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

impl From<&Link> for LinkBody {
    fn from(link: &Link) -> Self {
        Self {
            id: link.id.to_string(),
            connector: link.spec.connector.to_string(),
            address: link.spec.address.to_string(),
            placement: match &link.spec.placement {
                Placement::Any { labels: wanted } => PlacementBody::Any(labels(wanted)),
                Placement::On(node) => PlacementBody::On(node.to_string()),
            },
            name: link.spec.name.to_string(),
            labels: labels(&link.spec.labels),
            settings: Json::from(link.spec.settings.clone()),
            owner: link.owner.map(|node| node.get()),
            epoch: link.epoch,
            releasing: link.releasing,
            wanted: link.wanted.map(|node| node.get()),
            paused: link.paused,
            registered: link.registered.get(),
            revision: link.revision.get(),
            changed_wall_ms: link.changed_wall_ms,
            observed: None,
        }
    }
}

impl From<&Param> for ParamBody {
    fn from(param: &Param) -> Self {
        Self {
            key: param.key.to_string(),
            value: Json(param.value.clone()),
            created: param.created.get(),
            revision: param.revision.get(),
            changed_wall_ms: param.changed_wall_ms,
        }
    }
}

impl From<&Member> for MemberBody {
    fn from(member: &Member) -> Self {
        Self {
            node: member.id.get(),
            name: member.name.to_string(),
            role: member.role.as_str().to_owned(),
            wanted_voter: member.wanted_voter,
            leaving: member.leaving,
            draining: member.draining,
            labels: labels(&member.labels),
            feature_level: member.feature_level,
            sign_key: hex::encode(&member.keys.sign),
            exchange_key: hex::encode(&member.keys.exchange),
            credential: member.credential.as_ref().map(|bytes| hex::encode(bytes)),
            joined: member.joined.get(),
            revision: member.revision.get(),
        }
    }
}

impl From<&Token> for TokenBody {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id.to_string(),
            note: token.note.to_string(),
            uses_left: token.uses_left,
            used_by: token.used_by.iter().map(|node| node.get()).collect(),
            expires_wall_ms: token.expires_wall_ms,
            created: token.created.get(),
            revision: token.revision.get(),
        }
    }
}

/// A record as JSON text.
pub(crate) fn record_json(record: &Record) -> Result<String, serde_json::Error> {
    match record {
        Record::Link(link) => serde_json::to_string(&LinkBody::from(Arc::as_ref(link))),
        Record::Device(device) => serde_json::to_string(&DeviceBody::from(Arc::as_ref(device))),
        Record::Param(param) => serde_json::to_string(&ParamBody::from(Arc::as_ref(param))),
        Record::Member(member) => serde_json::to_string(&MemberBody::from(Arc::as_ref(member))),
        Record::Token(token) => serde_json::to_string(&TokenBody::from(Arc::as_ref(token))),
        Record::Watermarks(marks) => {
            serde_json::to_string(&WatermarksBody::from(Arc::as_ref(marks)))
        }
        Record::Invocation(invocation) => {
            serde_json::to_string(&InvocationBody::from(Arc::as_ref(invocation)))
        }
    }
}
