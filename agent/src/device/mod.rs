//! The southbound side: from a committed wish to the device, and from the device's word back.
//!
//! - `connector` is the contract of everything that speaks a protocol of devices; `connectors/`
//!   are those that come with the agent.
//! - What is decided, and is pure, stands in the crate `fleet-device`: what is done next with a
//!   device, which node owns which link, until when it may write.
//! - `ownership` carries the leader's decisions out; `lease` renews what this node may write by.
//! - `links` runs one task for each link that this node owns, in one epoch; `link` is that task.
//!   `setups` turns the records of the state into what connectors are told.
//! - `lookout` looks along links of this node for devices that are not registered yet.
//! - `local` is what a gateway does with wired devices while no majority can be reached.
//! - `observed` is what is known of devices without being agreed on; `publish` carries it to the
//!   other nodes.
//!
//! What holds everywhere here: nothing is written but by the owner of a link, in its epoch,
//! within its lease; nothing is written because a log is replayed; a connector that hangs,
//! panics or lies harms neither the consensus loop nor another link. The loop is never awaited
//! but through [`Handle`], with a deadline.

pub mod connector;
pub mod connectors;
mod lease;
mod link;
mod links;
pub mod local;
mod lookout;
mod looks;
mod metrics;
pub mod observed;
mod ownership;
mod publish;
mod setups;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet_device::lease::Lease;
use fleet_state::{NodeId, NodeName, SiteName};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::consensus::Handle;
use connectors::Connectors;
use link::wall_ms;
use local::LocalHandle;
pub use lookout::{Lookout, LookoutParts, Page as LookPage};
pub use metrics::DeviceMetrics;
pub use observed::ObservedTable;
pub(crate) use setups::{device_setup, link_setup};

/// How long the southbound side may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(4);

/// What the southbound side works with.
pub struct DeviceContext {
    /// The consensus loop.
    pub handle: Handle,
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its boot counter.
    pub boot: u64,
    /// The site.
    pub site: SiteName,
    /// Where credentials for links are.
    pub secrets_dir: PathBuf,
    /// The connectors of this agent.
    pub connectors: Connectors,
    /// What is known of devices.
    pub observed: ObservedTable,
    /// What is written here without a majority.
    pub local: LocalHandle,
    /// The numbers.
    pub metrics: DeviceMetrics,
}

/// What every link's task works with.
struct DeviceParts {
    handle: Handle,
    node: NodeId,
    boot: u64,
    site: SiteName,
    secrets_dir: PathBuf,
    connectors: Connectors,
    observed: ObservedTable,
    local: LocalHandle,
    metrics: DeviceMetrics,
    lease: watch::Receiver<Lease>,
}

/// The running southbound side; dropping it ends its tasks at once.
pub struct DeviceHandle {
    stopping: watch::Sender<bool>,
    links: JoinSet<()>,
    others: JoinSet<()>,
}

/// Starts the southbound side of this node.
#[must_use]
pub fn start(context: DeviceContext) -> DeviceHandle {
    let (stopping, stopping_seen) = watch::channel(false);
    let (wanted, wanted_seen) = watch::channel(false);
    let (lease, lease_seen) = watch::channel(Lease::default());
    let DeviceContext {
        handle,
        node,
        name,
        boot,
        site,
        secrets_dir,
        connectors,
        observed,
        local,
        metrics,
    } = context;
    let mut others = JoinSet::new();
    others.spawn(lease::renew(handle.clone(), wanted_seen, lease));
    others.spawn(ownership::assign(handle.clone(), metrics.clone()));
    others.spawn(publish::tell(handle.clone(), observed.clone()));
    others.spawn(publish::hear(handle.clone(), observed.clone(), metrics.clone()));
    others.spawn(local::returned::watch(handle.clone(), local.clone()));
    others.spawn(local::control_loss::watch(handle.clone(), local.clone(), name));
    let parts = DeviceParts {
        handle,
        node,
        boot,
        site,
        secrets_dir,
        connectors,
        observed,
        local,
        metrics,
        lease: lease_seen,
    };
    let mut links = JoinSet::new();
    links.spawn(links::run(Arc::new(parts), wanted, stopping_seen));
    DeviceHandle { stopping, links, others }
}

impl DeviceHandle {
    /// Waits until one of the tasks behind all links has ended, which none should; says which kind.
    pub async fn failed(&mut self) -> String {
        let ended = tokio::select! {
            Some(ended) = self.links.join_next() => ended,
            Some(ended) = self.others.join_next() => ended,
            else => return "the device side has no tasks left".to_owned(),
        };
        match ended {
            Ok(()) => "a task of the device side ended".to_owned(),
            Err(error) => format!("a task of the device side failed: {error}"),
        }
    }

    /// Lets go of all links, so that other nodes may take them at once. The consensus loop must
    /// still run.
    pub async fn drain(mut self) {
        self.stopping.send_replace(true);
        let ended = async { while self.links.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!("links did not end in time");
        }
    }
}
