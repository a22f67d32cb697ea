//! How long this node may write without hearing from the leader.
//!
//! The lease runs for [`LEASE_MS`] from the *start* of the last read barrier that succeeded. The
//! leader notes when it was asked for the barrier, which is later, and gives a link away only
//! when that is longer ago (see `fleet_consensus::Leases` and `ownership`). A node that is cut
//! off, paused or slow so stops writing before another one begins.
//!
//! The lease binds links that another node may own. A wired one (`on: <node>`) is written to by
//! its node or by nobody.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::consensus::Handle;

/// How long a lease lasts.
pub const LEASE_MS: u64 = 2_000;
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(LEASE_MS / 4);

/// Until when this node may write, in milliseconds of its monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The first moment at which it may not.
    pub until_ms: u64,
}

impl Lease {
    /// Whether it holds.
    #[must_use]
    pub fn holds(self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

/// Renews the lease as long as the process lives, while `wanted` says that there is a use for it.
pub(super) async fn renew(
    handle: Handle,
    wanted: watch::Receiver<bool>,
    lease: watch::Sender<Lease>,
) {
    let mut wanted = wanted;
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return std::future::pending().await;
        }
        let asked_ms = handle.clock().now_ms();
        let deadline = Instant::now() + Duration::from_millis(LEASE_MS);
        if handle.linearizable(deadline).await.is_ok() {
            // Counted from the question: everything that the leader knows of it is later.
            let until_ms = asked_ms.saturating_add(LEASE_MS);
            lease.send_replace(Lease { until_ms });
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}
