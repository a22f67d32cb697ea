//! Numbers about this agent, in the Prometheus text format at `/metrics`.
//!
//! Every metric stands in [`Metrics`]; the parts of the agent count into it directly, and what
//! can be read off the newest view (indexes, term, role, members) is set at the time of the
//! scrape, so that it costs the consensus loop nothing. Counters on hot paths are handles that
//! were created once: counting is one atomic addition, without a lock or a lookup.
//!
//! Labels have few values, all of them words of ours; nothing that somebody sent becomes a label.

mod process;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use fleet_consensus::{NodeRole, View};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use tokio::sync::watch;

use crate::device::DeviceMetrics;
use crate::nats::LinkState;
use crate::storage::DiskCounts;

/// Seconds from 50 µs to about 6.5 s, for fsyncs and commands.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

fn disk_counts() -> DiskCounts {
    DiskCounts { sync_seconds: seconds(), written_bytes: Counter::default() }
}

/// Counts from 1 to 1024, for batches.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

/// Why something was refused before it did anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refusal {
    /// Where it came in: `commands`, `query`, `frame`, `join`, …
    pub surface: &'static str,
    /// Why it was refused, one word of a closed list.
    pub reason: &'static str,
}

/// One word as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Way {
    /// The way that frames take, `nats` or `mesh`.
    pub way: &'static str,
}

/// The connection a number is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabel {
    /// `control` or `raft`.
    pub connection: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

/// How commands ended at this agent's intake.
#[derive(Clone, Debug)]
pub struct CommandCounters {
    /// Decided: accepted.
    pub accepted: Counter,
    /// Decided: nothing to change.
    pub unchanged: Counter,
    /// Decided: rejected.
    pub rejected: Counter,
    /// Not taken: too much to do.
    pub busy: Counter,
    /// Not taken: no leader.
    pub no_leader: Counter,
    /// The deadline passed.
    pub unknown: Counter,
    /// Not taken: the agent is stopping.
    pub stopping: Counter,
}

/// All metrics of this agent; cloning it gives another handle on the same numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// What was refused, by surface and reason.
    pub refused: Family<Refusal, Counter>,
    /// How commands ended.
    pub commands: CommandCounters,
    /// From taking a command in to its answer.
    pub command_seconds: Histogram,
    /// Commands and queries that are being worked on.
    pub in_flight: Gauge,
    /// Queries answered.
    pub queries: Counter,
    /// Streams of changes that are being fed.
    pub watchers: Gauge,
    /// Events published by this agent as leader.
    pub events: Counter,
    /// Entries proposed to Raft by this node as leader.
    pub proposals: Counter,
    /// Commands relayed to the leader.
    pub relayed: Counter,
    /// Frames sent, by way.
    pub frames_sent: Family<Way, Counter>,
    /// Frames received and accepted, by way.
    pub frames_received: Family<Way, Counter>,
    /// Frames dropped because a queue was full, by way.
    pub frames_dropped: Family<Way, Counter>,
    /// How often the way to a node was changed, by the new way.
    pub way_switches: Family<Way, Counter>,
    /// Nodes that are connected over the mesh.
    pub mesh_nodes: Gauge,
    /// Syncs of the log, and bytes written to it.
    pub log_disk: DiskCounts,
    /// The same of snapshots.
    pub snapshot_disk: DiskCounts,
    /// Entries applied in one turn.
    pub apply_batch: Histogram,
    /// Snapshots written.
    pub snapshots: Counter,
    /// Whether a NATS connection stands.
    pub nats_connected: Family<ConnectionLabel, Gauge>,
    /// How often a NATS connection was lost.
    pub nats_disconnects: Family<ConnectionLabel, Counter>,
    /// How often messages were dropped because they came faster than they were taken in.
    pub nats_slow_consumers: Family<ConnectionLabel, Counter>,
    /// Whether the server of a NATS connection has known holes.
    pub nats_server_outdated: Family<ConnectionLabel, Gauge>,
    /// Numbers about devices.
    pub devices: DeviceMetrics,
    standing: Standing,
    process: process::ProcessGauges,
}

/// What is set from the view at the time of a scrape.
#[derive(Clone, Default)]
struct Standing {
    applied: Gauge,
    commit: Gauge,
    first: Gauge,
    last: Gauge,
    term: Gauge,
    is_leader: Gauge,
    has_leader: Gauge,
    role: Family<RoleLabel, Gauge>,
    voters: Gauge,
    learners: Gauge,
    snapshot: Gauge,
    log_bytes: Gauge,
    devices: Gauge,
    params: Gauge,
    links: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that all read zero.
    #[must_use]
    pub fn new() -> Self {
        let outcomes = Family::<OutcomeLabel, Counter>::default();
        let outcome = |outcome| outcomes.get_or_create_owned(&OutcomeLabel { outcome });
        let commands = CommandCounters {
            accepted: outcome("accepted"),
            unchanged: outcome("unchanged"),
            rejected: outcome("rejected"),
            busy: outcome("busy"),
            no_leader: outcome("no_leader"),
            unknown: outcome("unknown"),
            stopping: outcome("stopping"),
        };
        let mut metrics = Self {
            registry: Arc::default(),
            refused: Family::default(),
            commands,
            command_seconds: seconds(),
            in_flight: Gauge::default(),
            queries: Counter::default(),
            watchers: Gauge::default(),
            events: Counter::default(),
            proposals: Counter::default(),
            relayed: Counter::default(),
            frames_sent: Family::default(),
            frames_received: Family::default(),
            frames_dropped: Family::default(),
            way_switches: Family::default(),
            mesh_nodes: Gauge::default(),
            log_disk: disk_counts(),
            snapshot_disk: disk_counts(),
            apply_batch: sizes(),
            snapshots: Counter::default(),
            nats_connected: Family::default(),
            nats_disconnects: Family::default(),
            nats_slow_consumers: Family::default(),
            nats_server_outdated: Family::default(),
            devices: DeviceMetrics::default(),
            standing: Standing::default(),
            process: process::ProcessGauges::default(),
        };
        let mut registry = Registry::with_prefix("flotilla");
        metrics.register_control(&mut registry, outcomes);
        metrics.register_consensus(&mut registry);
        metrics.register_standing(&mut registry);
        metrics.devices.register(&mut registry);
        metrics.process.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    fn register_control(&self, r: &mut Registry, outcomes: Family<OutcomeLabel, Counter>) {
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The running binary", version);
        r.register("refused", "Input refused before it did anything", self.refused.clone());
        r.register("commands", "Commands by how they ended", outcomes);
        r.register_with_unit(
            "command",
            "From taking a command in to its answer",
            Unit::Seconds,
            self.command_seconds.clone(),
        );
        r.register("in_flight", "Requests being worked on", self.in_flight.clone());
        r.register("queries", "Queries answered", self.queries.clone());
        r.register("watchers", "Streams of changes being fed", self.watchers.clone());
        r.register("events", "Events published as leader", self.events.clone());
        r.register("nats_connected", "Whether the connection stands", self.nats_connected.clone());
        r.register("nats_disconnects", "Connections lost", self.nats_disconnects.clone());
        let (slow, outdated) = (&self.nats_slow_consumers, &self.nats_server_outdated);
        r.register("nats_slow_consumers", "Times messages were dropped unread", slow.clone());
        r.register("nats_server_outdated", "1 if the server has known holes", outdated.clone());
    }

    fn register_consensus(&self, r: &mut Registry) {
        r.register("proposals", "Entries proposed as leader", self.proposals.clone());
        r.register("relayed", "Commands relayed to the leader", self.relayed.clone());
        r.register("frames_sent", "Frames sent", self.frames_sent.clone());
        r.register("frames_received", "Frames accepted", self.frames_received.clone());
        r.register("frames_dropped", "Frames dropped, queue full", self.frames_dropped.clone());
        r.register("way_switches", "Changes of the way to a node", self.way_switches.clone());
        r.register("mesh_nodes", "Nodes connected over the mesh", self.mesh_nodes.clone());
        for (what, counts) in [("log", &self.log_disk), ("snapshot", &self.snapshot_disk)] {
            let seconds = counts.sync_seconds.clone();
            let sync = (format!("{what}_sync"), format!("Time of one sync of the {what}"));
            r.register_with_unit(sync.0, sync.1, Unit::Seconds, seconds);
            let bytes = counts.written_bytes.clone();
            let written = (format!("{what}_written"), format!("Written to the {what}"));
            r.register_with_unit(written.0, written.1, Unit::Bytes, bytes);
        }
        r.register("apply_batch", "Entries applied in one turn", self.apply_batch.clone());
        r.register("snapshots", "Snapshots written", self.snapshots.clone());
    }

    fn register_standing(&self, r: &mut Registry) {
        let s = &self.standing;
        r.register("applied_index", "Last applied entry", s.applied.clone());
        r.register("commit_index", "Last entry known as committed", s.commit.clone());
        r.register("first_index", "First entry in the log", s.first.clone());
        r.register("last_index", "Last entry in the log", s.last.clone());
        r.register("term", "Raft term", s.term.clone());
        r.register("is_leader", "1 while this node leads", s.is_leader.clone());
        r.register("has_leader", "1 while a leader is known", s.has_leader.clone());
        r.register("role", "1 for the present role", s.role.clone());
        r.register("voters", "Voters of the site", s.voters.clone());
        r.register("learners", "Learners of the site", s.learners.clone());
        r.register("snapshot_index", "Last entry in the newest snapshot", s.snapshot.clone());
        r.register("log_size", "Log on disk in bytes", s.log_bytes.clone());
        r.register("devices", "Registered devices", s.devices.clone());
        r.register("params", "Parameters", s.params.clone());
        r.register("links", "Registered links", s.links.clone());
    }

    /// Counts one refusal.
    pub fn refuse(&self, surface: &'static str, reason: &'static str) {
        self.refused.get_or_create(&Refusal { surface, reason }).inc();
    }

    /// What counts messages of a NATS connection that were dropped unread.
    #[must_use]
    pub fn slow_consumers(&self, connection: &'static str) -> Counter {
        self.nats_slow_consumers.get_or_create_owned(&ConnectionLabel { connection })
    }

    /// Notes whether the server of a NATS connection has known holes.
    pub fn note_server_outdated(&self, connection: &'static str, outdated: bool) {
        let label = ConnectionLabel { connection };
        self.nats_server_outdated.get_or_create(&label).set(i64::from(outdated));
    }

    /// Notes the state of a NATS connection.
    pub fn note_connection(&self, connection: &'static str, state: LinkState) {
        let label = ConnectionLabel { connection };
        let connected = self.nats_connected.get_or_create_owned(&label);
        let before = connected.set(i64::from(state != LinkState::Disconnected));
        if before == 1 && state == LinkState::Disconnected {
            self.nats_disconnects.get_or_create(&label).inc();
        }
    }

    /// Notes the states of a NATS connection for as long as there is one.
    pub async fn follow_connection(
        self,
        connection: &'static str,
        mut states: watch::Receiver<LinkState>,
    ) {
        loop {
            let state = *states.borrow_and_update();
            self.note_connection(connection, state);
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    /// The text for a scrape, with what the view says set first.
    #[must_use]
    pub fn render(&self, view: &View) -> String {
        self.set_standing(view);
        self.process.update();
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn set_standing(&self, view: &View) {
        let s = &self.standing;
        let standing = &view.standing;
        for (gauge, value) in [
            (&s.applied, view.applied.get()),
            (&s.commit, standing.commit),
            (&s.first, standing.first_index),
            (&s.last, standing.last_index),
            (&s.term, standing.term),
            (&s.snapshot, standing.snapshot_index),
            (&s.log_bytes, standing.log_bytes),
            (&s.voters, standing.voters.len() as u64),
            (&s.learners, standing.learners.len() as u64),
            (&s.devices, view.state.devices_len() as u64),
            (&s.params, view.state.params_len() as u64),
            (&s.links, view.state.links_len() as u64),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        s.is_leader.set(i64::from(standing.role == NodeRole::Leader));
        s.has_leader.set(i64::from(standing.leader.is_some()));
        for role in [
            NodeRole::Leader,
            NodeRole::Follower,
            NodeRole::Candidate,
            NodeRole::PreCandidate,
            NodeRole::Learner,
        ] {
            let label = RoleLabel { role: role.as_str() };
            s.role.get_or_create(&label).set(i64::from(role == standing.role));
        }
    }
}
