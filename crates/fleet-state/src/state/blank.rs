//! The state of a node that has joined and received nothing yet.

use crate::ids::{NodeId, Revision, SiteName, SiteUid};
use crate::state::{Counters, FleetState, Identity};

impl FleetState {
    /// A state without a single record, to be replaced by the first snapshot.
    #[must_use]
    pub fn blank(site: SiteName, uid: SiteUid, site_public_key: [u8; 32]) -> Self {
        let counters = Counters {
            voters_wanted: 1,
            log_time_ms: 0,
            wall_time_ms: 0,
            time_lost: Revision::NONE,
            last_applied: Revision::NONE,
            feature_level: 0,
            next_node: NodeId::FOUNDER,
        };
        let identity = Identity { site, uid, public_key: site_public_key };
        Self::empty(identity, counters)
    }
}
