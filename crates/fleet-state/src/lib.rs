//! The replicated state machine of a Flotilla site.
//!
//! All agents of a site hold one [`FleetState`] in common. It changes by log entries alone: the consensus brings the
//! same [`Entry`] in the same order to every node, [`FleetState::apply`] decides each the same way everywhere, and so
//! the states stay equal, byte for byte. This crate owns what that takes:
//!
//! - [`ids`]: names, parsed once into types;
//! - [`value`]: a JSON type whose bytes depend on nothing but the value; [`schema`]: what devices accept;
//! - [`command`], [`entry`], [`codec`]: what may be asked for, and its bytes in the log;
//! - [`FleetState`], [`record`]: what there is; `apply`: how it changes; [`outcome`]: what is answered;
//! - [`stage`]: how far a command got toward its device;
//! - `dedup`, `index`, [`digest`]: retries, changes since a revision, comparison between nodes;
//! - [`snapshot`]: the whole state as a file; [`credential`]: what nodes sign and prove;
//! - [`limits`]: every bound.
//!
//! It does no input or output, reads no clock and no random source, knows no network and no consensus, and never
//! panics on data. Time comes in with the entries, bytes as slices, and effects go out as values.

pub mod codec;
pub mod command;
pub mod credential;
pub mod digest;
pub mod entry;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod record;
pub mod schema;
#[doc(hidden)]
pub mod seeded;
pub mod snapshot;
pub mod stage;
pub mod value;

mod apply;
mod deadlines;
mod dedup;
mod errands;
mod index;
mod state;
mod table;

pub use apply::Applied;
pub use codec::{DecodeError, Reader, Writer};
pub use command::{
    AgentCommand, BatchItem, ClaimItem, Command, CommandKind, DeviceSpec, DriftPolicy, Invalid,
    JoinRequest, LabelPatch, Labels, LinkSpec, Mode, NODE_LABEL, NodeKeys, OnControlLoss, OnDrift,
    OnReturn, Placement, Policy, Proposal, StageItem,
};
pub use digest::{Digest, Digests};
pub use entry::{Body, Entry};
pub use ids::{
    DeviceId, IdError, LinkId, NodeId, NodeName, ParamKey, RequestId, Revision, SiteName, SiteUid,
    TokenId,
};
pub use outcome::{Accepted, Answer, Claimed, Outcome, RejectCode, Rejection};
pub use record::{
    Change, Device, Dispatch, Entity, Former, Hold, Invocation, Link, Member, Param, Record, Role,
    StageFailure, Token, Ttl, Watermarks, Wish, WishEnd, Wishes,
};
pub use schema::{Schema, SchemaError, Violation};
pub use snapshot::{
    SnapshotError, SnapshotMeta, decode_snapshot, encode_snapshot, read_snapshot_meta,
};
pub use stage::Stage;
pub use state::{
    CommandFound, Compacted, FleetState, FoundingMember, FoundingParams, FoundingToken,
};
pub use value::{Finite, Limits, Object, ParseError, ParseErrorKind, Value};
