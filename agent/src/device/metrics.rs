//! Numbers about devices.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a hand-over ended, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandOverLabel {
    /// `sent`, `acknowledged` or the kind of failure; of a local value, what became of it.
    pub end: &'static str,
}

/// Numbers about devices; cloning gives another handle on the same ones.
#[derive(Clone, Debug, Default)]
pub struct DeviceMetrics {
    /// Hand-overs of values, by their end.
    pub writes: Family<HandOverLabel, Counter>,
    /// Hand-overs of one-shots, by their end.
    pub invocations: Family<HandOverLabel, Counter>,
    /// Links taken from a node whose lease was over.
    pub takeovers: Counter,
    /// Wishes and one-shots that were too late, cancelled or superseded when they were claimed.
    pub claims_lost: Counter,
    /// Links that this node owns and is connected to.
    pub links_connected: Gauge,
    /// Connections of links that failed or were lost.
    pub link_failures: Counter,
    /// Reports heard of devices.
    pub reports: Counter,
    /// Writes to devices by somebody else.
    pub foreign_writes: Counter,
    /// Observations of other nodes that could not be read or had no room.
    pub observed_refused: Counter,
    /// Local writes that were taken.
    pub local_writes: Counter,
    /// What became of values that were written locally.
    pub local_ends: Family<HandOverLabel, Counter>,
    /// Local writes that wait for a majority.
    pub local_open: Gauge,
    /// Devices of this node that differ from what they should be.
    pub drifting: Gauge,
}

impl DeviceMetrics {
    /// Counts the end of a hand-over.
    pub fn count_write(&self, end: &'static str) {
        self.writes.get_or_create(&HandOverLabel { end }).inc();
    }

    /// Counts the end of a one-shot.
    pub fn count_invocation(&self, end: &'static str) {
        self.invocations.get_or_create(&HandOverLabel { end }).inc();
    }

    /// Counts what became of a value that was written locally.
    pub fn count_local_end(&self, end: &'static str) {
        self.local_ends.get_or_create(&HandOverLabel { end }).inc();
    }

    /// Registers all of them.
    pub fn register(&self, r: &mut Registry) {
        r.register("device_writes", "Hand-overs of values to devices", self.writes.clone());
        r.register("device_invocations", "Hand-overs of one-shots", self.invocations.clone());
        r.register("link_takeovers", "Links taken from a silent node", self.takeovers.clone());
        r.register("device_claims_lost", "Claims that came too late", self.claims_lost.clone());
        r.register("links_connected", "Links owned and connected", self.links_connected.clone());
        r.register("link_failures", "Connections of links that failed", self.link_failures.clone());
        r.register("device_reports", "Reports heard of devices", self.reports.clone());
        r.register("device_foreign_writes", "Writes by others", self.foreign_writes.clone());
        r.register("observed_refused", "Observations refused", self.observed_refused.clone());
        r.register("local_writes", "Writes without a majority", self.local_writes.clone());
        r.register("local_ends", "What became of local values", self.local_ends.clone());
        r.register("local_writes_open", "Local writes not merged", self.local_open.clone());
        r.register("devices_drifting", "Own devices with drift", self.drifting.clone());
    }
}
