//! The replicated state of a site.
//!
//! [`FleetState`] is what all nodes hold in common: it starts as a founding or a snapshot and changes by
//! [`FleetState::apply`] alone, entry by entry, to the same bytes on every node. A clone takes constant time and
//! shares structure, so a read view or a snapshot is a clone taken at one point and used elsewhere.
//!
//! This file holds the parts and the reads; `state/found.rs` makes states, `apply.rs` changes them, and
//! `snapshot.rs` writes and reads them.

mod blank;
mod changes;
mod devices;
mod found;
mod meta;

use std::sync::Arc;

use imbl::OrdMap;

pub use changes::Compacted;
pub use devices::CommandFound;
pub use found::{FoundingMember, FoundingParams, FoundingToken};
pub(crate) use meta::{Counters, Identity};

use crate::deadlines::Deadlines;
use crate::dedup::Dedup;
use crate::digest::{Digest, Digests, Section, Sum};
use crate::errands::Errands;
use crate::ids::{
    DeviceId, LinkId, NodeId, NodeName, ParamKey, RequestId, Revision, SiteName, SiteUid, TokenId,
};
use crate::index::Index;
use crate::limits::TOKEN_KEPT_MS;
use crate::outcome::Answer;
use crate::record::{Device, Entity, Invocation, Link, Member, Param, Record, Token, Watermarks};
use crate::table::Table;

/// The replicated state of a site.
#[derive(Clone)]
pub struct FleetState {
    pub(crate) identity: Identity,
    pub(crate) counters: Counters,
    pub(crate) links: Table<Link>,
    pub(crate) devices: Table<Device>,
    pub(crate) params: Table<Param>,
    pub(crate) members: Table<Member>,
    pub(crate) tokens: Table<Token>,
    pub(crate) watermarks: Table<Watermarks>,
    pub(crate) invocations: Table<Invocation>,
    /// How many devices use a link. Follows from the devices.
    pub(crate) link_uses: OrdMap<LinkId, u32>,
    /// When the next token is to be forgotten. Follows from the tokens.
    pub(crate) tokens_due_ms: Option<u64>,
    /// When time limits are over. Follows from the wishes and invocations.
    pub(crate) deadlines: Deadlines,
    /// Which invocations are open, dispatching, ended. Follows from the invocations.
    pub(crate) errands: Errands,
    pub(crate) index: Index,
    pub(crate) dedup: Dedup,
}

impl std::fmt::Debug for FleetState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetState")
            .field("site", &self.identity.site)
            .field("last_applied", &self.counters.last_applied)
            .field("links", &self.links.len())
            .field("devices", &self.devices.len())
            .field("params", &self.params.len())
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

/// The site and its counters.
impl FleetState {
    /// The site's name.
    #[must_use]
    pub fn site(&self) -> &SiteName {
        &self.identity.site
    }

    /// The site's uid.
    #[must_use]
    pub fn uid(&self) -> SiteUid {
        self.identity.uid
    }

    /// The Ed25519 key that member credentials are checked with.
    #[must_use]
    pub fn site_public_key(&self) -> &[u8; 32] {
        &self.identity.public_key
    }

    /// How many voters the site aims for.
    #[must_use]
    pub fn voters_wanted(&self) -> u8 {
        self.counters.voters_wanted
    }

    /// The log time of the newest entry.
    #[must_use]
    pub fn log_time_ms(&self) -> u64 {
        self.counters.log_time_ms
    }

    /// How old what was stamped at this revision was, by the log time of the newest entry; `None` where nobody can
    /// say, because the time was lost since.
    #[must_use]
    pub fn age_ms(&self, revision: Revision, stamped_log_ms: u64) -> Option<u64> {
        let known = revision > self.counters.time_lost;
        known.then(|| self.counters.log_time_ms.saturating_sub(stamped_log_ms))
    }

    /// The wall time of the newest entry, for display.
    #[must_use]
    pub fn wall_time_ms(&self) -> u64 {
        self.counters.wall_time_ms
    }

    /// The newest entry that was applied.
    #[must_use]
    pub fn last_applied(&self) -> Revision {
        self.counters.last_applied
    }

    /// The level of entries that the program of every member reads, whoever may have joined or left since. What came
    /// with a higher one is not proposed, and a program that reads less must stop.
    #[must_use]
    pub fn feature_level(&self) -> u16 {
        self.counters.feature_level
    }

    /// The id that the next member will get.
    #[must_use]
    pub fn next_node(&self) -> NodeId {
        self.counters.next_node
    }

    /// The first answer that a request id was given, while it is remembered.
    #[must_use]
    pub fn answer_for(&self, id: &RequestId) -> Option<Answer> {
        self.dedup.answer(id).map(|remembered| remembered.answer.clone())
    }

    /// How many answers are remembered.
    #[must_use]
    pub fn answers_len(&self) -> usize {
        self.dedup.len()
    }

    /// The log time at which something is due. The leader proposes a time tick when its clock passes it.
    #[must_use]
    pub fn next_deadline_log_ms(&self) -> Option<u64> {
        let now = self.counters.log_time_ms;
        let due = |token: &Arc<Token>| {
            let expires = token.expires_log_ms;
            if now < expires { expires } else { expires.saturating_add(TOKEN_KEPT_MS) }
        };
        self.tokens.iter().map(due).chain(self.deadlines.next()).min()
    }

    /// The digest of the members alone, which costs next to nothing.
    #[must_use]
    pub fn members_digest(&self) -> Digest {
        self.members.sum().digest()
    }

    /// The digests of all sections.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests {
            links: self.links.sum().digest(),
            devices: self.devices.sum().digest(),
            params: self.params.sum().digest(),
            members: self.members_digest(),
            tokens: self.tokens.sum().digest(),
            watermarks: self.watermarks.sum().digest(),
            invocations: self.invocations.sum().digest(),
            dedup: self.dedup.sum().digest(),
            tombstones: self.index.sum().digest(),
            site: self.meta_digest(),
        }
    }
}

macro_rules! reads {
    ($record:ident, $key:ty, $table:ident, $get:ident, $all:ident, $after:ident, $len:ident, $what:literal) => {
        #[doc = concat!("Reads of ", $what, "s.")]
        impl FleetState {
            #[doc = concat!("One ", $what, ".")]
            #[must_use]
            pub fn $get(&self, key: &$key) -> Option<&Arc<$record>> {
                self.$table.get(key)
            }

            #[doc = concat!("All ", $what, "s, in the order of their keys.")]
            pub fn $all(&self) -> impl Iterator<Item = &Arc<$record>> {
                self.$table.iter()
            }

            #[doc = concat!("The ", $what, "s after a key, or all, in the order of their keys.")]
            pub fn $after(&self, key: Option<&$key>) -> impl Iterator<Item = &Arc<$record>> {
                self.$table.after(key)
            }

            #[doc = concat!("How many ", $what, "s there are.")]
            #[must_use]
            pub fn $len(&self) -> usize {
                self.$table.len()
            }
        }
    };
}

reads!(Link, LinkId, links, link, links, links_after, links_len, "link");
reads!(Device, DeviceId, devices, device, devices, devices_after, devices_len, "device");
reads!(Param, ParamKey, params, param, params, params_after, params_len, "parameter");
reads!(Member, NodeId, members, member, members, members_after, members_len, "member");
reads!(Token, TokenId, tokens, token, tokens, tokens_after, tokens_len, "token");
reads!(
    Invocation,
    RequestId,
    invocations,
    invocation,
    invocations,
    invocations_after,
    invocations_len,
    "invocation"
);

impl FleetState {
    /// The member of this name that has not been removed.
    #[must_use]
    pub fn member_named(&self, name: &NodeName) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.is_live() && member.name == *name)
    }

    /// How many devices use a link.
    #[must_use]
    pub fn link_uses(&self, id: &LinkId) -> usize {
        self.link_uses.get(id).map_or(0, |uses| *uses as usize)
    }

    /// The record that an entity names.
    #[must_use]
    pub fn record(&self, entity: &Entity) -> Option<Record> {
        match entity {
            Entity::Link(id) => self.links.get(id).cloned().map(Record::Link),
            Entity::Device(id) => self.devices.get(id).cloned().map(Record::Device),
            Entity::Param(key) => self.params.get(key).cloned().map(Record::Param),
            Entity::Member(id) => self.members.get(id).cloned().map(Record::Member),
            Entity::Token(id) => self.tokens.get(id).cloned().map(Record::Token),
            Entity::Watermarks(id) => self.watermarks.get(id).cloned().map(Record::Watermarks),
            Entity::Invocation { id, .. } => {
                self.invocations.get(id).cloned().map(Record::Invocation)
            }
        }
    }

    fn meta_digest(&self) -> crate::digest::Digest {
        let mut writer = crate::codec::Writer::with_capacity(256);
        self.encode_meta(&mut writer);
        let mut sum = Sum::default();
        sum.add(Section::Site, writer.as_slice());
        sum.digest()
    }
}
