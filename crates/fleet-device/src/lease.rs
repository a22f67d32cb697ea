//! How long a node may write without hearing from the leader.
//!
//! The lease runs for [`LEASE_MS`] from the *start* of the last read barrier that succeeded. The
//! leader notes when it was asked for the barrier, which is later, and gives a link away only
//! when that is longer ago than [`silent_ms`] (see `fleet_consensus::Leases` and
//! [`crate::ownership`]). A node that is cut off, paused or slow so stops writing before another
//! one begins.
//!
//! The lease binds links that another node may own. A wired one (`on: <node>`) is written to by
//! its node or by nobody, for the rest of the epoch even when it is wired no more
//! ([`Link::unleased`]).

use fleet_state::Link;

use crate::seeded;

/// How long a lease lasts.
pub const LEASE_MS: u64 = 2_000;
/// How often it is renewed.
pub const RENEW_EVERY_MS: u64 = LEASE_MS / 4;
/// Clocks may run apart by a twentieth, and a turn of the loop may be late.
const MARGIN_MS: u64 = LEASE_MS / 20 + 150;
/// A node that asked for no read barrier for so long has no lease.
const SILENT_MS: u64 = LEASE_MS + MARGIN_MS;

/// How long a node must have been silent before something is taken from it.
#[must_use]
pub fn silent_ms() -> u64 {
    if seeded::on("taken-without-waiting") { 0 } else { SILENT_MS }
}

/// Until when a node may write, in milliseconds of its monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The first moment at which it may not.
    pub until_ms: u64,
}

impl Lease {
    /// What a read barrier is worth that was asked for at one moment and granted at another one.
    /// Counted from the question: everything that the leader knows of it is later.
    #[must_use]
    pub fn granted(asked_ms: u64, answered_ms: u64) -> Self {
        let from_ms = if seeded::on("lease-from-the-answer") { answered_ms } else { asked_ms };
        Self { until_ms: from_ms.saturating_add(LEASE_MS) }
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// Until when the owner of a link may write to it; `None`: now it may not.
    #[must_use]
    pub fn until_ms(self, link: &Link, now_ms: u64) -> Option<u64> {
        if link.unleased {
            return Some(u64::MAX);
        }
        self.holds(now_ms).then_some(self.until_ms)
    }
}
