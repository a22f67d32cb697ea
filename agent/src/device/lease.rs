//! Renews what this node may write by; see [`fleet_device::lease`].

use std::time::Duration;

use fleet_device::lease::{LEASE_MS, Lease, RENEW_EVERY_MS};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::consensus::Handle;

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
            lease.send_replace(Lease::granted(asked_ms, handle.clock().now_ms()));
        }
        tokio::time::sleep(Duration::from_millis(RENEW_EVERY_MS)).await;
    }
}
