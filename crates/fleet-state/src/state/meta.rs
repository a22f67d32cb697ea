//! What the state holds beside its sections.

use super::FleetState;
use crate::codec::{DecodeError, Reader, Writer};
use crate::deadlines::Deadlines;
use crate::dedup::Dedup;
use crate::errands::Errands;
use crate::ids::{NodeId, Revision, SiteName, SiteUid};
use crate::index::Index;
use crate::table::Table;

/// Which site this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) site: SiteName,
    pub(crate) uid: SiteUid,
    pub(crate) public_key: [u8; 32],
}

/// Single numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) voters_wanted: u8,
    pub(crate) log_time_ms: u64,
    pub(crate) wall_time_ms: u64,
    /// What was stamped up to here is older than log time says: nobody knows by how much.
    pub(crate) time_lost: Revision,
    pub(crate) last_applied: Revision,
    pub(crate) feature_level: u16,
    pub(crate) next_node: NodeId,
}

impl FleetState {
    /// A state without any record.
    pub(super) fn empty(identity: Identity, counters: Counters) -> Self {
        Self {
            identity,
            counters,
            links: Table::default(),
            devices: Table::default(),
            params: Table::default(),
            members: Table::default(),
            tokens: Table::default(),
            watermarks: Table::default(),
            invocations: Table::default(),
            link_uses: imbl::OrdMap::new(),
            deadlines: Deadlines::default(),
            errands: Errands::default(),
            tokens_due_ms: None,
            index: Index::default(),
            dedup: Dedup::default(),
        }
    }

    pub(crate) fn encode_meta(&self, writer: &mut Writer) {
        writer.text(self.identity.site.as_str());
        writer.fixed(self.identity.uid.as_bytes());
        writer.fixed(&self.identity.public_key);
        writer.u8(self.counters.voters_wanted);
        writer.u64(self.counters.log_time_ms);
        writer.u64(self.counters.wall_time_ms);
        writer.revision(self.counters.time_lost);
        writer.revision(self.counters.last_applied);
        writer.u16(self.counters.feature_level);
        writer.u64(self.counters.next_node.get());
        writer.revision(self.index.floor());
        writer.option(self.dedup.horizon().as_ref(), |writer, horizon| writer.fixed(horizon));
    }

    /// A state without any record, from [`Self::encode_meta`].
    pub(crate) fn decode_meta(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let identity = Identity {
            site: reader.id()?,
            uid: SiteUid::from_bytes(reader.fixed()?),
            public_key: reader.fixed()?,
        };
        let counters = Counters {
            voters_wanted: reader.u8()?,
            log_time_ms: reader.u64()?,
            wall_time_ms: reader.u64()?,
            time_lost: reader.revision()?,
            last_applied: reader.revision()?,
            feature_level: reader.u16()?,
            next_node: reader.node()?,
        };
        let mut state = Self::empty(identity, counters);
        state.index.set_floor(reader.revision()?);
        state.dedup.set_horizon(reader.option(Reader::fixed)?);
        Ok(state)
    }
}
